# SPDX-License-Identifier: Apache-2.0
"""Xen 4.17 and its dom0 on the virtual SEV machine: what our programs can know there."""
import json
import unittest

from vsev import MachineCase


class Xen(MachineCase):
    options = {"xen": True}

    def test_01_status_in_dom0(self):
        status = json.loads(self.sevctl("status", "--json"))
        self.assertEqual(status["host"]["place"], "Xen dom0")
        self.assertEqual((status["level"]["level"], status["level"]["encrypts_guests"]), (1, False))
        for name in ("SEV", "SEV-ES"):
            facts = next(feature for feature in status["features"] if feature["name"] == name)
            self.assertEqual((facts["silicon"]["truth"], facts["silicon"]["source"]), ("yes", "Xen's raw CPU policy"))
            self.assertEqual(facts["enabled"]["truth"], "unknown")
            self.assertEqual(facts["initialised"]["truth"], "unknown")
            self.assertIn("under Xen dom0 cannot ask the PSP", facts["initialised"]["because"])
            self.assertEqual(facts["usable"]["truth"], "no")
            self.assertIn("Xen 4.17", facts["usable"]["because"])
        text = self.sevctl("status")
        self.assertIn("first missing layer: Xen", text)
        self.assertIn("ASIDs    15: 8 SEV-ES, 7 SEV", text)
        self.assertIn("no guest here is protected from its host by encryption", text)

    def test_02_ccp_in_dom0_finds_the_device_and_no_firmware(self):
        log = self.ran("dmesg").out
        self.assertEqual(self.ran("sh", "-c", "lspci -n 2>/dev/null; cat /sys/bus/pci/devices/*/device | grep -c 0x1456").out.strip()[-1:], "1")
        self.assertNotIn("SEV enabled", log)
        self.ran("test", "!", "-e", "/dev/sev")


if __name__ == "__main__":
    unittest.main()
