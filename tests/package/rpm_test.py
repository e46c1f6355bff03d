#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rpm spec, as far as Debian's rpm goes: it knows neither Fedora's macros nor its packages, so dependencies are not resolved, scriptlets are left out, and the build folder of the
Debian packages is gone on with. What is tested: the spec is parsed, all its packages are built, no file is in two of them or in none, and dom0's link no network library."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "package"
PACKAGES = {"xen-sev", "xen-sev-devel", "xen-sev-tools", "xen-sev-machine", "xen-sev-relay", "xen-sev-owner", "xen-sev-qubes-dom0", "xen-sev-qubes-vm"}


def run(*words, **options):
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))}: exit status {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


class Spec(unittest.TestCase):
    def test_it_is_parsed_for_both_releases_of_dom0(self):
        spec = run(ROOT / "scripts/package", "spec").split()[0]
        for dist in (".fc37", ".fc41"):
            said = run("rpmspec", "--define", f"dist {dist}", "--define", "python3_sitelib /usr/lib/python3/site-packages", "-q", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\n", spec)
            version = (ROOT / "VERSION").read_text().strip() + "-" + (ROOT / "rel").read_text().strip() + dist
            self.assertEqual(set(said.splitlines()), {f"{name} {version}" for name in PACKAGES})
        requires = run("rpmspec", "--define", "python3_sitelib /usr/lib/python3/site-packages", "-q", "--buildrequires", spec)
        for wanted in ("gcc-c++ >= 12", "boost-devel >= 1.78", "xen-devel"):
            self.assertIn(wanted, requires)

    def test_qubes_builder_knows_where_to_look(self):
        text = (ROOT / ".qubesbuilder").read_text()
        for path in re.findall(r"^    - (\S+)$", text, re.M):
            self.assertTrue((ROOT / path).exists() or (ROOT / (path + ".in")).exists(), path)
        self.assertRegex((ROOT / "rel").read_text(), r"^[0-9]+\n$")


class Built(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shutil.rmtree(OUT / "rpm", ignore_errors=True)
        run(ROOT / "scripts/package", "rpm")
        cls.rpms = {re.sub(r"-[0-9][^-]*-[^-]*$", "", path.name): path for path in (OUT / "rpm/RPMS").rglob("*.rpm")}

    def files(self, name):
        """Paths of a package's files, without folders, which packages may share."""
        return [line.split(None, 8)[8].split(" -> ")[0] for line in run("rpm", "-qlvp", self.rpms[name]).splitlines() if not line.startswith("d")]

    def test_every_package_is_there_and_no_file_is_in_two(self):
        self.assertEqual(set(self.rpms), PACKAGES)
        seen = {}
        for name in PACKAGES:
            for path in self.files(name):
                if not path.startswith("/usr/share/licenses"):
                    self.assertNotIn(path, seen)
                    seen[path] = name
        for path, name in {"/usr/bin/sevctl": "xen-sev-tools", "/usr/sbin/sevd": "xen-sev", "/usr/bin/sev-relay": "xen-sev-relay", "/usr/bin/sev-owner": "xen-sev-owner", "/usr/bin/qvm-sev": "xen-sev-qubes-dom0",
                           "/etc/qubes/policy.d/60-xen-sev.policy": "xen-sev-qubes-dom0", "/etc/qubes-rpc/sev.OwnerExchange": "xen-sev-qubes-vm"}.items():
            self.assertEqual(seen.get(path), name, path)
        self.assertTrue([path for path in seen if path.endswith(".dist-info/entry_points.txt") or re.search(r"dist-info$", path)])

    def test_dom0s_packages_link_no_network_library(self):
        for name in ("xen-sev", "xen-sev-tools", "xen-sev-qubes-dom0"):
            self.assertNotRegex(run("rpm", "-qp", "--requires", self.rpms[name]), r"libcurl|libpq|libssh")
        self.assertRegex(run("rpm", "-qp", "--requires", self.rpms["xen-sev-relay"]), r"libcurl")


if __name__ == "__main__":
    if not shutil.which("rpmbuild"):
        print("SKIPPED: no rpmbuild (Debian's package rpm)")
        sys.exit(77)
    if not (OUT / f"xen-sev-{(ROOT / 'VERSION').read_text().strip()}" / "build/debian").exists() and not os.path.exists("/etc/fedora-release"):
        print("the Debian packages are built first: scripts/package deb")
        sys.exit(1)
    unittest.main(verbosity=2)
