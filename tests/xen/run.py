#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs tests/xen/dom0/*_test.py in the dom0 of the lab, one boot for each group, and reports each test by name.

A file's group is in its line "# lab: group=NAME". Exit status 0 when every test of every file ran and none failed. A test that was skipped did not run; only
those that want a program of other people's (build/peers) may be, and are named at the end.
"""
import argparse
import pathlib
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "dom0")]
import machine  # noqa: E402
from machine import ROOT, Trouble  # noqa: E402
from runner import settings  # noqa: E402

BOOT_S = 180  # on a busy machine; 12 s on an idle one


class Report:
    """Passes on what the runner in dom0 prints, and counts."""

    def __init__(self, pass_on=None):
        self.pass_on = pass_on or self.print
        self.rest, self.said, self.done = b"", {"PASS": 0, "FAIL": 0, "SKIP": 0, "PEER": 0}, {}
        self.per_file, self.skipped, self.no_peer = {}, [], []

    @staticmethod
    def print(data):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def take(self, data):
        self.pass_on(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.line(line.decode(errors="replace"))

    def line(self, text):
        words = text.split()
        if len(words) >= 2 and words[0] in self.said:
            self.said[words[0]] += 1
            stem = words[1].split(".")[0]
            self.per_file[stem] = self.per_file.get(stem, 0) + 1
            if words[0] in ("SKIP", "PEER"):
                (self.skipped if words[0] == "SKIP" else self.no_peer).append(text.split(None, 1)[1])
        elif len(words) == 4 and words[0] == "DONE":
            self.done[words[1]] = int(words[2])

    def faults(self, files, some, allow_skips=False):
        """What makes this no success, though perhaps no test failed. `some`: only tests of a certain name were asked for."""
        for path in files:
            if path.name not in self.done:
                yield f"{path.name}: did not come to its end"
            elif self.done[path.name] == 0 and not some:
                yield f"{path.name}: no test in it ran"
            elif self.done[path.name] != self.per_file.get(path.stem, 0):
                yield f"{path.name}: {self.done[path.name]} tests ran, {self.per_file.get(path.stem, 0)} were reported"
        if not allow_skips:
            yield from (f"skipped, and so not tried: {test}" for test in self.skipped)
        if self.said["PASS"] + self.said["FAIL"] == 0 and not (allow_skips and self.skipped):
            yield "no test ran"


def run_group(name, files, options):
    """Whether all went well."""
    print(f"== group {name}: {', '.join(path.name for path in files)}", flush=True)
    report = Report()
    limit_s = BOOT_S + sum(settings(path)[1] for path in files)
    lab = machine.Machine(options.build, limit_s, options.console, stdout=report.take)
    words = ["python3", "-B", "/share/tests/xen/dom0/runner.py", *(path.name for path in files), "--", *options.only]
    status = lab.run(words, options.results)
    faults = list(report.faults(files, bool(options.only), options.allow_skips))
    for fault in faults:
        print(f"FAIL {fault}")
    print(f"== group {name}: {report.said['PASS']} passed, {report.said['FAIL']} failed, "
          f"{len(report.skipped) + len(report.no_peer)} skipped", flush=True)
    for test in report.no_peer:
        print(f"== NOT TRIED: {test}", flush=True)
    if status not in (0, 1):
        print(f"FAIL the run in dom0 ended with status {status}")
    return status == 0 and not faults and report.said["FAIL"] == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=pathlib.Path, help="test files (default: all of tests/xen/dom0)")
    parser.add_argument("--group", help="only this group")
    parser.add_argument("-k", dest="only", action="append", default=[], metavar="PATTERN",
                        help="only tests whose name has this in it (as in python3 -m unittest)")
    parser.add_argument("--allow-skips", action="store_true", help="tests that are skipped do not make this a failure")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/dev", metavar="FOLDER",
                        help="build folder whose programs dom0 gets (default build/dev)")
    parser.add_argument("--console", type=pathlib.Path, metavar="FILE", help="keep the console's output (Xen and dom0's kernel) in this file")
    parser.add_argument("--results", type=pathlib.Path, metavar="FOLDER", help="copy what tests leave in /lab/out to this folder")
    options = parser.parse_args()
    known = sorted((HERE / "dom0").glob("*_test.py"))
    files = [path.resolve() for path in options.files] or known
    for path in files:
        if path not in known:
            parser.error(f"{path}: is no test of tests/xen/dom0 (want *_test.py there)")
    groups = {}
    for path in files:
        groups.setdefault(settings(path)[0], []).append(path)
    if options.group:
        if options.group not in groups:
            parser.error(f"there is no group {options.group}: {', '.join(sorted(groups))}")
        groups = {options.group: groups[options.group]}
    try:
        return 0 if all([run_group(name, group, options) for name, group in sorted(groups.items())]) else 1
    except Trouble as trouble:
        print(f"lab: {trouble}", file=sys.stderr)
        return machine.NEVER


if __name__ == "__main__":
    sys.exit(main())
