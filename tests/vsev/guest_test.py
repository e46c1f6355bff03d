# SPDX-License-Identifier: Apache-2.0
"""SEV guests run: OVMF and Linux, unmodified, in a machine whose memory is plain after LAUNCH_FINISH."""
import base64
import os
import unittest

from vsev import GUESTS, Guest, MachineCase, Owner, virtual_machine

SEV = 0x1
RUN_S = 400  # on a busy machine; 30 s on an idle one
SECRET_AT = 0x7000000


class Guests(MachineCase):
    options = {"plain": True}

    def launch(self, vcpus, owner=None):
        self.ran("cp", "/usr/share/OVMF/OVMF_VARS.fd", "/tmp/vars.fd")
        more = ["-drive", "if=pflash,format=raw,unit=1,file=/tmp/vars.fd", "-kernel", f"{GUESTS}/vmlinuz", "-initrd", f"{GUESTS}/guest.img", "-append", "console=ttyS0"]
        return Guest(self, SEV, vcpus=vcpus, owner=owner, more=more, memory_mib=256)

    def serial(self, guest):
        return self.ran("cat", guest.serial).out

    def runs(self, guest, vcpus):
        self.wait("the guest to come up", lambda: "GUEST-UP" in self.serial(guest) or guest.qmp("query-status")["status"] != "running", RUN_S)
        said = self.serial(guest)
        self.assertIn(f"GUEST-UP Memory Encryption Features active: AMD SEV, {vcpus} CPUs", said[-4000:])

    def test_01_attested_guest_runs_and_its_secret_is_in_the_clear_for_it(self):
        owner = Owner(self, SEV)
        guest = self.launch(1, owner)
        measured = guest.measurement()
        blob = owner.file("measurement")
        blob.write_bytes(base64.b64decode(measured))
        self.assertEqual(measured, owner.expected(blob, virtual_machine.disk() / "OVMF_CODE.fd"))
        secret = os.urandom(64)
        header, payload = owner.seal(blob, secret)
        guest.qmp("sev-inject-launch-secret", **{"packet-header": header, "secret": payload, "gpa": SECRET_AT})
        with self.ram() as ram:
            self.assertEqual(ram.find(secret), -1)
        guest.qmp("cont")
        with self.ram() as ram:
            self.assertNotEqual(ram.find(secret), -1)
        self.assertEqual(guest.qmp("query-sev")["state"], "running")
        self.runs(guest, 1)

    def test_02_guest_with_two_cpus_runs(self):
        guest = self.launch(2)
        guest.qmp("cont")
        self.runs(guest, 2)

    def test_03_the_mode_is_named_and_the_kernel_is_well(self):
        self.assertEqual(self.transcript.read_text().splitlines()[0], "# plain-after-finish: guests run unencrypted")
        self.assert_kernel_is_well()


if __name__ == "__main__":
    unittest.main()
