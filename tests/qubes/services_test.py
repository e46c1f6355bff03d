#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The services as qrexec runs them, and dom0's half of an exchange against a called qube that is hostile: floods, stalls, talks over itself, sends control characters, dies."""
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT / "libxl-hooks/qubes"), str(HERE)]
from fake_sevd import FakeSevd  # noqa: E402

from xen_sev_qubes import carry, sevd, status  # noqa: E402


def qube(name, running=True, **features):
    vm = types.SimpleNamespace(name=name, features={f"sev.{key}": value for key, value in features.items()}, running=running, starts=0)
    vm.is_running = lambda: vm.running

    def start():
        vm.running, vm.starts = True, vm.starts + 1

    vm.start = start
    return vm


def system(*vms):
    return types.SimpleNamespace(domains={vm.name: vm for vm in vms})


class OwnerExchange(unittest.TestCase):
    """/etc/qubes-rpc/sev.OwnerExchange, whole, but for the two folders it looks in."""

    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="xen-sev-service-")))
        self.own, self.template, self.bin = self.dir / "own", self.dir / "template", self.dir / "bin"
        for folder in (self.own, self.template, self.bin):
            folder.mkdir()
        text = (ROOT / "libxl-hooks/qubes/vm/sev.OwnerExchange").read_text()
        self.assertEqual(text.count("/usr/local/etc/xen-sev /etc/xen-sev;"), 1)
        self.assertEqual(text.count("PATH=/usr/bin:/bin"), 1)
        text = text.replace("/usr/local/etc/xen-sev /etc/xen-sev;", f"{self.own} {self.template};").replace("PATH=/usr/bin:/bin", f"PATH={self.bin}:/usr/bin:/bin")
        self.service = self.dir / "sev.OwnerExchange"
        self.service.write_text(text)
        self.service.chmod(0o755)
        for name in ("sev-owner", "sev-relay"):
            program = self.bin / name
            program.write_text(f'#!/bin/sh\necho "{name} $*"\ncat\n')
            program.chmod(0o755)

    def run_service(self, *arguments, caller="dom0", data=b"request"):
        environment = {"QREXEC_REMOTE_DOMAIN": caller} if caller is not None else {}
        done = subprocess.run([self.service, *arguments], input=data, capture_output=True, env=environment, timeout=20)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_a_vault_answers_and_a_relay_carries(self):
        (self.own / "owner.json").write_text("{}")
        self.assertEqual(self.run_service(), (0, f"sev-owner exchange --config {self.own}/owner.json --channel dom0 --unlocked-memory\nrequest", ""))
        (self.own / "owner.json").unlink()
        (self.template / "relay.json").write_text("{}")
        self.assertEqual(self.run_service(), (0, f"sev-relay exchange --config {self.template}/relay.json\nrequest", ""))

    def test_the_qubes_own_configuration_comes_before_its_templates(self):
        (self.template / "relay.json").write_text("{}")
        (self.own / "owner.json").write_text("{}")
        self.assertIn("sev-owner", self.run_service()[1])

    def test_everything_else_is_refused(self):
        (self.own / "owner.json").write_text("{}")
        for arguments, caller in ((["launch"], "dom0"), (["-x"], "dom0"), ([], "work"), ([], "dom0x"), ([], ""), ([], None)):
            code, out, complaint = self.run_service(*arguments, caller=caller)
            self.assertEqual((code, out), (1, ""))
            self.assertIn("sev.OwnerExchange: ", complaint)
        (self.own / "relay.json").write_text("{}")
        self.assertIn("cannot be both", self.run_service()[2])
        (self.own / "relay.json").unlink()
        (self.own / "owner.json").unlink()
        self.assertIn("no vault and no relay", self.run_service()[2])


class Carry(unittest.TestCase):
    """qubes-exchange, with a qrexec-client of the test's own."""

    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="xen-sev-carry-")))
        self.client = self.dir / "qrexec-client"
        self.enterContext(unittest.mock.patch.dict(os.environ, {"PATH": f"{self.dir}:{os.environ['PATH']}"}))
        self.says('cat >/dev/null; printf answer')

    def says(self, script):
        self.client.write_text(f"#!/bin/sh\necho \"$*\" >{self.dir}/called\n{script}\n")
        self.client.chmod(0o755)

    def exchange(self, request=None, arguments=("sev-vault",), app=None, deadline="10"):
        request = json.dumps({"format": "xen-sev/session-request", "launch_name": "work"}).encode() if request is None else request
        app = app or system(qube("work"), qube("sev-vault"))
        out, complaint = io.BytesIO(), io.StringIO()
        with unittest.mock.patch("sys.stderr", complaint):
            code = carry.main([*arguments, "--deadline", deadline], app, io.BytesIO(request), out)
        self.assertEqual(len(complaint.getvalue().splitlines()), 0 if code == 0 else 1)
        self.assertIsNone(re.search(r"[^ -~\n]", complaint.getvalue()))
        return code, out.getvalue(), complaint.getvalue()

    def called(self):
        return (self.dir / "called").read_text().strip()

    def test_an_answer_comes_back_as_it_is(self):
        self.says("cat >/dev/null; printf 'a\\000b\\377'")
        self.assertEqual(self.exchange()[:2], (0, b"a\x00b\xff"))
        self.assertEqual(self.called(), "-d sev-vault -w 10 DEFAULT:QUBESRPC sev.OwnerExchange dom0")

    def test_the_request_arrives_whole(self):
        self.says("sha256sum")
        import hashlib  # pylint: disable=import-outside-toplevel
        request = json.dumps({"launch_name": "work", "padding": "x" * 5_000_000}).encode()
        self.assertIn(hashlib.sha256(request).hexdigest().encode(), self.exchange(request)[1])

    def test_sev_relay_of_the_launched_qube_goes_before(self):
        app = system(qube("work", relay="sys-attest"), qube("sev-vault"), qube("sys-attest", running=False))
        for request in ({"launch_name": "work"}, {"launch": {"launch_name": "work"}}):
            self.assertEqual(self.exchange(json.dumps(request).encode(), app=app)[0], 0)
            self.assertIn("-d sys-attest ", self.called())
        self.assertEqual(app.domains["sys-attest"].starts, 1)

    def test_odd_requests_go_to_the_owners_own_qube(self):
        app = system(qube("work", relay="sys-attest"), qube("sev-vault"), qube("sys-attest"))
        for request in (b"\xff", b"[]", b'{"launch_name": 7}', b'{"launch_name": "../work"}', b'{"launch_name": "nobody"}', b'{"launch": 7}', b"[" * 100000):
            self.assertEqual(self.exchange(request, app=app)[0], 0)
            self.assertIn("-d sev-vault ", self.called())

    def test_bad_targets_are_refused_before_anything_is_called(self):
        for arguments, app in ((["-d"], None), (["@adminvm"], None), (["a b"], None), (["nowhere"], None),
                               (["sev-vault"], system(qube("work", relay="work"), qube("sev-vault"))), (["sev-vault"], system(qube("work", relay="-x"), qube("sev-vault")))):
            if arguments == ["-d"]:
                arguments = ["--", "-d"]
                with unittest.mock.patch("sys.stderr", io.StringIO()), self.assertRaises(SystemExit):
                    carry.main([*arguments, "--deadline", "1"], app, io.BytesIO(b"x"), io.BytesIO())
                continue
            self.assertEqual(self.exchange(arguments=arguments, app=app)[0], 2)
            self.assertFalse((self.dir / "called").exists())

    def test_no_request_and_a_large_one_are_refused(self):
        self.assertIn("no request", self.exchange(b"")[2])
        with unittest.mock.patch.object(carry, "REQUEST_LIMIT_BYTES", 100):
            self.assertIn("more than 100 bytes", self.exchange(b"x" * 101)[2])

    def test_a_flood_is_cut_off(self):
        self.says("yes")
        began = time.monotonic()
        with unittest.mock.patch.object(carry, "ANSWER_LIMIT_BYTES", 1 << 20):
            code, out, complaint = self.exchange()
        self.assertEqual((code, out), (2, b""))
        self.assertIn("more than 1048576 bytes", complaint)
        self.assertLess(time.monotonic() - began, 8)

    def test_a_flood_of_complaints_is_cut_off_and_filtered(self):
        self.says("cat >/dev/null; head -c 3000000 /dev/zero | tr '\\0' '\\033' >&2; exit 1")
        code, out, complaint = self.exchange()
        self.assertEqual((code, out), (2, b""))
        self.assertIn("exit status 1", complaint)
        self.assertLess(len(complaint), 600)

    def test_one_that_says_nothing_one_that_drips_and_one_that_reads_nothing_meet_the_deadline(self):
        big = json.dumps({"launch_name": "work", "padding": "x" * 4_000_000}).encode()
        for script in ("exec sleep 60", "while :; do printf x; sleep 0.2; done", "exec >&-; exec sleep 60"):
            self.says(script)
            began = time.monotonic()
            code, out, complaint = self.exchange(big, deadline="1")
            self.assertEqual((code, out), (2, b""))
            self.assertRegex(complaint, "within 1 seconds")
            self.assertLess(time.monotonic() - began, 10)

    def test_one_that_answers_without_reading_is_heard(self):
        self.says("printf early; exec <&-; exit 0")
        big = json.dumps({"launch_name": "work", "padding": "x" * 4_000_000}).encode()
        self.assertEqual(self.exchange(big)[:2], (0, b"early"))

    def test_a_partial_answer_of_one_that_dies_is_no_answer(self):
        self.says("cat >/dev/null; printf 'half an ans'; kill -9 $$")
        self.assertEqual(self.exchange()[:2], (2, b""))

    def test_qrexecs_exit_codes_are_explained(self):
        for code, words in ((127, "install xen-sev-qubes"), (126, "policy refused"), (125, "could not run")):
            self.says(f"cat >/dev/null; exit {code}")
            self.assertIn(words, self.exchange()[2])

    def test_many_at_once_do_not_mix(self):
        self.says("cat")
        wrong = []

        def one(number):
            request = json.dumps({"launch_name": "work", "number": number, "padding": "y" * (number * 50_000)}).encode()
            if carry.carry([str(self.client)], request, 30) != request:
                wrong.append(number)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


class Status(unittest.IsolatedAsyncioTestCase):
    async def test_a_qube_is_told_of_itself(self):
        with tempfile.TemporaryDirectory() as folder:
            socket = f"{folder}/s"
            async with FakeSevd(socket) as fake:
                fake.launches = {3: {"id": 3, "name": "work", "state": "running", "verdict": {"trusted": True, "checks": []}, "level": 1, "emulated": True, "owner": "vault", "asid": 4},
                                 4: {"id": 4, "name": "other", "state": "running"}}
                original = sevd.ask
                with unittest.mock.patch.object(sevd, "ask", lambda method, target: original(method, target, socket=socket)):
                    told = status.told("work", await status.latest("work"))
        self.assertEqual(told, {"format": "xen-sev/qube-status", "version": 1, "qube": "work", "attested": True, "state": "running", "level": 1, "emulated": True, "owner": "vault"})
        try:
            import jsonschema  # pylint: disable=import-outside-toplevel
        except ImportError:
            self.skipTest("python3-jsonschema is absent")
        jsonschema.validate(told, json.loads((ROOT / "docs/schemas/qube-status.schema.json").read_text()))


if __name__ == "__main__":
    unittest.main()
