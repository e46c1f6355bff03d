#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every command of the pages for users is run by a test, or said here not to be, with the reason. Commands in fences by their place (pages.py), all others (in a sentence, or in a fence that is
not run) one by one: a command that is new is in none of the lists, and one that is gone from the pages may not stay in them."""
import re
import unittest

from pages import FENCE, PAGES, PLACES, ROOT, blocks, text

PROGRAMS = ("sevctl", "sevd", "sev-owner", "sev-relay", "sev-emulator", "qvm-[a-z]+", "qubes-dom0-update", "qrexec-client(-vm)?", "xl", "xl-sev", "virsh", "systemctl", "runuser", "apt(-get)?",
            "chown", "chmod", "curl", "scripts/[a-z]+", "dnf", "rpm", "dpkg")
COMMAND = re.compile(rf"(?:{'|'.join(PROGRAMS)})(?: .*)?")

# Run elsewhere than with its page: by this file, in which these words are
RUN_BY = {
    "qvm-sev start VM": ("tests/qubes/qvm_sev_test.py", 'self.run_it("start", "work"'),
    "qvm-sev start": ("tests/qubes/qvm_sev_test.py", 'self.run_it("start", "work"'),
    "qvm-sev measure VM": ("tests/qubes/qvm_sev_test.py", 'self.run_it("measure", "work"'),
    "qvm-sev reference show VM": ("tests/qubes/qvm_sev_test.py", 'self.run_it("reference", "show", "work"'),
    "qvm-sev enable --fix": ("tests/qubes/qvm_sev_test.py", '"--fix"'),
    "sev-owner key rotate": ("tests/owner/owner_test.py", '"key", "rotate"'),
    "sev-owner key rotate --prepare": ("tests/owner/instances_test.py", '"key", "rotate", "--prepare"'),
    "sev-owner key rotate --key ID": ("tests/owner/instances_test.py", '"key", "rotate", "--key"'),
    "sev-owner policy add": ("tests/owner/owner_test.py", '"policy", "add"'),
    "sev-owner key rotate --retire": ("tests/owner/owner_test.py", '"key", "rotate", "--retire"'),
    "sev-owner exchange --channel relay <NAME.json >NAME.jws": ("tests/system/bundle_test.py", '"exchange"'),
    "sevctl bundle --print-key >host.jwk": ("tests/system/bundle_test.py", '"--print-key"'),
    "sevctl bundle 7 -o launch7.bundle": ("tests/system/bundle_test.py", '"bundle"'),
    "sevctl judge web.json --bundle launch7.bundle --host-key host.jwk --pdh platform.chain --tik web_tik.bin": ("tests/system/bundle_test.py", '"--host-key"'),
    "sevctl launch --owner vault …": ("tests/system/bundle_test.py", '"launch"'),
    "sevctl session": ("tests/cli/compat_test.py", '"session"'),
    "virsh resume": ("tests/xen/dom0/qubes_test.py", 'self.virsh("resume"'),
    "virsh start --paused web": ("tests/xen/dom0/qubes_test.py", 'self.virsh("start", "--paused"'),
    "virsh resume web": ("tests/xen/dom0/libvirt_hook_test.py", 'self.virsh("resume"'),
    "sevctl launch --domid": ("tests/xen/dom0/launch_test.py", 'self.house.launch_xen("--domid"'),
    "xl-sev unpause web": ("tests/xen/dom0/launch_programs_test.py", '"unpause"'),
    "xl create -p web.cfg": ("tests/xen/dom0/dom0.py", 'self.case.xl("create", *(["-p"]'),
    "xl unpause": ("tests/xen/dom0/dom0.py", 'self.case.xl("unpause"'),
}
# Not runnable here
NOT_RUN = {
    "chown -R user: /usr/local/etc/xen-sev": "the user is the one of a Qubes VM",
    "qrexec-client-vm @adminvm sev.Status": "takes qrexec in a qube; the service itself is run by tests/qubes/services_test.py",
    "systemctl status sevd": "takes a system with units that run",
    "systemctl reload sev-owner": "takes a system with units that run; the signal it sends is tested in tests/owner/owner_test.py",
}
NO_COMMANDS = {"sevd does not run"}  # a sentence that sounds like one
# Names of a page's other commands, which its fences have in full
IN_FENCES = {"sevctl policy lint", "sevctl policy show", "sevctl status"}


def loose(page):
    """Commands of a page outside its fences that are run."""
    rest = FENCE.sub("", text(page))
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", rest, flags=re.S | re.M))]
    lines = [line for fence in re.findall(r"^```(?!json$)\w*\n(.*?)^```$", rest, re.S | re.M) for line in fence.splitlines()]
    return [one for one in spans + lines if COMMAND.fullmatch(one) and " " in one and one not in NO_COMMANDS]


class Pages(unittest.TestCase):
    def test_each_place_is_run_by_a_test(self):
        for page in PAGES:
            with self.subTest(page=page):
                self.assertLessEqual({place for place, _ in blocks(page)}, PLACES[page])
                self.assertEqual(text(page).count("```sh"), len(blocks(page)), "a fence that is not understood")
        docs, lab = ((ROOT / path).read_text(encoding="utf-8") for path in ("tests/package/docs_test.py", "tests/xen/dom0/pages_test.py"))
        for call in ('self.page("owner.md", {""})', 'self.page("xen.md", {""})', 'self.page("qubes.md", {"dom0", "vm"}, prepare)'):
            self.assertIn(call, docs)
        self.assertIn('pages.blocks("xen.md") if place in pages.PLACES["xen.md"]', lab)

    def test_each_other_command_is_in_one_list(self):
        lists = (RUN_BY, NOT_RUN, IN_FENCES)
        seen = set()
        for page in PAGES:
            for command in loose(page):
                seen.add(command)
                with self.subTest(page=page, command=command):
                    self.assertEqual(sum(command in one for one in lists), 1, "a command that no test is known to run: say which does, or why none can")
        self.assertEqual(set().union(*lists) - seen, set(), "not in the pages any more")

    def test_what_a_list_says_is_so(self):
        for command, (path, words) in RUN_BY.items():
            with self.subTest(command=command):
                self.assertTrue(words in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {words}")
        fences = "\n".join(commands for page in PAGES for _, commands in blocks(page))
        for command in IN_FENCES:
            self.assertIn(command, fences)
        for reason in NOT_RUN.values():
            self.assertGreater(len(reason), 20)

    def test_there_is_something_to_check(self):
        self.assertGreaterEqual(len([command for page in PAGES for command in loose(page)]), 15)
        for page, least in {"owner.md": 8, "qubes.md": 10, "xen.md": 8}.items():
            self.assertGreaterEqual(len(blocks(page)), least)


if __name__ == "__main__":
    unittest.main()
