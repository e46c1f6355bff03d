#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of docs/owner.md, docs/xen.md and docs/qubes.md, as they stand there, in a clean Debian root with the packages, but for those that want a Xen (pages.py says where those
are run). Stand-ins: systemctl starts and stops what the units say; qvm-run runs in the same root, which is dom0 and vault at once."""
import os
import sys
import unittest

import root
from pages import SYSTEMCTL, blocks
from root import ROOT, CleanRoot

DEBS = {}

QVM_RUN = r"""#!/bin/sh
[ "$1 $2" = "--pass-io sev-vault" ] || exit 1
exec sh -c "$3"
"""
# Qubes' own tools: they say what they were asked
QUBES_TOOL = r"""#!/bin/sh
echo "$(basename "$0") $*" >>/tmp/qubes.log
case "$(basename "$0") $*" in "qvm-prefs work kernel") echo 6.6.48-1.fc37 ;; esac
"""
# qubesadmin, whose one qube "work" is measured by the real sevctl's stand-in account
QUBESADMIN = r'''
import json, os, types
from . import exc

class Features(dict):
    def __init__(self):
        super().__init__(json.load(open("/tmp/features.json")) if os.path.exists("/tmp/features.json") else {})
    def __setitem__(self, key, value):
        super().__setitem__(key, value); json.dump(self, open("/tmp/features.json", "w"))
    def __delitem__(self, key):
        super().__delitem__(key); json.dump(self, open("/tmp/features.json", "w"))
    def check_with_template(self, name, default=None):
        return self.get(name, default)

class Vm:
    name, virt_mode, kernel, maxmem, debug = "work", "pvh", "6.6.48-1.fc37", 4000, False
    def __init__(self):
        self.features, self.tags = Features(), set()
        self.devices = {"pci": types.SimpleNamespace(get_assigned_devices=lambda: [])}
    def is_running(self):
        return False
    def start(self):
        del self.features["sev.once"]
        os.makedirs("/run/xen-sev/qubes", exist_ok=True)
        json.dump({"qube": "work", "xid": os.getpid(), "capture": {"equal": True, "differences": [], "launch_digest": "ab" * 32, "regions": [{"label": "kernel", "gpa": "0x1000000", "length": 65536, "sha256": "cd" * 32}],
                    "build": "later", "other_build": {"build": "first", "launch_digest": "ef" * 32, "regions": [{"label": "kernel", "gpa": "0x1000000", "length": 65536, "sha256": "cd" * 32}]}}},
                  open("/run/xen-sev/qubes/work.json", "w"))
        raise exc.QubesException("work was measured and, as asked, not started: as its configuration says, byte for byte")

class Domains(dict):
    def __iter__(self):
        return iter(self.values())
    def __contains__(self, name):
        return name in self.keys()

class Qubes:
    def __init__(self):
        self.domains = Domains(work=Vm())
'''


class Docs(unittest.TestCase):
    def page(self, name, places, prepare=None):
        chosen = [text for kind, text in blocks(name) if kind in places]
        self.assertGreaterEqual(len(chosen), 3, f"{name} has too few commands: was anything checked?")
        script = "set -euxo pipefail\ncd /debs\n" + "\n".join(chosen)
        with CleanRoot(DEBS) as clean:
            tool = clean.path / "usr/local/bin"
            for program, text in {"systemctl": SYSTEMCTL, "qvm-run": QVM_RUN, **dict.fromkeys(("qubes-dom0-update", "qvm-create", "qvm-prefs", "qvm-start", "qvm-features"), QUBES_TOOL)}.items():
                (tool / program).write_text(text)
                (tool / program).chmod(0o755)
            (clean.path / "etc/apt/apt.conf.d/99-yes").write_text('APT::Get::Assume-Yes "true";\n')  # what the reader answers
            if prepare:
                prepare(clean)
            (clean.path / "tmp/page.sh").write_text(script)
            return clean, clean.run("bash", "/tmp/page.sh", timeout=240)

    def test_owner(self):
        _, said = self.page("owner.md", {""})
        self.assertIn("\nTRUSTED", said)
        self.assertRegex(said, r"(?s)sev-owner audit verify\n[0-9]+ records, [0-9]+ signatures.*\nhead [0-9]+:[0-9a-f]{64}")

    def test_xen(self):
        self.page("xen.md", {""})

    def test_qubes(self):
        def prepare(clean):
            python = clean.path / "usr/lib/python3/dist-packages"
            root.run(["cp", "-r", ROOT / "libxl-hooks/qubes/xen_sev_qubes", python])
            (python / "qubesadmin").mkdir()
            (python / "qubesadmin/__init__.py").write_text(QUBESADMIN)
            (python / "qubesadmin/exc.py").write_text("class QubesException(Exception):\n    pass\n")
            root.run(["cp", ROOT / "libxl-hooks/qubes/qvm-sev", clean.path / "usr/bin"])
            (clean.path / "usr/libexec/xen-sev").mkdir(parents=True, exist_ok=True)
            root.run(["cp", ROOT / "libxl-hooks/qubes/qubes-exchange", clean.path / "usr/libexec/xen-sev"])
            clean.install("xen-sev", "xen-sev-tools")
            kernel = clean.path / "var/lib/qubes/vm-kernels/6.6.48-1.fc37"
            kernel.mkdir(parents=True)
            (kernel / "vmlinuz").write_bytes(os.urandom(4096))
            (kernel / "initramfs").write_bytes(b"\x1f\x8b" + os.urandom(4096))
            # `qvm-sev status work` asks sevd, and says no: nobody attested it here
            tool = clean.path / "usr/local/bin/qvm-sev"
            tool.write_text('#!/bin/sh\nif [ "$*" = "status work" ]; then /usr/bin/qvm-sev "$@"; [ $? -eq 1 ]; else exec /usr/bin/qvm-sev "$@"; fi\n')
            tool.chmod(0o755)

        _, said = self.page("qubes.md", {"dom0", "vm"}, prepare)
        self.assertIn("work: sev.mode is required", said)
        self.assertIn("launch: none that sevd knows of", said)


if __name__ == "__main__":
    sys.exit(root.run_tests(DEBS))
