# SPDX-License-Identifier: Apache-2.0
# lab: group=life timeout=500
"""A libvirt domain that is started paused goes through the hook: attested it has its secret and runs once virsh resumes it; refused it is gone. What
nobody attested does not stay; what runs is left alone when libvirtd starts anew."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import unittest

from dom0 import CONSOLES, KERNEL_CLOUD, ROOT, run
from launching import SAY, LaunchCase, house

HOOKS = pathlib.Path("/etc/libvirt/hooks/libxl.d")
CONFIGURATION = pathlib.Path("/etc/xen-sev/libvirt.json")
XML = """<domain type='xen'><name>{name}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{cmdline}</cmdline></os>
<features><acpi/><apic/><pae/></features><on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
<devices><console type='pty'><target type='xen' port='0'/></console></devices></domain>
"""
NAMES = ("good", "bad", "stays", "orphan")
SECRET = f"SECRET {hashlib.sha256(house.SECRET).hexdigest()}"


class Hook(LaunchCase):
    def setUp(self):
        super().setUp()
        self.open()
        HOOKS.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "libxl-hooks/libvirt/xen-sev", HOOKS / "xen-sev")
        CONFIGURATION.parent.mkdir(exist_ok=True)
        CONFIGURATION.write_text(json.dumps({name: {"owner": "vault", "policy": "web"} for name in NAMES}))
        self.addCleanup(CONFIGURATION.unlink)
        pathlib.Path("/run/xen-sev").mkdir(exist_ok=True)
        self.house.socket = pathlib.Path("/run/xen-sev/sevd.sock")
        self.house.configuration["socket"] = str(self.house.socket)

    def domains(self, **scripts):
        """libvirt's XML of a guest for each /init; the owner knows them all, and gives each the secret. libvirtd is one process: of the PVH guests that it
        builds all but the first have the ACPI tables of a later build."""
        files = {}
        for name, script in scripts.items():
            files[name] = self.dir / f"{name}.xml"
            files[name].write_text(XML.format(name=name, kernel=KERNEL_CLOUD, initrd=self.slotted(name, script), cmdline="console=hvc0 quiet"))
        acpi = str(self.reference())
        references = [{"name": f"{name} {build}", "xen": {"libvirt_xml": str(path), "acpi_reference": acpi, "build": build}}
                      for name, path in files.items() for build in ("first", "later")]
        secret = {"name": "disk key", "path": str(self.house.folder / "luks-key"), "when": {"references": [one["name"] for one in references]},
                  "file_name": "luks-key"}
        self.house.policy("web", references=references, secrets=[secret])
        return files

    def virsh(self, *words, status=0):
        done = run("virsh", "-c", "xen:///system", *words)
        self.assertEqual(done.returncode == 0, status == 0, done.stdout + done.stderr + self.house.daemon.text())
        return done.stdout.strip()

    def console(self, name):
        log = CONSOLES / f"guest-{name}.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def runs_with_its_secret(self, name):
        self.assertEqual(self.virsh("domstate", name), "paused")
        self.assertEqual(self.console(name), "")
        self.virsh("resume", name)
        house.until(f"{name} shows its secret", lambda: re.search(SECRET, self.console(name)))

    def libvirtd(self):
        return int(pathlib.Path("/run/libvirtd.pid").read_text())

    def test_started_paused(self):
        files = self.domains(good=SAY, stays=SAY.replace("poweroff -f", "sleep 1000"))
        bad = self.dir / "bad.xml"
        bad.write_text(files["good"].read_text().replace("<name>good<", "<name>bad<").replace("quiet", "quiet init=/bin/sh"))
        self.house.start()
        self.ran("lab-libvirtd")
        self.virsh("create", "--paused", files["good"])
        self.runs_with_its_secret("good")
        house.until("the guest is gone", self.idle)

        self.virsh("create", "--paused", bad, status=1)
        house.until("nothing is left", self.idle)
        self.assertEqual(self.console("bad"), "")
        # one that libvirt lets run at once is not what was asked for either, and does not stay
        self.virsh("create", files["good"], status=1)
        house.until("nothing is left", self.idle)
        self.assertNotIn(SECRET, self.console("good").split(SECRET, 1)[-1])

        with self.subTest("prepare: what could not be attested is not even built"):
            bad.write_text(files["good"].read_text().replace("<name>good<", "<name>bad<").replace("<on_reboot>destroy<", "<on_reboot>restart<"))
            done = run("virsh", "-c", "xen:///system", "create", "--paused", bad)
            self.assertIn("xen-sev: bad: on_reboot is restart, want destroy", done.stderr)
            self.assertTrue(self.idle())

        with self.subTest("reconnect: libvirtd is killed and started anew"):
            self.virsh("create", "--paused", files["stays"])
            self.runs_with_its_secret("stays")
            number, launches = self.virsh("domid", "stays"), len(self.house.launches())
            os.kill(self.libvirtd(), signal.SIGKILL)
            self.ran("lab-libvirtd")
            self.assertEqual((self.virsh("domstate", "stays"), self.virsh("domid", "stays")), ("running", number))
            self.assertEqual(len(self.house.launches()), launches)
            self.virsh("destroy", "stays")
            house.until("the guest is gone", self.idle)

        with self.subTest("orphan: sevd dies while libvirt waits for the hook, and a libvirt that leaves the domain behind"):
            guest = self.tiny("orphan")
            domid = guest.create()
            uuid = next(line.split()[0] for line in self.xl("vm-list").stdout.splitlines() if line.split()[-1] == "orphan")
            self.house.daemon.kill()
            xml = f"<domain type='xen' id='{domid}'><name>orphan</name><uuid>{uuid}</uuid></domain>"
            (self.dir / "orphan.xml").write_text(xml)
            done = run("sh", "-c", f"{HOOKS}/xen-sev orphan started begin - <{self.dir}/orphan.xml")
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn("nobody listens there", done.stderr)
            self.assertIsNone(guest.state())
            self.virsh_prepare_refuses(files["good"])

    def virsh_prepare_refuses(self, file):
        """Without sevd nothing that is to be attested is even built."""
        self.virsh("create", "--paused", file, status=1)
        self.assertTrue(self.idle())


if __name__ == "__main__":
    unittest.main()
