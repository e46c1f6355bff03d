#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Nothing in a relay is trusted: with one that replays, swaps, truncates, changes, delays, mixes, invents and floods, no guest runs, no secret is given, and the next
launch over an honest one does."""
import json
import pathlib
import shutil
import subprocess
import sys
import threading
import unittest

import house

LIAR = pathlib.Path(__file__).resolve().with_name("lying_relay.py")


class LyingRelay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.house = house.House()
        folder = cls.house.folder
        vault = cls.house.configuration["owners"]["vault"]
        vault["channel"] = {"command": [shutil.which("python3"), str(LIAR), str(folder), str(house.PROGRAMS)]}
        vault["deadline_s"] = 4
        (folder / "owner-key.json").write_text(json.dumps(cls.house.key))
        # the policy "lax" would let anything pass, and has the same secret
        cls.house.policy("lax", references=[{"name": "the guest", "digest": "00" * 32}])
        # a second owner, with the same policies and its own key, whom this host has not pinned
        other = folder / "other-owner"
        house.check("sev-owner", "init", other, "--client-stdio", "relay")
        for policy in (folder / "owner" / "policies").iterdir():
            shutil.copy(policy, other / "policies")
        cls.say("honest")
        cls.house.start_daemon()

    @classmethod
    def tearDownClass(cls):
        cls.house.close()

    @classmethod
    def say(cls, mode):
        (cls.house.folder / "mode").write_text(mode)

    def released(self):
        return sum(session["packets"] for session in self.house.sessions())

    def launch(self, mode, **more):
        self.say(mode)
        status, result = self.house.launch(**more)
        launch = result["launch"]
        steps = [step["step"] for step in launch["steps"]]
        if launch["state"] != "running":
            self.assertNotIn("LAUNCH_SECRET", steps)
            self.assertNotIn("LAUNCH_FINISH", steps)
            self.assertTrue(launch["ended"], launch)
            self.assertNotIn("asid", launch)
        return status, launch

    def denied(self, mode, *words, state="failed", **more):
        status, launch = self.launch(mode, **more)
        self.assertEqual((status, launch["state"]), (1, state), launch)
        for word in words:
            self.assertIn(word, launch["reason"])
        self.assertLess(len(launch["reason"]), 2100)
        self.assertTrue(launch["reason"].isprintable(), launch["reason"])

    def honest(self):
        status, launch = self.launch("honest")
        self.assertEqual((status, launch["state"]), (0, "running"), launch)
        self.assertTrue(launch["verdict"]["trusted"])
        house.check("sevctl", "launches", "cancel", launch["id"], "--yes", "--socket", self.house.socket)
        house.until("the guest is gone", lambda: self.house.status()["launches"]["active"] == 0)
        self.assertEqual(self.house.status()["psp"]["asids"]["sev"]["in_use"], 0)

    def tearDown(self):
        self.honest()

    def test_replayed_answers(self):
        status, launch = self.launch("record")
        self.assertEqual((status, launch["state"]), (0, "running"), launch)
        house.check("sevctl", "launches", "cancel", launch["id"], "--yes", "--socket", self.house.socket)
        before = self.released()
        self.denied("replay", "to another request")
        self.denied("replay:judgement", "to another request")
        self.denied("swap-steps", "to another request")
        self.denied("swap-steps:judgement", "to another request")
        self.assertEqual(self.released(), before)

    def test_spoiled_answers(self):
        for where in ("", ":judgement"):
            for percent in (0, 1, 20, 50, 99):
                self.denied(f"truncate{where} {percent}")
                self.denied(f"flip{where} {percent}")
            for mode in ("garbage", "empty", "exit", "flood"):
                with self.subTest(mode + where):
                    self.denied(f"{mode}{where} 3")
            self.denied(f"unsigned{where}", "owner's answer")

    def test_other_owners(self):
        for where in ("", ":judgement"):
            self.denied(f"other-owner{where}", "want the pinned" if not where else "")
            self.denied(f"other-owner-named-ours{where}", "does not verify" if not where else "")

    def test_changed_requests(self):
        self.denied("rename", "to another request")
        self.denied("rename:judgement", "to another request")
        self.denied("downgrade", "to another request")
        self.denied("spoil-evidence", "to another request")

    def test_a_changed_measurement_frees_nothing_at_the_owner(self):
        before = self.released()
        self.denied("spoil-evidence")
        self.assertEqual(self.released(), before)

    def test_each_step_twice(self):
        # the second session is as good as the first; but the second judgement of one session is none
        before = self.released()
        self.denied("twice:judgement", "used already")
        self.assertEqual(self.released(), before + 1)  # sealed for the launch that then did not run: nobody else can open it
        status, launch = self.launch("twice")
        self.assertEqual(launch["state"], "failed", launch)

    def test_two_launches_mixed(self):
        for where in ("", ":judgement"):
            for left in self.house.folder.glob("mixed-*"):
                left.unlink()
            self.say("mix" + where)
            results = {}

            def one(name):
                done = self.house.sevctl("launch", "--image", self.house.folder / "guest.json", "--owner", "vault", "--policy", "web", "--name", name, "--json")
                results[name] = (done.returncode, json.loads(done.stdout)["launch"])

            threads = [threading.Thread(target=one, args=(name,)) for name in ("left", "right")]
            [t.start() for t in threads]
            [t.join() for t in threads]
            for status, launch in results.values():
                self.assertEqual((status, launch["state"]), (1, "failed"), launch)
                self.assertIn("to another request", launch["reason"])

    def test_one_that_delays(self):
        vault = self.house.configuration["owners"]["vault"]
        vault["deadline_s"] = 2
        (self.house.folder / "sevd.json").write_text(json.dumps(self.house.configuration))
        self.house.daemon.process.send_signal(1)  # SIGHUP: takes the new configuration
        house.until("reloaded", lambda: "reload" in self.house.daemon.text())
        try:
            self.denied("sleep")
            self.denied("sleep:judgement")
        finally:
            vault["deadline_s"] = 30
            (self.house.folder / "sevd.json").write_text(json.dumps(self.house.configuration))
            self.house.daemon.process.send_signal(1)
            house.until("reloaded again", lambda: self.house.daemon.text().count("reload") >= 2)
        # nothing of it is left: what slept is killed with its process group
        house.until("the sleeping relays are gone", lambda: subprocess.run(["pgrep", "-f", f"{LIAR} {self.house.folder}"], capture_output=True).stdout == b"")


if __name__ == "__main__":
    sys.path.insert(0, str(LIAR.parent))
    unittest.main()
