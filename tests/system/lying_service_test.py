#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sevctl against services that lie: what a real sevd and a real sev-owner answered is played back with one thing wrong, field by field, and as no answer at all. Every command ends
with exit status 2 and one sentence that names the field; it never crashes, hangs, or prints half a result."""
import copy
import json
import os
import pathlib
import socket
import sys
import threading
import unittest

import house


class Player(threading.Thread):
    """A service on a Unix socket that answers each path with what it was told."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.answers = {}
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen(16)
        self.start()

    def run(self):
        while True:
            try:
                one, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(one,), daemon=True).start()

    def serve(self, one):
        with one:
            one.settimeout(20)
            data = b""
            try:
                while b"\r\n\r\n" not in data:
                    piece = one.recv(65536)
                    if not piece:
                        return
                    data += piece
                method, target, _ = data.split(b"\r\n", 1)[0].decode().split(" ")
                answer = self.answers.get((method, target.split("?")[0]))
                one.sendall(answer if answer is not None else plain(404, "application/problem+json", b'{"detail":"not recorded"}'))
            except OSError:
                pass  # it had enough


def plain(status, kind, body):
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def as_json(value, status=200):
    return plain(status, "application/json", json.dumps(value).encode())


def as_events(values):
    text = "".join(f"id: {number}\nevent: launch\ndata: {json.dumps(value)}\n\n" for number, value in enumerate(values, 1)).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + text


def places(node, path=()):
    """Paths of all there is in a value; of long lists the first two entries. What a guest is may be anything but for its kind."""
    if path:
        yield path
    if isinstance(node, dict):
        for key, inner in node.items():
            if path[-1:] != ("guest",) or key == "kind":
                yield from places(inner, (*path, key))
    elif isinstance(node, list):
        for index, inner in enumerate(node[:2]):
            yield from places(inner, (*path, index))


def put(value, path, what):
    out = copy.deepcopy(value)
    node = out
    for key in path[:-1]:
        node = node[key]
    if what is KeyError:
        del node[path[-1]]
    else:
        node[path[-1]] = what
    return out


OPTIONAL = {"asid", "handle", "session", "verdict", "steps", "step", "detail", "root", "reference", "chip_id", "ended_at", "result", "attestation_result", "use", "alg", "kid", "problem", "descriptor"}


class Lies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with house.House() as h:
            launched = h.launch()[1]["launch"]["id"]
            cls.launch = json.loads(house.check_http(h.socket, f"/v1/launches/{launched}"))
            cls.list = json.loads(house.check_http(h.socket, "/v1/launches"))
            cls.key = json.loads(house.check_http(h.socket, "/v1/host-key"))
            cls.bundle = house.check_http(h.socket, f"/v1/launches/{launched}/bundle")
            cls.owner_key, cls.policies, cls.head, cls.sessions = (json.loads(house.check_http(h.owner_socket, "/v1/" + path)) for path in ("key", "policies", "audit/head", "sessions"))
            session = cls.sessions["sessions"][0]["id"]
            cls.session = json.loads(house.check_http(h.owner_socket, "/v1/sessions/" + session))
        cls.folder = h.folder
        cls.folder.mkdir()
        (cls.folder / "guest.json").write_text("{}")
        cls.socket = cls.folder / "service"
        cls.player = Player(cls.socket)
        one = f"/v1/launches/{launched}"
        common = {key: cls.launch[key] for key in ("name", "reason")} | {"launch": launched, "at": cls.launch["updated"]}
        cls.events = [{**common, "state": "loading", "ended": False, "step": "LAUNCH_START", "detail": "x"}, {**common, "state": "running", "ended": False}]
        ending = {**cls.launch, "state": "ending"}
        image = ["launch", "--image", cls.folder / "guest.json", "--owner", "vault", "--name", cls.launch["name"]]
        # command: its words, what it asks for and with what it is answered, as a value or, of events, a list
        cls.commands = {
            "launches list": (["launches", "list"], {("GET", "/v1/launches"): cls.list}),
            "launches show": (["launches", "show", launched], {("GET", one): cls.launch}),
            "launches cancel": (["launches", "cancel", launched, "--yes"], {("GET", one): cls.launch, ("DELETE", one): ending}),
            "launches watch": (["launches", "watch", launched], {("GET", one): cls.launch, ("GET", "/v1/events"): cls.events}),
            "launch": (image, {("POST", "/v1/launches"): {**cls.launch, "state": "accepted"}, ("GET", one): cls.launch, ("GET", "/v1/events"): cls.events}),
            "bundle": (["bundle", launched, "-o", cls.folder / "out", "--force"], {("GET", "/v1/host-key"): cls.key}),
            "bundle key": (["bundle", "--print-key"], {("GET", "/v1/host-key"): cls.key}),
            "owner status": (["owner", "status"], {("GET", "/v1/key"): cls.owner_key, ("GET", "/v1/policies"): cls.policies, ("GET", "/v1/audit/head"): cls.head}),
            "owner sessions": (["owner", "sessions"], {("GET", "/v1/sessions"): cls.sessions}),
            "owner session": (["owner", "session", session], {("GET", "/v1/sessions/" + session): cls.session}),
        }
        cls.one = one

    @classmethod
    def tearDownClass(cls):
        cls.player.listening.close()
        import shutil
        shutil.rmtree(cls.folder, ignore_errors=True)

    def play(self, answers):
        self.player.answers = {key: value if isinstance(value, bytes) else as_events(value) if isinstance(value, list) else as_json(value) for key, value in answers.items()}
        self.player.answers.setdefault(("GET", self.one + "/bundle"), plain(200, "application/jose", self.bundle))

    def run_it(self, words, *more):
        return house.run("sevctl", *words, "--socket", self.socket, *more)

    def trouble(self, done):
        lines = done.stderr.decode().splitlines()
        self.assertEqual(done.returncode, 2, done)
        self.assertTrue(lines and lines[0].startswith("sevctl: error: ") and len(lines) <= 2, lines)
        for never in ("json.exception", "unexpected", "internal"):
            self.assertNotIn(never, done.stderr.decode())
        return lines[0]

    def test_the_truth_is_believed(self):
        for name, (words, answers) in self.commands.items():
            for more in ([], ["--json"]):
                if name == "launches watch" and more:
                    continue
                with self.subTest(name, more=more):
                    self.play(answers)
                    done = self.run_it(words, *more)
                    self.assertEqual((done.returncode, b"error" in done.stderr), (0, False), done)

    def test_every_command_of_a_service_is_here(self):
        table = json.loads(house.check("sevctl", "--print-commands-json"))
        speaking = {command["name"] for command in table if any(argument["name"] == "--socket" for argument in command["arguments"])}
        self.assertEqual(speaking, set(self.commands) - {"bundle key"})

    def test_one_field_wrong(self):
        runs = 0
        for name, (words, answers) in self.commands.items():
            for asked, truth in answers.items():
                for path in places(truth):
                    field = [key for key in path if isinstance(key, str)][-1:] or ["event"]
                    # what comes in a refused platform's answer and the like has no place in this launch's; null and a list of lists fit nowhere
                    for what in (None, [[]], KeyError):
                        if what is KeyError and (isinstance(path[-1], int) or path[-1] in OPTIONAL):
                            continue
                        self.play({**answers, asked: put(truth, path, what)})
                        with self.subTest(name, asked=asked, path=path, what=what):
                            said = self.trouble(self.run_it(words))
                            self.assertIn(field[0], said)
                            runs += 1
                if isinstance(truth, dict):
                    self.play({**answers, asked: {**truth, "surprise": 1}})
                    with self.subTest(name, asked=asked, surprise=1):
                        self.assertIn("surprise", self.trouble(self.run_it(words)))
        print(f"{runs} lies")
        self.assertGreater(runs, 500)

    def test_a_stream_of_all_events_that_ends_is_trouble(self):
        self.play({("GET", "/v1/events"): self.events})
        done = self.run_it(["launches", "watch"])
        self.assertEqual(self.trouble(done), "sevctl: error: sevd ended the stream of events")
        self.assertIn(b"LAUNCH_START", done.stdout)  # what was heard before is not lost

    def test_values_out_of_range(self):
        words, answers = self.commands["launches show"]
        for path, what in ((("id",), 0), (("id",), -1), (("id",), 1e300), (("id",), "7"), (("level",), 6), (("state",), "happy"), (("ended",), True), (("created",), "2026-13-01T00:00:00Z"),
                           (("session",), "zz"), (("asid",), 2**40), (("verdict", "trusted"), False), (("verdict", "checks"), []), (("name",), "x" * 20000), (("evidence",), "hearsay")):
            self.play({asked: put(truth, path, what) for asked, truth in answers.items()})
            with self.subTest(path, what=what):
                self.assertIn(path[-1], self.trouble(self.run_it(words)))
        words, answers = self.commands["launches show"]
        other = {**self.launch, "id": self.launch["id"] + 1}
        words, answers = self.commands["launch"]
        self.play({**answers, ("GET", self.one): other})
        self.assertIn("id is", self.trouble(self.run_it(words)))
        words, answers = self.commands["owner session"]
        self.play({asked: put(truth, ("session", "id"), "00" * 16) for asked, truth in answers.items()})
        self.assertIn("id is", self.trouble(self.run_it(words)))

    def test_no_answer_at_all(self):
        body = json.dumps(self.launch).encode()
        deep = b'{"a":' * 3000 + b"1" + b"}" * 3000
        for name, (words, answers) in self.commands.items():
            asked = next(iter(answers))
            for bad in (b"", b"\x00" * 100, b"HTTP/1.1", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", plain(200, "text/html", b"<html>"), plain(200, "application/json", b""),
                        plain(200, "application/json", b"{"), plain(200, "application/json", deep), plain(200, "application/json", b'{"a":1,"a":2}'), plain(200, "application/json", b"\xff"),
                        plain(200, "application/json", b"[]"), plain(200, "application/json", b"null"), plain(200, "application/json", body)[:-40], plain(302, "text/plain", b"elsewhere"),
                        plain(500, "application/problem+json", b"{"), plain(503, "application/problem+json", b'{"detail":7}'), plain(999, "text/plain", b""),
                        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", plain(200, "application/json", b" " * (9 << 20)),
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n{}"):
                self.play({**answers, asked: bad})
                with self.subTest(name, bad=bad[:80]):
                    self.trouble(self.run_it(words))

    def test_a_bundle_that_is_none(self):
        words, answers = self.commands["bundle"]
        header, payload, signature = self.bundle.split(b".")
        for bad in (b"", b"x", self.bundle[:-4], header + b"." + payload + b".", header + b"." + payload[:-4] + b"AAAA." + signature, self.bundle + b"." + self.bundle):
            self.play({**answers, ("GET", self.one + "/bundle"): plain(200, "application/jose", bad)})
            (self.folder / "out").unlink(missing_ok=True)
            self.trouble(self.run_it(words))
            self.assertFalse((self.folder / "out").exists())
        self.play({**answers, ("GET", self.one + "/bundle"): plain(200, "text/plain", self.bundle)})
        self.assertIn("application/jose", self.trouble(self.run_it(words)))
        self.play({**answers, ("GET", "/v1/host-key"): self.owner_key})
        self.assertIn("want the pinned", self.trouble(self.run_it(words)))


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    unittest.main()
