# SPDX-License-Identifier: Apache-2.0
"""What the tests of the programs' command tables share. PROGRAM is the program, MANUAL its man page in the tree."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

PROGRAM = pathlib.Path(os.environ["PROGRAM"]).resolve()
MANUAL = pathlib.Path(os.environ["MANUAL"]).resolve()
NAME = PROGRAM.name


def run(*words, **options):
    return subprocess.run([PROGRAM, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, **options)


def table():
    """The command table, by name; without what is hidden."""
    commands = {command["name"]: command for command in json.loads(run("--print-commands-json").stdout)}
    assert commands, "an empty table"
    return commands


def spellings(argument):
    return [argument["name"]] + ([f"-{argument['letter']}"] if argument["letter"] else [])


def is_option(argument):
    return argument["name"].startswith("-")


def with_required(command, argument, *words):
    """The words with all else that the command must have before and after them."""
    before, after = [], []
    for other in command["arguments"]:
        if other["kind"] == "program":
            after = ["--", "x"]
        elif other["required"] and other is not argument:
            before += [other["name"]] if is_option(other) else []
            before.append((other["choices"] or "x").split("|")[0])
    return [*before, *words, *after]


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-console."))
        self.addCleanup(shutil.rmtree, self.dir)

    def ok(self, *words):
        done = run(*words, cwd=self.dir)
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return done.stdout

    def trouble(self, *words, says):
        """Exit status 2, nothing on stdout, one line of error that says this."""
        done = run(*words, cwd=self.dir)
        lines = done.stderr.splitlines()
        self.assertEqual((done.returncode, done.stdout), (2, ""), (words, done.stderr))
        self.assertTrue(lines and lines[0].startswith(f"{NAME}: error: ") and says in lines[0], (words, lines))
        self.assertTrue(all(line.startswith(f"{NAME}: hint: ") for line in lines[1:]), lines)
