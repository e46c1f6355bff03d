# SPDX-License-Identifier: Apache-2.0
# lab: group=life timeout=400
"""xen-sev-keeper, the process that holds a domain for sevd, is killed or stands still: while the domain is built, while it is judged, while it runs."""
import os
import signal
import threading
import time
import unittest

from dom0 import PRODUCT, Guest, run
from launching import LaunchCase, house

# A carrier that kills every keeper after the guest was measured and before the owner has answered.
KILLER = """import json, subprocess, sys
request = sys.stdin.buffer.read()
if json.loads(request)["format"] == "xen-sev/judgement-request":
    subprocess.run(["pkill", "-KILL", "-x", "xen-sev-keeper"], check=True)
done = subprocess.run([{owner!r}, "exchange", "--config", {config!r}, "--channel", "relay"], input=request, stdout=subprocess.PIPE)
sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
"""


class Keepers(LaunchCase):
    def keepers(self):
        return {int(pid) for pid in run("pgrep", "-x", "xen-sev-keeper").stdout.split()}

    def test_a_running_guest_outlives_its_keepers(self):
        self.open()
        guest = Guest(self, "alone", memory=128, ramdisk=self.slotted("alone", "echo UP; sleep 1000\n"))
        self.house.trusts("pvh", guest.config, acpi_reference=str(self.reference()))
        self.house.start()
        self.told(self.house.launch_xen("--xl-cfg", guest.config, policy="pvh"), 0)
        guest.wait_for("UP")
        for how in (signal.SIGKILL, signal.SIGSTOP):
            had = self.keepers()
            self.assertEqual(len(had), 1)
            for pid in had:
                os.kill(pid, how)
                self.addCleanup(lambda pid=pid: run("kill", "-KILL", pid))
            house.until("another keeper has it", lambda had=had: self.keepers() - had)
            time.sleep(5)  # a few looks
            self.assertEqual(self.house.launches()[0]["state"], "running", self.house.daemon.text())
            self.assertIsNotNone(guest.state())
            if how == signal.SIGSTOP:
                for pid in had:
                    os.kill(pid, signal.SIGKILL)
            house.until("one is left", lambda had=had: not self.keepers() & had)
        self.xl("destroy", guest.name)
        house.until("the launch ends with its guest", lambda: self.house.launches()[0]["ended"])
        self.assertEqual(self.house.launches()[0]["reason"], "the guest ended by itself")
        house.until("nothing is left", self.idle)

    def test_one_that_dies_while_its_guest_is_judged(self):
        killer = self.dir / "killer.py"
        self.open(channel=["/usr/bin/python3", killer])
        killer.write_text(KILLER.format(owner=str(PRODUCT / "sev-owner"), config=str(self.house.owner_folder / "owner.json")))
        guest = self.tiny("judged")
        self.house.trusts("web", guest.config, acpi_reference=str(self.reference()), secrets=False)
        self.house.start()
        self.never_ran(guest, "xen-sev-keeper: has ended", self.house.launch_xen("--xl-cfg", guest.config, policy="web"))
        house.until("nothing is left", self.idle)

    def test_one_that_dies_while_it_builds(self):
        """What it leaves half made is destroyed."""
        self.open()
        self.reference()
        ramdisk = self.dir / "ramdisk"
        ramdisk.write_bytes(b"\0" + os.urandom((96 << 20) - 1))  # takes a while to be put in place
        guest = Guest(self, "half", memory=384, ramdisk=ramdisk)
        self.house.start()
        done = []
        launch = threading.Thread(target=lambda: done.append(self.house.launch_xen("--xl-cfg", guest.config, policy="web")))
        launch.start()
        house.until("there is a domain", lambda: len(run("xl", "list").stdout.splitlines()) > 2)
        for pid in self.keepers():
            os.kill(pid, signal.SIGSTOP)
        half = run("xl", "list").stdout
        for pid in self.keepers():
            os.kill(pid, signal.SIGKILL)
        launch.join()
        print("it was killed with", half.splitlines()[-1], flush=True)
        house.until("its launch has ended", lambda: self.house.launches()[0]["ended"])
        self.never_ran(guest, "xen-sev-keeper: has ended", done[0])
        house.until("nothing is left", self.idle)


if __name__ == "__main__":
    unittest.main()
