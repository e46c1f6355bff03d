#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What run.py takes for a success: every test ran, and none failed. Needs no lab."""
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "dom0")]
import run  # noqa: E402
import runner  # noqa: E402

FILES = [pathlib.Path("foo_test.py")]


class Reports(unittest.TestCase):
    def faults(self, *lines, some=False, **options):
        report = run.Report(pass_on=lambda data: None)
        report.take("".join(line + "\n" for line in lines).encode())
        return list(report.faults(FILES, some, **options)), report.no_peer

    def test_what_ran_is_a_success(self):
        self.assertEqual(self.faults("PASS foo_test.A.test_x 1.0 s", "DONE foo_test.py 1 0"), ([], []))

    def test_what_did_not_run_is_none(self):
        for lines, says in (((), ["foo_test.py: did not come to its end", "no test ran"]),
                            (("DONE foo_test.py 0 0",), ["foo_test.py: no test in it ran", "no test ran"]),
                            (("PASS foo_test.A.test_x 1.0 s", "DONE foo_test.py 2 0"), ["foo_test.py: 2 tests ran, 1 were reported"]),
                            (("SKIP foo_test.A.test_x 0.0 s: no openssl here", "DONE foo_test.py 1 0"),
                             ["skipped, and so not tried: foo_test.A.test_x 0.0 s: no openssl here", "no test ran"]),
                            (("PASS foo_test.A.test_x 1.0 s", "SKIP foo_test.A.test_y 0.0 s: why", "DONE foo_test.py 2 0"),
                             ["skipped, and so not tried: foo_test.A.test_y 0.0 s: why"])):
            self.assertEqual(self.faults(*lines), (says, []), lines)
        self.assertEqual(self.faults("DONE foo_test.py 0 0", some=True)[0], ["no test ran"])

    def test_skips_that_are_allowed(self):
        lines = ("SKIP foo_test.A.test_x 0.0 s: why", "DONE foo_test.py 1 0")
        self.assertEqual(self.faults(*lines, allow_skips=True)[0], [])
        self.assertEqual(self.faults("PASS foo_test.A.test_x 1.0 s", "PEER foo_test.A.test_y 0.0 s: no peer: why", "DONE foo_test.py 2 0"),
                         ([], ["foo_test.A.test_y 0.0 s: no peer: why"]))
        # peers alone are nothing that was tried
        self.assertEqual(self.faults("PEER foo_test.A.test_y 0.0 s: no peer: why", "DONE foo_test.py 1 0")[0], ["no test ran"])


class Skips(unittest.TestCase):
    """What runner.py says of them."""

    def said(self, reason):
        case = unittest.FunctionTestCase(lambda: None)
        result = runner.Result("foo_test")
        result.startTest(case)
        result.addSkip(case, reason)
        return result.outcome[0]

    def test_only_a_peer_is_one(self):
        self.assertEqual(self.said(runner.NO_PEER + "virtee's sevctl was not built"), "PEER")
        for reason in ("SKIPPED: no openssl here", "", "this has no peer: at all"):
            self.assertEqual(self.said(reason), "SKIP", reason)


if __name__ == "__main__":
    unittest.main()
