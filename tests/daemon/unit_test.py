# SPDX-License-Identifier: Apache-2.0
"""sevd's units: hardened as far as is promised, and what they say is what the program does."""
import configparser
import re
import shutil
import subprocess
import unittest

import host

UNITS = host.ROOT / "packaging/systemd"
EXPOSURE_LIMIT = 4.0


def unit(name):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string("\n".join(line for line in (UNITS / name).read_text().splitlines() if not line.startswith("#")))
    return parser


class Units(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "SKIPPED: no systemd-analyze")
    def test_exposure(self):
        command = ["systemd-analyze", "security", "--offline=true", f"--threshold={int(EXPOSURE_LIMIT * 10)}", str(UNITS / "sevd.service")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"Overall exposure level for sevd.service: ([0-9.]+)", done.stdout)
        self.assertTrue(found, done.stdout + done.stderr)
        self.assertLessEqual(float(found.group(1)), EXPOSURE_LIMIT)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_what_matters_is_there(self):
        service, socket = unit("sevd.service")["Service"], unit("sevd.socket")["Socket"]
        self.assertEqual(service["Type"], "notify")
        self.assertEqual(service["ExecStart"], "/usr/sbin/sevd --config /etc/xen-sev/sevd.json")
        self.assertEqual(service["LimitCORE"], "0")
        self.assertEqual(service["NoNewPrivileges"], "yes")
        self.assertEqual(service["KillMode"], "process")  # device models of running domains live on
        self.assertNotIn("User", service)  # Xen's devices are root's
        self.assertNotIn("PrivateUsers", service)  # peers' uids must be the real ones
        self.assertEqual(socket["ListenStream"], "/run/xen-sev/sevd.sock")
        self.assertEqual((socket["SocketMode"], socket["SocketGroup"]), ("0660", "xen-sev"))
        self.assertRegex((host.ROOT / "packaging/sysusers.d/xen-sev.conf").read_text(), r"(?m)^g xen-sev -$")

    def test_the_example_is_good(self):
        done = subprocess.run([host.SEVD, "--check", "--config", str(host.ROOT / "packaging/sevd.json")], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_manual_names_every_option(self):
        options = set(re.findall(r"--([a-z-]+)", subprocess.run([host.SEVD, "--help"], capture_output=True, text=True, check=True).stdout))
        manual = (host.ROOT / "launch/daemon/sevd.8").read_text()
        self.assertGreater(len(options), 5)
        for option in options:
            self.assertIn(f"Fl -{option}", manual)


if __name__ == "__main__":
    unittest.main()
