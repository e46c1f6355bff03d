# SPDX-License-Identifier: Apache-2.0
"""The PSP dies, sleeps and hangs under the drivers: the host kernel survives, and our programs say what happened."""
import json
import os
import signal
import time
import unittest

from vsev import Guest, MachineCase

SEV = 0x1


class Trouble(MachineCase):
    options = {"ccp_options": "psp_cmd_timeout=5 psp_probe_timeout=5", "deadline_ms": 2000}

    def initialised(self):
        """What status says of the PSP's being initialised, for SEV."""
        features = json.loads(self.sevctl("status", "--json"))["features"]
        return next(feature for feature in features if feature["name"] == "SEV")["initialised"]

    def test_01_killed_and_started_again(self):
        guest = Guest(self, SEV)
        self.machine.psp.kill()
        dead = self.ran("sevctl", "show", "version", status=2)
        self.assertIn("HWERROR_PLATFORM", dead.err)
        self.assertNotEqual(self.ran("sevctl", "ok", status=None).status, 0)
        self.machine.psp.start()
        self.wait("the machine to find its PSP again", self.answers)
        self.assertEqual(self.sevctl("show", "guests"), "0\n")  # it was switched off: no guest, no keys
        self.assertEqual(self.initialised()["truth"], "no")
        guest.end()
        self.reload()
        self.assertEqual(self.sevctl("show", "flags"), "es\n")
        Guest(self, SEV).end()

    def test_02_sleeps_beyond_the_deadline(self):
        os.kill(self.machine.psp.process.pid, signal.SIGSTOP)
        started = time.monotonic()
        late = self.ran("sevctl", "show", "version", status=2)
        self.assertIn("HWERROR_PLATFORM", late.err)
        self.assertGreater(time.monotonic() - started, 1.9)
        os.kill(self.machine.psp.process.pid, signal.SIGCONT)
        self.wait("the machine to find its PSP again", self.answers)
        self.reload()
        Guest(self, SEV).end()

    def test_03_hung_command(self):
        self.restart_psp(["PDH_GEN=hang"])
        hung = self.ran("sevctl", "rotate", "--yes", status=2)
        self.assertRegex(hung.err, "(?i)timed out|did not answer|timeout")
        again = self.ran("sevctl", "show", "version", status=2)
        self.assertRegex(again.err, "(?i)busy|gave|given up|reboot")
        self.assertIn("sev command 0x9 timed out, disabling PSP", self.ran("dmesg").out)
        self.assertIn("PSP      does not answer: /dev/sev: Device or resource busy", self.sevctl("status"))
        self.assertNotEqual(self.initialised()["truth"], "yes")
        guest = Guest(self, SEV, start=False)
        self.wait("QEMU to give up", lambda: "sev" in guest.said() and "fail" in guest.said().lower())

    def test_04_the_kernel_is_well(self):
        log = self.ran("dmesg").out
        for word in ("BUG:", "Oops", "Call Trace"):
            self.assertNotIn(word, log)
        self.ran("true")


if __name__ == "__main__":
    unittest.main()
