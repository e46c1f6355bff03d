# SPDX-License-Identifier: Apache-2.0
# lab: group=launch timeout=400
"""A libvirt domain that is started paused goes through the hook: attested it runs with its secret, refused it is gone."""
import hashlib
import json
import pathlib
import re
import shutil
import unittest

from dom0 import CONSOLES, KERNEL_CLOUD, ROOT, run
from launching import LaunchCase, house

HOOKS = pathlib.Path("/etc/libvirt/hooks/libxl.d")
XML = """<domain type='xen'><name>{name}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{cmdline}</cmdline></os>
<features><acpi/><apic/><pae/></features><on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
<devices><console type='pty'><target type='xen' port='0'/></console></devices></domain>
"""


class Hook(LaunchCase):
    def test_started_paused(self):
        self.open()
        HOOKS.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "libxl-hooks/libvirt/xen-sev", HOOKS / "xen-sev")
        configuration = pathlib.Path("/etc/xen-sev/libvirt.json")
        configuration.parent.mkdir(exist_ok=True)
        configuration.write_text(json.dumps({name: {"owner": "vault", "policy": "web"} for name in ("good", "bad")}))
        self.addCleanup(configuration.unlink)
        initrd = self.slotted("libvirt")
        files = {name: self.dir / f"{name}.xml" for name in ("good", "bad")}
        for name, path in files.items():
            cmdline = "console=hvc0 quiet" + ("" if name == "good" else " init=/bin/sh")
            path.write_text(XML.format(name=name, kernel=KERNEL_CLOUD, initrd=initrd, cmdline=cmdline))
        acpi = str(self.reference())
        secret = {"name": "disk key", "path": str(self.house.folder / "luks-key"), "when": {"references": ["the guest"]}, "file_name": "luks-key"}
        recipe = {"libvirt_xml": str(files["good"]), "acpi_reference": acpi}
        self.house.policy("web", references=[{"name": "the guest", "xen": recipe}], secrets=[secret])
        pathlib.Path("/run/xen-sev").mkdir(exist_ok=True)
        self.house.socket = pathlib.Path("/run/xen-sev/sevd.sock")
        self.house.configuration["socket"] = str(self.house.socket)
        self.house.start()
        self.ran("lab-libvirtd")

        started = run("virsh", "-c", "xen:///system", "create", "--paused", files["good"])
        self.assertEqual(started.returncode, 0, started.stderr + self.house.daemon.text())
        log = CONSOLES / "guest-good.log"
        wanted = f"SECRET {hashlib.sha256(house.SECRET).hexdigest()}"
        house.until("the guest shows its secret", lambda: log.exists() and re.search(wanted, log.read_text(errors="replace")))
        house.until("the guest is gone", self.idle)

        refused = run("virsh", "-c", "xen:///system", "create", "--paused", files["bad"])
        self.assertNotEqual(refused.returncode, 0, self.house.daemon.text())
        house.until("nothing is left", self.idle)
        bad = CONSOLES / "guest-bad.log"
        self.assertEqual(bad.read_text(errors="replace") if bad.exists() else "", "")


if __name__ == "__main__":
    unittest.main()
