# SPDX-License-Identifier: Apache-2.0
"""What tests inside dom0 share: running programs, guests and their consoles, ramdisks for guests. tests/cli/support.py can be imported beside it."""
import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[3]
PRODUCT = pathlib.Path("/opt/xen-sev/bin")
SEVCTL, EMULATOR = PRODUCT / "sevctl", PRODUCT / "sev-emulator"
GUESTS = pathlib.Path("/usr/lib/xen-sev-lab")
# Debian's kernels; Debian's own initramfs for each is GUESTS/debian-generic.img, GUESTS/debian-cloud.img
KERNEL_CLOUD, KERNEL_GENERIC = GUESTS / "vmlinuz-cloud", GUESTS / "vmlinuz-generic"
GUEST_UP = GUESTS / "busybox.img"  # a ramdisk that says GUEST-UP on its console and powers off
CONSOLES = pathlib.Path("/var/log/xen/console")


def run(*words, timeout_s=120, **options):
    """Runs a program to its end; stdout and stderr as text."""
    words = [str(word) for word in words]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False, **options)


def newc(files):
    """A cpio archive (newc) of {path: bytes or (bytes, mode)}; a folder is a path that ends in "/"."""
    out = bytearray()
    pairs = [(path, content if isinstance(content, tuple) else (content, 0o100644)) for path, content in files.items()]
    entries = [(path.rstrip("/"), *pair, path.endswith("/")) for path, pair in pairs]
    for number, (path, content, mode, folder) in enumerate([*entries, ("TRAILER!!!", b"", 0, False)], 1):
        mode = 0o040755 if folder else mode
        fields = (number, mode, 0, 0, 2 if folder else 1, 0, len(content), 0, 0, 0, 0, len(path) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + path.encode() + b"\0"
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out) + bytes(-len(out) % 512)


def ramdisk(script, files=None, compress=True):
    """A ramdisk whose /init is this shell script, run by busybox with /dev, /proc and /sys mounted; it should end with poweroff -f.

    `files` as in newc.
    """
    mounts = "mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys"
    init = f"#!/bin/busybox sh\n/bin/busybox --install -s /bin\n{mounts}\n{script}"
    folders = {folder: b"" for folder in ("bin/", "dev/", "proc/", "sys/")}
    programs = {"bin/busybox": (pathlib.Path("/bin/busybox").read_bytes(), 0o100755), "init": (init.encode(), 0o100755)}
    content = newc({**folders, **programs, **(files or {})})
    return gzip.compress(content, 1, mtime=0) if compress else content


class Guest:
    """A domain made by xl: `settings` are lines of its xl.cfg, None leaves one out. Destroyed when the test ends."""

    def __init__(self, case, name, **settings):
        self.case, self.name = case, name
        values = {"name": name, "type": "pvh", "memory": 128, "vcpus": 1, "kernel": KERNEL_CLOUD, "extra": "console=hvc0 quiet",
                  "on_reboot": "destroy", "vga": "none", **settings}
        self.config = case.dir / f"{name}.cfg"
        self.config.write_text("".join(f"{key}={json.dumps(value, default=str)}\n" for key, value in values.items() if value is not None))
        (CONSOLES / f"guest-{name}.log").unlink(missing_ok=True)
        case.addCleanup(self.destroy)

    def create(self, paused=True):
        """The domain's id."""
        self.case.xl("create", *(["-p"] if paused else []), self.config)
        return int(self.case.xl("domid", self.name).stdout)

    def unpause(self):
        self.case.xl("unpause", self.name)

    def state(self):
        """The six letters of xl list; None when there is no such domain."""
        for line in self.case.xl("list").stdout.splitlines()[1:]:
            words = line.split()
            if words[0] == self.name:
                return words[4]
        return None

    def console(self):
        """What the guest has written on its console so far."""
        log = CONSOLES / f"guest-{self.name}.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def wait_for(self, pattern, timeout_s=120):
        """The match of this regular expression in the console, as soon as it is there."""
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.console())):
            if time.monotonic() > deadline:
                self.case.fail(f"{self.name}: no {pattern!r} on its console in {timeout_s} s:\n{self.console()[-4000:]}")
            time.sleep(0.2)
        return found

    def wait_gone(self, timeout_s=60):
        """Returns when the domain is no more."""
        deadline = time.monotonic() + timeout_s
        while (state := self.state()) is not None:
            self.case.assertLess(time.monotonic(), deadline, f"{self.name} is still there after {timeout_s} s, state {state}")
            time.sleep(0.2)

    def destroy(self):
        run("xl", "destroy", self.name)


class Case(unittest.TestCase):
    """A test in a folder of its own, on dom0's tmpfs."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-dom0-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def ran(self, *words, status=0, **options):
        """Runs a program and wants this exit status."""
        done = run(*words, cwd=self.dir, **options)
        self.assertEqual(done.returncode, status, f"{' '.join(map(str, words))}:\n{done.stdout}{done.stderr}")
        return done

    def xl(self, *words, **options):
        return self.ran("xl", *words, **options)

    def sevctl(self, *words, **options):
        return self.ran(SEVCTL, *words, **options)

    def valid(self, schema, value):
        """Holds a --json output against docs/schemas/<schema>.schema.json."""
        validator = jsonschema.Draft202012Validator(json.loads((ROOT / f"docs/schemas/{schema}.schema.json").read_text()))
        self.assertEqual([f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)], [])


os.environ.setdefault("SEVCTL", str(SEVCTL))
os.environ.setdefault("SEV_EMULATOR", str(EMULATOR))
