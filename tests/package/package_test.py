#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Debian packages, from their build to their purge, in a clean Debian root. As root; skipped aloud where the tools for it are not. XEN_SEV_PACKAGES names a folder with
packages that are built already."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
import unittest

import root
from root import OURS, OUT, ROOT, CleanRoot, field, repacked, run

DEBS = {}
# what may be linked, by package: a new library in dom0 is a decision, not an accident
NEVER = re.compile(r"libcurl|libssh|libnghttp|libldap|libgnutls|librtmp|libpq")
PROGRAMS = {"xen-sev": ["sevd"], "libxen-sev-dev": [], "xen-sev-tools": ["sevctl", "sev-emulator"], "xen-sev-relay": ["sev-relay"], "xen-sev-owner": ["sev-owner"], "xen-sev-machine": [], "xen-sev-qubes": []}


def contents(deb):
    """Paths of a package's files, without folders."""
    lines = run(["dpkg-deb", "-c", deb]).decode().splitlines()
    return [line.split(None, 5)[5].removeprefix(".").split(" -> ")[0] for line in lines if not line.startswith("d")]


class Form(unittest.TestCase):
    maxDiff = None

    def test_lintian_finds_nothing(self):
        changes = sorted(DEBS["xen-sev"].parent.glob("xen-sev_*.changes"))
        if not changes or not shutil.which("lintian"):
            self.skipTest("no .changes file, or no lintian")
        done = subprocess.run(["lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning", changes[-1]], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_one_version_everywhere(self):
        version = (ROOT / "VERSION").read_text().strip()
        self.assertEqual({field(deb, "Version") for deb in DEBS.values()}, {version})
        self.assertRegex((ROOT / "CMakeLists.txt").read_text(), r"file\(STRINGS VERSION version")
        spec = (ROOT / "rpm_spec/xen-sev.spec.in").read_text()
        self.assertIn("Version:        @VERSION@\nRelease:        @REL@%{?dist}\n", spec)

    def test_no_file_is_in_two_packages_or_in_none(self):
        seen = {}
        for name, deb in DEBS.items():
            for path in contents(deb):
                self.assertNotIn(path, seen)
                seen[path] = name
        # everything that the build installs has a component that is a package, here or in the rpm
        folder = next(iter(OUT.glob("xen-sev-*/build/debian")), None)
        if folder is None or "XEN_SEV_PACKAGES" in os.environ:
            return
        components = set(re.findall(r'CMAKE_INSTALL_COMPONENT STREQUAL "([^"]+)"', "".join(path.read_text() for path in folder.rglob("cmake_install.cmake"))))
        self.assertEqual(components, set(re.search(r"set\(SEV_PACKAGES (.*)\)", (ROOT / "cmake/packages.cmake").read_text()).group(1).split()))

    def test_programs_have_manuals_and_those_with_a_table_completions(self):
        for name, programs in PROGRAMS.items():
            files = contents(DEBS[name])
            for program in programs:
                self.assertTrue([path for path in files if re.fullmatch(rf"/usr/s?bin/{program}", path)], f"{name}: no {program}")
                self.assertTrue([path for path in files if re.fullmatch(rf"/usr/share/man/man[18]/{program}\.[18]\.gz", path)], f"{name}: no manual of {program}")
        tools = contents(DEBS["xen-sev-tools"])
        for path in ("bash-completion/completions/sevctl", "zsh/site-functions/_sevctl", "fish/vendor_completions.d/sevctl.fish"):
            self.assertIn(f"/usr/share/{path}", [p.replace("zsh/vendor-completions", "zsh/site-functions") for p in tools])
        self.assertIn("/usr/share/xen-sev/schemas/verdict.schema.json", tools)


class Life(unittest.TestCase):
    """One root, one life: installed, looked at, upgraded, removed, purged."""

    def test_life(self):
        with CleanRoot(DEBS) as clean:
            before = clean.files()
            self.installed(clean)
            self.units(clean)
            self.libraries(clean)
            self.programs(clean)
            self.upgraded(clean)
            self.removed(clean, before)

    def installed(self, clean):
        clean.install(*OURS)
        self.assertEqual(clean.run("dpkg", "--audit"), "")
        self.assertEqual(clean.run("dpkg", "-V", *OURS), "")
        self.assertIn("xen-sev-owner:", (clean.path / "etc/passwd").read_text())
        for name in OURS:
            self.assertIn("ok installed", clean.run("dpkg-query", "-W", "-f", "${Status}", name))
        # nothing starts by itself: neither service can do anything before somebody says whom it may trust
        links = [p.name for p in (clean.path / "etc/systemd/system").rglob("*") if p.name.startswith(("sevd", "sev-owner"))]
        self.assertEqual(links, [])

    def units(self, clean):
        units = [path for deb in DEBS.values() for path in contents(deb) if "/systemd/system/" in path]
        self.assertIn("sev-owner.service", {path.rsplit("/", 1)[1] for path in units})
        for unit in units:
            with self.subTest(unit=unit):
                self.assertEqual(clean.run("systemd-analyze", "verify", "--man=no", unit), "")
        for kind, check in (("sysusers.d", "systemd-sysusers"), ("tmpfiles.d", "systemd-tmpfiles")):
            for path in [p for deb in DEBS.values() for p in contents(deb) if f"/{kind}/" in p]:
                clean.run(check, *(["--create"] if kind == "tmpfiles.d" else []), path)

    def libraries(self, clean):
        looked = 0
        for name in ("xen-sev", "xen-sev-tools"):  # what is in dom0
            for path in contents(DEBS[name]):
                file = clean.path / path.lstrip("/")
                if file.is_symlink() or not file.is_file() or file.read_bytes()[:4] != b"\x7fELF":
                    continue
                looked += 1
                linked = clean.run("ldd", path)
                self.assertIsNone(NEVER.search(linked), f"{path}: {linked}")
                self.assertNotIn("not found", linked)
        self.assertGreaterEqual(looked, 4)
        self.assertIn("libcurl", clean.run("ldd", "/usr/bin/sev-relay"))  # so that the look is known to see one

    def programs(self, clean):
        version = (ROOT / "VERSION").read_text().strip()
        for program in [program for programs in PROGRAMS.values() for program in programs]:
            self.assertIn(version, clean.run(program, "--version"))
        self.assertEqual(json.loads(clean.run("sevctl", "explain", "BAD_MEASUREMENT", "--json"))["name"], "BAD_MEASUREMENT (0x000B)")

    def upgraded(self, clean):
        """Configuration and state outlive an upgrade."""
        (clean.path / "var/lib/xen-sev-owner").mkdir(exist_ok=True)
        (clean.path / "var/lib/xen-sev").mkdir(exist_ok=True)
        kept = ["etc/xen-sev/owner.json", "etc/xen-sev/sevd.json", "var/lib/xen-sev-owner/owner.db", "var/lib/xen-sev/journal.db"]
        for path in kept:
            (clean.path / path).parent.mkdir(exist_ok=True)
            (clean.path / path).write_text(f"kept {path}")
        with repacked(DEBS, (ROOT / "VERSION").read_text().strip() + "+upgrade") as newer:
            for deb in newer.values():
                shutil.copy(deb, clean.path / "debs")
            clean.run("apt-get", "install", "-q", "-y", "--no-install-recommends", *[f"/debs/{deb.name}" for deb in newer.values()])
        for name in OURS:
            self.assertIn("+upgrade", clean.run("dpkg-query", "-W", "-f", "${Version}", name))
        for path in kept:
            self.assertEqual((clean.path / path).read_text(), f"kept {path}")
        self.assertEqual(clean.run("dpkg", "-V", *OURS), "")

    def removed(self, clean, before):
        clean.run("apt-get", "remove", "-q", "-y", *OURS)
        self.assertEqual((clean.path / "var/lib/xen-sev-owner/owner.db").read_text(), "kept var/lib/xen-sev-owner/owner.db")
        for path in ("usr/bin/sevctl", "usr/bin/sev-owner", "usr/bin/sev-relay"):
            self.assertFalse((clean.path / path).exists())
        clean.run("dpkg", "--purge", *OURS)  # also those of which nothing was left
        after = clean.files()
        # the admin's own files are nobody's to delete
        mine = {"/etc/xen-sev", "/etc/xen-sev/owner.json", "/etc/xen-sev/sevd.json"}
        self.assertEqual(sorted(set(after) - set(before) - mine), [])
        self.assertEqual(sorted(set(before) - set(after)), [])


class Newcomer(unittest.TestCase):
    """From the packages to a verdict, in three commands, under a minute."""

    def test_three_commands(self):
        with CleanRoot(DEBS) as clean:
            tools = f"/debs/{DEBS['xen-sev-tools'].name}"
            commands = [["apt-get", "install", "-q", "-y", "--no-install-recommends", tools],
                        ["sh", "/usr/share/doc/xen-sev-tools/examples/sample-launch", "/var/tmp/try"],
                        ["sevctl", "launch", "--psp", "emulated", "--state", "/var/tmp/try/psp", "--image", "/var/tmp/try/guest.json", "--owner", "/var/tmp/try/owner.json"]]
            began = time.monotonic()
            said = [clean.run(*words) for words in commands]
            took = time.monotonic() - began
            self.assertIn("TRUSTED", said[-1].splitlines())
            self.assertIn("EMULATED PSP", said[-1])
            self.assertEqual(said[1].strip(), " ".join(commands[2]))
            self.assertLess(took, 60)
            print(f"newcomer's path: {took:.1f} s from the packages to a verdict", flush=True)
            # and the same guest with one bit changed is not trusted
            kernel = clean.path / "var/tmp/try/kernel.img"
            owner = (clean.path / "var/tmp/try/owner.json").read_text().replace('"kernel.img"', '"known.img"')
            shutil.copy(kernel, kernel.with_name("known.img"))
            (clean.path / "var/tmp/try/owner.json").write_text(owner)
            raw = bytearray(kernel.read_bytes())
            raw[1000] ^= 1
            kernel.write_bytes(raw)
            self.assertIn("NOT TRUSTED", clean.run(*commands[2], status=1))


if __name__ == "__main__":
    sys.exit(root.run_tests(DEBS))
