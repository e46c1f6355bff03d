# SPDX-License-Identifier: Apache-2.0
"""What every command prints for eyes fits on 80 columns. Only a word that cannot be broken (an id, a path, base64) may stand beyond them, behind one label."""
import json
import re
import unittest

from bad_input_test import invocations, words_of
from support import ROOT, Case, sevctl, table

COLUMNS = 80
# A certificate in the tree of sevctl verify, as virtee's prints it.
TREE = re.compile(r" *(⬑|•⬑|•)? ?(PDH|PEK|OCA|CEK|ASK|ARK) \S+ \S+ [0-9a-f]{64}")


def too_wide(text):
    long_word = lambda line: len(line.split()) <= 2 and len(line.split()[-1]) > COLUMNS // 2
    return [line for line in text.splitlines() if len(line) > COLUMNS and not long_word(line) and not TREE.fullmatch(line)]


class Columns(Case):
    def check(self, words):
        done = sevctl(*words, cwd=self.dir)
        self.assertIn(done.returncode, (0, 1), (words, done.stderr))
        with self.subTest(words=words[:3]):
            self.assertEqual(too_wide(done.stdout.decode()), [])

    def test_every_command(self):
        commands, seen = table(), set()
        for name, words, _ in invocations(self):
            self.check(words_of(commands[name], words))
            seen.add(name)
            for out in self.dir.glob("out*"):
                out.unlink()
        if seen != set(commands):
            print("SKIPPED: without an invocation here:", *sorted(set(commands) - seen))

    def test_policies(self):
        """Long names, several roots, and what lint has to say about a policy that trusts nothing."""
        policy = json.loads((ROOT / "tests/fixtures/attest/owner-policy.json").read_text())
        weak = self.file("weak.json", json.dumps(policy | {"owner": " and ".join(["a name of more than eighty columns"] * 3)}).encode())
        for words in (["lint"], ["show"], ["diff", ROOT / "tests/fixtures/attest/owner-policy.json"]):
            self.check(["policy", *words, weak])

    def test_explanations(self):
        for word in ("BAD_MEASUREMENT", "launch.digest", "chain.pek.curve", "CVE-2019-9836", "bios-sev-es-asids"):
            self.check(["explain", word])

    def test_hosts(self):
        bundles = sorted((ROOT / "docs/probe-bundles").glob("*.json"))
        self.assertGreaterEqual(len(bundles), 8)
        for bundle in bundles:
            for more in ([], ["--explain"]):
                self.check(["status", "--from", bundle, *more])
            for what in ("sev", "es", "snp"):
                self.check(["ok", what, "--from", bundle])


if __name__ == "__main__":
    unittest.main()
