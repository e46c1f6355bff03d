# SPDX-License-Identifier: Apache-2.0
"""Runs test files inside dom0, each in a process of its own, and says of each test by name how it went.

tests/xen/run.py starts it and reads what it prints:

PASS|FAIL|SKIP|PEER file.Class.test seconds[: reason]  one line a test, followed by the traceback of a failure; PEER: skipped for want of a peer
DONE file.py count status                            one line a file
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import traceback
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PRODUCT = pathlib.Path("/opt/xen-sev/bin")
DEFAULT_TIMEOUT_S = 240
NO_PEER = "no peer: "  # a skip for this reason is no failure of the run: other people's programs cannot be built everywhere


def settings(path):
    """The words of a file's line "# lab: group=NAME timeout=SECONDS", both optional."""
    found = re.search(r"^# lab:(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    words = dict(word.split("=", 1) for word in (found.group(1).split() if found else []))
    unknown = set(words) - {"group", "timeout"}
    if unknown:
        raise ValueError(f"{path.name}: # lab: knows group and timeout, not {', '.join(sorted(unknown))}")
    return words.get("group", "main"), int(words.get("timeout", DEFAULT_TIMEOUT_S))


class Result(unittest.TestResult):
    """Says at once how each test went."""

    def __init__(self, stem):
        super().__init__()
        self.stem, self.lines, self.worst = stem, [], {}

    def say(self, test, word, more=""):
        identity = re.sub(r"^.*?\.", "", test.id()) if "." in test.id() else test.id()
        print(f"{word} {self.stem}.{identity} {time.monotonic() - getattr(self, 'begun', time.monotonic()):.1f} s{more}", flush=True)
        self.lines.append(word)

    def startTest(self, test):
        super().startTest(test)
        self.begun, self.outcome = time.monotonic(), ("PASS", "", "")

    def note(self, test, word, reason="", trace=""):
        if self.testsRun == 0 or not isinstance(test, unittest.TestCase):  # setUpClass and the like: no test began
            self.say(test, word, reason)
            print(trace, end="", flush=True)
        else:
            self.outcome = (word, reason, self.outcome[2] + trace)

    def stopTest(self, test):
        super().stopTest(test)
        word, reason, trace = self.outcome
        self.say(test, word, reason)
        print(trace, end="", flush=True)

    def failed(self, test, error):
        self.note(test, "FAIL", trace="    " + "".join(traceback.format_exception(*error)).rstrip().replace("\n", "\n    ") + "\n")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.failed(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.failed(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.outcome = ("FAIL", "", self.outcome[2] + f"    in {subtest}\n")
            self.failed(test, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, "PEER" if reason.startswith(NO_PEER) else "SKIP", f": {reason}")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.note(test, "FAIL", ": an unexpected success")


def run_file(path, patterns):
    """Runs the tests of one file in this process; exit status 0 when none failed."""
    sys.path[:0] = [str(HERE), str(HERE.parents[1] / "cli")]
    loader = unittest.TestLoader()
    loader.testNamePatterns = [pattern if "*" in pattern else f"*{pattern}*" for pattern in patterns] or None
    result = Result(path.stem)
    loader.loadTestsFromName(path.stem).run(result)
    print(f"DONE {path.name} {len(result.lines)} {0 if result.wasSuccessful() else 1}", flush=True)
    return 0 if result.wasSuccessful() else 1


def left_domains():
    """Names of domains, other than dom0, that are still there; they are destroyed."""
    lines = subprocess.run(["xl", "list"], capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()[1:]
    names = [(line.split()[0], line.split()[1]) for line in lines if line.split()[1] != "0"]
    for _, identity in names:
        subprocess.run(["xl", "destroy", identity], capture_output=True, timeout=60, check=False)
    return [name for name, _ in names]


def run_alone(path, patterns):
    """Runs one file in a process group of its own, which does not outlive its time."""
    timeout_s = settings(path)[1]
    environment = {**os.environ, "SEVCTL": str(PRODUCT / "sevctl"), "SEV_EMULATOR": str(PRODUCT / "sev-emulator")}
    words = [sys.executable, "-B", __file__, "--file", path, *patterns]
    child = subprocess.Popen(words, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        status = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        print(f"FAIL {path.stem}: not done after {timeout_s} s", flush=True)
        status = 1
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    left = left_domains()
    if left:
        print(f"FAIL {path.stem}: left domains behind: {', '.join(left)}", flush=True)
        status = 1
    return status


def main():
    if sys.argv[1] == "--file":
        return run_file(pathlib.Path(sys.argv[2]), sys.argv[3:])
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    return max(run_alone(HERE / name, sys.argv[at + 1:]) for name in sys.argv[1:at])


if __name__ == "__main__":
    sys.exit(main())
