#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of sevd, of sev-owner and of sev-relay at every journal point of a launch. After each restart: every launch has ended in a said state, or runs and was attested here
and now; no ASID, no guest context and no session is left over; no session's secrets were given twice.

The rounds are drawn from a seed that is printed, each point at least once. SEV_KILL_ROUNDS and SEV_KILL_SEED change them.
"""
import hashlib
import json
import os
import pathlib
import random
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
# what the owner and the relay are doing while sevd is in these states; killed some milliseconds into it
ASKING = ["session", "judging"]
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

    def kill_when(self, state, victim, delay, stop):
        """Follows sevd's events, and kills the owner or the relay `delay` seconds into the first launch's `state`."""
        known = set(self.relays())
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(0.05)
        one.connect(str(self.house.socket))
        one.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        listening = threading.Event()

        def follow():
            nonlocal data
            while not stop.is_set():
                try:
                    piece = one.recv(65536)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not piece:
                    return
                data += piece
                listening.set()
                if f'"state":"{state}"'.encode() in data:
                    break
            if stop.is_set():
                return
            time.sleep(delay)
            if victim == "owner":
                self.house.owner.kill()
                return
            end = time.monotonic() + 2
            while time.monotonic() < end and not stop.is_set():
                for pid in set(self.relays()) - known:
                    try:
                        os.kill(pid, signal.SIGKILL)
                        return
                    except ProcessLookupError:
                        known.add(pid)
                time.sleep(0.001)

        thread = threading.Thread(target=follow)
        thread.start()
        listening.wait(2)
        return thread, one

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

    def test_rounds(self):
        draw = random.Random(SEED)
        plan = [("sevd", point, 0.0) for point in DAEMON_POINTS]
        plan += [(victim, state, milliseconds / 1000) for victim in ("owner", "relay") for state in ASKING for milliseconds in (0, 5, 15, 30)]
        while len(plan) < ROUNDS:
            victim = draw.choice(["sevd", "owner", "relay"])
            plan.append((victim, draw.choice(DAEMON_POINTS), 0.0) if victim == "sevd" else (victim, draw.choice(STATES), draw.uniform(0, 0.08)))
        draw.shuffle(plan)
        plan = plan[:ROUNDS]
        print(f"{len(plan)} rounds, seed {SEED}", flush=True)
        h = self.house
        counts = {}
        h.start_daemon()
        for number, (victim, point, delay) in enumerate(plan):
            with self.subTest(round=number, victim=victim, point=point, delay=delay):
                layout = "evil-guest" if point in ("state:refused", "state:ending") else "guest"
                stop = threading.Event()
                thread = one = None
                if victim == "sevd":
                    h.daemon.stop()
                    h.start_daemon("--stop-at", point)
                else:
                    thread, one = self.kill_when(point, victim, delay, stop)
                client = self.launch(layout)
                if point == "state:destroyed":
                    # a guest that ran is ended, and the daemon killed while it does so
                    out, _ = client.communicate(timeout=house.PATIENCE)
                    h.sevctl("launches", "cancel", json.loads(out)["launch"]["id"], "--yes")
                if victim == "sevd":
                    self.assertEqual(h.daemon.process.wait(house.PATIENCE), -signal.SIGKILL, h.daemon.text()[-2000:])
                else:
                    out, _ = client.communicate(timeout=house.PATIENCE)
                    if h.owner.process.poll() is not None and victim == "owner":
                        counts["owner killed"] = counts.get("owner killed", 0) + 1
                stop.set()
                if thread:
                    thread.join(house.PATIENCE)
                    one.close()
                launches, running = self.settle()
                if victim == "sevd" and point != "state:destroyed":
                    client.communicate(timeout=house.PATIENCE)
                counts[launches[0]["state"]] = counts.get(launches[0]["state"], 0) + 1
                self.end_all(running)
        print("how the rounds' launches ended:", counts, flush=True)

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
