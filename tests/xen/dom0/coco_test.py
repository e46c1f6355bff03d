# SPDX-License-Identifier: Apache-2.0
"""The proposed coco hypercall, which a stock Xen does not have: whoever asks gets ENOSYS from the real hypervisor, and says so in the words of psp/xen."""
import json
import os
import unittest

from dom0 import PRODUCT, Case, run

SENTENCE = "this Xen has no coco hypercall (ENOSYS): guests can be measured and not encrypted, level L1"
ENOSYS, NOBODY = 38, 65534


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


class Coco(Case):
    def sevd(self, psp, **options):
        self.dir.chmod(0o755)
        state, socket, path = self.dir / "state", self.dir / "sevd.sock", self.dir / "sevd.json"
        state.mkdir(exist_ok=True)
        path.write_text(json.dumps({"format": "xen-sev/sevd-configuration", "version": 1, "psp": psp, "socket": str(socket), "state": str(state)}))
        done = run(PRODUCT / "sevd", "--config", path, **options)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertFalse(socket.exists())
        self.assertEqual(list(state.iterdir()), [])
        return done.stderr.splitlines()

    def test_sevd_finds_no_hypercall_and_does_not_start(self):
        """One line for what is missing, one for what to do; whatever layout is named, and no other PSP in its place."""
        for psp in ({"backend": "xen"}, {"backend": "xen", "layout": "rfc-2025-05"}, {"backend": "xen", "layout": "vates-b"}):
            error, hint = self.sevd(psp)
            self.assertEqual(error, f"sevd: error: PSP backend xen: {SENTENCE}")
            self.assertIn('"backend": "emulated"', hint)

    def test_sevd_without_privileges_does_not_take_it_for_absent(self):
        warning, error, hint = self.sevd({"backend": "xen"}, preexec_fn=become_nobody)
        self.assertIn("memory is not locked", warning)  # nor may it do that
        self.assertRegex(error, r"^sevd: error: ")
        self.assertNotIn("ENOSYS", error)
        self.assertIn("root", hint)

    def test_sevctl_asks_by_the_same_probe(self):
        self.sevctl("probe", "--to", "dom0.json")
        readings = json.loads((self.dir / "dom0.json").read_text())["readings"]
        self.assertEqual(readings["coco_status"], {"errno": ENOSYS, "text": SENTENCE})
        self.assertNotIn("value", readings["coco_certificates"])
        value = json.loads(self.sevctl("status", "--json").stdout)
        check = next(check for check in value["checks"] if check["id"] == "xen-coco")
        self.assertEqual((check["result"], check["source"]), ("fail", "coco hypercall, op 0: ENOSYS"))
        self.assertEqual((value["coco"], value["level"]["level"]), (None, 1))


if __name__ == "__main__":
    unittest.main()
