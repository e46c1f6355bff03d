# SPDX-License-Identifier: Apache-2.0
"""kill -9 of sevd at every point of a launch, and at random moments: after the restart every launch has ended in a said state or is adopted, no ASID
and no guest context is left, no session was used twice, and no secret was given out twice. KILL_ROUNDS and KILL_SEED choose the random part; the seed
is printed."""
import json
import os
import random
import re
import signal
import subprocess
import time
import unittest

import host

ROUNDS = int(os.environ.get("KILL_ROUNDS", "20"))
SEED = int(os.environ.get("KILL_SEED", "20261122"))


# what a launch of a trusted guest without register state does not come by, and what brings one there
ENDS_AND_ES = {"state:ending": "cancel a running guest", "state:destroyed": "cancel a running guest", "state:cancelled": "cancel while the owner is asked",
               "state:failed": "an owner's answer that is none", "state:refused": "a platform that the owner refuses",
               "before:LAUNCH_UPDATE_VMSA": "register state", "after:LAUNCH_UPDATE_VMSA": "register state"}


def points(configuration):
    """Every point that sevd has, from the hint of its refusal of one that it has not."""
    said = subprocess.run([host.SEVD, "--config", str(configuration), "--stop-at", "nowhere"], capture_output=True, text=True, check=False).stderr
    return re.search(r"^sevd: hint: points: (.+)$", said, re.MULTILINE).group(1).split()


class Kill(host.Host):
    def setUp(self):
        super().setUp()
        self.owner = host.Owner(self.dir)
        self.configure()

    def after_restart(self):
        """The daemon again, and everything held against what must be true."""
        self.start()
        status = self.get("/v1/status")[1]
        for record in self.get("/v1/launches")[1]["launches"]:
            self.assertIn(record["state"], host.ENDED, record)
            self.assertNotEqual(record["reason"], "", record)
            self.assertNotIn("asid", record)
        for pool in status["psp"]["asids"].values():
            self.assertEqual(pool["free"], pool["total"], status)
        self.assertEqual(status["psp"]["stuck_contexts"], 0)
        self.assertEqual(status["launches"], {"active": 0, "running": 0, "admitted": True, "why_not": ""})
        self.assertEqual(self.get("/v1/platform")[1]["status"]["guest_count"], 0)

    def test_every_point(self):
        every = points(self.configuration)
        self.assertGreater(len(every), 20)
        self.assertEqual(set(ENDS_AND_ES) - set(every), set())
        for at, point in enumerate(point for point in every if point not in ENDS_AND_ES):
            with self.subTest(point=point):
                self.start("--stop-at", point)
                try:
                    self.ask("POST", "/v1/launches", self.request(f"p{at}"), timeout=20)
                except (OSError, host.http.client.HTTPException):
                    pass  # it died before it could answer
                self.assertEqual(self.daemon.wait(20), -signal.SIGKILL, self.log_text())
                self.after_restart()
                launched = self.launch(f"p{at}")  # the name is free again
                self.assertEqual(self.settle(launched, "running")["state"], "running")
                self.stop()
        sessions = self.journal("SELECT count(*), count(DISTINCT session) FROM sessions")
        self.assertEqual(sessions[0][0], sessions[0][1])
        counted = self.owner.stop()
        self.assertLessEqual(counted["released"], counted["judged"])
        self.assertLessEqual(counted["judged"], counted["sessions"])

    def test_every_point_of_ends_and_of_register_state(self):
        parts = json.loads(self.layout.read_text())["parts"]
        refusing = json.loads((self.dir / "policy.json").read_text())
        refusing["chips"][0]["cek"] = "00" * 32
        with_state = {**json.loads(self.layout.read_text()), "vcpus": 1, "vmsa_profile": "kvm-legacy", "cpu": "EPYC"}
        (self.dir / "es.json").write_text(json.dumps(with_state))
        for point, way in ENDS_AND_ES.items():
            with self.subTest(point=point):
                self.owner.stop()
                self.write_policy(parts, es=way == "register state")
                if way == "a platform that the owner refuses":
                    (self.dir / "policy.json").write_text(json.dumps(refusing))
                self.owner = host.Owner(self.dir, {"cancel while the owner is asked": "silent", "an owner's answer that is none": "garbage"}.get(way, "honest"))
                self.configure()
                self.start("--stop-at", point)
                layout = self.dir / "es.json" if way == "register state" else self.layout
                launched = self.launch("end", guest={"kind": "image", "layout": str(layout)})
                if way.startswith("cancel"):
                    self.settle(launched, "running" if way == "cancel a running guest" else "session")
                    try:
                        self.ask("DELETE", f"/v1/launches/{launched}")
                    except (OSError, host.http.client.HTTPException):
                        pass  # it died before it could answer
                self.assertEqual(self.daemon.wait(20), -signal.SIGKILL, self.log_text())
                self.after_restart()
                self.stop()

    def test_random_moments(self):
        chance = random.Random(SEED)
        print(f"KILL_SEED={SEED} KILL_ROUNDS={ROUNDS}")
        for number in range(ROUNDS):
            self.start()
            for each in range(chance.randrange(1, 4)):
                self.launch(f"r{number}-{each}")
            time.sleep(chance.random() * 0.12)
            self.daemon.kill()
            self.daemon.wait()
            with self.subTest(round=number):
                self.after_restart()
                self.daemon.kill()  # and once more, with nothing to do
                self.daemon.wait()
        self.assertEqual(self.journal("SELECT count(*) FROM stuck"), [(0,)])
        self.assertEqual(self.journal("SELECT count(*) FROM launches WHERE ended = 0"), [(0,)])


if __name__ == "__main__":
    unittest.main()
