# SPDX-License-Identifier: Apache-2.0
"""The disk of the lab's dom0: Debian 12 with Xen 4.17, and kernels and ramdisks for guests.

Made once, and anew when this file or the list of packages changes.
"""
import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lab"))
from debian import BUILD, SUITE, Apt, Trouble, alone, finish, key_of, need, run, sources  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "gzip": "gzip", "dpkg-deb": "dpkg"}
KERNELS = {"generic": "linux-image-amd64", "cloud": "linux-image-cloud-amd64"}  # dom0 itself runs the first
UNUSED_MODULES = ["sound", "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/net/ethernet", "drivers/infiniband", "drivers/staging"]
BOOT_MODULES = ["virtio_pci", "virtio_blk", "ext4", "9p", "9pnet_virtio", "virtio_console"]
DISK = "3G"  # sparse
GUESTS = "usr/lib/xen-sev-lab"  # kernels and ramdisks for guests, in dom0

INITRAMFS = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
"""
ROOT_FROM_DISK = """while read m; do insmod /mod/$m; done </mod/order
n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
mount -t ext4 /dev/vda /new || { echo "lab: no root disk"; poweroff -f; }
mount --move /dev /new/dev; mount --move /proc /new/proc; mount --move /sys /new/sys
exec switch_root /new /sbin/lab-init
"""
GUEST = """echo "GUEST-UP $(cat /sys/hypervisor/guest_type) $(cut -d" " -f1 /proc/uptime)s"
sleep 1; poweroff -f
"""
# process 1 of dom0; /lab holds the order of this run: command, the product's programs, a folder for results
INIT = """#!/bin/bash
export PATH=/opt/xen-sev/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=${TERM:-dumb} LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp; mkdir -p /run/lock
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm
hostname dom0; busybox ifconfig lo 127.0.0.1 up
9p() { mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,"$3" "$1" "$2"; }
9p lab /lab cache=none
9p share /share ro,cache=loose
mkdir -p /opt/xen-sev; cp -r /lab/bin /opt/xen-sev/
/etc/init.d/xen start
echo "lab: dom0 ready after $(cut -d' ' -f1 /proc/uptime)s"
cd /share
if [ -e /lab/command ]; then
    for i in $(seq 50); do p=$(echo /dev/vport*p2); [ -c "$p" ] && break; sleep 0.1; done
    : >/lab/began
    bash /lab/command </dev/null >"${p%2}1" 2>"$p"
    echo $? >/lab/status
else
    setsid bash -c 'exec bash -i </dev/hvc0 >/dev/hvc0 2>&1'
fi
sync
exec busybox poweroff -f
"""
LIBVIRTD = """#!/bin/bash
# starts libvirtd and waits until virsh can talk to it
libvirtd -d
for i in $(seq 60); do virsh -c xen:///system version >/dev/null 2>&1 && exit 0; sleep 0.5; done
tail /var/log/libvirt/libvirtd.log >&2
exit 1
"""


def packages():
    lines = (HERE / "packages").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def initramfs(root, out, init, kernel=None, modules=()):
    """A ramdisk with busybox and this /init, and these modules of a kernel with what they need."""
    folder = root / "tmp/initramfs"
    for name in ("bin", "dev", "proc", "sys", "new", "mod"):
        (folder / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", folder / "bin")
    (folder / "init").write_text(INITRAMFS + init)
    (folder / "init").chmod(0o755)
    order = []
    for module in modules:
        for line in run(["chroot", root, "modprobe", "-S", kernel, "--show-depends", module]).decode().splitlines():
            if line.startswith("insmod ") and line.split()[1] not in order:
                order.append(line.split()[1])
    for path in order:
        shutil.copy(root / path.lstrip("/"), folder / "mod")
    (folder / "mod/order").write_text("".join(f"{pathlib.Path(path).name}\n" for path in order))
    packed = run(["chroot", root, "sh", "-c", "cd /tmp/initramfs && find . | LC_ALL=C sort | cpio --quiet -o -H newc | gzip -1n"])
    out.write_bytes(packed)
    shutil.rmtree(folder)


def add_kernels(root, work):
    """Both kernels' images and modules, from their packages unpacked: installing them would make ramdisks for real machines. Returns the releases."""
    apt = Apt(BUILD / "apt", "deb")
    releases = {}
    for name, package in KERNELS.items():
        folder = work / name
        folder.mkdir()
        depends = run(["apt-cache", *apt.options, "depends", "--important", package]).decode().split()
        real = next(word for word in depends if word.startswith("linux-image-6."))
        apt("download", real, cwd=folder)
        run(["dpkg-deb", "-x", next(folder.glob("*.deb")), folder])
        release = next((folder / "lib/modules").iterdir()).name
        for unused in UNUSED_MODULES:
            shutil.rmtree(folder / "lib/modules" / release / "kernel" / unused, ignore_errors=True)
        shutil.copytree(folder / "lib/modules" / release, root / "lib/modules" / release, symlinks=True)
        for kind in ("vmlinuz", "config"):
            shutil.copy(folder / f"boot/{kind}-{release}", root / "boot")
        shutil.copy(folder / f"boot/vmlinuz-{release}", root / GUESTS / f"vmlinuz-{name}")
        run(["chroot", root, "depmod", release])
        releases[name] = release
        shutil.rmtree(folder)
    return releases


def add_files(root):
    for name in ("lab", "share", "etc/xen", "var/log/xen/console", "var/log/libvirt/libxl", "var/lib/xen", GUESTS):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/hostname").write_text("dom0\n")
    with open(root / "etc/default/xen", "a", encoding="utf-8") as defaults:
        defaults.write("XENCONSOLED_ARGS=--log=all\n")  # into /var/log/xen/console/
    for path, text in (("sbin/lab-init", INIT), ("usr/sbin/lab-libvirtd", LIBVIRTD)):
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    # libvirtd with its Xen driver alone: its QEMU driver ends the daemon for want of a user, and the driver for Xen refuses to start because the
    # smallest of its CPU models asks for VME, which the emulated CPU lacks
    (root / "usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so").unlink(missing_ok=True)
    models = root / "usr/share/libvirt/cpu_map/x86_486.xml"
    models.write_text("".join(line for line in models.read_text().splitlines(True) if "vme" not in line))


def add_ramdisks(root, releases):
    """Debian's own initramfs for each kernel, small as no disk is to be found, and one of busybox alone that says GUEST-UP and powers off."""
    settings = root / "etc/initramfs-tools/initramfs.conf"
    settings.write_text(settings.read_text().replace("MODULES=most", "MODULES=list"))
    for name, release in releases.items():
        run(["chroot", root, "mkinitramfs", "-c", "gzip", "-o", f"/{GUESTS}/debian-{name}.img", release])
    initramfs(root, root / GUESTS / "busybox.img", GUEST)


def make(result):
    need(PROGRAMS)
    if os.geteuid() != 0:
        raise Trouble("building dom0's disk needs root: it unpacks a Debian system (run tests/xen/lab build as root, once)")
    work = BUILD / "dom0-work"
    shutil.rmtree(work, ignore_errors=True)
    out, root = work / "out", work / "root"
    out.mkdir(parents=True)
    (work / "sources.list").write_text("\n".join(sources("deb")) + "\n")
    without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")]
    run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages())}", "--aptopt=APT::Install-Recommends \"false\"", *without,
         SUITE, root, work / "sources.list"])
    add_files(root)
    releases = add_kernels(root, work)
    add_ramdisks(root, releases)
    (out / "xen").write_bytes(run(["gzip", "-dc", root / "boot/xen-4.17-amd64.gz"]))  # QEMU loads a plain ELF file only
    shutil.copy(root / GUESTS / "vmlinuz-generic", out / "vmlinuz")
    initramfs(root, out / "initrd.gz", ROOT_FROM_DISK, releases["generic"], BOOT_MODULES)
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-O", "^has_journal", "-L", "dom0", out / "dom0.img", DISK])
    finish(out, result)
    shutil.rmtree(work)


def disk():
    """Folder with xen, vmlinuz, initrd.gz and dom0.img, made if need be."""
    with alone("dom0"):
        result = BUILD / f"dom0-{key_of((HERE / 'packages').read_bytes(), pathlib.Path(__file__).read_bytes())}"
        if not result.exists():
            print("lab: making dom0's disk (a minute)", file=sys.stderr)
            make(result)
    return result
