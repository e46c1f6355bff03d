# SPDX-License-Identifier: Apache-2.0
"""Disks of emulated machines: Debian 12, unpacked into an ext4 file system, with Debian's own kernel and a small ramdisk that starts it. Each kind of machine says what is in it."""
import os
import pathlib
import shutil
import sys

import debian
from debian import SUITE, Apt, Trouble, alone, finish, key_of, need, run, sources

PROGRAMS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "gzip": "gzip", "dpkg-deb": "dpkg"}
BOOT_MODULES = ["virtio_pci", "virtio_blk", "ext4", "9p", "9pnet_virtio", "virtio_console"]
UNUSED = ["sound", "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/net/ethernet", "drivers/infiniband", "drivers/staging"]
NO_DOCUMENTS = [f"/usr/share/{name}/*" for name in ("man", "locale", "doc")]
DISK = "3G"  # sparse

RAMDISK = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
"""
ROOT_FROM_DISK = """while read m; do insmod /mod/$m; done </mod/order
n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
mount -t ext4 /dev/vda /new || { echo "machine: no root disk"; poweroff -f; }
mount --move /dev /new/dev; mount --move /proc /new/proc; mount --move /sys /new/sys
exec switch_root /new @INIT@
"""
# /lab holds the order of this run: command, the project's programs, a folder for results
SHARES = """9p() { mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,"$3" "$1" "$2"; }
9p lab /lab cache=none
9p share /share ro,cache=loose
mkdir -p /opt/xen-sev; cp -r /lab/bin /opt/xen-sev/
"""
ENVIRONMENT = """#!/bin/bash
export PATH=/opt/xen-sev/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=${TERM:-dumb} LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
"""
COMMAND = """cd /share
if [ -e /lab/command ]; then
    for i in $(seq 50); do p=$(echo /dev/vport*p2); [ -c "$p" ] && break; sleep 0.1; done
    : >/lab/began
    bash /lab/command </dev/null >"${p%2}1" 2>"$p"
    echo $? >/lab/status
else
    setsid bash -c 'exec bash -i </dev/@TERMINAL@ >/dev/@TERMINAL@ 2>&1'
fi
sync
"""
PROCESS_1 = ENVIRONMENT + """mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp; mkdir -p /run/lock
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm
hostname @NAME@; busybox ifconfig lo 127.0.0.1 up
""" + SHARES + """@PREPARE@
echo "machine: ready after $(cut -d' ' -f1 /proc/uptime)s"
""" + COMMAND + """exec busybox poweroff -f
"""
LIBVIRTD = """#!/bin/bash
# starts libvirtd and waits until virsh can talk to it
libvirtd -d
for i in $(seq 60); do virsh -c @URI@ version >/dev/null 2>&1 && exit 0; sleep 0.5; done
tail /var/log/libvirt/libvirtd.log >&2
exit 1
"""


def lines_of(path):
    """The lines of a list of packages."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def filled(text, **values):
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def add_program(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")
    (root / path).chmod(0o755)


def add_process_1(root, path, name, terminal, prepare):
    """What runs the command of this run as process 1, and powers off; `prepare`: lines before that."""
    for folder in ("lab", "share"):
        (root / folder).mkdir(exist_ok=True)
    (root / "etc/hostname").write_text(f"{name}\n", encoding="utf-8")
    add_program(root, path, filled(PROCESS_1, NAME=name, TERMINAL=terminal, PREPARE=prepare))


def ramdisk(root, out, init, release=None, modules=()):
    """A ramdisk with busybox and this /init, and these modules of a kernel with what they need."""
    folder = root / "tmp/ramdisk"
    for name in ("bin", "dev", "proc", "sys", "new", "mod"):
        (folder / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", folder / "bin")
    add_program(folder, "init", RAMDISK + init)
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


def boot_ramdisk(root, out, release, init):
    """The ramdisk that finds the disk and starts `init` on it."""
    ramdisk(root, out, filled(ROOT_FROM_DISK, INIT=init), release, BOOT_MODULES)


def add_kernel(root, work, package, copies, unused=()):
    """A kernel of Debian's and its modules, from the package unpacked: installing it would make a ramdisk for a real machine. Its image also goes to each of `copies`.
    Returns the release."""
    apt = Apt()
    folder = work / "kernel"
    folder.mkdir()
    apt("download", next(word for word in apt.depends(package) if word.startswith("linux-image-6.")), cwd=folder)
    run(["dpkg-deb", "-x", next(folder.glob("*.deb")), folder])
    release = next((folder / "lib/modules").iterdir()).name
    for name in (*UNUSED, *unused):
        shutil.rmtree(folder / "lib/modules" / release / "kernel" / name, ignore_errors=True)
    shutil.copytree(folder / "lib/modules" / release, root / "lib/modules" / release, symlinks=True)
    (root / "boot").mkdir(exist_ok=True)
    shutil.copy(folder / f"boot/config-{release}", root / "boot")
    for copy in (root / f"boot/vmlinuz-{release}", *copies):
        shutil.copy(folder / f"boot/vmlinuz-{release}", copy)
    run(["chroot", root, "depmod", release])
    shutil.rmtree(folder)
    return release


def make(result, name, packages, fill, without=NO_DOCUMENTS):
    if os.geteuid() != 0:
        raise Trouble(f"making the disk \"{name}\" needs root: it unpacks a Debian system (as root, once)")
    need(PROGRAMS)
    work = debian.BUILD / f"{name}-work"
    shutil.rmtree(work, ignore_errors=True)
    out, root = work / "out", work / "root"
    out.mkdir(parents=True)
    (work / "sources.list").write_text("\n".join(sources("deb")) + "\n")
    run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", "--aptopt=APT::Install-Recommends \"false\"",
         *[f"--dpkgopt=path-exclude={path}" for path in without], SUITE, root, work / "sources.list"])
    fill(root, out, work)
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-O", "^has_journal", "-L", name, out / f"{name}.img", DISK])
    finish(out, result)
    shutil.rmtree(work)


def disk(name, packages, fill, *recipe, without=NO_DOCUMENTS):
    """Folder with NAME.img and what `fill(root, out, work)` puts into `out`, made if need be, and anew when the packages, the recipe (files) or this file change."""
    with alone(name):
        key = key_of(" ".join(packages), *(pathlib.Path(path).read_bytes() for path in (__file__, *recipe)))
        result = debian.BUILD / f"{name}-{key}"
        if not result.exists():
            print(f"machine: making the disk \"{name}\" (one or two minutes)", file=sys.stderr)
            make(result, name, packages, fill, without)
    return result
