# SPDX-License-Identifier: Apache-2.0
# lab: group=launch timeout=600
"""What toolstacks call, on a real Xen: the C library, by its example in C, and xl-sev. Both let run what its owner trusts, and leave nothing of a domain
that he does not."""
import hashlib
import signal
import unittest

from dom0 import PRODUCT, ROOT, Guest, run
from launching import LaunchCase, house

EXAMPLE, XL_SEV = PRODUCT / "sev-launch-domain", ROOT / "libxl-hooks/xl/xl-sev"
SECRET = f"SECRET {hashlib.sha256(house.SECRET).hexdigest()}"
LEVEL = "sevd: level L1, emulated PSP\n"


class Programs(LaunchCase):
    def setUp(self):
        """A guest that the owner knows, and one with another command line."""
        super().setUp()
        self.open()
        self.good = Guest(self, "good", memory=128, ramdisk=self.slotted("good"))
        self.other = Guest(self, "other", memory=128, ramdisk=self.dir / "good.img", extra="console=hvc0 quiet init=/bin/sh")
        self.house.trusts("web", self.good.config, acpi_reference=str(self.reference()))
        self.house.start()

    def uuid(self, guest):
        return next(line.split()[0] for line in self.xl("vm-list").stdout.splitlines() if line.split()[-1] == guest.name)

    def example(self, guest, domid, *more):
        return run(EXAMPLE, self.house.socket, domid, "vault", "web", *(more or (self.uuid(guest), 300)), timeout_s=house.PATIENCE)

    def xl_sev(self, *words):
        return run(XL_SEV, *words, "--owner", "vault", "--policy", "web", "--socket", self.house.socket, timeout_s=house.PATIENCE)

    def ran_with_its_secret(self, done):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.house.daemon.text())
        self.good.wait_for(SECRET)
        self.good.wait_gone()
        house.until("no keeper is left", self.idle)
        house.until("its launch has ended", lambda: all(launch["ended"] for launch in self.house.launches()))

    def never_ran(self, guest, done, *, status, says):
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, status, text + self.house.daemon.text())
        self.assertIn(says, text)
        self.assertEqual(guest.console(), "")
        house.until("nothing is left", self.idle)

    def test_the_c_library(self):
        domid = self.good.create()
        another = self.example(self.good, domid, "0c2f5b8e-0000-4000-8000-000000000007", 60)
        self.assertEqual(another.returncode, 2, another.stdout)
        self.assertIn("sevd failed or did not answer: -: sevd: ", another.stdout)
        self.assertIn("p", self.good.state())  # nobody touched it
        done = self.example(self.good, domid)
        self.assertTrue(done.stdout.startswith(LEVEL + "attested: running: "), done.stdout)
        self.ran_with_its_secret(done)
        self.never_ran(self.other, self.example(self.other, self.other.create()), status=1, says="not trusted: refused: ")

    def test_the_c_library_calls_off_what_is_not_decided_in_time(self):
        domid = self.good.create()
        uuid = self.uuid(self.good)
        self.house.owner.process.send_signal(signal.SIGSTOP)  # an owner who does not answer
        try:
            done = self.example(self.good, domid, uuid, 3)
            house.until("the domain is gone", lambda: self.good.state() is None)
        finally:
            self.house.owner.process.send_signal(signal.SIGCONT)
        self.never_ran(self.good, done, status=2, says=" after 3 s; called off")
        self.assertNotIn("may let domain", done.stdout)
        house.until("its launch has ended", lambda: [launch["state"] for launch in self.house.launches()] == ["cancelled"])

    def test_xl_sev(self):
        self.ran_with_its_secret(self.xl_sev("create", self.good.config))
        self.never_ran(self.other, self.xl_sev("create", self.other.config), status=1, says="not trusted")
        self.good.create()
        self.ran_with_its_secret(self.xl_sev("unpause", self.good.name))
        self.other.create()
        self.never_ran(self.other, self.xl_sev("unpause", self.other.name), status=1, says="not trusted")
        done = self.xl_sev("unpause", self.other.name)
        self.assertEqual((done.returncode, done.stderr), (2, "xl-sev: other: there is no such domain\n"))
        self.assertEqual(run(XL_SEV, "domid", "Domain-0").stdout, self.xl("domid", "Domain-0").stdout)


if __name__ == "__main__":
    unittest.main()
