# SPDX-License-Identifier: Apache-2.0
"""The disk of a Xen machine: Debian 12 with Xen 4.17 as dom0, and kernels and ramdisks for guests. Made once, and anew when this file or the list of packages changes."""
import pathlib
import shutil

import root_image
from debian import run

HERE = pathlib.Path(__file__).resolve().parent
KERNELS = {"generic": "linux-image-amd64", "cloud": "linux-image-cloud-amd64"}  # dom0 itself runs the first
GUESTS = "usr/lib/xen-sev-lab"  # kernels and ramdisks for guests, in dom0
GUEST = """echo "GUEST-UP $(cat /sys/hypervisor/guest_type) $(cut -d" " -f1 /proc/uptime)s"
sleep 1; poweroff -f
"""


def add_files(root):
    for name in ("etc/xen", "var/log/xen/console", "var/log/libvirt/libxl", "var/lib/xen", GUESTS):
        (root / name).mkdir(parents=True, exist_ok=True)
    with open(root / "etc/default/xen", "a", encoding="utf-8") as defaults:
        defaults.write("XENCONSOLED_ARGS=--log=all\n")  # into /var/log/xen/console/
    root_image.add_process_1(root, "sbin/lab-init", "dom0", "hvc0", "/etc/init.d/xen start")
    root_image.add_program(root, "usr/sbin/lab-libvirtd", root_image.filled(root_image.LIBVIRTD, URI="xen:///system"))
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
    root_image.ramdisk(root, root / GUESTS / "busybox.img", GUEST)


def fill(root, out, work):
    add_files(root)
    releases = {name: root_image.add_kernel(root, work, package, [root / GUESTS / f"vmlinuz-{name}"]) for name, package in KERNELS.items()}
    add_ramdisks(root, releases)
    (out / "xen").write_bytes(run(["gzip", "-dc", root / "boot/xen-4.17-amd64.gz"]))  # QEMU loads a plain ELF file only
    shutil.copy(root / GUESTS / "vmlinuz-generic", out / "vmlinuz")
    root_image.boot_ramdisk(root, out / "initrd.gz", releases["generic"], "/sbin/lab-init")


def disk():
    """Folder with xen, vmlinuz, initrd.gz and dom0.img, made if need be."""
    return root_image.disk("dom0", root_image.lines_of(HERE / "packages-xen"), fill, __file__)
