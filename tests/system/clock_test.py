#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The clock is set, by a day and by a minute, forward and back, while sevd and sev-owner are at work. Their deadlines, and the time a session has, are of clocks that nobody can set:
nothing ends early, and nothing lives longer. The real programs run with a library that shows them another time of day (clock_shim.cpp, SEV_CLOCK_SHIM)."""
import json
import mmap
import os
import pathlib
import socket
import struct
import subprocess
import sys
import time
import unittest

import house

SHIM = os.environ.get("SEV_CLOCK_SHIM", "build/dev/tests/system/libclock_shim.so")
DAY = 86400
# sevd's way to the owner: carries a request to the owner's socket, the second one only when the test lets it
CHANNEL = """#!{python} -B
import http.client, json, pathlib, socket, sys, time
folder = pathlib.Path({folder!r})
request = sys.stdin.buffer.read()
step = json.loads(request)["format"].rsplit("/", 1)[1]
while not (folder / ("let-" + step)).exists():
    time.sleep(0.02)
connection = http.client.HTTPConnection("localhost", timeout=20)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect({socket!r})
connection.request("POST", "/v1/exchange", request, {{"Content-Type": "application/json"}})
sys.stdout.buffer.write(connection.getresponse().read())
"""


@unittest.skipIf(os.environ.get("SEV_SANITIZED") == "1", "SKIPPED: a sanitizer's run-time library must be the first to be loaded")
class Clocks(unittest.TestCase):
    def house(self, session_seconds, deadline_s=60):
        os.environ.pop("LD_PRELOAD", None)
        self.home = h = house.House(limits={"session_seconds": session_seconds})
        self.addCleanup(h.close)
        self.addCleanup(os.environ.pop, "LD_PRELOAD", None)
        (h.folder / "clock").write_bytes(bytes(8))
        with open(h.folder / "clock", "r+b") as file:
            self.offset = mmap.mmap(file.fileno(), 8)
        channel = h.folder / "channel"
        channel.write_text(CHANNEL.format(python=sys.executable, folder=str(h.folder), socket=str(h.owner_socket)))
        channel.chmod(0o700)
        h.configuration["owners"]["vault"]["channel"] = {"command": [str(channel)]}
        h.configuration["owners"]["vault"]["deadline_s"] = deadline_s
        os.environ.update(LD_PRELOAD=str(pathlib.Path(SHIM).resolve()), CLOCK_SHIM=str(h.folder / "clock"))
        h.start()
        os.environ.pop("LD_PRELOAD")
        self.let("session-request")

    def set_clock(self, by):
        self.offset[:] = struct.pack("=q", by)

    def let(self, step):
        (self.home.folder / f"let-{step}").touch()

    def daemons_time(self):
        """What sevd takes for the time of day, as the date of its answers' newest launch."""
        return self.home.launches()[0]["updated"]

    def launch(self):
        return subprocess.Popen([house.program("sevctl"), "launch", "--image", str(self.home.folder / "guest.json"), "--owner", "vault", "--policy", "web", "--name", "web", "--json", "--socket",
                                 str(self.home.socket)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def at(self, state):
        house.until(f"the launch is {state}", lambda: any(one["state"] == state for one in self.home.launches()))

    def ended(self, client):
        out, err = client.communicate(timeout=house.PATIENCE)
        self.assertIn(client.returncode, (0, 1), err)
        return json.loads(out)["launch"]

    def test_the_programs_see_the_clock_that_is_set(self):
        self.house(session_seconds=60)
        self.let("judgement-request")
        self.set_clock(400 * DAY)
        launch = self.ended(self.launch())
        self.assertEqual(launch["state"], "running", launch)
        want = time.strftime("%Y-%m", time.gmtime(time.time() + 400 * DAY))
        self.assertTrue(launch["created"].startswith(want), launch["created"])
        self.assertTrue(self.home.sessions()[0]["created_at"].startswith(want))

    def test_a_session_does_not_end_early_when_the_clock_is_set_forward(self):
        self.house(session_seconds=60)
        client = self.launch()
        self.at("judging")
        self.set_clock(DAY)
        house.until("sev-owner has noticed", lambda: "the clock was set" in self.home.owner.text())  # and has cleaned its store since
        self.assertEqual([one["state"] for one in self.home.sessions()], ["open"])
        self.let("judgement-request")
        launch = self.ended(client)
        self.assertEqual(launch["state"], "running", launch["reason"])

    def test_nor_when_it_is_set_back(self):
        self.house(session_seconds=60)
        client = self.launch()
        self.at("judging")
        self.set_clock(-DAY)
        self.let("judgement-request")
        launch = self.ended(client)
        self.assertEqual(launch["state"], "running", launch["reason"])

    def expired(self, by):
        self.house(session_seconds=2)
        client = self.launch()
        self.at("judging")
        self.set_clock(by)
        time.sleep(3.2)
        self.let("judgement-request")
        launch = self.ended(client)
        self.assertEqual(launch["state"], "failed", launch["reason"])
        self.assertIn("the session has expired", launch["reason"])
        self.assertIn("session has expired", house.check("sev-owner", "audit", "show", "--config", self.home.owner_folder / "owner.json").decode())

    def test_a_session_lives_no_longer_when_the_clock_is_set_back_by_a_minute(self):
        self.expired(-60)

    def test_nor_when_it_is_set_back_by_a_day(self):
        self.expired(-DAY)

    def test_nor_when_the_owner_reads_its_configuration_again(self):
        self.house(session_seconds=2)
        client = self.launch()
        self.at("judging")
        self.set_clock(-60)
        self.home.owner.process.send_signal(1)
        time.sleep(3.2)
        self.let("judgement-request")
        self.assertIn("the session has expired", self.ended(client)["reason"])

    def test_sevds_deadline_for_an_owner(self):
        self.house(session_seconds=60, deadline_s=4)
        for by in (-DAY, DAY):
            with self.subTest(by):
                (self.home.folder / "let-judgement-request").unlink(missing_ok=True)
                client = self.launch()
                self.at("judging")
                begun = time.monotonic()
                self.set_clock(by)
                launch = self.ended(client)
                took = time.monotonic() - begun
                self.assertEqual(launch["state"], "failed")
                self.assertIn("before the deadline", launch["reason"])
                self.assertTrue(2.5 < took < 12, took)
                self.set_clock(0)
        # and one that answers in time is heard
        client = self.launch()
        self.at("judging")
        self.set_clock(DAY)
        time.sleep(1)
        self.let("judgement-request")
        self.assertEqual(self.ended(client)["state"], "running")

    def test_connections_of_both(self):
        self.house(session_seconds=60)
        for path in (self.home.socket, self.home.owner_socket):
            for by in (DAY, -DAY):
                with self.subTest(path.name, by=by), socket.socket(socket.AF_UNIX) as slow, socket.socket(socket.AF_UNIX) as idle:
                    for one in (slow, idle):
                        one.settimeout(20)
                        one.connect(str(path))
                        one.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
                    begun = time.monotonic()
                    self.set_clock(by)
                    time.sleep(1)
                    slow.sendall(b"Connection: close\r\n\r\n")
                    self.assertIn(b" 200 ", slow.recv(100))
                    while idle.recv(4096):
                        pass
                    self.assertTrue(3 < time.monotonic() - begun < 15)
                    self.set_clock(0)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    unittest.main()
