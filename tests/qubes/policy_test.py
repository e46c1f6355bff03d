#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""dom0's policy file, read and evaluated by Qubes' own parser, together with rules that would let everything through were ours not before them. An invalid file makes every call
in a Qubes system fail, so form is checked here too. QUBES_CORE_QREXEC names a checkout of qubes-core-qrexec, which is in no package registry; skipped aloud without, but for
what needs none."""
import os
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLICY = ROOT / "libxl-hooks/qubes/dom0/60-xen-sev.policy"
CHECKOUT = os.environ.get("QUBES_CORE_QREXEC")
if CHECKOUT:
    sys.path.insert(0, CHECKOUT)

FEATURES = ["mode", "profile", "policy", "owner", "relay", "timeout", "once"]
GUARDED = [("admin.vm.feature." + call, "+sev." + feature) for call in ("Set", "Remove") for feature in FEATURES] + [
    ("admin.vm.tag." + call, "+sev-attested") for call in ("Set", "Remove")]


class Form(unittest.TestCase):
    def test_the_name_and_every_line_are_what_qrexec_takes(self):
        self.assertRegex(POLICY.name, r"^[0-9]{2}-[a-z0-9_.-]+\.policy$")
        for line in POLICY.read_text().splitlines():
            self.assertRegex(line, r"^$|^#|^[A-Za-z.]+ (\*|\+[A-Za-z.-]+) @[a-z:-]+ @(anyvm|adminvm) (deny|allow target=@adminvm)$")

    def test_every_feature_that_the_extension_knows_is_guarded(self):
        text = (ROOT / "libxl-hooks/qubes/xen_sev_qubes/settings.py").read_text()
        known = set(re.findall(r'"sev\.([a-z]+)": _', text)) | {re.search(r'ONCE = "sev\.([a-z]+)"', text).group(1)}
        self.assertEqual(known, set(FEATURES))


@unittest.skipUnless(CHECKOUT, "QUBES_CORE_QREXEC names no checkout of qubes-core-qrexec")
class Evaluated(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        from qrexec import exc  # pylint: disable=import-outside-toplevel
        from qrexec.policy import parser  # pylint: disable=import-outside-toplevel

        cls.exc, cls.parser = exc, parser

        def vm(name, kind, tags=()):
            return {"name": name, "type": kind, "tags": list(tags), "template_for_dispvms": name == "dvm", "default_dispvm": "dvm" if kind != "AdminVM" else None, "power_state": "Running",
                    "icon": "red", "guivm": None, "uuid": None, "internal": False, "relayvm": None, "transport_rpc": None}

        cls.system = {"domains": {"dom0": dict(vm("dom0", "AdminVM"), uuid="00000000-0000-0000-0000-000000000000"), **{
            name: vm(name, "AppVM", tags) for name, tags in {"work": ["sev-attested"], "plain": [], "sys-attest": [], "sev-vault": [], "dvm": []}.items()}}}
        # what a careless system might say, in a file that comes later
        cls.policy = parser.StringPolicy(policy={"__main__": POLICY.read_text() + "".join(
            f"{service} * {source} {target} allow\n" for service in ("sev.OwnerExchange", "sev.Status", "admin.vm.feature.Set", "admin.vm.feature.Remove", "admin.vm.tag.Set", "admin.vm.tag.Remove")
            for source in ("@anyvm",) for target in ("@anyvm", "@adminvm"))})

    def allowed(self, service, argument, source, target):
        request = self.parser.Request(service, argument, source, target, system_info=self.system)
        try:
            resolution = self.policy.evaluate(request)
        except self.exc.AccessDenied:
            return False
        self.assertIsInstance(resolution, self.parser.AllowResolution)
        return True

    def test_no_qube_may_have_an_exchange_carried(self):
        for source in ("work", "plain", "sys-attest", "sev-vault"):
            for target in ("work", "plain", "sys-attest", "sev-vault", "dom0", "@adminvm", "@default", "@dispvm", "@dispvm:dvm"):
                for argument in ("+", "+launch", "+-x"):
                    with self.subTest(source=source, target=target, argument=argument):
                        self.assertFalse(self.allowed("sev.OwnerExchange", argument, source, target))

    def test_status_is_for_attested_qubes_alone_and_from_dom0_alone(self):
        for target in ("dom0", "@adminvm"):
            self.assertTrue(self.allowed("sev.Status", "+", "work", target))
            for source in ("plain", "sys-attest", "sev-vault"):
                self.assertFalse(self.allowed("sev.Status", "+", source, target))
        for target in ("plain", "sev-vault", "@dispvm"):
            self.assertFalse(self.allowed("sev.Status", "+", "work", target))

    def test_features_and_the_tag_are_set_in_dom0_alone(self):
        for service, argument in GUARDED:
            for source in ("work", "plain", "sys-attest"):
                for target in ("work", "plain", "dom0", "@adminvm"):
                    with self.subTest(service=service, argument=argument, source=source, target=target):
                        self.assertFalse(self.allowed(service, argument, source, target))

    def test_other_features_and_tags_are_left_as_they_are(self):
        for service in ("admin.vm.feature.Set", "admin.vm.tag.Remove"):
            for argument in ("+gui", "+sev", "+sev.modes", "+sev-attest"):
                self.assertTrue(self.allowed(service, argument, "plain", "work"))

    def test_without_our_file_the_careless_rules_let_all_of_it_through(self):
        """So that the refusals above are known to be ours."""
        whole, self.__class__.policy = self.policy, self.parser.StringPolicy(policy={"__main__": "".join(
            f"{service} * @anyvm {target} allow\n" for service in ("sev.OwnerExchange", "admin.vm.feature.Set") for target in ("@anyvm", "@adminvm"))})
        try:
            self.assertTrue(self.allowed("sev.OwnerExchange", "+", "work", "sev-vault"))
            self.assertTrue(self.allowed("admin.vm.feature.Set", "+sev.mode", "plain", "work"))
        finally:
            self.__class__.policy = whole

    def test_a_directory_with_it_loads_as_dom0_loads_one(self):
        import shutil  # pylint: disable=import-outside-toplevel
        import tempfile  # pylint: disable=import-outside-toplevel

        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(POLICY, folder)
            loaded = self.parser.FilePolicy(policy_path=[pathlib.Path(folder)])
            self.assertEqual(len(loaded.rules), sum(1 for line in POLICY.read_text().splitlines() if line and not line.startswith("#")))


if __name__ == "__main__":
    if not CHECKOUT:
        print("SKIPPED in part: QUBES_CORE_QREXEC names no checkout of qubes-core-qrexec", flush=True)
    unittest.main()
