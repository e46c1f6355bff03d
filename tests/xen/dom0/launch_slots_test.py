# SPDX-License-Identifier: Apache-2.0
# lab: group=launch timeout=500
"""Secrets in slots on a real Xen, as their guests see them: several files of an initrd slot of several pages; an SMBIOS string that fills its slot to the
byte; and what does not fit, which keeps its guest from running."""
import base64
import hashlib
import json
import os
import unittest

from dom0 import Guest, ramdisk
from launching import HVMLOADER, SEABIOS, LaunchCase

CREDENTIAL = "diskkey"
STRING = f"io.systemd.credential.binary:{CREDENTIAL}="
SLOT_BYTES = 256
FILLS = (SLOT_BYTES - 11 - len(STRING)) // 4 * 3  # 11: the structure's header and two NULs; base64
SAY_FILES = ("for f in luks-key etc/app/token etc/app/blob; do echo FILE $f $(stat -c '%a %s' /$f) $(sha256sum </$f | cut -d' ' -f1); done\n"
             "echo FOLDER $(stat -c %a /etc/app) $(ls /etc/app)\nsleep 1; poweroff -f\n")
SAY_STRING = ("grep -a -o 'io.systemd.credential[ -~]*' /sys/firmware/dmi/tables/DMI >/said\n"
              "echo STRING $(wc -l </said) $(sha256sum </said | cut -d' ' -f1)\nsleep 1; poweroff -f\n")


class Initrd(LaunchCase):
    def test_several_files(self):
        """One of them spans pages, two lie in a folder that the guest did not have."""
        self.open()
        files = {"luks-key": os.urandom(32), "etc/app/token": b"token\n", "etc/app/blob": os.urandom(9000)}
        words = []
        for number, (name, content) in enumerate(files.items()):
            (self.dir / f"file-{number}").write_bytes(content)
            words += ["--for", f"{name}:{self.dir / f'file-{number}'}"]
        plain, slotted, short = self.dir / "plain", self.dir / "slotted", self.dir / "short"
        plain.write_bytes(ramdisk(SAY_FILES))
        made = json.loads(self.sevctl("slot", "add", plain, *words, "-o", slotted, "--json").stdout)
        self.assertEqual(made["pages"], 3)
        self.sevctl("slot", "add", plain, "--pages", 2, "-o", short)
        acpi = str(self.reference())
        guest = Guest(self, "several", memory=128, ramdisk=slotted)
        small = Guest(self, "small", memory=128, ramdisk=short)
        for name, one in (("several", guest), ("small", small)):
            self.house.trusts(name, one.config, acpi_reference=acpi, secret_files=files)
        self.house.start()
        launch = self.told(self.house.launch_xen("--xl-cfg", guest.config, policy="several"), 0)["launch"]
        self.assertEqual(sum(step["step"] == "LAUNCH_SECRET" for step in launch["steps"]), 3)  # one a page
        for name, content in files.items():
            guest.wait_for(f"FILE {name} 400 {len(content)} {hashlib.sha256(content).hexdigest()}")
        guest.wait_for("FOLDER 700 blob token")
        guest.wait_gone()
        self.never_ran(small, "do not fit the 8192 bytes of slot", self.house.launch_xen("--xl-cfg", small.config, policy="small"))


class Smbios(LaunchCase):
    def test_a_string_that_fits_exactly_and_one_that_is_too_large(self):
        self.open()
        slot, disk, key = self.dir / "smbios", self.dir / "ramdisk", self.house.folder / "luks-key"
        self.sevctl("slot", "smbios", "--length", SLOT_BYTES - 11, "-o", slot)
        self.assertEqual((slot.stat().st_size, len(STRING) + len(base64.b64encode(bytes(FILLS)))), (SLOT_BYTES, SLOT_BYTES - 11))
        disk.write_bytes(ramdisk(SAY_STRING))
        target = {"smbios": {"credential": CREDENTIAL, "slot_bytes": SLOT_BYTES}}
        knows = dict(xen_version="4.17.7", files={"hvmloader": HVMLOADER, "firmware": SEABIOS}, target=target)
        exact = Guest(self, "exact", type="hvm", memory=192, ramdisk=disk, bios="seabios", extra="console=hvc0 quiet", smbios_firmware=slot)
        large = Guest(self, "large", type="hvm", memory=64, kernel=None, extra=None, bios="seabios", smbios_firmware=slot)
        self.house.trusts("exact", exact.config, **knows)
        self.house.trusts("large", large.config, **knows)
        key.write_bytes(os.urandom(FILLS))
        self.house.start()
        self.told(self.house.launch_xen("--xl-cfg", exact.config, policy="exact"), 0)
        said = STRING.encode() + base64.b64encode(key.read_bytes()) + b"\n"
        exact.wait_for(f"STRING 1 {hashlib.sha256(said).hexdigest()}", timeout_s=240)
        exact.wait_gone()
        key.write_bytes(os.urandom(FILLS + 1))
        self.never_ran(large, "the guest owner's service could not work on it", self.house.launch_xen("--xl-cfg", large.config, policy="large"))
        self.assertIn(f"needs a slot of {SLOT_BYTES + 16} bytes, and this one has {SLOT_BYTES}", self.house.owner.text())


if __name__ == "__main__":
    unittest.main()
