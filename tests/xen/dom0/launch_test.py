# SPDX-License-Identifier: Apache-2.0
# lab: group=launch timeout=700
"""sevctl launch through sevd and sev-owner, on a real Xen: guests that prove from inside that they have their secret, and guests that
never run because something was not as the owner wants it."""
import base64
import hashlib
import json
import os
import pathlib
import threading
import unittest

import foreign
from dom0 import PRODUCT, Guest, ramdisk
from launching import HVMLOADER, SEABIOS, TINY, LaunchCase, house

SMBIOS_SAY = ("said=$(grep -a -o 'io.systemd.credential.binary:luks-key=[A-Za-z0-9+/=]*' /sys/firmware/dmi/tables/DMI | sha256sum | cut -d' ' -f1)\n"
              "echo SECRET $said\n"
              "sleep 1; poweroff -f\n")

# A carrier that changes one byte of the guest after it was measured and before the owner has answered.
MEDDLER = """import json, subprocess, sys
sys.path.insert(0, {here!r})
import foreign
request = sys.stdin.buffer.read()
if json.loads(request)["format"] == "xen-sev/judgement-request":
    domid = int(subprocess.run(["xl", "domid", "meddled"], capture_output=True, text=True, check=True).stdout)
    foreign.flip(domid, int(json.loads(request)["launch"]["descriptor"]["regions"][0]["gpa"], 16) + 100)
done = subprocess.run([{owner!r}, "exchange", "--config", {config!r}, "--channel", "relay"], input=request, stdout=subprocess.PIPE)
sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
"""


class Secrets(LaunchCase):
    def test_pvh_two_at_once_from_an_initrd_slot(self):
        """The second one's kernel and /init are Debian's."""
        self.open()
        acpi = str(self.reference())
        guests = [Guest(self, "secret-0", memory=128, ramdisk=self.slotted("secret-0")),
                  Guest(self, "secret-1", memory=320, ramdisk=self.slotted("secret-1", debians=True))]
        for number, guest in enumerate(guests):
            self.house.trusts(f"pvh-{number}", guest.config, acpi_reference=acpi)
        self.house.start()
        done = {}
        threads = [threading.Thread(target=lambda n=n, g=g: done.update({n: self.house.launch_xen("--xl-cfg", g.config, policy=f"pvh-{n}")}))
                   for n, g in enumerate(guests)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, guest in enumerate(guests):
            result = self.told(done[number], 0)
            self.assertNotIn("L3", json.dumps(result))
            guest.wait_for(f"SECRET {hashlib.sha256(house.SECRET).hexdigest()}")
            guest.wait_for("MODE 400")
        for guest in guests:
            guest.wait_gone()
        house.until("no keeper is left", self.idle)

    def test_hvm_from_an_smbios_slot(self):
        self.open()
        slot, disk = self.dir / "smbios", self.dir / "ramdisk"
        self.sevctl("slot", "smbios", "--length", "200", "-o", slot)
        size = json.loads(self.sevctl("slot", "show", slot, "--json").stdout)["slot_bytes"]
        disk.write_bytes(ramdisk(SMBIOS_SAY))
        guest = Guest(self, "smbios", type="hvm", memory=192, ramdisk=disk, bios="seabios", extra="console=hvc0 quiet", smbios_firmware=slot)
        self.house.trusts("hvm", guest.config, xen_version="4.17.7", files={"hvmloader": HVMLOADER, "firmware": SEABIOS},
                          target={"smbios": {"credential": "luks-key", "slot_bytes": size}})
        self.house.start()
        self.told(self.house.launch_xen("--xl-cfg", guest.config, policy="hvm"), 0)
        wanted = b"io.systemd.credential.binary:luks-key=" + base64.b64encode(house.SECRET) + b"\n"
        guest.wait_for(f"SECRET {hashlib.sha256(wanted).hexdigest()}", timeout_s=240)
        guest.wait_gone()

    def test_a_paused_domain_is_adopted(self):
        self.open()
        guest = Guest(self, "adopted", memory=128, ramdisk=self.slotted("adopted"))
        self.house.trusts("pvh", guest.config, acpi_reference=str(self.reference()))
        self.house.start()
        self.told(self.house.launch_xen("--domid", guest.create(), policy="pvh"), 0)
        guest.wait_for(f"SECRET {hashlib.sha256(house.SECRET).hexdigest()}")
        guest.wait_gone()


class Refused(LaunchCase):
    def test_what_the_owner_does_not_know(self):
        self.open()
        acpi = str(self.reference())
        known = self.tiny("known")
        self.house.trusts("web", known.config, acpi_reference=acpi, secrets=False)
        other = self.tiny("other", cmdline="tiny and more")
        other.config.write_text(other.config.read_text().replace('extra="tiny"\n', ""))
        self.house.start()
        self.never_ran(other, "not trusted", self.house.launch_xen("--xl-cfg", other.config, policy="web"))
        more = Guest(self, "more", memory=64, kernel=TINY, ramdisk=None, extra="tiny")
        self.never_ran(more, "not trusted", self.house.launch_xen("--xl-cfg", more.config, policy="web"))
        self.reference(2)
        two = self.tiny("two", vcpus=2)
        self.never_ran(two, "not trusted", self.house.launch_xen("--xl-cfg", two.config, policy="web"))
        house.until("nothing is left", self.idle)

    def test_a_secret_larger_than_its_slot_and_one_that_fits_exactly(self):
        self.open()
        acpi = str(self.reference())
        (self.house.folder / "luks-key").write_bytes(os.urandom(4096 - 120 - 124))  # headers of file and trailer: one page to the byte
        exact = Guest(self, "exact", memory=128, ramdisk=self.slotted("exact"))
        self.house.trusts("exact", exact.config, acpi_reference=acpi)
        self.house.start()
        self.told(self.house.launch_xen("--xl-cfg", exact.config, policy="exact"), 0)
        exact.wait_for(f"SECRET {hashlib.sha256((self.house.folder / 'luks-key').read_bytes()).hexdigest()}")
        exact.wait_gone()
        (self.house.folder / "luks-key").write_bytes(os.urandom(4096 - 120 - 124 + 1))
        large = Guest(self, "large", memory=128, ramdisk=self.slotted("large"))
        self.house.trusts("large", large.config, acpi_reference=acpi)
        self.never_ran(large, "do not fit the 4096 bytes of slot", self.house.launch_xen("--xl-cfg", large.config, policy="large"))

    def test_a_domain_that_was_changed_before(self):
        """Each thing that dom0 can do to a paused domain: sevd destroys it before it asks anybody."""
        self.open()
        slot, memory_kib = self.dir / "ramdisk", 32 * 1024
        slot.write_bytes(bytes(4096) + b"070701" + bytes(5000))
        guest = Guest(self, "changed", memory=memory_kib // 1024, kernel=TINY, ramdisk=slot, extra="tiny")
        self.house.trusts("web", guest.config, acpi_reference=str(self.reference()), secrets=False)
        self.house.start()
        domid = guest.create()
        regions = json.loads(self.sevctl("capture", "--domid", domid, "--json").stdout)["regions"]
        at = {region["label"]: int(region["gpa"], 16) for region in regions}
        changes = {"kernel: page 0": lambda: foreign.flip(domid, at["kernel"] + 3),
                   "ramdisk: page 0": lambda: foreign.flip(domid, at["ramdisk"] + 4095),  # the slot
                   "ramdisk: page 1": lambda: foreign.flip(domid, at["ramdisk"] + 4096 + 7),
                   'command line is "4iny", want "tiny"': lambda: foreign.flip(domid, at["start_info"] + 56),
                   "memory map entry 0 is ": lambda: foreign.flip(domid, at["start_info"] + 56 + 8 + 64 + 2048 + 9),
                   "acpi_info: page 0": lambda: foreign.flip(domid, at["acpi_info"] + 2),
                   "acpi_tables: page 0": lambda: foreign.flip(domid, at["acpi_tables"] + 0x300),
                   "acpi_rsdp: page 0": lambda: foreign.flip(domid, at["acpi_rsdp"] + 8),
                   "pages of memory, want": lambda: foreign.add_page(domid, 0x10000, memory_kib),
                   "vCPU 0: rip is 0x1000000": lambda: foreign.set_rip(domid, 0x1000000)}
        for says, change in changes.items():
            with self.subTest(says):
                change()
                done = self.house.launch_xen("--domid", domid, policy="web")
                self.never_ran(guest, f"domain {domid} is not what its configuration says: ", done)
                self.assertIn(says, json.loads(done.stdout)["launch"]["reason"])
            guest.destroy()
            domid = guest.create()
        self.told(self.house.launch_xen("--domid", domid, policy="web"), 0)  # and unchanged it runs

    def test_a_domain_that_xl_would_start_again(self):
        """xl create stays for it: once the guest reboots, xl builds it anew from its files, and nobody judges that."""
        self.open()
        known = self.tiny("again-known")
        self.house.trusts("web", known.config, acpi_reference=str(self.reference()), secrets=False)
        self.house.start()
        for event in ("on_reboot", "on_crash"):
            with self.subTest(event):
                guest = self.tiny(f"again-{event.replace('_', '-')}", **{event: "restart"})
                domid = guest.create()
                done = self.house.launch_xen("--domid", domid, policy="web")
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(f"domain {domid}: {event} is ", done.stdout.decode() + done.stderr.decode())
                self.assertIn("want destroy or preserve", done.stdout.decode() + done.stderr.decode())
                self.assertIn("p", guest.state())
                self.assertEqual(guest.console(), "")
                guest.destroy()

    def test_memory_changed_after_the_measurement(self):
        meddler = self.dir / "meddler.py"
        self.open(channel=["/usr/bin/python3", meddler])
        config = str(self.house.owner_folder / "owner.json")
        meddler.write_text(MEDDLER.format(here=str(pathlib.Path(__file__).parent), owner=str(PRODUCT / "sev-owner"), config=config))
        guest = self.tiny("meddled")
        self.house.trusts("web", guest.config, acpi_reference=str(self.reference()), secrets=False)
        self.house.start()
        self.never_ran(guest, "has changed since it was measured", self.house.launch_xen("--xl-cfg", guest.config, policy="web"))

    def test_another_hvmloader(self):
        self.open()
        loader = self.dir / "hvmloader"
        content = bytearray(pathlib.Path(HVMLOADER).read_bytes())
        content[content.index(b"HVM Loader")] ^= 1
        loader.write_bytes(content)
        settings = dict(type="hvm", memory=64, kernel=None, extra=None, bios="seabios")
        known, other = Guest(self, "loader-known", **settings), Guest(self, "loader-other", **settings, firmware_override=loader)
        self.house.trusts("hvm", known.config, xen_version="4.17.7", files={"hvmloader": HVMLOADER, "firmware": SEABIOS}, secrets=False)
        self.house.start()
        self.never_ran(other, "not trusted", self.house.launch_xen("--xl-cfg", other.config, policy="hvm"))


if __name__ == "__main__":
    unittest.main()
