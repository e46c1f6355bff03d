# SPDX-License-Identifier: Apache-2.0
"""The extension inside Qubes' own core-admin: its loader finds it, its events run it, its start() obeys it. One process for one release: core_admin_test.py starts it.

Real: qubes.Qubes, qubes.ext's loader, the entry points, qubes.events, TemplateVM, AppVM, DispVM, their start(), unpause(), kill(), features, tags, devices, and the libvirt XML from
the release's template. Stood in for: libvirt (fake/libvirt.py), storage, memory balancing, qubesdb and qrexec daemons, which want a dom0.
"""
import asyncio
import inspect
import os
import pathlib
import re
import sys
import tempfile
import unittest
import unittest.mock

import libvirt
import lxml.etree
import qubes
import qubes.exc
import qubes.ext
import qubes.vm.appvm
import qubes.vm.dispvm
import qubes.vm.qubesvm
import qubes.vm.templatevm

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from fake_sevd import FakeSevd  # noqa: E402

from xen_sev_qubes import gate, reference, settings, sevd  # noqa: E402

CORE_ADMIN = pathlib.Path(os.environ["QUBES_CORE_ADMIN"])
TRUSTED = {"state": "running", "verdict": {"trusted": True, "checks": [{"check": "digest", "passed": True, "detail": ""}]}, "level": 1, "emulated": True, "reason": ""}
REFUSED = {"state": "refused", "verdict": {"trusted": False, "checks": [{"check": "digest", "passed": False, "detail": "kernel differs at 0x1000"}]}, "level": 1, "emulated": True,
           "reason": "the owner does not trust it"}


def qubes_start_announces():
    return "domain-pre-unpaused" in inspect.getsource(qubes.vm.qubesvm.QubesVM.start)


class CoreAdmin(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="xen-sev-qubes-")))
        kernels = self.dir / "kernels"
        for name in ("6.6.48-1.fc37", "6.6.63-1.fc41"):
            (kernels / name).mkdir(parents=True)
            for file in ("vmlinuz", "initramfs"):
                (kernels / name / file).write_bytes(name.encode())
        libvirt.CONNECTION = libvirt.Connection()
        self.calls = libvirt.CONNECTION.calls
        for target, value in {
            "qubes.config.system_path": dict(qubes.config.system_path, qubes_base_dir=str(self.dir), qubes_kernels_base_dir=str(kernels)),
            "qubes.config.qubes_base_dir": str(self.dir),
        }.items():
            if isinstance(value, dict) or hasattr(qubes.config, target.rsplit(".", 1)[1]):
                self.enterContext(unittest.mock.patch(target, value))
        self.enterContext(unittest.mock.patch.dict(qubes.config.defaults["pool_configs"], {
            "varlibqubes": {"dir_path": str(self.dir), "driver": "file", "name": "varlibqubes"},
            "linux-kernel": {"dir_path": str(kernels), "driver": "linux-kernel", "name": "linux-kernel"}}, clear=True))

        async def nothing(*_args, **_kwargs):
            return None

        for name, value in {"start_qubesdb": nothing, "start_qrexec_daemon": nothing, "untrusted_qdb": unittest.mock.Mock(), **dict.fromkeys(
                ("request_mem", "request_memory", "create_qdb_entries", "start_qdb_watch", "create_xs_entries"), lambda *_args, **_kwargs: None)}.items():
            for kind in qubes.vm.qubesvm.QubesVM.__mro__:
                if name in kind.__dict__:
                    self.enterContext(unittest.mock.patch.object(kind, name, value))
                    break
            else:
                self.assertIn(name, ("create_xs_entries", "request_mem", "request_memory"))  # have another name, or none, in other releases
        self.enterContext(unittest.mock.patch.object(qubes.app.VMMConnection, "xs", unittest.mock.Mock()))
        self.enterContext(unittest.mock.patch.object(qubes.app.QubesHost, "cpu_family_model", (6, 6)))
        self.app = qubes.Qubes(str(self.dir / "qubes.xml"), load=False, offline_mode=False)
        self.addCleanup(self.app.close)
        self.app.load_initial_values()
        self.app.env.loader.searchpath = [str(CORE_ADMIN / "templates")]
        self.app.default_kernel = "6.6.48-1.fc37"
        self.template = self.add("TemplateVM", "debian-12")
        self.seen = []

    async def asyncSetUp(self):
        socket = self.dir / "sevd.sock"
        self.sevd = await self.enterAsyncContext(FakeSevd(socket))
        original = sevd.ask
        self.sevctl('{"uuid": "@UUID@", "equal": true, "differences": [], "launch_digest": "%s", "regions": [{"label": "kernel", "gpa": "0x1", "length": 16, "sha256": "%s"}], "build": "later", '
                    '"other_build": {"build": "first", "launch_digest": "%s", "regions": [{"label": "kernel", "gpa": "0x1", "length": 16, "sha256": "%s"}]}}' % ("ab" * 32, "cd" * 32, "ef" * 32, "cd" * 32))
        self.enterContext(unittest.mock.patch.object(gate, "SEVCTL", str(self.dir / "sevctl")))
        self.enterContext(unittest.mock.patch.object(reference, "ACCOUNTS", str(self.dir / "accounts")))
        self.enterContext(unittest.mock.patch.object(settings, "PROFILES", str(self.dir / "profiles.d")))
        self.enterContext(unittest.mock.patch.object(sevd, "ask", lambda method, target, body=None, timeout_s=10.0: original(method, target, body, timeout_s, str(socket))))

    def sevctl(self, account, status=0, before=""):
        """The sevctl that the extension will run: says this account, of the domain that libvirt made last."""
        program = self.dir / "sevctl"
        program.write_text(f"#!/bin/sh\necho \"$*\" >>{self.dir}/sevctl.log\n{before}\n[ \"$1\" = capture ] || exit 0\nsed \"s/@UUID@/$(cat {self.dir}/uuid)/\" <<'EOF'\n{account}\nEOF\nexit {status}\n")
        program.chmod(0o755)

    def sevctl_calls(self):
        log = self.dir / "sevctl.log"
        return log.read_text().splitlines() if log.exists() else []

    def add(self, kind, name, **properties):
        vm = self.app.add_new_vm(kind, name=name, label="red", **properties)
        vm.netvm = None
        storage = unittest.mock.Mock(kernels_dir=str(self.dir / "kernels" / "6.6.48-1.fc37"))
        storage.block_devices.return_value = []
        for call in ("verify", "start", "stop", "remove"):
            setattr(storage, call, unittest.mock.AsyncMock())
        vm.storage = storage
        return vm

    def qube(self, name="work", **features):
        vm = self.add("AppVM", name, template=self.template)
        self.make_good(vm)
        for key, value in features.items():
            vm.features["sev." + key] = value
        self.watch(vm)
        return vm

    def make_good(self, vm):
        vm.virt_mode, vm.kernel, vm.maxmem, vm.memory, vm.debug = "pvh", "6.6.48-1.fc37", 0, 400, False

    def watch(self, vm):
        """When libvirt says the domain is gone, qubesd hears of it; and the fake's resume is noted beside the events."""
        def on(subject, event, **kwargs):  # pylint: disable=unused-argument
            self.seen.append((event, kwargs.get("reason")))
            if event == "domain-spawn":
                (self.dir / "uuid").write_text(str(vm.uuid))
                libvirt.CONNECTION.domains[str(vm.uuid)].stopped = lambda: asyncio.get_running_loop().call_soon(vm.on_libvirt_domain_stopped)
        for event in ("domain-spawn", "domain-start-failed", "domain-start", "domain-unpaused"):
            vm.add_handler(event, on)

    def done(self, what):
        return [call for call in self.calls if call[0] == what]

    # the loader

    async def test_the_loader_loads_it_by_its_entry_point(self):
        loaded = [type(extension).__module__ for extension in qubes.ext.get_extensions()]
        self.assertIn("xen_sev_qubes.extension", loaded)
        from xen_sev_qubes.extension import resume_is_announced  # pylint: disable=import-outside-toplevel
        self.assertEqual(resume_is_announced(), qubes_start_announces())

    async def test_a_qube_without_features_starts_as_ever_and_sevd_is_not_asked(self):
        vm = self.qube()
        await vm.start()
        self.assertEqual([call[0] for call in self.calls], ["create", "resume"])
        self.assertEqual(self.sevd.requests, [])
        self.assertNotIn("sev-attested", vm.tags)

    # the gate

    async def test_a_good_verdict_lets_it_run_and_tags_it(self):
        vm = self.qube(mode="required", owner="vault", policy="servers", timeout="30")
        self.sevd.verdicts["work"] = TRUSTED
        await vm.start()
        self.assertEqual([call[0] for call in self.calls], ["create", "resume"])
        xid = self.done("create")[0][1]
        (_, _, body), = self.sevd.asked("POST")
        self.assertEqual(body, {"name": "work", "owner": "vault", "policy": "servers", "guest": {"kind": "xen", "domid": xid, "uuid": str(vm.uuid), "unpause": False}})
        self.assertIn("sev-attested", vm.tags)
        await vm.kill()
        self.assertNotIn("sev-attested", vm.tags)

    async def test_sevd_is_asked_while_the_domain_is_paused_and_has_not_run(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        states = []

        def verdict(_request):
            domain = libvirt.CONNECTION.domains[str(vm.uuid)]
            states.append((domain.now, domain.cpu_ns, list(self.calls)))
            return TRUSTED

        self.sevd.verdicts["work"] = verdict
        await vm.start()
        (state, cpu, calls), = states
        self.assertEqual((state, cpu), (libvirt.VIR_DOMAIN_PAUSED, 0))
        self.assertEqual([call[0] for call in calls], ["create"])

    async def test_a_refusal_kills_it_before_it_runs_and_says_why(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.verdicts["work"] = REFUSED
        with self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        self.assertEqual([call[0] for call in self.calls], ["create", "destroy"])
        self.assertIn("work was not started: the owner does not trust it; digest: kernel differs at 0x1000", str(caught.exception))
        self.assertIn(("domain-start-failed", str(caught.exception)), self.seen)
        self.assertNotIn("sev-attested", vm.tags)

    async def test_every_answer_that_is_not_a_trusted_one_refuses(self):
        for number, verdict in enumerate([
                {"state": "running"}, {"state": "running", "verdict": {"trusted": "true"}}, {"state": "running", "verdict": {"trusted": 1}}, {"state": "running", "verdict": "trusted"},
                {"state": "running", "trusted": True}, dict(TRUSTED, state="failed"), dict(TRUSTED, state="refused"), dict(TRUSTED, state="cancelled"), dict(TRUSTED, state="destroyed")]):
            with self.subTest(verdict=verdict):
                vm = self.qube(f"work{number}", mode="required", owner="vault", policy="p")
                self.sevd.verdicts[vm.name] = verdict
                with self.assertRaises(qubes.exc.QubesVMError):
                    await vm.start()
                self.assertEqual(self.done("resume"), [])

    async def test_an_absent_sevd_refuses_before_anything_is_built(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.server.close()
        os.unlink(self.sevd.path)
        with self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        self.assertIn("sevd does not run", str(caught.exception))
        self.assertEqual(self.calls, [])

    async def test_a_sevd_that_goes_away_in_between_refuses(self):
        vm = self.qube(mode="required", owner="vault", policy="p")

        def verdict(_request):
            self.sevd.server.close()
            os.unlink(self.sevd.path)
            return TRUSTED

        self.sevd.verdicts["work"] = verdict
        with self.assertRaises(qubes.exc.QubesVMError):
            await vm.start()
        self.assertEqual([call[0] for call in self.calls], ["create", "destroy"])

    async def test_the_deadline_refuses_and_cancels_the_launch(self):
        vm = self.qube(mode="required", owner="vault", policy="p", timeout="5")
        self.sevd.verdicts["work"], self.sevd.hold = TRUSTED, asyncio.Event()
        with unittest.mock.patch("xen_sev_qubes.settings.TIMEOUT_LEAST_S", 1):
            vm.features["sev.timeout"] = "1"
            with self.assertRaises(qubes.exc.QubesVMError) as caught:
                await vm.start()
        self.assertIn("no verdict within 1 seconds", str(caught.exception))
        self.assertEqual([call[0] for call in self.calls], ["create", "destroy"])
        for _ in range(50):
            if self.sevd.asked("DELETE"):
                break
            await asyncio.sleep(0.05)
        self.assertEqual(self.sevd.launches[1]["state"], "cancelled")

    async def test_qubesd_goes_on_while_a_launch_is_judged(self):
        vm, other = self.qube(mode="required", owner="vault", policy="p"), self.qube("other")
        self.sevd.verdicts["work"], self.sevd.hold = TRUSTED, asyncio.Event()
        start = asyncio.ensure_future(vm.start())
        await asyncio.sleep(0.3)
        self.assertEqual(self.done("resume"), [])
        await other.start()
        self.assertEqual(len(self.done("resume")), 1)
        self.sevd.hold.set()
        await start
        self.assertEqual(len(self.done("resume")), 2)

    async def test_a_domain_killed_while_it_is_judged_does_not_come_back(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.verdicts["work"], self.sevd.hold = TRUSTED, asyncio.Event()
        start = asyncio.ensure_future(vm.start())
        await asyncio.sleep(0.3)
        await vm.kill()
        with self.assertRaises(qubes.exc.QubesException) as caught:
            await start
        self.assertIn("went away", str(caught.exception))
        self.sevd.hold.set()
        await asyncio.sleep(0.3)
        self.assertEqual(self.done("resume"), [])
        self.assertNotIn("sev-attested", vm.tags)

    # measure

    async def test_measure_logs_what_was_built_and_lets_it_run(self):
        vm = self.qube(mode="measure")
        with self.assertLogs(vm.log, "INFO") as logged:
            await vm.start()
        self.assertEqual([call[0] for call in self.calls], ["create", "resume"])
        self.assertEqual(self.sevctl_calls(), [f"capture --domid {self.done('create')[0][1]} --json"])
        self.assertIn("launch digest " + "ab" * 32 + ", as its configuration says", "\n".join(logged.output))
        self.assertEqual(self.sevd.requests, [])
        self.assertNotIn("sev-attested", vm.tags)  # nobody judged

    async def test_measure_warns_of_what_differs_and_of_what_could_not_be_measured(self):
        good = '{"uuid": "@UUID@", "equal": false, "differences": ["kernel: page 3: byte 7 is 0x01, want 0x00"], "launch_digest": "%s", "regions": [{"label": "k", "length": 1, "sha256": "%s"}]}' % (
            "ab" * 32, "cd" * 32)
        for number, (account, status, before, says) in enumerate([
                (good, 1, "", "NOT what its configuration says: kernel: page 3"), (good.replace("@UUID@", "7"), 1, "", "is another one"), (good, 0, "", "not understood"), ("{}", 0, "", "not understood"),
                ("nothing", 1, "", "not understood"), ("", 2, "echo 'sevctl: error: no \033[2JXen' >&2; exit 2", "no ?[2JXen"), ("", 0, "exec sleep 30", "not done within 1 seconds"),
                ("", 0, "yes", "says more than")]):
            with self.subTest(says=says):
                vm = self.qube(f"work{number}", mode="measure")
                self.sevctl(account, status, before)
                with unittest.mock.patch("xen_sev_qubes.settings.TIMEOUT_LEAST_S", 1):
                    if "within" in says:
                        vm.features["sev.timeout"] = "1"
                    with self.assertLogs(vm.log, "WARNING") as logged:
                        await vm.start()
                self.assertIn(says, "\n".join(logged.output))
                self.assertEqual(self.calls[-1][0], "resume")

    async def test_measure_without_sevctl_says_so_in_the_log_and_starts(self):
        vm = self.qube(mode="measure")
        (self.dir / "sevctl").unlink()
        with self.assertLogs(vm.log, "WARNING") as logged:
            await vm.start()
        self.assertEqual([call[0] for call in self.calls], ["create", "resume"])
        self.assertIn("sevctl: No such file", "\n".join(logged.output))

    # later unpauses

    async def test_later_pauses_and_unpauses_are_none_of_our_business(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.verdicts["work"] = TRUSTED
        await vm.start()
        before = len(self.sevd.requests)
        self.sevd.verdicts["work"] = REFUSED
        for _ in range(3):
            await vm.pause()
            await vm.unpause()
        self.assertEqual(len(self.sevd.requests), before)
        self.assertEqual([call[0] for call in self.calls], ["create", "resume"] + ["suspend", "resume"] * 3)

    async def test_a_restarted_qubesd_leaves_running_domains_alone_but_asks_about_one_that_never_ran(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.verdicts["work"] = TRUSTED
        await vm.start()
        extension, = [e for e in qubes.ext.get_extensions() if type(e).__module__ == "xen_sev_qubes.extension"]
        extension.starts.clear()  # as after a restart
        self.sevd.verdicts["work"] = REFUSED
        await vm.pause()
        await vm.unpause()
        self.assertEqual(len(self.done("resume")), 2)
        if not qubes_start_announces():
            return  # R4.2 announces no unpause at all
        extension.starts.clear()
        await vm.pause()
        libvirt.CONNECTION.domains[str(vm.uuid)].cpu_ns = 0
        with self.assertRaises(qubes.exc.QubesVMError):
            await vm.unpause()
        self.assertEqual(len(self.done("resume")), 2)

    async def test_an_impatient_unpause_waits_for_the_same_verdict(self):
        if not qubes_start_announces():
            self.skipTest("R4.2 announces no unpause: docs/threat-model.md says so")
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.verdicts["work"], self.sevd.hold = REFUSED, asyncio.Event()
        start = asyncio.ensure_future(vm.start())
        await asyncio.sleep(0.3)
        hasty = asyncio.ensure_future(vm.unpause())
        await asyncio.sleep(0.3)
        self.assertEqual(self.done("resume"), [])
        self.sevd.hold.set()
        for task in (start, hasty):
            with self.assertRaises(qubes.exc.QubesException):
                await task
        self.assertEqual(self.done("resume"), [])
        self.assertEqual(len(self.sevd.asked("POST")), 1)

    async def test_a_second_start_is_a_second_domain_and_a_second_question(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.verdicts["work"] = TRUSTED
        await vm.start()
        await vm.kill()
        self.sevd.verdicts["work"] = REFUSED
        with self.assertRaises(qubes.exc.QubesVMError):
            await vm.start()
        first, second = [body["guest"]["domid"] for _, _, body in self.sevd.asked("POST")]
        self.assertNotEqual(first, second)
        self.assertEqual(len(self.done("resume")), 1)

    # disposables

    async def disposable(self, **features):
        base = self.add("AppVM", "sev-dvm", template=self.template)
        self.make_good(base)
        base.template_for_dispvms = True
        for key, value in features.items():
            base.features["sev." + key] = value
        vm = self.add("DispVM", "disp4711", template=base, auto_cleanup=False)
        self.make_good(vm)
        self.watch(vm)
        return vm

    async def test_a_disposable_asks_for_what_its_template_says(self):
        vm = await self.disposable(mode="required", owner="vault", policy="disposables")
        self.sevd.verdicts[vm.name] = TRUSTED
        await vm.start()
        (_, _, body), = self.sevd.asked("POST")
        self.assertEqual((body["owner"], body["policy"]), ("vault", "disposables"))

    async def test_a_preloaded_disposable_is_judged_once_when_it_is_made_and_not_when_it_is_used(self):
        vm = await self.disposable(mode="required", owner="vault", policy="p")
        self.sevd.verdicts[vm.name] = TRUSTED
        await vm.start()
        await vm.pause()  # preloaded: waits, paused, until somebody wants one
        before = len(self.sevd.requests)
        self.sevd.verdicts[vm.name] = REFUSED
        await vm.unpause()
        self.assertEqual(len(self.sevd.requests), before)
        self.assertEqual([call[0] for call in self.calls], ["create", "resume", "suspend", "resume"])

    async def test_a_preloaded_disposable_that_is_refused_never_runs(self):
        vm = await self.disposable(mode="required", owner="vault", policy="p")
        self.sevd.verdicts[vm.name] = REFUSED
        with self.assertRaises(qubes.exc.QubesVMError):
            await vm.start()
        self.assertEqual([call[0] for call in self.calls], ["create", "destroy"])

    # settings

    async def test_each_wrong_setting_refuses_with_what_to_type_and_nothing_is_built(self):
        wrongs = {
            "virt_mode": (lambda vm: setattr(vm, "virt_mode", "hvm"), "qvm-prefs work virt_mode pvh"),
            "kernel": (lambda vm: setattr(vm, "kernel", ""), "qvm-prefs work kernel VERSION"),
            "maxmem": (lambda vm: setattr(vm, "maxmem", 4000), "qvm-prefs work maxmem 0"),
            "hotplug": (lambda vm: vm.features.__setitem__("memory-hotplug", "1"), "qvm-features work memory-hotplug ''"),
            "debug": (lambda vm: setattr(vm, "debug", True), "qvm-prefs work debug False"),
            "owner": (lambda vm: vm.features.__delitem__("sev.owner"), "qvm-features work sev.owner NAME"),
            "policy": (lambda vm: vm.features.__delitem__("sev.policy"), "qvm-features work sev.policy NAME"),
            "relay": (lambda vm: vm.features.__setitem__("sev.relay", "nowhere"), "qvm-features work sev.relay QUBE"),
            "own relay": (lambda vm: vm.features.__setitem__("sev.relay", "work"), "qvm-features work sev.relay QUBE"),
        }
        for name, (spoil, remedy) in wrongs.items():
            with self.subTest(setting=name):
                vm = self.qube(mode="required", owner="vault", policy="p")
                self.sevd.verdicts["work"] = TRUSTED
                spoil(vm)
                with self.assertRaises(qubes.exc.QubesVMError) as caught:
                    await vm.start()
                self.assertIn(remedy, str(caught.exception))
                self.assertRegex(str(caught.exception), r"^[ -~]+$")
                self.assertEqual(self.calls, [])
                del self.app.domains["work"]

    async def test_a_pci_device_refuses(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        with unittest.mock.patch("xen_sev_qubes.settings._pci_devices", return_value=1):
            with self.assertRaises(qubes.exc.QubesVMError) as caught:
                await vm.start()
        self.assertIn("qvm-pci detach work DEVICE", str(caught.exception))
        from xen_sev_qubes import settings  # pylint: disable=import-outside-toplevel
        self.assertEqual(settings._pci_devices(vm), 0)  # asked of the real collection  # pylint: disable=protected-access

    async def test_two_wrong_settings_are_counted(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        vm.maxmem, vm.debug = 4000, True
        with self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        self.assertIn("and 1 more", str(caught.exception))

    async def test_a_good_qube_has_as_much_memory_as_is_built(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.verdicts["work"] = TRUSTED
        await vm.start()
        xml = lxml.etree.fromstring(libvirt.CONNECTION.domains[str(vm.uuid)].xml)
        self.assertEqual(xml.findtext("memory"), xml.findtext("currentMemory"))
        self.assertEqual(xml.find("os/type").get("machine"), "xenpvh")
        self.assertIsNone(xml.find("maxMemory"))

    async def test_a_template_can_require_it(self):
        self.template.features["sev.mode"] = "required"
        vm = self.qube(owner="vault", policy="p")
        self.sevd.verdicts["work"] = REFUSED
        with self.assertRaises(qubes.exc.QubesVMError):
            await vm.start()
        self.assertEqual(self.done("resume"), [])

    async def test_owner_and_policy_are_not_taken_from_a_template(self):
        self.template.features["sev.owner"] = "elsewhere"
        vm = self.qube(mode="required")
        with self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        self.assertIn("sev.owner is not set", str(caught.exception))

    async def test_features_are_checked_when_they_are_set(self):
        vm = self.qube()
        for feature, bad in {"sev.mode": ["", "on", "1", "Required", "required "], "sev.owner": ["", ".x", "a/b", "a b", "a" * 65, "a\n"], "sev.policy": ["../x"],
                             "sev.profile": ["é"], "sev.relay": ["-x", "1x", "@dispvm", "a.b"], "sev.timeout": ["4", "3601", "-5", "1e3", "٣٠"], "sev.once": ["yes"],
                             "sev.nothing": ["x"]}.items():
            for value in bad:
                with self.subTest(feature=feature, value=value):
                    with self.assertRaises(qubes.exc.QubesValueError) as caught:
                        vm.features[feature] = value
                    self.assertRegex(str(caught.exception), r"^[ -~]+$")
                    self.assertNotIn(feature, vm.features)
        for feature, value in {"sev.mode": "off", "sev.owner": "vault", "sev.policy": "a.b-c_d", "sev.profile": "x", "sev.relay": "sys-attest", "sev.timeout": "120"}.items():
            vm.features[feature] = value

    async def test_a_mode_that_was_stored_before_the_extension_came_refuses(self):
        vm = self.qube()
        dict.__setitem__(vm.features, "sev.mode", "enforcing")
        with self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        self.assertIn("sev.mode is 'enforcing'", str(caught.exception))
        self.assertEqual(self.calls, [])

    # once

    async def test_once_required_is_good_for_one_start(self):
        vm = self.qube(owner="vault", policy="p", once="required")
        self.sevd.verdicts["work"] = REFUSED
        with self.assertRaises(qubes.exc.QubesVMError):
            await vm.start()
        self.assertNotIn("sev.once", vm.features)
        self.assertEqual(self.done("resume"), [])
        await vm.start()
        self.assertEqual(len(self.done("resume")), 1)

    async def test_a_capture_measures_leaves_its_account_and_does_not_start(self):
        vm = self.qube(once="capture")
        with self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        self.assertIn("as asked, not started: as its configuration says", str(caught.exception))
        self.assertEqual([call[0] for call in self.calls], ["create", "destroy"])
        xid, account = reference.Account().read("work")
        self.assertEqual((xid, account["launch_digest"]), (self.done("create")[0][1], "ab" * 32))
        self.assertEqual(self.sevd.requests, [])

    async def test_a_capture_that_lacks_acpi_pages_keeps_them_first(self):
        vm = self.qube(once="capture")
        account = (self.dir / "sevctl").read_text().split("EOF")[1].split("\n")[1]
        self.sevctl(account, 0, f'[ "$1" = reference ] && touch {self.dir}/kept\n[ "$1" = reference ] || [ -e {self.dir}/kept ] || {{ echo "sevctl: error: no reference" >&2; exit 2; }}')
        with self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        self.assertIn("as asked, not started", str(caught.exception))
        self.assertEqual([call.split(" ")[0] for call in self.sevctl_calls()], ["capture", "reference", "capture"])

    async def test_a_capture_that_cannot_be_made_does_not_start_either(self):
        vm = self.qube(once="capture")
        self.sevctl("", 2, "exit 2")
        with self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        self.assertIn("work was not measured", str(caught.exception))
        self.assertEqual([call[0] for call in self.calls], ["create", "destroy"])

    # profiles

    async def test_a_profile_says_owner_policy_relay_and_timeout_and_features_go_before(self):
        folder = self.dir / "profiles.d"
        folder.mkdir()
        (folder / "servers.json").write_text('{"owner": "vault", "policy": "servers", "timeout": 30}')
        vm = self.qube(mode="required", profile="servers", policy="mine")
        self.sevd.verdicts["work"] = TRUSTED
        await vm.start()
        (_, _, body), = self.sevd.asked("POST")
        self.assertEqual((body["owner"], body["policy"]), ("vault", "mine"))

    async def test_a_profile_that_is_none_refuses(self):
        folder = self.dir / "profiles.d"
        folder.mkdir()
        path = folder / "servers.json"
        for number, (text, mode) in enumerate([(None, 0o644), ("{", 0o644), ("[]", 0o644), ('{"owners": "x"}', 0o644), ('{"owner": 7}', 0o644), ('{"owner": "a b"}', 0o644), ('{"timeout": true}', 0o644),
                                               ('{"owner": "vault", "policy": "p"}', 0o666), (" " * 20000 + "{}", 0o644), ('{"mode": "off"}', 0o644)]):
            with self.subTest(text=text):
                path.unlink(missing_ok=True)
                if text is not None:
                    path.write_text(text)
                    path.chmod(mode)
                vm = self.qube(f"work{number}", mode="required", profile="servers")
                with self.assertRaises(qubes.exc.QubesVMError) as caught:
                    await vm.start()
                self.assertIn("profiles.d/servers.json: ", str(caught.exception))
                self.assertEqual(self.calls, [])

    # the tag

    async def test_the_tag_is_not_given_by_people_nor_by_cloning(self):
        vm = self.qube()
        vm.tags.add("sev-attested")
        self.assertNotIn("sev-attested", vm.tags)

    async def test_a_tag_that_outlived_its_domain_is_taken_away(self):
        vm = self.qube()
        set.add(vm.tags, "sev-attested")
        vm.fire_event("domain-load")
        self.assertNotIn("sev-attested", vm.tags)
        set.add(vm.tags, "sev-attested")
        await vm.start()
        self.assertNotIn("sev-attested", vm.tags)

    # hostile words

    async def test_what_an_owner_says_reaches_users_and_logs_as_printable_text(self):
        vm = self.qube(mode="required", owner="vault", policy="p")
        self.sevd.verdicts["work"] = dict(REFUSED, reason="bad\x1b[2J\n\u202enews" + "x" * 5000, verdict={"trusted": False, "checks": [{"check": "\x9b" * 900, "detail": "\n" * 900}] * 900})
        with self.assertLogs(vm.log, "INFO") as logged, self.assertRaises(qubes.exc.QubesVMError) as caught:
            await vm.start()
        for text in [str(caught.exception)] + [record.getMessage() for record in logged.records]:
            self.assertIsNone(re.search(r"[^ -~]", text), text)
            self.assertLess(len(text), 700)


if __name__ == "__main__":
    unittest.main(verbosity=1)
