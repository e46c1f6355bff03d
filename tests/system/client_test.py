#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sevctl against sevd and sev-owner, all real: what it shows, its exit status, its --json against the schemas, and what it says when a service is not there or says no."""
import json
import os
import pathlib
import socket
import subprocess
import sys
import unittest

import house

try:
    import jsonschema
except ImportError:
    jsonschema = None
SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "docs/schemas"


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.house = house.House()
        cls.house.policy("strict", level=5)
        (cls.house.folder / "evil").write_bytes(b"\x01" + (cls.house.folder / "kernel").read_bytes()[1:])
        cls.house.layout("evil-guest", kernel="evil")
        cls.house.start()

    @classmethod
    def tearDownClass(cls):
        cls.house.close()

    def said(self, done, status, *words):
        self.assertEqual(done.returncode, status, done)
        text = done.stdout.decode()
        for line in text.splitlines():
            self.assertLessEqual(len(line), 80, line)
            self.assertEqual(line, line.rstrip())
        for word in words:
            self.assertIn(word, text)
        return text

    def json(self, done, name, status=0):
        self.assertEqual(done.returncode, status, done)
        result = json.loads(done.stdout)
        self.assertEqual(result["format"], f"xen-sev/sevctl-{name}")
        if jsonschema:
            jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"sevctl-{name}.schema.json").read_text())).validate(result)
        else:
            print("SKIPPED: python3-jsonschema is not installed, no output was held against its schema")
        return result

    def launch(self, *words, layout="guest", policy="web"):
        if "--name" not in words:
            type(self).number = getattr(self, "number", 0) + 1
            words = (*words, "--name", f"guest {self.number}")
        return self.house.sevctl("launch", "--image", self.house.folder / f"{layout}.json", "--owner", "vault", "--policy", policy, *words)

    def test_a_launch_is_shown_step_by_step(self):
        text = self.said(self.launch("--name", "web"), 0, "TRUSTED", "the guest may run", ": running: attested at")
        steps = ["opening", "session", "LAUNCH_START", "ACTIVATE", "LAUNCH_UPDATE_DATA", "LAUNCH_MEASURE", "judging", "releasing", "LAUNCH_SECRET", "LAUNCH_FINISH", "running"]
        places = [text.index("\n" + step) for step in steps]
        self.assertEqual(places, sorted(places))
        self.assertRegex(text, r"MiB/s")
        self.assertNotIn(house.SECRET.decode().strip(), text)

    def test_a_refusal_says_why(self):
        text = self.said(self.launch("--name", "evil", layout="evil-guest"), 1, "NOT TRUSTED", "FAIL  launch.digest", "kernel", ": refused: not trusted")
        for never in ("LAUNCH_SECRET", "LAUNCH_FINISH", "running"):
            self.assertNotIn("\n" + never, text)
        text = self.said(self.launch(policy="strict"), 1, "FAIL level.required", "the owner refuses this platform")
        self.assertNotIn("LAUNCH_START", text)

    def test_json(self):
        result = self.json(self.launch("--name", "json", "--json"), "launch")
        self.assertTrue(result["launched"] and result["emulated"] and result["verdict"]["trusted"])
        launch = result["launch"]["id"]
        shown = self.json(self.house.sevctl("launches", "show", launch, "--json"), "launches-show")["launch"]
        self.assertEqual((shown["id"], shown["state"], shown["level"]), (launch, "running", 0))
        self.assertEqual([one["id"] for one in self.json(self.house.sevctl("launches", "list", "--name", "json", "--json"), "launches-list")["launches"]], [launch])
        self.json(self.house.sevctl("launches", "cancel", launch, "--yes", "--json"), "launches-cancel")
        house.until("it ended", lambda: self.house.sevctl("launches", "show", launch).returncode == 1)
        refused = self.json(self.launch("--name", "evil", "--json", layout="evil-guest"), "launch", status=1)
        self.assertFalse(refused["launched"] or refused["verdict"]["trusted"])
        self.assertEqual(refused["launch"]["state"], "refused")
        platform = self.json(self.launch("--json", policy="strict"), "launch", status=1)
        self.assertEqual([check["check"] for check in platform["platform_checks"] if not check["passed"]], ["level.required"])
        waiting = self.json(self.launch("--no-wait", "--json"), "launch")
        self.assertFalse(waiting["launched"])
        self.said(self.house.sevctl("launches", "watch", waiting["launch"]["id"]), 0, "LAUNCH_FINISH", "TRUSTED")

    def test_launches_as_text(self):
        self.said(self.launch("--name", "a name, of 128 bytes " + "x" * 107), 0)
        self.said(self.house.sevctl("launches", "list"), 0, "running", "L0 emulated")
        self.said(self.house.sevctl("launches", "list", "--name", "a name, of 128 bytes " + "x" * 107), 0, "running")
        self.said(self.house.sevctl("launches", "list", "--name", "nobody"), 0, "no launches")
        self.said(self.house.sevctl("launches", "list", "--name", "50% & more?=#+"), 0, "no launches")
        self.said(self.launch("--name", "50% & more?=#+"), 0)
        self.assertEqual(self.said(self.house.sevctl("launches", "list", "--name", "50% & more?=#+", "--limit", "1"), 0, "50% & more?=#+").count("L0 emulated"), 1)
        self.assertIn(b"outside printable ASCII", self.house.sevctl("launches", "list", "--name", "\u00e9").stderr)
        text = self.said(self.house.sevctl("launches", "show", self.house.launches()[0]["id"]), 0, "EMULATED", "LAUNCH_MEASURE", "pass  launch.digest")
        self.assertIn("TRUSTED", text)
        self.said(self.house.sevctl("launches", "watch", "--timeout", "0.3"), 0)

    def test_a_launch_is_followed_without_a_place_among_the_listeners(self):
        listeners = []
        for _ in range(32):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(house.PATIENCE)
            one.connect(str(self.house.socket))
            one.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b" 200 ", one.recv(100))
            listeners.append(one)
        try:
            self.said(self.launch(), 0, "TRUSTED", ": running: attested at")
            done = self.house.sevctl("launches", "watch", "--timeout", "0.3")
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"32 event streams are open already", done.stderr)
        finally:
            for one in listeners:
                one.close()

    def test_cancel(self):
        done = self.launch("--no-wait")
        launch = done.stdout.decode().strip()
        self.said(self.house.sevctl("launches", "watch", launch), 0)
        done = self.house.sevctl("launches", "cancel", launch, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"not done without being asked to", done.stderr)
        self.said(self.house.sevctl("launches", "cancel", launch, "--yes"), 0, "is being ended")
        house.until("it ended", lambda: self.house.sevctl("launches", "show", launch).returncode == 1)
        done = self.house.sevctl("launches", "cancel", launch, "--yes")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"has ended already: destroyed", done.stderr)

    def test_owner(self):
        def owner(*words):
            return house.run("sevctl", "owner", *words, "--socket", self.house.owner_socket)

        self.said(self.launch(), 0)
        self.said(owner("status"), 0, self.house.key["kid"], "policy      web: of house, 1 reference values")
        result = self.json(owner("status", "--json"), "owner-status")
        self.assertEqual(result["key"]["kid"], self.house.key["kid"])
        sessions = self.json(owner("sessions", "--json"), "owner-sessions")["sessions"]
        trusted = next(one["id"] for one in sessions if one["state"] == "trusted")
        self.said(owner("sessions", "--state", "trusted"), 0, trusted)
        self.said(owner("session", trusted), 0, "TRUSTED", "pass  launch.digest")
        self.json(owner("session", trusted, "--json"), "owner-session")
        self.said(self.launch(layout="evil-guest"), 1)
        refused = self.json(owner("sessions", "--state", "not-trusted", "--json"), "owner-sessions")["sessions"][0]["id"]
        self.said(owner("session", refused), 1, "NOT TRUSTED")
        for bad in ("00" * 16, "zz", ""):
            self.assertEqual(owner("session", bad).returncode, 2)

    def test_trouble(self):
        for words, message in [
            (["launch", "--owner", "vault"], "which guest?"),
            (["launch", "--image", str(self.house.folder / "guest.json"), "--domid", "1", "--owner", "vault"], "exactly one of"),
            (["launch", "--image", str(self.house.folder / "guest.json"), "--owner", "nobody"], "nobody"),
            (["launch", "--image", str(self.house.folder / "absent.json"), "--owner", "vault"], "absent.json"),
            (["launch", "--image", str(self.house.folder / "guest.json"), "--owner", "vault", "--state", "x"], "goes with --psp"),
            (["launch", "--image", str(self.house.folder / "guest.json"), "--owner", "vault", "--policy", "../x"], "policy"),
            (["launch", "--domid", "1", "--owner", "vault"], "xen"),
            (["launch", "--domid", "0", "--owner", "vault"], "--domid"),
            (["launches", "show", "99999"], "knows no launch 99999"),
            (["launches", "show", "x"], "ID is x"),
            (["launches", "cancel", "99999", "--yes"], "knows no launch"),
            (["launches", "list", "--limit", "0"], "--limit"),
        ]:
            with self.subTest(words):
                done = self.house.sevctl(*words)
                self.assertEqual((done.returncode, done.stdout), (2, b""), done)
                lines = done.stderr.decode().splitlines()
                self.assertLessEqual(len(lines), 2, lines)
                self.assertIn(message, lines[0])
        done = house.run("sevctl", "launches", "list", "--socket", self.house.folder / "nowhere")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"nobody listens there", done.stderr)
        # a policy that the owner does not have: the owner's words, through sevd
        text = self.said(self.launch("--name", "x", policy="absent"), 1, "failed")
        self.assertIn("absent", text)

    @unittest.skipUnless(os.getuid() == 0, "SKIPPED: not root, so there is no other user to be")
    def test_another_user_may_not_change_anything(self):
        self.house.folder.chmod(0o711)
        os.chmod(self.house.socket, 0o666)  # the strictest test: even one who can connect
        done = self.house.sevctl("launch", "--image", "/dev/null", "--owner", "vault", user=65534, group=65534, extra_groups=[])
        self.assertEqual(done.returncode, 2, done)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    unittest.main()
