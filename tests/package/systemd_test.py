#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The packages under a real systemd, in an emulated machine: installed there, and the tests of in_systemd.py run. As root; skipped aloud where the tools for it are not.
XEN_SEV_PACKAGES names a folder with packages that are built already; with --build FOLDER what `cmake --install` makes of a build folder is installed instead."""
import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import root  # noqa: E402
from root import ROOT, Trouble, run  # noqa: E402
import boot  # noqa: E402
import systemd_image  # noqa: E402
import virtual_machine  # noqa: E402

PACKAGES = ("xen-sev", "xen-sev-tools", "xen-sev-relay", "xen-sev-owner")
COMPONENTS = ("host", "tools", "relay", "owner")
LIMIT_S = 900  # on a busy machine


class Machine(boot.Boot):
    """One boot with systemd; `fill` puts what is to be installed into a folder, which is /lab/out there."""

    def __init__(self, fill, **of_boot):
        super().__init__(share=ROOT, timeout_s=LIMIT_S, **of_boot)
        self.fill = fill

    @contextlib.contextmanager
    def ready(self):
        self.fill(self.out)
        qemu, image = virtual_machine.emulator(), systemd_image.disk()
        kernel = ["-kernel", image / "vmlinuz", "-initrd", image / "initrd.gz", "-append", "console=ttyS0 quiet systemd.show_status=no"]
        yield qemu, image / "systemd.img", ["-machine", "q35", "-cpu", "max", "-smp", "1", "-m", "1536", *kernel], []


def packages_of(debs):
    def fill(folder):
        for name in PACKAGES:
            shutil.copy(debs[name], folder)
    return fill


def tree_of(build):
    def fill(folder):
        with tempfile.TemporaryDirectory(prefix="xen-sev-tree-") as tree:
            for component in COMPONENTS:
                run(["cmake", "--install", build, "--prefix", "/usr", "--strip", "--component", component], env={**os.environ, "DESTDIR": tree})
            run(["tar", "-C", tree, "-cf", folder / "tree.tar", "usr"])
    return fill


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--console", type=pathlib.Path)
    parser.add_argument("tests", nargs="*", help="names, as for unittest")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("SKIPPED: a machine's disk takes root's rights")
        return 77
    try:
        fill = tree_of(options.build.resolve()) if options.build else packages_of(root.packages())
        systemd_image.disk()
        virtual_machine.emulator()
        began = time.monotonic()
        status = Machine(fill, console=options.console).run(["python3", "-B", "/share/tests/package/in_systemd.py", "-v", "-f", *options.tests])
        print(f"machine with systemd: {time.monotonic() - began:.0f} s, exit status {status}")
        return 0 if status == 0 else 1
    except Trouble as trouble:
        missing = str(trouble).startswith("missing: ")
        print(f"SKIPPED: {trouble}" if missing else f"package: {trouble}")
        return 77 if missing else 1
    except subprocess.CalledProcessError as error:
        print(f"package: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
