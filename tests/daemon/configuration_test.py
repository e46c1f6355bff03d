# SPDX-License-Identifier: Apache-2.0
"""sevd's configuration: what is refused, and that schema and program agree; no PSP is ever chosen by itself."""
import copy
import json
import subprocess
import unittest

import host

try:
    import jsonschema
except ImportError:
    jsonschema = None


class Configurations(host.Host):
    def run_sevd(self, *options):
        return subprocess.run([host.SEVD, *options], capture_output=True, text=True, timeout=20, check=False)

    def test_the_emulated_psp_is_never_chosen_by_itself(self):
        self.configure()
        text = json.loads(self.configuration.read_text())
        for change in ({}, {"psp": {}}, {"psp": {"backend": "auto"}}, {"psp": {"backend": "ccp", "state": "/x"}},
                       {"psp": {"backend": "ccp", "device": str(self.dir / "absent")}}):
            broken = {key: value for key, value in text.items() if key != "psp"} | change
            self.configuration.write_text(json.dumps(broken))
            done = self.run_sevd("--config", str(self.configuration))
            self.assertEqual(done.returncode, 2, change)
            self.assertIn("sevd: error: ", done.stderr)
            self.assertNotIn("emulated PSP:", done.stderr)

    @unittest.skipUnless(jsonschema, "SKIPPED: no python3-jsonschema")
    def test_schema_and_program_agree(self):
        self.owner = host.Owner(self.dir)
        self.configure()
        schema = jsonschema.Draft202012Validator(json.loads((host.ROOT / "docs/schemas/sevd-configuration.schema.json").read_text()))
        good = json.loads(self.configuration.read_text())
        example = json.loads((host.ROOT / "packaging/sevd.json").read_text())

        def program(value):
            self.configuration.write_text(json.dumps(value))
            return self.run_sevd("--check", "--config", str(self.configuration)).returncode == 0

        others = [{**good, "psp": psp} for psp in ({"backend": "xen"}, {"backend": "xen", "layout": "vates-b", "cek": "/x", "ca": "/y", "deadline_ms": 1},
                                                   {"backend": "ccp"})]
        for value in (good, example, *others):
            schema.validate(value)
            self.assertTrue(program(value))

        def changed(*path, to=None, drop=False):
            value = copy.deepcopy(good)
            at = value
            for key in path[:-1]:
                at = at[key]
            if drop:
                del at[path[-1]]
            else:
                at[path[-1]] = to
            return value

        needed = (["format"], ["psp"], ["psp", "state"], ["owners", "alice", "key"], ["owners", "alice", "channel"])
        broken = [changed(*path, drop=True) for path in needed]
        for path, values in ((["version"], [2]), (["psp", "state"], ["relative"]), (["psp", "x"], [1]), (["psp", "deadline_ms"], [0]),
                             (["surprise"], [1]),
                             (["writers"], [[-1], ["root"]]), (["socket"], ["x"]), (["owners"], [[]]), (["owners", "alice", "key", "d"], ["x"]),
                             (["owners", "alice", "key", "crv"], ["P-256"]), (["owners", "alice", "deadline_s"], [0]),
                             (["owners", "alice", "channel"], [{}, {"unix": "/x", "command": ["/y"]}, {"command": []}]),
                             (["owners", "alice", "channel"], [{"command": ["relative"]}, {"unix": "x"}]),
                             (["owners", "../x"], [good["owners"]["alice"]]), (["limits"], [{"launches": -1}, {"x": 1}]),
                             (["psp"], [{"backend": "ccp", "cek": "/x"}, {"backend": "emulated"}, {}]),
                             (["psp"], [{"backend": "xen", "layout": "snp"}, {"backend": "xen", "cek": "/x"}, {"backend": "xen", "state": "/x"},
                                        {"backend": "xen", "device": "/dev/sev"}, {"backend": "ccp", "layout": "vates-a"}])):
            broken += [changed(*path, to=value) for value in values]
        for value in broken:
            self.assertFalse(schema.is_valid(value), value)
            self.assertFalse(program(value), value)
        self.configuration.write_text(json.dumps(good))
        self.configuration.chmod(0o666)
        self.assertIn("others may write it", self.run_sevd("--check", "--config", str(self.configuration)).stderr)

    def test_backend_xen_without_its_hypercall(self):
        """Not Xen's dom0, or a Xen without the coco hypercall: one line says which, one what to do; no other PSP takes its place."""
        for psp in ({"backend": "xen"}, {"backend": "xen", "layout": "vates-b"}):
            self.configure(psp=psp)
            self.assertEqual(self.run_sevd("--check", "--config", str(self.configuration)).returncode, 0)
            done = self.run_sevd("--config", str(self.configuration))
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            said = [line for line in done.stderr.splitlines() if line.startswith("sevd: ")]
            self.assertEqual(len(said), 2, done.stderr)
            self.assertRegex(said[0], r"^sevd: error: PSP backend xen: (libxencall\.so\.1 cannot be loaded|/dev/xen/hypercall: |this Xen has no coco hypercall)")
            self.assertRegex(said[1], r"^sevd: hint: .")
            self.assertNotIn("emulated PSP:", done.stderr)
            self.assertFalse(self.socket.exists())

    def test_stop_points_are_for_the_emulated_psp_alone(self):
        self.configure(psp={"backend": "ccp"})
        refused = self.run_sevd("--config", str(self.configuration), "--stop-at", "state:running")
        self.assertIn("--stop-at is for tests with the emulated PSP alone", refused.stderr)
        self.configure()
        self.assertIn("is no point of a launch", self.run_sevd("--config", str(self.configuration), "--stop-at", "state:nowhere").stderr)

    def test_a_second_daemon_and_a_journal_of_somebody_else_are_refused(self):
        self.configure()
        self.start()
        done = self.run_sevd("--config", str(self.configuration), "--socket", str(self.dir / "other.sock"))
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "another|locked|in use")
        self.stop()
        (self.state / "journal.sqlite").write_bytes(b"this is no database, and never was one" * 100)
        done = self.run_sevd("--config", str(self.configuration))
        self.assertEqual(done.returncode, 2)
        self.assertIn("journal.sqlite", done.stderr)
        self.assertTrue((self.state / "journal.sqlite").read_bytes().startswith(b"this is no"))


if __name__ == "__main__":
    unittest.main()
