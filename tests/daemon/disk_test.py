# SPDX-License-Identifier: Apache-2.0
"""sevd with no room for its journal: nothing new starts, what runs goes on, and all is well when there is room again."""
import os
import shutil
import subprocess
import time
import unittest

import host


class DiskFull(host.Host):
    @unittest.skipUnless(os.getuid() == 0 and shutil.which("mount"), "SKIPPED: needs root to make a small disk")
    def test_no_room_for_the_journal(self):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(self.state)], capture_output=True, check=False)
        if done.returncode != 0:
            self.skipTest("SKIPPED: no tmpfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.state)], check=False)
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        running = self.launch("before")
        self.assertEqual(self.settle(running, "running")["state"], "running")
        filler = self.state / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
        statuses = [self.ask("POST", "/v1/launches", self.request(f"n{number}")) for number in range(40)]
        refused = [body for status, body, _ in statuses if status in (503, 507)]
        self.assertTrue(refused, statuses[-1])
        self.assertIn("journal", refused[-1]["detail"])
        self.assertEqual(self.get("/v1/status")[1]["journal"]["state"], "failing")
        self.assertEqual(self.get(f"/v1/launches/{running}")[1]["state"], "running")
        filler.unlink()
        until = time.monotonic() + 15
        while self.get("/v1/status")[1]["journal"]["state"] != "ok" and time.monotonic() < until:
            time.sleep(0.1)
        self.assertEqual(self.settle(self.launch("after"), "running")["state"], "running")
        self.stop()


if __name__ == "__main__":
    unittest.main()
