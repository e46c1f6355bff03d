# SPDX-License-Identifier: Apache-2.0
# lab: group=launch timeout=300
"""A guest of a real Xen (L1), launched for an owner who answers by files carried by hand, whose evidence is then collected in one signed file and judged away from the host."""
import json
import unittest

from dom0 import Guest
from launching import LaunchCase, house

import bundle_test as bundles  # of tests/system


class Bundle(LaunchCase):
    def test_an_l1_launch_is_judged_again_elsewhere(self):
        home = self.open()
        guest = Guest(self, "bundled", memory=128, ramdisk=self.slotted("bundled", "sleep 600\n"))
        home.trusts("web", guest.config, secrets=False, acpi_reference=str(self.reference()))
        owner = bundles.Owner(home, home.folder / "desk")
        self.addCleanup(owner.close)
        home.configuration["owners"]["vault"] = {"key": owner.key, "channel": {"command": [str(bundles.CARRY), str(home.folder / "desk")]}, "deadline_s": 120}
        home.start()
        owner.start()
        launch = self.told(home.launch_xen("--xl-cfg", guest.config, policy="web"), 0)["launch"]
        self.assertEqual((owner.problems, launch["state"], launch["level"]), ([], "running", 1))
        session = owner.sessions[-1]
        away = home.folder / "away"
        away.mkdir()
        house.check("sevctl", "bundle", launch["id"], "-o", away / "bundle", "--socket", home.socket)
        (away / "host.jwk").write_bytes(house.check("sevctl", "bundle", "--print-key", "--socket", home.socket))
        words = ["judge", home.owner_folder / "policies/web.json", "--bundle", away / "bundle", "--host-key", away / "host.jwk", "--pdh", session["pdh"], "--json"]
        done = house.run("sevctl", *words, "--tik", session["tik"])
        verdict = json.loads(done.stdout)["verdict"]
        self.assertEqual((done.returncode, verdict["level"], verdict["emulated"], verdict["reference"]), (0, 1, True, "the guest"), done)
        self.assertEqual([check["check"] for check in verdict["checks"][3:]], [check["check"] for check in session["verdict"]["checks"]])
        without = json.loads(house.run("sevctl", *words).stdout)["verdict"]
        self.assertEqual([check["check"] for check in without["checks"] if not check["passed"]], ["session.known", "evidence.kind", "launch.digest"])
        home.sevctl("launches", "cancel", launch["id"], "--yes")
        house.until("no domain and no keeper is left", self.idle)


if __name__ == "__main__":
    unittest.main()
