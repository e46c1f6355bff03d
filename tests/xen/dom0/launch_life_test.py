# SPDX-License-Identifier: Apache-2.0
# lab: group=launch timeout=700
"""What is left of launches on a real Xen: after kill -9 of sevd at each step nothing that was not attested; after 20 launches no handle, domain,
mapping or memory."""
import os
import pathlib
import subprocess
import time
import unittest

from dom0 import Guest, run
from launching import LaunchCase, house


class Killed(LaunchCase):
    def test_kill_9_at_each_step(self):
        self.open()
        guest = self.tiny("killed")
        self.house.trusts("web", guest.config, acpi_reference=str(self.reference()), secrets=False)
        self.house.start_owner()
        for point in ("state:opening", "state:session", "before:LAUNCH_START", "after:LAUNCH_UPDATE_DATA", "state:judging", "state:releasing",
                      "after:LAUNCH_FINISH", "state:starting"):
            with self.subTest(point):
                self.house.start_daemon("--stop-at", point)
                done = self.house.launch_xen("--xl-cfg", guest.config, policy="web")
                self.assertNotEqual(done.returncode, 0)
                try:
                    self.house.daemon.process.wait(60)
                except subprocess.TimeoutExpired:
                    self.house.daemon.kill()
                    self.fail(f"sevd did not come to {point}: {done.stdout.decode()}{done.stderr.decode()}{self.house.daemon.text()}")
                self.house.start_daemon()  # what is left is ended before anybody is answered
                house.until("nothing is left", self.idle)
                self.assertLessEqual({launch["state"] for launch in self.house.launches()}, {"failed", "destroyed", "cancelled", "refused"})
                self.house.daemon.stop()

    def test_a_running_guest_outlives_sevd(self):
        self.open()
        guest = Guest(self, "outlives", memory=128, ramdisk=self.slotted("outlives", "echo UP; sleep 1000\n"))
        self.house.trusts("pvh", guest.config, acpi_reference=str(self.reference()))
        self.house.start()
        self.told(self.house.launch_xen("--xl-cfg", guest.config, policy="pvh"), 0)
        guest.wait_for("UP")
        self.house.daemon.kill()
        time.sleep(1)
        self.assertIsNotNone(guest.state())
        self.house.start_daemon()
        self.assertEqual([launch["state"] for launch in self.house.launches()], ["running"])
        self.xl("destroy", guest.name)
        house.until("the launch ends with its guest", lambda: self.house.launches()[0]["state"] != "running")


class Leaks(LaunchCase):
    def test_20_launches_in_a_row(self):
        self.open()
        guest = self.tiny("again")
        self.house.trusts("web", guest.config, acpi_reference=str(self.reference()), secrets=False)
        self.house.start()

        def resources():
            process = self.house.daemon.process.pid
            free = int(next(line for line in self.xl("info").stdout.splitlines() if line.startswith("free_memory")).split(":")[1])
            return len(os.listdir(f"/proc/{process}/fd")), len(pathlib.Path(f"/proc/{process}/maps").read_text().splitlines()), free

        before = None
        for number in range(20):
            self.told(self.house.launch_xen("--xl-cfg", guest.config, policy="web"), 0)
            run("xl", "destroy", guest.name)
            house.until("the guest is gone", self.idle)
            house.until("its launch has ended", lambda: all(launch["state"] != "running" for launch in self.house.launches()))
            if number == 2:
                before = resources()
        after = resources()
        self.assertLessEqual(after[0], before[0] + 2, "file descriptors")
        self.assertLessEqual(after[1], before[1] + 20, "mappings")
        self.assertGreaterEqual(after[2], before[2] - 4, "MiB free in Xen")


if __name__ == "__main__":
    unittest.main()
