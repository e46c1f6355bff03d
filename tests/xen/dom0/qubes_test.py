# SPDX-License-Identifier: Apache-2.0
# lab: group=qubes timeout=1500
"""What qubesd does to start a marked qube, on a real Xen: defined in libvirt, created paused, attested by the extension's own code and the real sevd, resumed by libvirt. The
owner is a vault: the real service sev.OwnerExchange and sev-owner, one process a step, behind the real qubes-exchange. Stand-ins only where a Qubes system would begin
(tests/qubes/far_end.py): qubesd, and a Unix socket in place of qrexec's pipe."""
import asyncio
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import unittest
import uuid

from dom0 import CONSOLES, KERNEL_CLOUD, PRODUCT, ROOT, run
from launching import TINY, LaunchCase, XenHouse, house

sys.path[:0] = [str(ROOT / "libxl-hooks/qubes"), str(ROOT / "tests/qubes")]
import far_end  # noqa: E402

from xen_sev_qubes import gate, reference, settings, sevd, status  # noqa: E402

QUBES = ROOT / "libxl-hooks/qubes"
PYTHON = pathlib.Path("/usr/lib/python3/dist-packages")
EXCHANGE = pathlib.Path("/usr/libexec/xen-sev/qubes-exchange")
PIPE = pathlib.Path("/run/qubes/qrexec.sev-vault")
VAULT = pathlib.Path("/usr/local/etc/xen-sev")

# as core-admin's template for libvirt makes it of a PVH qube without devices
XML = """<domain type="xen"><name>{name}</name><uuid>{uuid}</uuid><memory unit="MiB">128</memory><currentMemory unit="MiB">128</currentMemory><vcpu placement="static">1</vcpu>
<os><type arch="x86_64" machine="xenpvh">xenpvh</type><kernel>{kernel}</kernel>{initrd}<cmdline>{cmdline}</cmdline></os>
<features><pae/><acpi/><apic/><viridian/></features><on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
<devices><console type="pty"><target type="xen" port="0"/></console></devices></domain>
"""


class Features(dict):
    def check_with_template(self, name, default=None):
        return self.get(name, default)


class Qube:
    """A qube, as far as its start goes: what qubesd knows, and what it does to libvirt."""

    def __init__(self, case, name, *, kernel=KERNEL_CLOUD, initrd=None, cmdline="console=hvc0 quiet", identity=None):
        self.case, self.name, self.uuid = case, name, identity or uuid.uuid4()
        self.features = Features({"sev.mode": "required", "sev.owner": "vault", "sev.policy": name, "sev.timeout": "200"})
        self.xml = case.dir / f"{name}-{len(list(case.dir.glob('*.xml')))}.xml"  # another is another qube, though it has the name of the first
        self.xml.write_text(XML.format(name=name, uuid=self.uuid, kernel=kernel, initrd=f"<initrd>{initrd}</initrd>" if initrd else "", cmdline=cmdline))
        (CONSOLES / f"guest-{name}.log").unlink(missing_ok=True)
        case.addCleanup(lambda: (run("virsh", "-c", "xen:///system", "destroy", name), run("virsh", "-c", "xen:///system", "undefine", name)))

    def virsh(self, *words, status=0):
        return self.case.ran("virsh", "-c", "xen:///system", *words, status=status)

    def create(self):
        """The domain's number, once it is there, paused."""
        self.virsh("define", self.xml)
        self.virsh("start", "--paused", self.name)
        return int(self.virsh("domid", self.name).stdout)

    def attest(self, xid, identity=None):
        """What the extension does at domain-pre-unpaused (R4.3) or at the end of domain-spawn (R4.2)."""
        return asyncio.run(gate.attest(self.name, identity or self.uuid, xid, settings.Wanted(self)))

    def resume(self):
        self.virsh("resume", self.name)

    def kill(self):
        """As qubesd does when the gate says no, whether or not there is a domain still."""
        return run("virsh", "-c", "xen:///system", "destroy", self.name)

    def state(self):
        done = run("virsh", "-c", "xen:///system", "domstate", self.name)
        return done.stdout.strip() if done.returncode == 0 else None

    def has_run(self):
        """By Xen's count of its vCPU's time, to the nanosecond: a capture names it."""
        done = run(PRODUCT / "sevctl", "capture", "--domid", self.virsh("domid", self.name).stdout.strip(), "--json")
        return done.returncode == 2 or "has run" in json.dumps(json.loads(done.stdout)["differences"])

    def console(self):
        log = CONSOLES / f"guest-{self.name}.log"
        return log.read_text(errors="replace") if log.exists() else ""


class Case(LaunchCase):
    @classmethod
    def setUpClass(cls):
        for name in ("sevctl", "sev-owner"):
            pathlib.Path("/usr/bin", name).unlink(missing_ok=True)
            pathlib.Path("/usr/bin", name).symlink_to(PRODUCT / name)
        EXCHANGE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(QUBES / "qubes-exchange", EXCHANGE)
        shutil.copytree(QUBES / "xen_sev_qubes", PYTHON / "xen_sev_qubes", dirs_exist_ok=True)
        (PYTHON / "qubesadmin.py").write_text(far_end.QUBESADMIN)
        client = pathlib.Path("/usr/bin/qrexec-client")
        client.write_text(far_end.QREXEC_CLIENT)
        client.chmod(0o755)
        cls.qubesd, cls.vault = far_end.Qubesd("/run/qubesd.sock"), far_end.Vault(PIPE)
        cls.addClassCleanup(cls.qubesd.close)
        cls.addClassCleanup(cls.vault.close)
        cls.home = XenHouse(channel=[EXCHANGE, "sev-vault"])  # one for all, as its keys take their time here
        cls.addClassCleanup(cls.home.close)
        config = cls.home.owner_folder / "owner.json"
        config.write_text(config.read_text().replace('"relay"', '"dom0"'))
        VAULT.parent.mkdir(parents=True, exist_ok=True)
        VAULT.unlink(missing_ok=True)
        VAULT.symlink_to(cls.home.owner_folder)
        cls.home.configuration["owners"]["vault"]["deadline_s"] = 150
        pathlib.Path("/run/xen-sev").mkdir(exist_ok=True)
        cls.home.socket = pathlib.Path(sevd.SOCKET)
        cls.home.configuration["socket"] = sevd.SOCKET

    def setUp(self):
        super().setUp()
        self.house = self.home
        self.addCleanup(lambda: self.house.daemon.stop())
        self.vault.hold.set()
        self.vault.asked.clear()
        self.ran("lab-libvirtd")
        self.acpi = str(self.reference())

    def trusted(self, qube, *, secrets=True):
        """The vault expects this qube as it is: the first PVH guest of its libvirtd, or, as most, a later one."""
        secret = {"name": "disk key", "path": str(self.house.folder / "luks-key"), "when": {"references": ["first", "later"]}, "file_name": "luks-key"}
        recipe = {"libvirt_xml": str(qube.xml), "acpi_reference": self.acpi}
        references = [{"name": build, "xen": {**recipe, "build": build}} for build in ("first", "later")]
        self.house.policy(qube.name, references=references, secrets=[secret] if secrets else [])

    def tiny_qube(self, name="work", **more):
        return Qube(self, name, kernel=TINY, cmdline="tiny", **more)

    def launch_of(self, name):
        return asyncio.run(status.latest(name))


class Start(Case):
    def test_attested_left_paused_resumed_by_libvirt_and_its_secret_is_there(self):
        qube = Qube(self, "work", initrd=self.slotted("work"))
        self.trusted(qube)
        self.house.start_daemon()
        xid = qube.create()
        measured = asyncio.run(gate.measure(str(qube.uuid), xid, 120))  # what qvm-sev measure shows
        self.assertTrue(measured["equal"], measured["differences"])
        outcome = qube.attest(xid)
        self.assertTrue(outcome.trusted, str(outcome))
        self.assertEqual((outcome.state, outcome.level, outcome.emulated), ("running", 1, True))
        self.assertEqual(self.vault.asked, ["xen-sev/session-request", "xen-sev/judgement-request"])
        # nobody but whoever asked resumes it
        time.sleep(3)
        self.assertEqual((qube.state(), qube.has_run(), qube.console()), ("paused", False, ""))
        self.assertIn("left paused for whoever asked to resume", self.launch_of("work")["reason"])
        qube.resume()
        wanted = f"SECRET {hashlib.sha256(house.SECRET).hexdigest()}"
        house.until("the guest shows its secret", lambda: wanted in qube.console())
        house.until("its mode too", lambda: "MODE 400" in qube.console())
        house.until("the guest is gone", lambda: qube.state() == "shut off")
        house.until("its launch has ended", lambda: self.launch_of("work")["state"] == "destroyed")
        house.until("nothing is left", self.idle)
        self.assertNotIn(house.SECRET.decode().strip(), self.house.daemon.text())

    def test_started_again_it_is_another_domain_and_another_launch(self):
        qube = self.tiny_qube()
        account = asyncio.run(gate.measure(str(qube.uuid), qube.create(), 120))
        self.assertEqual(qube.kill().returncode, 0)
        listed = reference.for_policy(reference.measured(account).value("work"))  # as qvm-sev reference show prints it
        self.house.policy("work", references=listed, secrets=[])
        self.house.start_daemon()
        seen = set()
        for _ in range(2):
            xid = qube.create()
            outcome = qube.attest(xid)
            self.assertTrue(outcome.trusted, str(outcome))
            qube.resume()
            self.assertEqual(qube.kill().returncode, 0)
            house.until("its launch has ended", lambda: self.launch_of("work")["ended"])
            seen.add((xid, outcome.id))
        self.assertEqual((len({xid for xid, _ in seen}), len({number for _, number in seen})), (2, 2))
        house.until("nothing is left", self.idle)

    def test_sevd_dies_between_the_verdict_and_the_resume(self):
        qube = self.tiny_qube()
        self.trusted(qube, secrets=False)
        self.house.start_daemon()
        xid = qube.create()
        self.assertTrue(qube.attest(xid).trusted)
        self.house.daemon.kill()
        self.house.start_daemon()
        launch = self.launch_of("work")
        self.assertEqual((launch["state"], qube.state()), ("running", "paused"), launch)
        qube.resume()
        self.assertEqual(qube.kill().returncode, 0)
        house.until("its launch has ended", lambda: self.launch_of("work")["ended"])
        house.until("nothing is left", self.idle)

    def test_sevd_dies_before_it_has_let_go_and_the_domain_never_runs(self):
        qube = self.tiny_qube()
        self.trusted(qube, secrets=False)
        for point in ("state:judging", "after:LAUNCH_FINISH", "state:starting"):
            with self.subTest(point):
                self.house.start_daemon("--stop-at", point)
                xid = qube.create()
                with self.assertRaises(gate.Failed):
                    qube.attest(xid)
                self.house.daemon.process.wait(60)
                self.house.start_daemon()
                house.until("the domain is gone", lambda: qube.state() == "shut off")
                self.assertNotEqual(qube.kill().returncode, 0)  # qubesd's own kill finds nothing, which it expects
                self.assertTrue(self.launch_of("work")["ended"])
                self.assertEqual(qube.console(), "")
                self.house.daemon.stop()


class Refused(Case):
    def test_a_refusal_ends_the_domain_before_its_first_instruction(self):
        known = Qube(self, "work", initrd=self.slotted("work"))
        self.trusted(known)
        changed = Qube(self, "work", initrd=self.dir / "work.img", cmdline="console=hvc0 quiet init=/bin/sh", identity=known.uuid)
        self.house.start_daemon()
        outcome = changed.attest(changed.create())
        self.assertFalse(outcome.trusted)
        self.assertEqual(outcome.state, "refused")
        self.assertIn("not trusted", str(outcome))
        self.assertIn("launch.digest", str(outcome))
        changed.kill()  # both end it, in whatever order
        house.until("the domain is gone", lambda: changed.state() == "shut off")
        self.assertNotEqual(changed.virsh("resume", "work", status=1).returncode, 0)
        self.assertEqual(changed.console(), "")
        self.assertEqual(self.launch_of("work")["state"], "refused")
        house.until("nothing is left", self.idle)

    def test_killed_while_it_is_judged(self):
        qube = self.tiny_qube()
        self.trusted(qube, secrets=False)
        self.house.start_daemon()
        xid = qube.create()
        self.vault.hold.clear()
        said = []

        def attest():
            try:
                said.append(qube.attest(xid))
            except gate.Failed as failure:
                said.append(failure)

        asking = threading.Thread(target=attest)
        asking.start()
        house.until("the vault is asked", lambda: self.vault.asked)
        self.assertEqual(qube.kill().returncode, 0)
        self.vault.hold.set()
        asking.join(120)
        self.assertFalse(getattr(said[0], "trusted", False), said)
        launch = self.launch_of("work")
        self.assertEqual(launch["state"], "failed", launch)
        house.until("nothing is left", self.idle)
        self.assertEqual(json.loads(house.check_http(sevd.SOCKET, "/v1/status"))["launches"]["active"], 0)

    def test_no_verdict_in_time_is_called_off(self):
        qube = self.tiny_qube()
        qube.features["sev.timeout"] = "5"
        self.trusted(qube, secrets=False)
        self.house.start_daemon()
        xid = qube.create()
        self.vault.hold.clear()
        with self.assertRaises(gate.Failed) as caught:
            qube.attest(xid)
        self.assertIn("no verdict within 5 seconds", str(caught.exception))
        self.vault.hold.set()
        asyncio.run(gate._call_off(f"/v1/launches/{self.launch_of('work')['id']}"))  # qubesd's loop goes on; that of asyncio.run does not
        house.until("the launch has ended", lambda: self.launch_of("work")["state"] == "cancelled")
        qube.kill()
        house.until("nothing is left", self.idle)
        self.assertEqual(qube.console(), "")


class Another(Case):
    def test_a_wrong_uuid_is_refused_and_the_domain_left_alone(self):
        qube = self.tiny_qube()
        self.trusted(qube, secrets=False)
        self.house.start_daemon()
        xid = qube.create()
        with self.assertRaises(gate.Failed) as caught:
            qube.attest(xid, identity=uuid.uuid4())
        self.assertIn(f"domain {xid}: is another one by now", str(caught.exception))
        self.assertEqual((qube.state(), qube.has_run(), self.vault.asked), ("paused", False, []))
        self.assertTrue(qube.attest(xid).trusted)

    def test_a_domain_number_that_is_used_again_is_not_judged_for_the_first(self):
        qube = self.tiny_qube()
        self.trusted(qube, secrets=False)
        self.house.start_daemon()
        before = self.launch_of("work")
        xid = qube.create()
        self.assertEqual(qube.kill().returncode, 0)
        other = self.same_number(xid)
        with self.assertRaises(gate.Failed) as caught:
            qube.attest(xid)
        self.assertIn(f"domain {xid}: is another one by now: its UUID is {other}, want {qube.uuid}", str(caught.exception))
        self.assertEqual(self.vault.asked, [])
        self.assertEqual(self.launch_of("work"), before)  # it is not even a launch
        self.assertIn("--p---", self.xl("list", xid).stdout)

    def same_number(self, xid):
        """Another domain with this number; its UUID. Of a toolstack that forgets at once which numbers it has used."""
        config = self.dir / "stranger.cfg"
        config.write_text(f'name="stranger"\ntype="pvh"\nmemory=32\nvcpus=1\nkernel="{TINY}"\non_reboot="destroy"\n')
        made = json.loads(re.sub(r"^[^{]*", "", self.xl("create", "-n", "-q", config).stdout))
        made = made.get("config", made)
        identity = str(uuid.uuid4())
        made["c_info"].update(uuid=identity, domid=xid)
        for history in pathlib.Path("/run/xen").glob("domid-history"):
            history.unlink()
        keeper = subprocess.Popen([PRODUCT / "xen-sev-keeper"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(keeper.wait)
        self.addCleanup(keeper.stdin.close)  # it ends what it holds
        self.assertIn("ok", json.loads(keeper.stdout.readline()))
        keeper.stdin.write(json.dumps({"do": "create", "config": json.dumps(made)}) + "\n")
        keeper.stdin.flush()
        answer = json.loads(keeper.stdout.readline())
        self.assertEqual(answer.get("ok", answer).get("domid"), xid, answer)
        return identity


if __name__ == "__main__":
    unittest.main()
