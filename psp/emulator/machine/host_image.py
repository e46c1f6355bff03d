# SPDX-License-Identifier: Apache-2.0
"""The disk of the virtual SEV machine: Debian 12 with its own kernel, KVM, QEMU, OVMF and libvirt, and a kernel and ramdisk for guests. Made once, and anew when this file
or the list of packages changes."""
import pathlib
import shutil

import root_image
from debian import run

HERE = pathlib.Path(__file__).resolve().parent
GUESTS = "usr/lib/xen-sev"  # kernel and ramdisk for guests, in the machine

# A guest that says what it sees of SEV and powers off.
GUEST = """echo "GUEST-UP $(dmesg | grep -o 'Memory Encryption Features active: .*' || echo 'no memory encryption'), $(grep -c ^processor /proc/cpuinfo) CPUs"
poweroff -f
"""
PREPARE = """mount -t cgroup2 cgroup /sys/fs/cgroup
. /lab/options
[ -n "$ccp_options" ] && echo "options ccp $ccp_options" >/etc/modprobe.d/ccp.conf
modprobe ccp; modprobe kvm_amd"""


def add_files(root):
    for name in (GUESTS, "var/log/libvirt/qemu", "var/lib/libvirt/qemu", "var/cache/libvirt/qemu"):
        (root / name).mkdir(parents=True, exist_ok=True)
    root_image.add_process_1(root, "sbin/machine-init", "sev", "ttyS0", PREPARE)
    root_image.add_program(root, "usr/sbin/machine-libvirtd", root_image.filled(root_image.LIBVIRTD, URI="qemu:///system"))
    # libvirt's QEMU driver wants its user to exist; guests run as root, as /dev/sev is root's
    run(["chroot", root, "useradd", "--system", "--user-group", "libvirt-qemu"])
    (root / "etc/libvirt").mkdir(exist_ok=True)
    (root / "etc/libvirt/qemu.conf").write_text('user = "root"\ngroup = "root"\nsecurity_driver = "none"\nremember_owner = 0\nstdio_handler = "file"\nnamespaces = []\ncgroup_controllers = []\n')


def fill(root, out, work):
    add_files(root)
    release = root_image.add_kernel(root, work, "linux-image-amd64", [root / GUESTS / "vmlinuz", out / "vmlinuz"], ["drivers/scsi"])
    root_image.ramdisk(root, root / GUESTS / "guest.img", GUEST)
    root_image.boot_ramdisk(root, out / "initrd.gz", release, "/sbin/machine-init")
    for name in ("OVMF_CODE.fd", "OVMF_VARS.fd"):  # what guests are measured by, for those outside who predict it
        shutil.copy(root / "usr/share/OVMF" / name, out / name)


def disk():
    """Folder with vmlinuz, initrd.gz, host.img and the firmware in it, made if need be."""
    return root_image.disk("host", root_image.lines_of(HERE / "packages"), fill, __file__)
