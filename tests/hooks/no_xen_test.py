#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""On a machine without Xen every Xen command of ours says in one line what is missing, and changes nothing."""
import json
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/system"))
import house  # noqa: E402

NO_DEVICE = "/dev/xen/privcmd: No such file or directory"
XEN = any(pathlib.Path(path).exists() for path in ("/dev/xen/privcmd", "/proc/xen/privcmd"))
DOMAIN = ("<domain type='xen' id='7'><name>web</name><uuid>0c2f5b8e-0000-4000-8000-000000000007</uuid><os><type>xenpvh</type></os>"
          "<on_reboot>destroy</on_reboot></domain>")


@unittest.skipIf(XEN, "SKIPPED: this is a Xen host")
class WithoutXen(unittest.TestCase):
    def setUp(self):
        self.house = house.House()
        self.addCleanup(self.house.close)
        self.folder = self.house.folder
        self.xl_cfg = self.folder / "web.cfg"
        self.xl_cfg.write_text('name="web"\ntype="pvh"\nkernel="/boot/vmlinuz"\nmemory=128\n')
        (self.folder / "libvirt.json").write_text(json.dumps({"web": {"owner": "vault", "policy": "web"}}))

    def says(self, words, *wanted, status=2, lines=1, **options):
        """A program's whole complaint, hints aside: one line with all of this in it. Nothing on stdout."""
        path = f"{house.PROGRAMS}:/usr/bin:/bin"
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, check=False,
                              env={"PATH": path, "HOME": str(self.folder)}, **options)
        said = [line for line in done.stderr.splitlines() if ": hint: " not in line]
        self.assertEqual((done.returncode, done.stdout, len(said)), (status, "", lines), done.stderr)
        for text in wanted:
            self.assertIn(text, said[0])
        return done.stderr

    def sevctl(self, *words, **options):
        return [house.program("sevctl"), *words]

    def test_what_looks_at_domains(self):
        for words in (("capture", "--domid", 7), ("capture", "--domid", 7, "--json"), ("reference", "capture", "--domid", 7),
                      ("reference", "capture", "--domid", 7, "-o", self.folder / "out.json")):
            said = self.says(self.sevctl(*words), NO_DEVICE)
            self.assertIn("sevctl: hint: this needs dom0 of a Xen host, and root\n", said)
        self.assertFalse((self.folder / "out.json").exists())

    def test_the_library_is_not_there_either(self):
        """libxenforeignmemory is loaded when it is wanted; where it cannot be, that is what is said."""
        if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("SKIPPED: unshare -rm is not allowed here")
        hide = ("for f in /lib/x86_64-linux-gnu/libxenforeignmemory.so*; do [ -e $f ] && mount --bind /dev/null $f; done; "
                f"exec {house.program('sevctl')} ")
        self.says(["unshare", "-rm", "sh", "-c", hide + "capture --domid 7"], "libxenforeignmemory.so.1 cannot be loaded: this is no Xen host")

    def test_launches_without_sevd(self):
        nobody = self.folder / "nobody.sock"
        for guest in (("--domid", 7), ("--domid", 7, "--leave-paused"), ("--xl-cfg", self.xl_cfg)):
            self.says(self.sevctl("launch", *guest, "--owner", "vault", "--socket", nobody), f"{nobody}: nobody listens there")

    def test_launches_by_a_sevd_without_xen(self):
        self.house.configuration["xen"] = {"keeper": house.program("xen-sev-keeper")}
        self.house.start_daemon()
        for guest in (("--domid", 7), ("--domid", 7, "--leave-paused"), ("--xl-cfg", self.xl_cfg)):
            self.says(self.sevctl("launch", *guest, "--owner", "vault", "--socket", self.house.socket), NO_DEVICE)
        self.assertEqual(self.house.launches(), [])
        text = self.house.daemon.text()
        self.house.daemon.stop()
        del self.house.configuration["xen"]
        self.house.start_daemon()
        self.says(self.sevctl("launch", "--domid", 7, "--owner", "vault", "--socket", self.house.socket), "guests of kind \"xen\" cannot be launched here")
        self.assertEqual(self.house.launches(), [], text)

    def test_xl_sev(self):
        program = ROOT / "libxl-hooks/xl/xl-sev"
        no_xl = "xl-sev: xl is not there: this is no Xen host, or its package xen-utils is missing"
        if subprocess.run(["which", "xl"], capture_output=True, env={"PATH": "/usr/bin:/bin"}, check=False).returncode == 0:
            no_xl = "xl"  # its own words
        self.says([program, "list"], no_xl)
        self.says([program, "unpause", "web", "--owner", "vault"], no_xl)
        nobody = self.folder / "nobody.sock"
        self.says([program, "unpause", "7", "--owner", "vault", "--socket", nobody], "nobody listens there")
        self.says([program, "create", self.xl_cfg, "--owner", "vault", "--socket", nobody], "nobody listens there")

    def test_libvirt_hook(self):
        hook = [ROOT / "libxl-hooks/libvirt/xen-sev", "--configuration", self.folder / "libvirt.json"]
        self.says([*hook, "web", "prepare", "begin", "-"], "xen-sev: web: sevd does not answer: sevctl: error: ", status=1, input=DOMAIN)
        self.says([*hook, "web", "started", "begin", "-"], "xen-sev: web: sevctl: error: ", "the domain may still be there: ", status=1, input=DOMAIN)

    def test_keeper(self):
        done = subprocess.run([house.program("xen-sev-keeper")], input="", capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout.count("\n"), 1)
        self.assertIn("libxl does not start: ", json.loads(done.stdout)["error"])
        self.says([house.program("xen-sev-keeper"), "now"], "is started by sevd and sevctl, and takes no arguments")

    def test_what_needs_no_xen_works(self):
        done = subprocess.run(self.sevctl("status", "--json"), capture_output=True, timeout=60, check=False)
        self.assertIn(done.returncode, (0, 1))
        self.assertTrue(json.loads(done.stdout))


if __name__ == "__main__":
    unittest.main()
