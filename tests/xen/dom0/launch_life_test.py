# SPDX-License-Identifier: Apache-2.0
# lab: group=life timeout=900
"""What is left of launches on a real Xen: after kill -9 of sevd at each step nothing that was not attested; after 20 launches no handle, domain,
grant, mapping or memory."""
import hashlib
import os
import pathlib
import re
import subprocess
import time
import unittest
import uuid

from dom0 import Guest, run
from launching import TINY, LaunchCase, house

SAYS = "echo HAS $(sha256sum </luks-key | cut -d' ' -f1); sleep 1000\n"
HAS = f"HAS {hashlib.sha256(house.SECRET).hexdigest()}"


class Killed(LaunchCase):
    rounds = 0  # launches so far

    def came_to(self, point, done):
        """Whether sevd is dead. On a busy machine sevctl may have given up before that, and the launch goes on without it; one that ended instead is a
        failure, with its reason."""
        if self.house.daemon.process.poll() is not None:
            return True
        try:
            ended = [launch for launch in self.house.launches() if launch["id"] > self.rounds and launch["ended"]]
        except AssertionError:
            return False  # sevd died while it was asked
        if ended:
            self.house.daemon.kill()
            self.fail(f"sevd did not come to {point}: {ended}\n{done.stdout.decode()}{done.stderr.decode()}{self.house.daemon.text()}"
                      f"{self.house.owner.text()}")
        return False

    def dies_at(self, point, *words, policy):
        """sevd dies at this point of the launch that these words ask for, and is started anew."""
        self.house.start_daemon("--stop-at", point)
        done = self.house.launch_xen(*words, policy=policy)
        if point != "state:running":  # the last word of a launch that runs may have come through
            self.assertNotEqual(done.returncode, 0)
        house.until(f"sevd comes to {point}; sevctl said {done.stdout.decode()}{done.stderr.decode()}", lambda: self.came_to(point, done))
        self.rounds += 1
        self.house.start_daemon()  # what is left is ended before anybody is answered

    def nothing_is_left(self):
        house.until("nothing is left", self.idle)
        self.assertLessEqual({launch["state"] for launch in self.house.launches()}, {"failed", "destroyed", "cancelled", "refused"})
        self.house.daemon.stop()

    def is_adopted(self, guest):
        self.assertEqual(self.house.launches()[0]["state"], "running")
        self.assertIsNotNone(guest.state())

    def ends_with(self, guest):
        self.xl("destroy", guest.name)
        house.until("the launch ends with its guest", lambda: self.house.launches()[0]["state"] == "destroyed")
        self.nothing_is_left()

    def test_kill_9_at_each_step(self):
        self.open()
        guest = self.tiny("killed")
        self.house.trusts("web", guest.config, acpi_reference=str(self.reference()), secrets=False)
        self.house.start_owner()
        points = ("state:opening", "state:session", "state:loading", "before:LAUNCH_START", "after:LAUNCH_START", "after:ACTIVATE",
                  "after:LAUNCH_UPDATE_DATA", "after:LAUNCH_MEASURE", "state:judging", "state:releasing", "after:LAUNCH_FINISH", "state:starting")
        for point in points:
            with self.subTest(point):
                self.dies_at(point, "--xl-cfg", guest.config, policy="web")
                self.nothing_is_left()

    def test_kill_9_around_the_secret(self):
        """It goes into the guest as the last thing before that runs. What runs is attested, and ended unless the journal says that it runs."""
        self.open()
        guest = Guest(self, "keyed", memory=128, ramdisk=self.slotted("keyed", SAYS))
        self.house.trusts("keyed", guest.config, acpi_reference=str(self.reference()))
        self.house.start_owner()
        for point in ("before:LAUNCH_SECRET", "after:LAUNCH_SECRET", "state:starting"):
            with self.subTest(point):
                self.dies_at(point, "--xl-cfg", guest.config, policy="keyed")
                self.nothing_is_left()
                self.assertEqual(guest.console(), "")
        with self.subTest("guest:let-run"):
            self.dies_at("guest:let-run", "--xl-cfg", guest.config, policy="keyed")
            self.nothing_is_left()
        with self.subTest("state:running"):
            self.dies_at("state:running", "--xl-cfg", guest.config, policy="keyed")
            self.is_adopted(guest)
            guest.wait_for(HAS)
            self.ends_with(guest)

    def test_kill_9_with_an_adopted_domain(self):
        """The same domain again and again: made by xl, with a UUID of its own."""
        self.open()
        identity = str(uuid.uuid4())
        guest = Guest(self, "taken", memory=128, ramdisk=self.slotted("taken", SAYS), uuid=identity)
        self.house.trusts("taken", guest.config, acpi_reference=str(self.reference()))
        self.house.start_owner()
        for point in ("state:opening", "after:LAUNCH_MEASURE", "before:LAUNCH_SECRET", "state:starting"):
            with self.subTest(point):
                self.dies_at(point, "--domid", guest.create(), policy="taken")
                self.nothing_is_left()
                self.assertEqual(guest.console(), "")
        with self.subTest("left paused, and not known to be"):
            self.dies_at("guest:let-run", "--domid", guest.create(), "--uuid", identity, "--leave-paused", policy="taken")
            self.nothing_is_left()
            self.assertEqual(guest.console(), "")
        with self.subTest("left paused"):
            self.dies_at("state:running", "--domid", guest.create(), "--uuid", identity, "--leave-paused", policy="taken")
            self.is_adopted(guest)
            self.assertIn("p", guest.state())
            guest.unpause()
            guest.wait_for(HAS)
            self.ends_with(guest)

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
    """What is kept of each launch shows: sevd may grow by less than 64 KiB a launch, Xen not at all."""

    def mebibytes(self, process):
        return int(re.search(r"VmRSS:\s+([0-9]+) kB", pathlib.Path(f"/proc/{process}/status").read_text()).group(1)) / 1024

    def resources(self):
        """What sevd and Xen hold while no guest is there."""
        sevd = self.house.daemon.process.pid
        maps = pathlib.Path(f"/proc/{sevd}/maps").read_text().splitlines()
        info = self.xl("info").stdout
        self.xl("debug-keys", "g")  # every domain's grant table, into Xen's log
        tables = self.xl("dmesg").stdout.split("gnttab_usage_print_all [ key 'g' pressed")[-1]
        processes = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout.splitlines()
        return {"descriptors": len(os.listdir(f"/proc/{sevd}/fd")), "threads": len(os.listdir(f"/proc/{sevd}/task")), "mappings": len(maps),
                "foreign mappings": sum("privcmd" in line or "xen" in line.rsplit("/dev/", 1)[-1] for line in maps if "/dev/" in line),
                "MiB of sevd": self.mebibytes(sevd), "MiB of sev-owner": self.mebibytes(self.house.owner.process.pid),
                "MiB that Xen has left": int(re.search(r"free_memory +: ([0-9]+)", info).group(1)),
                "domains": len(self.xl("list").stdout.splitlines()) - 1, "grant tables": len(re.findall(r"grant-table for remote d", tables)),
                "active grants": len(re.findall(r"\[0x[0-9a-f]{3,}\] ", tables)),
                "processes of ours": sum("xen-sev" in line or "sevd" in line for line in processes)}

    def settled(self):
        """`resources` once they stay as they are: threads and connections end a moment after what they were for."""
        last = None
        deadline = time.monotonic() + house.PATIENCE
        while time.monotonic() < deadline:
            now = self.resources()
            if last is not None and all(now[name] == last[name] for name in ("descriptors", "threads", "processes of ours", "grant tables")):
                return now
            last = now
            time.sleep(2)
        return last

    def test_20_launches_in_a_row(self):
        self.open()
        ramdisk = self.dir / "ramdisk"
        ramdisk.write_bytes(b"\0" + os.urandom((1 << 20) - 1))
        guest = Guest(self, "again", memory=32, kernel=TINY, ramdisk=ramdisk, extra="tiny")
        self.house.trusts("web", guest.config, acpi_reference=str(self.reference()), secrets=False)
        self.house.start()
        held = {}
        for number in range(1, 21):
            self.told(self.house.launch_xen("--xl-cfg", guest.config, policy="web"), 0)
            run("xl", "destroy", guest.name)
            house.until("the guest is gone", self.idle)
            house.until("its launch has ended", lambda: all(launch["state"] != "running" for launch in self.house.launches()))
            if number in (4, 12, 20):
                held[number] = self.settled()
        before, middle, after = held.values()
        print("MEASURED after 4, 12 and 20 launches",
              ", ".join(f"{name} {before[name]:.6g} {middle[name]:.6g} {after[name]:.6g}" for name in after), flush=True)
        self.assertGreater(after["grant tables"], 0, "Xen's log does not show them")
        for name in ("foreign mappings", "domains", "grant tables", "active grants", "threads", "processes of ours"):
            self.assertEqual(after[name], before[name], name)
        self.assertEqual((after["foreign mappings"], after["domains"]), (0, 1))
        self.assertLessEqual(after["descriptors"], before["descriptors"])
        self.assertLessEqual(after["mappings"], before["mappings"] + 8)  # of malloc
        for name in ("MiB of sevd", "MiB of sev-owner"):  # caches fill
            self.assertLessEqual(after[name] - before[name], 4, name)
        self.assertLessEqual(after["MiB of sevd"] - middle["MiB of sevd"], 1)  # 134 KiB kept of each launch would be more
        self.assertGreaterEqual(after["MiB that Xen has left"], before["MiB that Xen has left"] - 1)


if __name__ == "__main__":
    unittest.main()
