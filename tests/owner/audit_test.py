# SPDX-License-Identifier: Apache-2.0
"""The audit log verified elsewhere, with nothing but the owner's public key; and what the manual says of the configuration, held against its schema."""

import json
import os
import re
import subprocess
import unittest

import host
import support
from support import OWNER, Case


class Audit(Case):
    def setUp(self):
        super().setUp()
        self.one = self.owner()
        self.launch(self.one.exchange)
        self.head = self.one.command("audit", "sign").strip().removeprefix("head ")
        self.lines = self.one.command("audit", "show").splitlines(keepends=True)
        self.key = self.dir / "owner.jwk"
        self.key.write_text(json.dumps(self.one.jwk))

    def verify(self, text, *words, status=0):
        log = self.dir / "audit.jsonl"
        log.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = subprocess.run([OWNER, "audit", "verify", "--log", log, "--key", self.key, *words], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, status, done)
        return done.stdout if status < 2 else done.stderr

    def test_what_was_shown_verifies_under_the_public_key(self):
        shown = self.verify("".join(self.lines))
        self.assertIn(f"{len(self.lines)} records", shown)
        self.assertIn(f"head {self.head}", shown)
        self.assertEqual(json.loads(self.verify("".join(self.lines), "--json", "--head", self.head))["unsigned_records"], 0)
        self.verify("".join(self.lines).rstrip("\n"))

    def test_every_other_log_does_not(self):
        whole = "".join(self.lines)
        self.assertGreater(len(self.lines), 3)
        for name, text, words in [
            ("a record changed", whole.replace("session.judged", "session.nudged"), "record"),
            ("a record left out", "".join(self.lines[:1] + self.lines[2:]), "record 2"),
            ("two records exchanged", "".join([self.lines[1], self.lines[0], *self.lines[2:]]), "record 1"),
            ("the beginning cut off", "".join(self.lines[1:]), "record 1"),
            ("no log at all", "", "none of its 0 records"),
            ("a chain that nobody signed", self.lines[0], "bears the owner's signature"),
            ("an empty line", whole + "\n", "record"),
            ("a line without an end", whole + "x" * (1 << 20), f"record {len(self.lines) + 1}: is longer than"),
            ("bytes", b"\xff\x00\n", "record 1"),
        ]:
            with self.subTest(name):
                said = self.verify(text, status=1)
                self.assertIn("NOT INTACT", said)
                self.assertIn(words, said)
        self.assertIn("cut off", self.verify("".join(self.lines[:-1]), "--head", self.head, status=1))
        stranger = self.owner("stranger")
        self.key.write_text(json.dumps(stranger.jwk))
        self.verify(whole, status=1)

    def test_what_it_is_asked(self):
        for words in [["--log", str(self.key)], ["--key", str(self.key)]]:
            done = subprocess.run([OWNER, "audit", "verify", *words], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn("--log and --key are needed together", done.stderr)
        self.assertIn("--config is not wanted", self.verify("".join(self.lines), "--config", str(self.one.config), status=2))
        self.one.command("audit", "verify")


class Told(Case):
    @unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root can give a file to somebody else")
    def test_root_is_told_whose_keys_they_are(self):
        owner = self.owner()
        os.chown(owner.folder / "owner.key", 65534, 65534)
        done = subprocess.run([OWNER, "check", "--config", owner.config], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("owner.key: belongs to uid 65534, want 0 or root", done.stderr)
        self.assertIn("hint: as root: runuser -u $(id -nu 65534) -- sev-owner", done.stderr)

    def test_the_manual_names_each_limit_with_its_range(self):
        schema = json.loads((host.ROOT / "docs/schemas/owner-config.schema.json").read_text())["properties"]["limits"]["properties"]
        manual = subprocess.run([OWNER, "--print-man"], capture_output=True, text=True, timeout=60, check=True).stdout
        told = {name: (float(least), float(most)) for name, least, most in re.findall(r"^\.It (\w+) Ta ([0-9.]+) to ([0-9.]+) Ta \d+:", manual, re.M)}
        self.assertEqual(told, {name: (limit["minimum"], limit["maximum"]) for name, limit in schema.items()})


if __name__ == "__main__":
    support.main()
