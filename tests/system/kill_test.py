#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of sevd, of sev-owner and of sev-relay at every journal point of a launch. After each restart: every launch has ended in a said state, or runs and was attested here
and now; no ASID, no guest context and no session is left over; no session's secrets were given twice.

The rounds are drawn from a seed that is printed, each point at least once. SEV_KILL_ROUNDS and SEV_KILL_SEED change them. A round whose kill came too late, or found nobody to kill,
is made again with half the delay: every round of the plan is one in which its victim died where the plan says.
"""
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import house

ROUNDS = int(os.environ.get("SEV_KILL_ROUNDS", "200"))
SEED = int(os.environ.get("SEV_KILL_SEED", "20260301"))
STATES = ["accepted", "opening", "session", "loading", "judging", "releasing", "starting", "running"]
COMMANDS = ["LAUNCH_START", "ACTIVATE", "LAUNCH_UPDATE_DATA", "LAUNCH_MEASURE", "LAUNCH_SECRET", "LAUNCH_FINISH"]
DAEMON_POINTS = [f"state:{state}" for state in STATES + ["ending", "refused", "destroyed"]] + [f"{when}:{command}" for command in COMMANDS for when in ("before", "after")]
DAEMON_POINTS.append("guest:let-run")
# a relay runs in these states and in no other, one for each question; the owner works in them, and is killed at the beginning of the others
ASKING = ["session", "judging"]
ATTEMPTS = 30  # of one round: some states last a millisecond
RELAY = """#!/bin/sh
echo $$ >>{folder}/relays
exec {relay} exchange --owner {url} --cacert {folder}/tls/ca.pem --cert {folder}/tls/host.pem --key {folder}/tls/host.key --proxy none --deadline 20
"""


def make_certificates(folder):
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    folder.mkdir()
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=house CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name, usage in (("server", "serverAuth"), ("host", "clientAuth")):
        (folder / "extensions").write_text(f"subjectAltName=DNS:localhost\nextendedKeyUsage={usage}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions", "-out", f"{name}.pem")
        (folder / f"{name}.key").chmod(0o600)
    der = subprocess.run(["openssl", "x509", "-in", "host.pem", "-outform", "DER"], cwd=folder, check=True, capture_output=True).stdout
    return hashlib.sha256(der).hexdigest()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Watch:
    """sevd's events as they come: the states that its one launch comes to."""

    def __init__(self, path):
        self.states, self.changed = [], threading.Condition()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not self.socket.recv(65536).startswith(b"HTTP/1.1 200"):
            raise AssertionError("sevd does not tell its events")
        self.thread = threading.Thread(target=self.follow)  # from here on nothing is missed
        self.thread.start()

    def follow(self):
        data = b""
        while piece := self.socket.recv(65536):
            data += piece
            found = [one[1].decode() for one in re.finditer(rb'"state":"([a-z]+)"', data)]
            with self.changed:
                self.states = [state for at, state in enumerate(found) if at == 0 or state != found[at - 1]]
                self.changed.notify_all()

    def comes_to(self, state, client):
        """Waits for a state; false when the launch is over without it."""
        with self.changed:
            while not self.changed.wait_for(lambda: state in self.states, 0.05):
                if client.poll() is not None:
                    return False
        return True

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()


class Killed(unittest.TestCase):
    def setUp(self):
        self.house = h = house.House(limits={"session_seconds": 5, "requests_per_second": 1000, "burst": 1000})
        self.addCleanup(h.close)
        port = free_port()
        fingerprint = make_certificates(h.folder / "tls")
        path = h.owner_folder / "owner.json"
        config = json.loads(path.read_text())
        config["listen"].append({"https": "127.0.0.1", "port": port, "certificate": str(h.folder / "tls/server.pem"), "private_key": str(h.folder / "tls/server.key"),
                                 "client_ca": str(h.folder / "tls/ca.pem")})
        config["clients"].append({"certificate": fingerprint, "policies": "any"})
        path.write_text(json.dumps(config))
        relay = h.folder / "relay"
        relay.write_text(RELAY.format(folder=h.folder, relay=house.program("sev-relay"), url=f"https://localhost:{port}"))
        relay.chmod(0o700)
        h.configuration["owners"]["vault"]["channel"] = {"command": [str(relay)]}
        h.configuration["owners"]["vault"]["deadline_s"] = 10
        (h.folder / "evil").write_bytes(b"\x01" + (h.folder / "kernel").read_bytes()[1:])
        h.layout("evil-guest", kernel="evil")
        h.start_owner()
        self.attested = {}  # session → verdict, as sevd was told

    def relays(self):
        try:
            return [int(pid) for pid in (self.house.folder / "relays").read_text().split()]
        except FileNotFoundError:
            return []

    def kill_relay(self, question, known, delay, client):
        """Kills the relay that carries the launch's first or second question, `delay` seconds after it began. Whether that was in time is for sevd to say."""
        while len(started := self.relays()[known:]) <= question:
            if client.poll() is not None:
                return False
            time.sleep(0.001)
        pid = started[question]
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            while pathlib.Path(f"/proc/{pid}/comm").read_text() != "sev-relay\n":  # still the shell
                time.sleep(0.001)
            time.sleep(delay)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return False
        finally:
            os.close(handle)
        return True

    def launch_and_kill(self, victim, state, delay, back):
        """A launch in whose `state` the owner or a relay is killed; true when it was. `back`: the owner is there again at once, and not only when the launch has ended."""
        h = self.house
        known = len(self.relays())
        watch = Watch(h.socket)
        try:
            client = self.launch("guest")
            killed = watch.comes_to(state, client)
            if victim == "relay":
                killed = killed and self.kill_relay(ASKING.index(state), known, delay, client)
            elif killed:
                time.sleep(delay)
                killed = watch.states[-1] == state
                h.owner.kill()
                if back:
                    h.start_owner()
            client.communicate(timeout=house.PATIENCE)
        finally:
            watch.close()
        if killed and victim == "relay":  # one that died with its work done was not killed in it: sevd knows
            newest = json.loads(h.sevctl("launches", "show", h.launches()[0]["id"], "--json").stdout)["launch"]
            killed = any(step["step"] == "owner" and "the channel command" in step["detail"] for step in newest["steps"])
        return killed

    def launch(self, layout):
        command = [house.program("sevctl"), "launch", "--image", str(self.house.folder / f"{layout}.json"), "--owner", "vault", "--policy", "web", "--name", "web", "--socket", str(self.house.socket),
                   "--timeout", "40", "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def settle(self):
        """Everything is up; what is said of every launch is true."""
        h = self.house
        if h.owner.process.poll() is not None:
            h.start_owner()
        if not h.daemon or h.daemon.process.poll() is not None:
            h.start_daemon()
        launches = house.until("every launch has ended or runs", lambda: (lambda all_: all_ if all(one["ended"] or one["state"] == "running" for one in all_) else None)(h.launches()))
        running = [one for one in launches if one["state"] == "running"]
        for one in launches:
            self.assertTrue(one["reason"] or one["state"] == "running", one)
        for one in running:
            shown = json.loads(h.sevctl("launches", "show", one["id"], "--json").stdout)["launch"]
            self.assertTrue(shown["verdict"]["trusted"], shown)
            self.assertEqual(shown["verdict"]["session_id"], shown["session"])
        status = h.status()
        self.assertEqual(status["psp"]["asids"]["sev"]["in_use"], len(running), status)
        self.assertEqual((status["psp"]["asids"]["sev"]["retired"], status["psp"]["stuck_contexts"]), (0, 0), status)
        self.assertEqual(status["launches"]["active"], len(running), status)
        return launches, running

    def end_all(self, running):
        for one in running:
            house.check("sevctl", "launches", "cancel", one["id"], "--yes", "--socket", self.house.socket)
        house.until("nothing runs", lambda: self.house.status()["launches"]["active"] == 0)

    def kill_daemon(self, point):
        """A launch at whose `point` sevd kills itself; its client, when that still asks."""
        h = self.house
        h.daemon.stop()
        h.start_daemon("--stop-at", point)
        client = self.launch("evil-guest" if point in ("state:refused", "state:ending") else "guest")
        if point == "state:destroyed":
            # a guest that ran is ended, and the daemon killed while it does so
            out, _ = client.communicate(timeout=house.PATIENCE)
            h.sevctl("launches", "cancel", json.loads(out)["launch"]["id"], "--yes")
            client = None
        self.assertEqual(h.daemon.process.wait(house.PATIENCE), -signal.SIGKILL, h.daemon.text()[-2000:])
        return client

    def test_rounds(self):
        draw = random.Random(SEED)
        # (victim, point, seconds into it, whether an owner is back at once)
        least = [("sevd", point, 0.0, False) for point in DAEMON_POINTS]
        least += [("owner", state, 0.0, draw.random() < 0.5) for state in STATES if state not in ASKING]
        least += [(victim, state, milliseconds / 1000, milliseconds > 10) for victim in ("owner", "relay") for state in ASKING for milliseconds in (0, 5, 15, 30)]
        plan = list(least)
        while len(plan) < ROUNDS:
            victim = draw.choice(["sevd", "owner", "relay"])
            point = draw.choice({"sevd": DAEMON_POINTS, "owner": STATES, "relay": ASKING}[victim])
            plan.append((victim, point, draw.uniform(0, 0.04) if point in ASKING else 0.0, draw.random() < 0.5))
        draw.shuffle(plan)
        print(f"{len(plan)} rounds, seed {SEED}", flush=True)
        h = self.house
        ends, killed, again = {}, {}, 0
        h.start_daemon()
        for number, (victim, point, delay, back) in enumerate(plan):
            with self.subTest(round=number, victim=victim, point=point, delay=delay, back=back):
                for attempt in range(ATTEMPTS):
                    client = None
                    if victim == "sevd":
                        client = self.kill_daemon(point)
                        done = True
                    else:
                        done = self.launch_and_kill(victim, point, delay / 2**attempt, back)
                    launches, running = self.settle()
                    if client:
                        client.communicate(timeout=house.PATIENCE)
                    self.end_all(running)
                    if done:
                        break
                    again += 1
                self.assertTrue(done, f"not killed in {ATTEMPTS} attempts")
                killed[victim, point] = killed.get((victim, point), 0) + 1
                ends[launches[0]["state"]] = ends.get(launches[0]["state"], 0) + 1
        print("how the rounds' launches ended:", ends, flush=True)
        victims = {victim: sum(count for (one, _), count in killed.items() if one == victim) for victim in ("sevd", "owner", "relay")}
        print(f"killed: {victims}; rounds made again: {again}", flush=True)
        for victim, point, *_ in least:
            wanted = sum(one[:2] == (victim, point) for one in least)
            self.assertGreaterEqual(killed.get((victim, point), 0), wanted, (victim, point))
        self.assertEqual(sum(victims.values()), len(plan))

        # sessions: none is open or taken for ever, and none gave its secrets twice
        def sessions_ended():
            states = {}
            for session in h.sessions():
                states.setdefault(session["state"], []).append(session["id"])
            return states if not states.get("open") and not states.get("taken") else None

        states = house.until("the owner's sessions have ended", sessions_ended)
        ids = [session for known in states.values() for session in known]
        self.assertEqual(len(ids), len(set(ids)))
        records = house.check("sev-owner", "audit", "show", "--config", h.owner_folder / "owner.json").decode().splitlines()
        judged = {}
        for record in records:
            if "session.judged" in record:
                session = next(word for word in ids if word in record)
                judged[session] = judged.get(session, 0) + 1
        self.assertTrue(judged)
        self.assertEqual({session: count for session, count in judged.items() if count != 1}, {})
        house.check("sev-owner", "audit", "verify", "--config", h.owner_folder / "owner.json")
        # and a launch like any other still works
        client = self.launch("guest")
        out, err = client.communicate(timeout=house.PATIENCE)
        self.assertEqual(client.returncode, 0, err)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    unittest.main()
