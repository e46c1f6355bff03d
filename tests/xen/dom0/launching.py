# SPDX-License-Identifier: Apache-2.0
"""What tests of whole launches in dom0 share: sev-owner, sevd and an emulated PSP of their own, policies for Xen guests, and what a refused guest
must look like."""
import gzip
import json
import os
import pathlib
import subprocess
import sys

os.environ["SEV_PROGRAMS"] = "/opt/xen-sev/bin"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "system"))
import house  # noqa: E402
from dom0 import GUESTS, PRODUCT, ROOT, Case, Guest, newc, ramdisk  # noqa: E402

house.PATIENCE = 200
HVMLOADER, SEABIOS = "/usr/lib/xen-4.17/boot/hvmloader", "/usr/share/seabios/bios-256k.bin"
STORE = pathlib.Path("/var/lib/xen-sev/references")
TINY = ROOT / "tests/fixtures/xen/kernel.elf"  # what a PVH kernel must have, and nothing that runs
SAY = "echo SECRET $(sha256sum </luks-key | cut -d' ' -f1); mode=$(stat -c %a /luks-key); echo MODE $mode; sleep 1; poweroff -f\n"


CHIP = pathlib.Path("/run/xen-sev-chip")  # of this boot: making its keys takes half a minute here


def chip():
    if not CHIP.exists():
        house.check("sev-emulator", "create", "--state", CHIP, "--personality", "epyc-7002")
    return CHIP


class XenHouse(house.House):
    def __init__(self, **options):
        super().__init__(chip=chip(), **options)
        self.configuration["xen"] = {"keeper": str(PRODUCT / "xen-sev-keeper")}

    def trusts(self, name, config, *, secrets=True, target=None, secret_files=None, **recipe):
        """The owner's policy `name` is for the guest of this xl.cfg. `secret_files`: instead of the disk key, {name in the guest: content}."""
        key = {"name": "disk key", "path": str(self.folder / "luks-key"), **(target or {"file_name": "luks-key"})}
        given = [key] if secrets else []
        if secret_files:
            given = []
            for number, (file_name, content) in enumerate(secret_files.items()):
                path = self.folder / f"secret-{number}"
                path.write_bytes(content)
                path.chmod(0o600)
                given.append({"name": f"secret {number}", "path": str(path), "file_name": file_name})
        self.policy(name, references=[{"name": "the guest", "xen": {"xl_cfg": str(config), **recipe}}],
                    secrets=[{**one, "when": {"references": ["the guest"]}} for one in given])

    def launch_xen(self, *words, policy, **options):
        return self.sevctl("launch", *words, "--owner", "vault", "--policy", policy, "--json", **options)


class LaunchCase(Case):
    def setUp(self):
        super().setUp()
        self.house = None

    def open(self, **options):
        self.house = XenHouse(**options)
        self.addCleanup(self.house.close)
        return self.house

    def reference(self, vcpus=1):
        """ACPI reference values; taken once."""
        found = list(STORE.glob(f"xen-acpi-*-{vcpus}-*.json"))
        if found:
            return found[0]
        guest = Guest(self, f"acpi-{vcpus}", memory=128, vcpus=vcpus, kernel=TINY, ramdisk=None)
        self.sevctl("reference", "capture", "--domid", guest.create())
        guest.destroy()
        return self.reference(vcpus)

    def slotted(self, name, script=SAY, pages=1, debians=False):
        """A ramdisk with a slot. Its /init is the script, or Debian's own, unmodified, which runs the script as initramfs-tools' administrators add theirs."""
        plain, out = self.dir / f"{name}.plain", self.dir / f"{name}.img"
        if debians:
            own = {"scripts/": b"", "scripts/init-premount/": b"", "scripts/init-premount/ORDER": b"/scripts/init-premount/say\n",
                   "scripts/init-premount/say": (b"#!/bin/sh\n" + script.encode(), 0o100755)}
            plain.write_bytes((GUESTS / "debian-cloud.img").read_bytes() + gzip.compress(newc(own), 1, mtime=0))
        else:
            plain.write_bytes(ramdisk(script))
        self.sevctl("slot", "add", plain, "--pages", pages, "-o", out)
        return out

    def tiny(self, name, **settings):
        return Guest(self, name, memory=32, kernel=TINY, ramdisk=None, extra="tiny", **settings)

    def told(self, done, status):
        self.assertEqual(done.returncode, status, done.stdout.decode() + done.stderr.decode() + self.house.daemon.text())
        return json.loads(done.stdout) if done.stdout else None

    def never_ran(self, guest, because, done):
        self.assertNotEqual(done.returncode, 0)
        text = done.stdout.decode() + done.stderr.decode() + self.house.daemon.text()
        self.assertIn(because, text)
        self.assertIsNone(guest.state(), f"the domain is still there: {text}")
        self.assertEqual(guest.console(), "")

    def idle(self):
        """Whether no domain and no keeper is left."""
        keepers = subprocess.run(["pgrep", "-f", "xen-sev-keeper"], capture_output=True, check=False).stdout
        return len(self.xl("list").stdout.splitlines()) == 2 and not keepers
