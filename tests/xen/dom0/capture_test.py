# SPDX-License-Identifier: Apache-2.0
# lab: timeout=420
"""Prediction equals capture, byte for byte, for what real Xen builds; and each thing that dom0 can change of a paused guest is named."""
import gzip
import json
import unittest

import foreign
from dom0 import GUEST_UP, GUESTS, KERNEL_GENERIC, SEVCTL, Case, Guest, newc, run

HVMLOADER = "/usr/lib/xen-4.17/boot/hvmloader"
FIRMWARE = {"seabios": "/usr/share/seabios/bios-256k.bin", "ovmf": "/usr/share/ovmf/OVMF.fd"}


class CaptureCase(Case):
    def reference_for(self, vcpus):
        """ACPI reference values for guests of so many vCPUs are in the store."""
        guest = Guest(self, f"acpi-{vcpus}", memory=128, vcpus=vcpus, ramdisk=None)
        domid = guest.create()
        self.valid("sevctl-reference-capture", json.loads(self.sevctl("reference", "capture", "--domid", domid, "--json").stdout))
        guest.destroy()

    def captured(self, domid, status=0):
        result = json.loads(self.sevctl("capture", "--domid", domid, "--json", status=status).stdout)
        self.valid("sevctl-capture", result)
        self.assertEqual(result["equal"], status == 0)
        return result


class Matrix(CaptureCase):
    """Each case: created paused by xl, captured, and held against sevctl measure xen of the same configuration."""

    def same(self, guest, *files):
        domid = guest.create()
        captured = self.captured(domid)
        predicted = json.loads(self.sevctl("measure", "xen", "--xl-cfg", guest.config, "--xen-version", "4.17.7", *files, "--json").stdout)
        self.assertEqual(captured["launch_digest"], predicted["launch_digest"], captured)
        if captured["kind"] == "xen-pvh":  # xl builds each guest in a process of its own
            self.assertEqual((captured["build"], captured["other_build"]["build"]), ("first", "later"))
            changed = [one["label"] for one, other in zip(captured["regions"], captured["other_build"]["regions"]) if one["sha256"] != other["sha256"]]
            self.assertEqual(changed, ["acpi_tables"])
        guest.destroy()
        return captured

    def test_pvh(self):
        for vcpus in (1, 2, 4):
            self.reference_for(vcpus)
        cpio = newc({"init": (b"#!/bin/sh\n", 0o100755), "big": bytes(range(256)) * 64})
        files = {"plain": cpio, "gzip": gzip.compress(cpio, mtime=0), "slot": bytes(8192) + gzip.compress(cpio, mtime=0),
                 "members": gzip.compress(cpio[:5000], mtime=0) + gzip.compress(cpio[5000:], mtime=0)}
        for name, content in files.items():
            (self.dir / name).write_bytes(content)
        cases = [dict(vcpus=1, memory=128, ramdisk=None, extra=None),
                 dict(vcpus=2, memory=256, ramdisk=self.dir / "plain", extra=""),
                 dict(vcpus=4, memory=1024, ramdisk=self.dir / "gzip", extra="x"),
                 dict(vcpus=1, memory=256, ramdisk=self.dir / "members", extra="y" * 500),
                 dict(vcpus=2, memory=128, ramdisk=self.dir / "slot", extra="console=hvc0"),
                 dict(vcpus=1, memory=256, kernel=KERNEL_GENERIC, ramdisk=GUEST_UP, extra="console=hvc0 quiet"),
                 dict(vcpus=1, memory=256, ramdisk=GUESTS / "debian-cloud.img")]
        for number, case in enumerate(cases):
            with self.subTest(**{key: str(value) for key, value in case.items()}):
                captured = self.same(Guest(self, f"pvh-{number}", **case))
                self.assertEqual([slot["name"] for slot in captured["slots"]], ["initrd"] if case["ramdisk"] == self.dir / "slot" else [])

    def test_hvm(self):
        self.sevctl("slot", "smbios", "--length", "500", "-o", self.dir / "smbios")
        for number, (bios, smbios) in enumerate([("seabios", None), ("ovmf", None), ("seabios", self.dir / "smbios"), ("ovmf", self.dir / "smbios")]):
            with self.subTest(bios=bios, smbios=bool(smbios)):
                captured = self.same(Guest(self, f"hvm-{number}", type="hvm", memory=128, vcpus=1 + number % 2, bios=bios, kernel=None, extra=None,
                                           smbios_firmware=smbios),
                                     "--hvmloader", HVMLOADER, "--firmware", FIRMWARE[bios])
                self.assertEqual(len(captured["slots"]), 1 if smbios else 0)


class Tampering(CaptureCase):
    def test_each_is_named(self):
        self.reference_for(2)
        slot = self.dir / "slot"
        slot.write_bytes(bytes(4096) + GUEST_UP.read_bytes())
        guest = Guest(self, "tampered", vcpus=2, memory=128, ramdisk=slot)
        domid = guest.create()
        regions = {region["label"]: region for region in self.captured(domid)["regions"]}
        at = {label: int(region["gpa"], 16) for label, region in regions.items()}
        cases = {"kernel": (at["kernel"] + 0x1234, "kernel: page 1 "), "slot": (at["ramdisk"] + 9, "ramdisk: page 0 "),
                 "ramdisk": (at["ramdisk"] + 4096, "ramdisk: page 1 "),
                 "command line": (at["start_info"] + 56, 'command line is "#onsole=hvc0 quiet", want "console=hvc0 quiet"'),
                 "start_info": (at["start_info"] + 56 + 24 + 64 + 2048 + 9, "memory map entry 0 is "),
                 "ACPI": (at["acpi_tables"] + 0x300, "acpi_tables: page 0 "), "RSDP": (at["acpi_rsdp"], "acpi_rsdp: page 0 ")}
        for name, (gpa, says) in cases.items():
            with self.subTest(name):
                foreign.flip(domid, gpa)
                said = self.captured(domid, status=1)["differences"]
                self.assertEqual(len(said), 1, said)
                self.assertIn(says, said[0])
                foreign.flip(domid, gpa)
                self.captured(domid)
        with self.subTest("entry point"):
            old = foreign.set_rip(domid, 0x1000000)
            self.assertIn(f"vCPU 0: rip is 0x1000000, want {old:#x}", self.captured(domid, status=1)["differences"])
            foreign.set_rip(domid, old)
            self.captured(domid)
        with self.subTest("one page more"):
            foreign.add_page(domid, 0x10000, 128 * 1024)
            self.assertRegex(" ".join(self.captured(domid, status=1)["differences"]), r"domain: has \d+ pages of memory, want \d+")
        guest.destroy()

    def test_each_of_an_hvm_guest_is_named(self):
        smbios = self.dir / "smbios"
        self.sevctl("slot", "smbios", "--length", "500", "-o", smbios)
        guest = Guest(self, "tampered-hvm", type="hvm", memory=128, bios="seabios", kernel=None, extra=None, smbios_firmware=smbios)
        domid = guest.create()
        at = {region["label"]: int(region["gpa"], 16) for region in self.captured(domid)["regions"]}

        def differs(says):
            said = self.captured(domid, status=1)["differences"]
            self.assertEqual(len(said), 1, said)
            self.assertIn(says, said[0])
        for name, gpa, says in (("hvm_info", at["hvm_info"] + 0x810, "hvm_info: page 0 (gfn 0x9f), offset 0x810: number of vCPUs: 0x41, want 0x01"),
                                ("hvmloader", at["hvmloader"] + 0x1234, "hvmloader: page 1 "), ("firmware", at["firmware"] + 5, "firmware: page 0 "),
                                ("smbios", at["smbios_module"] + 20, "smbios_module: page 0 "),
                                ("memory map", at["start_info"] + 56 + 64 + 2048 + 9, "start_info: page 0 ")):
            with self.subTest(name):
                foreign.flip(domid, gpa)
                differs(says)
                foreign.flip(domid, gpa)
        key = f"/local/domain/{domid}/hvmloader/smbios"
        for name, other in (("length", lambda old: str(int(old, 0) + 1)), ("address", lambda old: hex(int(old, 0) + 16))):
            with self.subTest(f"xenstore: {name}"):
                old = self.ran("xenstore-read", f"{key}/{name}").stdout.strip()
                self.ran("xenstore-write", f"{key}/{name}", other(old))
                differs("smbios_module: xenstore's hvmloader/smbios says that it lies at ")
                self.ran("xenstore-write", f"{key}/{name}", old)
        with self.subTest("the module's file"):
            content = bytearray(smbios.read_bytes())
            content[20] ^= 1
            smbios.write_bytes(content)
            differs("smbios_module: page 0 ")
            content[20] ^= 1
            smbios.write_bytes(content)
        self.captured(domid)
        with self.subTest("one page more"):
            foreign.add_page(domid, 0x10000, 128 * 1024)
            self.assertRegex(" ".join(self.captured(domid, status=1)["differences"]), r"domain: has \d+ pages of memory, want \d+")
        guest.destroy()

    def test_a_guest_that_has_run(self):
        self.reference_for(1)
        guest = Guest(self, "ran", memory=128, ramdisk=GUEST_UP)
        domid = guest.create()
        self.captured(domid)
        guest.unpause()
        guest.wait_for("Linux version|GUEST-UP")
        run("xl", "pause", guest.name)
        self.assertIn("domain: has run already", self.captured(domid, status=1)["differences"])
        guest.destroy()

    def test_no_such_domain(self):
        done = run(SEVCTL, "capture", "--domid", "4711")
        self.assertEqual((done.returncode, done.stderr), (2, "sevctl: error: domain 4711: there is none\nsevctl: hint: xl list shows the domains\n"))


if __name__ == "__main__":
    unittest.main()
