# SPDX-License-Identifier: Apache-2.0
"""The service unit: hardened as far as is promised, and what it says the program does."""

import configparser
import re
import shutil
import subprocess
import unittest

import host
import support

UNIT = host.ROOT / "packaging/systemd/sev-owner.service"
EXPOSURE_LIMIT = 2.0


class Unit(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "SKIPPED: no systemd-analyze (package systemd)")
    def test_exposure(self):
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", f"--threshold={int(EXPOSURE_LIMIT * 10)}", str(UNIT)],
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"Overall exposure level for sev-owner.service: ([0-9.]+)", done.stdout)
        self.assertTrue(found, done.stdout + done.stderr)
        self.assertLessEqual(float(found.group(1)), EXPOSURE_LIMIT)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_what_matters_is_there(self):
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str
        parser.read_string("\n".join(line for line in UNIT.read_text().splitlines() if not line.startswith("#")))
        service = parser["Service"]
        self.assertEqual(service["User"], "xen-sev-owner")
        self.assertEqual(service["LimitCORE"], "0")
        self.assertEqual(service["LimitMEMLOCK"], "infinity")
        self.assertEqual(service["CapabilityBoundingSet"], "")
        self.assertEqual(service["Type"], "notify")
        self.assertIn("sev-owner serve", service["ExecStart"])
        self.assertNotIn("PrivateUsers", service)  # peers' uids must be the real ones
        users = (host.ROOT / "packaging/sysusers.d/xen-sev-owner.conf").read_text()
        self.assertRegex(users, r"(?m)^u xen-sev-owner ")
        limits = (host.ROOT / "packaging/limits.d/xen-sev-owner.conf").read_text()
        self.assertRegex(limits, r"(?m)^xen-sev-owner - memlock unlimited$")  # for sev-owner exchange, which no unit starts
        for line in (host.ROOT / "packaging/tmpfiles.d/xen-sev-owner.conf").read_text().splitlines():
            self.assertTrue(line.startswith("#") or re.fullmatch(r"d /\S+ 0[0-7]{3} \S+ xen-sev-owner", line), line)


if __name__ == "__main__":
    support.main()
