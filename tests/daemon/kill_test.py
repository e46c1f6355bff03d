# SPDX-License-Identifier: Apache-2.0
"""kill -9 of sevd at every point of a launch, and at random moments: after the restart every launch has ended in a said state or is adopted, no ASID
and no guest context is left, no session was used twice, and no secret was given out twice. KILL_ROUNDS and KILL_SEED choose the random part; the seed
is printed."""
import os
import random
import signal
import subprocess
import time
import unittest

import host

ROUNDS = int(os.environ.get("KILL_ROUNDS", "20"))
SEED = int(os.environ.get("KILL_SEED", "20261122"))


def points():
    """Every point that sevd has, from the hint of its refusal; a launch of this guest does not come by those of SEV-ES and of ends."""
    text = subprocess.run([host.SEVD, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--stop-at" in text
    states = ["accepted", "opening", "session", "loading", "judging", "releasing", "starting", "running"]
    commands = ["LAUNCH_START", "ACTIVATE", "LAUNCH_UPDATE_DATA", "LAUNCH_MEASURE", "LAUNCH_SECRET", "LAUNCH_FINISH"]
    return [f"state:{state}" for state in states] + [f"{when}:{command}" for command in commands for when in ("before", "after")] + ["guest:let-run"]


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
        for at, point in enumerate(points()):
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
