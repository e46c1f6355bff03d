# SPDX-License-Identifier: Apache-2.0
"""Direct boot that is measured: OVMF AmdSev, and QEMU's hashes of kernel, ramdisk and command line. A guest boots so, and finds the secret where its firmware has a place for it.

Debian's kernel is built without EFI_SECRET, so that no efi_secret can show the secret under securityfs: the guest reads the place itself, by /dev/mem.
"""
import base64
import os
import shutil
import struct
import sys
import unittest

from vsev import GUESTS, ROOT, Guest, MachineCase, Owner, virtual_machine

sys.path.insert(0, str(ROOT / "tests/interop"))
from common import make, table_entry  # noqa: E402

SEV, SEV_ES = 0x1, 0x5
RUN_S = 400  # on a busy machine; 40 s on an idle one
CMDLINE = "console=ttyS0 iomem=relaxed"
INIT = """#!/bin/sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
echo "SECRET $(dd if=/dev/mem bs=1024 skip={at} count={count} 2>/dev/null | strings | grep seen-by-the-guest)"
echo "GUEST-UP $(dmesg | grep -o 'Memory Encryption Features active: .*')"
poweroff -f
"""


class KernelHashes(MachineCase):
    options = {"plain": True}

    @classmethod
    def setUpClass(cls):
        image = virtual_machine.module_at(ROOT / "tests/lab/ovmf").firmware() / "OVMF.fd"
        super().setUpClass()
        out = cls.lab() / "out"
        cls.firmware = shutil.copy(image, out / "amdsev.fd")
        cls.place, cls.place_bytes = struct.unpack("<II", table_entry(image.read_bytes(), make.SECRET))
        # the machine's own ramdisk for guests, with another /init behind it
        init = INIT.format(at=cls.place // 1024, count=cls.place_bytes // 1024)
        (out / "more").mkdir()
        (out / "more/init").write_text(init)
        (out / "more/init").chmod(0o755)
        cls.ran("sh", "-c", f"cp {GUESTS}/vmlinuz /lab/out; cd /tmp; zcat {GUESTS}/guest.img | cpio -id --quiet -D /tmp/guest; cd /tmp/guest; for c in sh mount echo dd strings grep dmesg poweroff; do "
                "ln -sf busybox bin/$c; done; cp /lab/out/more/init init; find . | cpio -o --quiet -H newc -R 0:0 | gzip -1n >/lab/out/ramdisk")

    def launch(self, policy, owner, cmdline=CMDLINE, vcpus=1):
        more = ["-kernel", "/lab/out/vmlinuz", "-initrd", "/lab/out/ramdisk", "-append", cmdline]
        return Guest(self, policy, vcpus=vcpus, owner=owner, firmware="/lab/out/amdsev.fd", more=more, memory_mib=256, sev="kernel-hashes=on")

    def expected(self, owner, measured, cmdline=CMDLINE, vcpus=0):
        owner.file("measurement").write_bytes(base64.b64decode(measured))
        out = self.lab() / "out"
        return owner.expected(owner.file("measurement"), self.firmware, vcpus, "--kernel", out / "vmlinuz", "--initrd", out / "ramdisk", "--cmdline", cmdline)

    def test_01_measured_guest_boots_and_sees_its_secret(self):
        owner = Owner(self, SEV)
        guest = self.launch(SEV, owner)
        measured = guest.measurement()
        self.assertEqual(measured, self.expected(owner, measured))
        self.assertNotEqual(measured, self.expected(owner, measured, cmdline=CMDLINE + " init=/bin/sh"))
        secret = b"seen-by-the-guest-" + os.urandom(16).hex().encode()
        header, payload = owner.seal(owner.file("measurement"), secret)
        guest.qmp("sev-inject-launch-secret", **{"packet-header": header, "secret": payload})  # where the firmware says
        with self.ram() as ram:
            self.assertEqual(ram.find(secret), -1)
        guest.qmp("cont")
        self.wait("the guest to come up", lambda: "GUEST-UP" in self.serial(guest) or guest.qmp("query-status")["status"] != "running", RUN_S)
        said = self.serial(guest)
        self.assertIn("GUEST-UP Memory Encryption Features active: AMD SEV", said[-4000:])
        self.assertIn(f"SECRET {secret.decode()}", said)

    def serial(self, guest):
        return self.ran("cat", guest.serial).out

    def test_02_sev_es_with_four_cpus(self):
        owner = Owner(self, SEV_ES)
        guest = self.launch(SEV_ES, owner, vcpus=4)
        measured = guest.measurement()
        self.assertEqual(measured, self.expected(owner, measured, vcpus=4))
        guest.end()

    def test_03_another_kernel_is_another_measurement(self):
        self.ran("sh", "-c", "cp /lab/out/vmlinuz /tmp/known; printf X | dd of=/lab/out/vmlinuz bs=1 seek=100000 conv=notrunc")
        self.addCleanup(lambda: self.ran("cp", "/tmp/known", "/lab/out/vmlinuz"))
        owner = Owner(self, SEV)
        guest = self.launch(SEV, owner)
        measured = guest.measurement()
        self.assertEqual(measured, self.expected(owner, measured))  # of the kernel as it is
        self.ran("cp", "/tmp/known", "/lab/out/vmlinuz")
        self.assertNotEqual(measured, self.expected(owner, measured))  # of the one that is known
        guest.end()

    def test_04_the_kernel_is_well(self):
        self.assert_kernel_is_well()


if __name__ == "__main__":
    unittest.main()
