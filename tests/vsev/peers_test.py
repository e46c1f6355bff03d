# SPDX-License-Identifier: Apache-2.0
"""Other people's programs on Linux' own ccp driver: virtee's sevctl through the same sequence as ours, each reading what the other wrote, the sev crate's host tests, and
launches by Debian's QEMU whose owner uses virtee's sevctl. Without cargo, or when it cannot build them, all of it is skipped and says so."""
import base64
import json
import os
import shutil
import sys
import unittest

from vsev import ROOT, Guest, MachineCase, Owner, virtual_machine

sys.path.insert(0, str(ROOT / "tests/interop"))
import devsev_peers as peers  # noqa: E402

FOLDER = ROOT / "build/peers"
SEV, SEV_ES = 0x1, 0x5


class Peers(MachineCase):
    @classmethod
    def setUpClass(cls):
        try:
            cls.their_sevctl, cls.their_tests = peers.their_sevctl(FOLDER), peers.their_sev_tests(FOLDER)
        except peers.Missing as missing:
            raise unittest.SkipTest(missing.why) from None
        super().setUpClass()
        chip = cls.lab() / "out/chip"
        chip.mkdir()
        for path in (cls.ca, cls.cek):
            shutil.copy(path, chip / path.name)
        (chip / "identity.json").write_text(json.dumps(cls.chip))

    def in_machine(self, path):
        return f"/share/{path.relative_to(ROOT)}"

    def test_01_sevctl_of_virtee_and_ours_read_each_other(self):
        sequence = self.ran("python3", "-B", "/share/tests/interop/devsev_sevctl.py", "--emulator", "sev-emulator", "--sevctl", "/opt/xen-sev/bin/sevctl",
                            "--their-sevctl", self.in_machine(self.their_sevctl), "--device", "/lab/out/chip")
        self.assertRegex(sequence.out, r"^\d{2,} steps with virtee's sevctl \S+ and ours agree\n$")
        names = [line.split()[0] for line in self.lines()]
        for name in ("PEK_CSR", "PEK_CERT_IMPORT", "PDH_CERT_EXPORT", "PDH_GEN", "SHUTDOWN", "PLATFORM_RESET"):
            self.assertIn(name, names)

    def test_02_host_tests_of_the_sev_crate(self):
        self.sevctl("reset", "--yes")
        done = self.ran("env", "HOME=/tmp", "XDG_CACHE_HOME=/tmp", self.in_machine(self.their_tests), "--test-threads=1", status=None)
        self.assertEqual((done.status, peers.missing_of_sev_tests(done.out)), (0, ""), done.out + done.err)

    def test_03_launches_whose_owner_uses_virtees_sevctl(self):
        for policy, vcpus in ((SEV, 1), (SEV_ES, 2)):
            with self.subTest(policy=policy):
                owner = Owner(self, policy, program=self.their_sevctl)
                guest = Guest(self, policy, vcpus=vcpus, owner=owner)
                blob = owner.file("measurement")
                measured = guest.measurement()
                blob.write_bytes(base64.b64decode(measured))
                self.assertEqual(measured, owner.expected(blob, virtual_machine.disk() / "OVMF_CODE.fd", vcpus=vcpus if policy & 4 else 0))
                header, payload = owner.seal(blob, os.urandom(64))
                guest.qmp("sev-inject-launch-secret", **{"packet-header": header, "secret": payload, "gpa": 0x100000})
                last = self.lines()[-1]
                self.assertTrue(last.startswith("LAUNCH_SECRET") and last.endswith("SUCCESS"), last)
                guest.end()


if __name__ == "__main__":
    unittest.main()
