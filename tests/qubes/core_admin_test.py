#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The extension in Qubes' own core-admin, which is in no package registry: QUBES_CORE_ADMIN names one checkout or more (of R4.2, R4.3, main …), separated by colons, and
QUBES_CORE_QREXEC one of core-qrexec, which core-admin imports. Skipped aloud without. Needs Debian's python3-lxml, python3-jinja2, python3-yaml, python3-docutils, python3-setuptools."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = "/usr/bin/python3"  # the one that Debian's packages are for


def run(checkout, site):
    """One release: its egg-info, which holds the entry points, is made from its own setup.py beside a copy of nothing."""
    with tempfile.TemporaryDirectory(prefix="xen-sev-qubes-egg-") as made:
        copy = pathlib.Path(made) / "core-admin"
        shutil.copytree(checkout, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "tests-data"))
        subprocess.run([PYTHON, "setup.py", "-q", "egg_info"], cwd=copy, check=True, stdout=subprocess.DEVNULL)
        environment = dict(os.environ, QUBES_CORE_ADMIN=str(copy), PYTHONPATH=os.pathsep.join([str(HERE / "fake"), str(copy), str(site), os.environ["QUBES_CORE_QREXEC"]]), PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run([PYTHON, "-W", "ignore", HERE / "core_admin_run.py", *sys.argv[1:]], env=environment, cwd=made)
        return done.returncode


def main():
    checkouts = [pathlib.Path(part) for part in os.environ.get("QUBES_CORE_ADMIN", "").split(":") if part]
    if not checkouts or not os.environ.get("QUBES_CORE_QREXEC"):
        print("SKIPPED: QUBES_CORE_ADMIN and QUBES_CORE_QREXEC name no checkouts of qubes-core-admin and qubes-core-qrexec")
        return 77
    failed = 0
    with tempfile.TemporaryDirectory(prefix="xen-sev-qubes-site-") as site:
        build = os.environ.get("XEN_SEV_BUILD", ROOT / "build/dev")
        subprocess.run(["cmake", "--install", build, "--component", "qubes-dom0", "--prefix", "/usr"], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, DESTDIR=site))
        found = list(pathlib.Path(site).rglob("xen_sev_qubes-*.dist-info"))
        if len(found) != 1:
            print(f"the installed extension has {len(found)} dist-info folders, want one")
            return 1
        for checkout in checkouts:
            print(f"== core-admin {(checkout / 'version').read_text().strip()}, {checkout}", flush=True)
            failed += run(checkout, found[0].parent) != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
