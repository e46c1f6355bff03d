# SPDX-License-Identifier: Apache-2.0
"""The disk of the virtual SEV machine: Debian 12 with its own kernel, KVM, QEMU, OVMF and libvirt, and a kernel and ramdisk for guests. Made once, and anew when this file
or the list of packages changes."""
import os
import pathlib
import shutil
import sys

import debian
from debian import SUITE, Apt, Trouble, alone, finish, key_of, need, run, sources

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "gzip": "gzip", "dpkg-deb": "dpkg"}
BOOT_MODULES = ["virtio_pci", "virtio_blk", "ext4", "9p", "9pnet_virtio", "virtio_console"]
UNUSED = ("sound", "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/net/ethernet", "drivers/infiniband", "drivers/staging", "drivers/scsi")
DISK = "3G"  # sparse
GUESTS = "usr/lib/xen-sev"  # kernel and ramdisk for guests, in the machine

RAMDISK = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
"""
ROOT_FROM_DISK = """while read m; do insmod /mod/$m; done </mod/order
n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
mount -t ext4 /dev/vda /new || { echo "machine: no root disk"; poweroff -f; }
mount --move /dev /new/dev; mount --move /proc /new/proc; mount --move /sys /new/sys
exec switch_root /new /sbin/machine-init
"""
# A guest that says what it sees of SEV and powers off.
GUEST = """echo "GUEST-UP $(dmesg | grep -o 'Memory Encryption Features active: .*' || echo 'no memory encryption'), $(grep -c ^processor /proc/cpuinfo) CPUs"
poweroff -f
"""
# process 1 of the machine; /lab holds the order of this run: command, the project's programs, a folder for results
INIT = """#!/bin/bash
export PATH=/opt/xen-sev/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=${TERM:-dumb} LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp; mkdir -p /run/lock
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
hostname sev; busybox ifconfig lo 127.0.0.1 up
9p() { mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,"$3" "$1" "$2"; }
9p lab /lab cache=none
9p share /share ro,cache=loose
mkdir -p /opt/xen-sev; cp -r /lab/bin /opt/xen-sev/
. /lab/options
[ -n "$ccp_options" ] && echo "options ccp $ccp_options" >/etc/modprobe.d/ccp.conf
modprobe ccp; modprobe kvm_amd
echo "machine: ready after $(cut -d' ' -f1 /proc/uptime)s"
cd /share
if [ -e /lab/command ]; then
    for i in $(seq 50); do p=$(echo /dev/vport*p2); [ -c "$p" ] && break; sleep 0.1; done
    : >/lab/began
    bash /lab/command </dev/null >"${p%2}1" 2>"$p"
    echo $? >/lab/status
else
    setsid bash -c 'exec bash -i </dev/ttyS0 >/dev/ttyS0 2>&1'
fi
sync
exec busybox poweroff -f
"""
LIBVIRTD = """#!/bin/bash
# starts libvirtd and waits until virsh can talk to it
libvirtd -d
for i in $(seq 60); do virsh -c qemu:///system version >/dev/null 2>&1 && exit 0; sleep 0.5; done
tail /var/log/libvirt/libvirtd.log >&2
exit 1
"""


def packages():
    lines = (HERE / "packages").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def ramdisk(root, out, init, release, modules):
    """A ramdisk with busybox and this /init, and these modules of the kernel with what they need."""
    folder = root / "tmp/ramdisk"
    for name in ("bin", "dev", "proc", "sys", "new", "mod"):
        (folder / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", folder / "bin")
    (folder / "init").write_text(RAMDISK + init)
    (folder / "init").chmod(0o755)
    order = []
    for module in modules:
        for line in run(["chroot", root, "modprobe", "-S", release, "--show-depends", module]).decode().splitlines():
            if line.startswith("insmod ") and line.split()[1] not in order:
                order.append(line.split()[1])
    for path in order:
        shutil.copy(root / path.lstrip("/"), folder / "mod")
    (folder / "mod/order").write_text("".join(f"{pathlib.Path(path).name}\n" for path in order))
    out.write_bytes(run(["chroot", root, "sh", "-c", "cd /tmp/ramdisk && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -1n"]))
    shutil.rmtree(folder)


def add_kernel(root, work):
    """Debian's kernel and its modules, from the package unpacked: installing it would make a ramdisk for a real machine. Returns the release."""
    apt = Apt(debian.BUILD / "apt", "deb")
    folder = work / "kernel"
    folder.mkdir()
    depends = run(["apt-cache", *apt.options, "depends", "--important", "linux-image-amd64"]).decode().split()
    apt("download", next(word for word in depends if word.startswith("linux-image-6.")), cwd=folder)
    run(["dpkg-deb", "-x", next(folder.glob("*.deb")), folder])
    release = next((folder / "lib/modules").iterdir()).name
    for unused in UNUSED:
        shutil.rmtree(folder / "lib/modules" / release / "kernel" / unused, ignore_errors=True)
    shutil.copytree(folder / "lib/modules" / release, root / "lib/modules" / release, symlinks=True)
    shutil.copy(folder / f"boot/config-{release}", root / "boot")
    shutil.copy(folder / f"boot/vmlinuz-{release}", root / GUESTS / "vmlinuz")
    run(["chroot", root, "depmod", release])
    shutil.rmtree(folder)
    return release


def add_files(root):
    for name in ("lab", "share", GUESTS, "var/log/libvirt/qemu", "var/lib/libvirt/qemu", "var/cache/libvirt/qemu"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/hostname").write_text("sev\n")
    for path, text in (("sbin/machine-init", INIT), ("usr/sbin/machine-libvirtd", LIBVIRTD)):
        (root / path).write_text(text)
        (root / path).chmod(0o755)
    # libvirt's QEMU driver wants its user to exist; guests run as root, as /dev/sev is root's
    run(["chroot", root, "useradd", "--system", "--user-group", "libvirt-qemu"])
    (root / "etc/libvirt").mkdir(exist_ok=True)
    (root / "etc/libvirt/qemu.conf").write_text('user = "root"\ngroup = "root"\nsecurity_driver = "none"\nremember_owner = 0\nstdio_handler = "file"\nnamespaces = []\ncgroup_controllers = []\n')


def make(result):
    need(PROGRAMS)
    if os.geteuid() != 0:
        raise Trouble("making the machine's disk needs root: it unpacks a Debian system (run sev-emulator machine --build as root, once)")
    work = debian.BUILD / "host-work"
    shutil.rmtree(work, ignore_errors=True)
    out, root = work / "out", work / "root"
    out.mkdir(parents=True)
    (work / "sources.list").write_text("\n".join(sources("deb")) + "\n")
    run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages())}", "--aptopt=APT::Install-Recommends \"false\"",
         "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*", SUITE, root, work / "sources.list"])
    add_files(root)
    release = add_kernel(root, work)
    ramdisk(root, root / GUESTS / "guest.img", GUEST, release, [])
    ramdisk(root, out / "initrd.gz", ROOT_FROM_DISK, release, BOOT_MODULES)
    shutil.copy(root / GUESTS / "vmlinuz", out / "vmlinuz")
    for name in ("OVMF_CODE.fd", "OVMF_VARS.fd"):  # what guests are measured by, for those outside who predict it
        shutil.copy(root / "usr/share/OVMF" / name, out / name)
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-O", "^has_journal", "-L", "sev", out / "host.img", DISK])
    finish(out, result)
    shutil.rmtree(work)


def disk():
    """Folder with vmlinuz, initrd.gz, host.img and the firmware in it, made if need be."""
    with alone("host"):
        result = debian.BUILD / f"host-{key_of((HERE / 'packages').read_bytes(), pathlib.Path(__file__).read_bytes())}"
        if not result.exists():
            print("machine: making its disk (two minutes)", file=sys.stderr)
            make(result)
    return result
