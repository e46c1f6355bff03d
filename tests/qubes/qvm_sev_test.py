#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""qvm-sev as its user meets it: output, exit status, what it changes; its manual and its completion held against its parser. qubesadmin, which is in dom0 alone, is stood in for."""
import asyncio
import contextlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import types
import unittest
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
QUBES = ROOT / "libxl-hooks/qubes"
sys.path[:0] = [str(QUBES), str(HERE)]
from fake_sevd import FakeSevd  # noqa: E402

from xen_sev_qubes import qvm_sev, reference, sevd, settings  # noqa: E402


class QubesException(Exception):
    pass


QubesException.__module__ = "qubesadmin.exc"


class Features(dict):
    def __init__(self, vm, values=None):
        super().__init__(values or {})
        self.vm = vm

    def check_with_template(self, name, default=None):
        return self.get(name, default)


class Vm:
    """A qube as qubesadmin shows it. `on_start` is what qubesd and the extension do."""

    def __init__(self, name, **properties):
        self.name, self.tags, self.running, self.killed = name, set(), False, False
        self.virt_mode, self.kernel, self.maxmem, self.debug = "pvh", "6.6.48-1.fc37", 0, False
        for key, value in properties.items():
            setattr(self, key, value)
        self.features = Features(self)
        self.devices = {"pci": types.SimpleNamespace(get_assigned_devices=lambda: [])}
        self.on_start = lambda once: None

    def is_running(self):
        return self.running

    def start(self):
        once = self.features.pop("sev.once", None)
        self.on_start(once)
        self.running = True

    def kill(self):
        self.running, self.killed = False, True


class Domains(dict):
    def __iter__(self):
        return iter(self.values())

    def __contains__(self, name):
        return name in self.keys()


class QvmSev(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="xen-sev-qvm-")))
        self.vms = {name: Vm(name) for name in ("dom0", "work", "sys-attest")}
        self.app = types.SimpleNamespace(domains=Domains(self.vms))
        self.work = self.vms["work"]
        module = types.ModuleType("qubesadmin")
        module.exc = types.ModuleType("qubesadmin.exc")
        module.exc.QubesException = QubesException
        self.enterContext(unittest.mock.patch.dict(sys.modules, {"qubesadmin": module, "qubesadmin.exc": module.exc}))
        self.enterContext(unittest.mock.patch.object(reference, "ACCOUNTS", str(self.dir / "accounts")))
        self.socket = str(self.dir / "sevd.sock")
        original = sevd.ask
        self.enterContext(unittest.mock.patch.object(sevd, "ask", lambda method, target: original(method, target, socket=self.socket)))

    def run_it(self, *arguments, status=0):
        out, complaint = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaint), unittest.mock.patch("sys.stdin", io.StringIO()):
            code = qvm_sev.main(list(arguments), self.app)
        self.assertEqual(code, status, f"{arguments}: {out.getvalue()} {complaint.getvalue()}")
        if status == 2:
            self.assertRegex(complaint.getvalue(), r"(?:^|\n)qvm-sev: error: [ -~]+\n(qvm-sev: hint: [ -~]+\n)?$")  # what is asked about may come before
            self.assertEqual(complaint.getvalue().count("qvm-sev: error: "), 1)
            self.assertEqual(out.getvalue(), "")
        self.complaint = complaint.getvalue()
        return out.getvalue()

    @contextlib.contextmanager
    def daemon(self, launches):
        """A sevd on a thread of its own."""
        ready, stop = threading.Event(), threading.Event()

        async def serve():
            async with FakeSevd(self.socket) as fake:
                fake.launches = launches
                ready.set()
                while not stop.is_set():
                    await asyncio.sleep(0.02)

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        ready.wait(10)
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def test_enable_sets_features_and_says_what_else_is_wrong(self):
        self.run_it("enable", "work", "--owner", "vault", "--policy", "servers")
        self.assertEqual(dict(self.work.features), {"sev.mode": "required", "sev.owner": "vault", "sev.policy": "servers"})
        self.work.maxmem = 4000
        text = self.run_it("enable", "work", status=1)
        self.assertIn("qvm-prefs work maxmem 0", text)
        self.assertEqual(self.work.maxmem, 4000)

    def test_enable_fix_changes_what_it_can(self):
        self.work.maxmem, self.work.debug, self.work.virt_mode, self.work.kernel = 4000, True, "hvm", ""
        value = json.loads(self.run_it("enable", "work", "--owner", "vault", "--policy", "p", "--fix", "--yes", "--json", status=1))
        self.assertEqual((self.work.maxmem, self.work.debug, self.work.virt_mode), (0, False, "pvh"))
        self.assertEqual([problem["text"][:9] for problem in value["problems"]], ["kernel is"])

    def test_enable_fix_without_anybody_to_ask_is_trouble_and_changes_no_setting(self):
        self.work.maxmem = 4000
        self.run_it("enable", "work", "--owner", "vault", "--policy", "p", "--fix", status=2)
        self.assertEqual(self.work.maxmem, 4000)

    def test_bad_input_is_trouble_and_changes_nothing(self):
        for arguments in (["enable", "nobody"], ["enable", "dom0"], ["enable", "../x"], ["enable", "work", "--owner", "a b"], ["enable", "work", "--timeout", "1"], ["enable", "work", "--relay", "nowhere"],
                          ["enable", "work", "--policy", "\x1b[2J"], ["start", "nobody"], ["measure", "\x1b"], ["reference", "show", "work"], ["status", "nobody"]):
            self.run_it(*arguments, "--json", status=2)
            self.assertEqual(dict(self.work.features), {})

    def test_disable_is_off_and_not_unset(self):
        self.run_it("disable", "work")
        self.assertEqual(self.work.features["sev.mode"], "off")

    def test_status_lists_marked_qubes(self):
        self.assertIn("no qube is marked", self.run_it("status"))
        self.run_it("enable", "work", "--owner", "vault", "--policy", "p")
        self.work.tags.add("sev-attested")
        self.work.running = True
        self.assertRegex(self.run_it("status"), r"work +required +running +yes +vault")
        self.assertEqual(json.loads(self.run_it("status", "--json"))["qubes"][0]["owner"], "vault")

    def test_status_of_one_shows_its_newest_launch_filtered(self):
        self.run_it("enable", "work", "--owner", "vault", "--policy", "p")
        launches = {7: {"id": 7, "name": "work", "state": "refused", "reason": "bad \x1b[2Jnews", "level": 1, "emulated": True,
                        "verdict": {"trusted": False, "checks": [{"check": "digest", "passed": False, "detail": "kernel\x07 differs"}]}}}
        with self.daemon(launches):
            text = self.run_it("status", "work", status=1)
        self.assertIn("launch reason: bad ?[2Jnews", text)
        self.assertIn("failed check: digest: kernel? differs", text)
        with self.daemon({}):
            self.assertIn("none that sevd knows of", self.run_it("status", "work", status=1))

    def test_status_without_sevd_is_trouble(self):
        self.run_it("status", "work", status=2)
        self.assertIn("sevd does not run", self.complaint)

    def test_start_says_required_once_and_a_refusal_is_a_no(self):
        said = []

        def good(once):
            said.append(once)
            self.work.tags.add("sev-attested")

        self.work.on_start = good
        self.run_it("start", "work")
        self.assertEqual(said, ["required"])
        self.work.running = False

        def refused(_once):
            raise QubesException("work was not started: the owner does not trust it\x1b")

        self.work.on_start = refused
        self.assertIn("does not trust it?", self.run_it("start", "work", status=1))

    def test_a_start_that_nobody_attested_is_killed(self):
        self.work.start = lambda: setattr(self.work, "running", True)  # qubesd without the extension
        self.run_it("start", "work", status=2)
        self.assertTrue(self.work.killed)
        self.assertNotIn("sev.once", self.work.features)

    def account(self, equal=True, digest="ab", xid=7):
        value = {"equal": equal, "differences": [] if equal else ["kernel: page 3"], "launch_digest": digest * 32, "regions": [{"label": "kernel", "gpa": "0x1", "length": 16, "sha256": digest * 32}]}
        if equal:
            value.update(build="later", other_build={"build": "first", "launch_digest": "ef" * 32, "regions": value["regions"]})

        def on_start(once):
            self.assertEqual(once, "capture")
            reference.Account().write("work", xid, value)
            raise QubesException("work was measured and, as asked, not started")

        self.work.on_start = on_start

    def test_measure_shows_what_was_built(self):
        self.account()
        self.assertIn("What was built is what its configuration says.", self.run_it("measure", "work"))
        self.account(equal=False, xid=8)
        self.assertIn("differs: kernel: page 3", self.run_it("measure", "work", status=1))

    def test_an_old_account_is_not_taken_for_a_new_one(self):
        self.account()
        self.run_it("measure", "work")

        def failing(_once):
            raise QubesException("work was not measured: sevctl: no Xen")

        self.work.on_start = failing
        self.run_it("measure", "work", status=2)
        self.assertIn("no Xen", self.complaint)

    def test_a_reference_is_kept_shown_and_its_changes_named(self):
        folder = ["--references", str(self.dir / "references")]
        self.account()
        self.run_it("reference", "update", "work", "--yes", *folder)
        value = json.loads(self.run_it("reference", "show", "work", *folder))
        self.assertEqual([one["digest"] for one in value], ["ab" * 32, "ef" * 32])
        self.account(xid=8)
        self.assertIn("unchanged", self.run_it("reference", "update", "work", *folder))
        self.account(digest="cd", xid=9)
        self.run_it("reference", "update", "work", *folder, status=2)  # nobody can be asked
        self.assertEqual(json.loads(self.run_it("reference", "show", "work", *folder)), value)
        self.account(digest="cd", xid=10)
        self.run_it("reference", "update", "work", "--yes", *folder)
        self.assertIn("kernel: 16 -> 16 bytes", self.complaint)
        self.account(equal=False, xid=11)
        self.run_it("reference", "update", "work", "--yes", *folder, status=2)

    # the manual and the completion, against the parser

    def commands(self):
        """{("enable",): {"--json", …}, ("reference", "update"): …}"""
        out = {}

        def walk(parser, path):
            for action in parser._actions:  # pylint: disable=protected-access
                if action.__class__.__name__ == "_SubParsersAction":
                    for name, sub in action.choices.items():
                        walk(sub, path + (name,))
                    return
            out[path] = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}  # pylint: disable=protected-access

        walk(qvm_sev.make_parser(), ())
        return out

    def test_the_manual_has_every_command_with_its_options_and_no_other(self):
        synopsis = re.search(r"\.Sh SYNOPSIS\n(.*?)\.Sh DESCRIPTION", (QUBES / "qvm-sev.1").read_text(), re.S).group(1)
        found = {}
        for part in synopsis.split(".Nm\n")[1:]:
            words = tuple(re.search(r"\.Cm (.*)", part).group(1).split())
            found[words] = {"-" + option for option in re.findall(r"Fl (-[a-z]+)", part)}
        self.assertEqual(found, self.commands())

    def completed(self, *words):
        script = f'source {QUBES}/qvm-sev.bash-completion; qvm-ls() {{ printf "dom0\\nwork\\nvault\\n"; }}; COMP_WORDS=({" ".join(words)}{" " + chr(39) * 2 if words[-1] == "" else ""}); ' \
                 'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _qvm_sev; printf "%s\\n" "${COMPREPLY[@]}"'
        return set(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=20).stdout.split())

    def test_the_completion_offers_what_the_parser_takes(self):
        self.assertEqual(self.completed("qvm-sev", ""), {path[0] for path in self.commands()} | {"--help"})
        self.assertEqual(self.completed("qvm-sev", "reference", ""), {path[1] for path in self.commands() if path[0] == "reference"} | {"--help"})
        for path, options in self.commands().items():
            self.assertEqual(self.completed("qvm-sev", *path, "--"), options | {"--help"}, path)
            self.assertEqual(self.completed("qvm-sev", *path, ""), {"work", "vault"}, path)
        self.assertEqual(self.completed("qvm-sev", "enable", "--mode", ""), {"required", "measure"})

    def test_the_manual_is_sound(self):
        done = subprocess.run(["mandoc", "-Tlint", "-Werror", QUBES / "qvm-sev.1"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)


class Unmarked(unittest.TestCase):
    def test_every_feature_has_a_line_in_the_manual(self):
        text = (QUBES / "qvm-sev.1").read_text()
        for feature in settings.FEATURES:
            if feature != settings.ONCE:
                self.assertIn(f".It Li {feature}", text)


if __name__ == "__main__":
    unittest.main()
