# SPDX-License-Identifier: Apache-2.0
"""What support.main() makes of tests that were skipped: nothing that ran nothing counts as passed."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import host
import support

PROGRAM = """
import os, sys, unittest
sys.path.insert(0, {folder!r})
import support

{classes}

support.main()
"""
PASSES = "class A(unittest.TestCase):\n    def test(self):\n        pass"
FAILS = "class B(unittest.TestCase):\n    def test(self):\n        self.fail()"
ROOT_ONLY = "class E(unittest.TestCase):\n    def test(self):\n        self.skipTest('only root may')"
SKIPPED = "class C(unittest.TestCase):\n    def test(self):\n        self.skipTest('no such thing here (package none)')"
CLASS_SKIPPED = "class D(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls):\n        raise unittest.SkipTest('nor here (package none)')\n    def test(self):\n        pass"


class Skips(unittest.TestCase):
    def run_with(self, *classes, no_skip=None):
        environment = {name: value for name, value in os.environ.items() if name != "SEV_NO_SKIP"} | ({"SEV_NO_SKIP": no_skip} if no_skip else {})
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "program.py"
            program.write_text(PROGRAM.format(folder=str(host.ROOT / "tests/owner"), classes="\n\n".join(classes)))
            return subprocess.run([sys.executable, "-B", program], capture_output=True, text=True, timeout=60, env=environment, check=False)

    def test_statuses(self):
        for classes, status, status_without_skips in [
            ([PASSES], 0, 0),
            ([PASSES, SKIPPED], 0, 1),
            ([PASSES, CLASS_SKIPPED], 0, 1),
            ([PASSES, ROOT_ONLY], 0, 0),
            ([ROOT_ONLY], 77, 77),
            ([ROOT_ONLY, SKIPPED], 77, 1),
            ([SKIPPED], 77, 1),
            ([CLASS_SKIPPED], 77, 1),
            ([SKIPPED, CLASS_SKIPPED], 77, 1),
            ([FAILS], 1, 1),
            ([FAILS, SKIPPED], 1, 1),
            ([], 1, 1),
        ]:
            with self.subTest(classes):
                self.assertEqual(self.run_with(*classes).returncode, status)
                self.assertEqual(self.run_with(*classes, no_skip="1").returncode, status_without_skips)

    def test_what_was_skipped_is_said(self):
        said = self.run_with(PASSES, SKIPPED, CLASS_SKIPPED, no_skip="1").stderr
        self.assertIn("SEV_NO_SKIP is 1, and test (__main__.C", said)
        self.assertIn("no such thing here", said)
        self.assertIn("nor here", said)


if __name__ == "__main__":
    support.main()
