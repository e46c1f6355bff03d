# SPDX-License-Identifier: Apache-2.0
"""The disk of a machine with a real systemd as its process 1: Debian 12 with what our packages depend on, and a unit that runs the command of a run and powers off."""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "psp/emulator/machine"))
import root_image  # noqa: E402
from debian import run  # noqa: E402

UNIT = """[Unit]
Description=The command of this run
After=basic.target

[Service]
Type=oneshot
ExecStart=/usr/sbin/machine-command
StandardOutput=journal+console
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""
RUN = root_image.ENVIRONMENT + root_image.SHARES + root_image.filled(root_image.COMMAND, TERMINAL="ttyS0") + "systemctl poweroff --force --force\n"
# of a real machine, and of no use here
MASKED = ["getty@tty1.service", "serial-getty@ttyS0.service", "systemd-networkd.service", "systemd-timesyncd.service", "apt-daily.timer", "apt-daily-upgrade.timer",
          "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer"]


def fill(root, out, work):
    for name in ("lab", "share"):
        (root / name).mkdir()
    root_image.add_program(root, "usr/sbin/machine-command", RUN)
    (root / "etc/systemd/system/machine-command.service").write_text(UNIT)
    (root / "etc/hostname").write_text("systemd\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 0\n")
    (root / "etc/machine-id").write_text("")
    run(["chroot", root, "systemctl", "enable", "machine-command.service"])
    run(["chroot", root, "systemctl", "mask", *MASKED])
    run(["chroot", root, "systemctl", "set-default", "multi-user.target"])
    release = root_image.add_kernel(root, work, "linux-image-amd64", [out / "vmlinuz"], ["drivers/scsi", "drivers/usb", "drivers/ata", "fs/xfs", "fs/btrfs"])
    root_image.boot_ramdisk(root, out / "initrd.gz", release, "/lib/systemd/systemd")


def disk():
    """Folder with vmlinuz, initrd.gz and systemd.img in it, made if need be."""
    return root_image.disk("systemd", root_image.lines_of(HERE / "packages-systemd"), fill, __file__, without=root_image.NO_DOCUMENTS[:2])
