#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sevd under what its systemd unit takes from it (sandbox.py; its own filter of system calls besides), with the owner of a Qubes dom0: the channel command is the real qubes-exchange,
started by the real sevd, and asks a vault. Stand-ins only at the far end: qubesd's socket, and a Unix socket for qrexec's pipe (tests/qubes/far_end.py). qubesadmin is the real
one where QUBES_CORE_ADMIN_CLIENT names a checkout of core-admin-client. As root, in name spaces of its own."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import house

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/qubes"))
import far_end  # noqa: E402

UNIT = ROOT / "packaging/systemd/sevd.service"
PYTHON = "/usr/bin/python3"
# What is mounted: the programs and modules of dom0 over this system's, a /run with the far ends, and everything read-only but sevd's own (ProtectSystem=strict)
MOUNTS = r"""set -e
dom0=$1 own=$2; shift 2
mount -t tmpfs tmpfs /run
mkdir /run/qubes
mount --bind "$dom0/qubes" /run/qubes
touch /run/qubesd.sock
mount --bind "$dom0/qubesd.sock" /run/qubesd.sock
for folder in usr/bin usr/libexec usr/lib/python3/dist-packages etc; do
    mount -t overlay overlay -o "ro,lowerdir=$dom0/$folder:/$folder" "/$folder"
done
mount --bind "$own" "$own"
mount -o remount,bind,ro /
exec "$@"
"""


def reason_to_skip():
    if os.geteuid() != 0:
        return "a unit's rights can be taken away by root alone"
    for program in ("systemd-analyze", "unshare", PYTHON):
        if not shutil.which(program):
            return f"no {program}"
    tried = subprocess.run(["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, text=True, check=False)
    return f"no name spaces here: {tried.stderr.strip()}" if tried.returncode else None


class Sandboxed:
    """sevd in its unit's sandbox; in place of house.Process."""

    def __init__(self, its_house, dom0):
        config = its_house.folder / "sevd.json"
        config.write_text(json.dumps(its_house.configuration))
        config.chmod(0o600)
        self.log = its_house.folder / "sevd.log"
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTS, "sh", dom0, its_house.folder, sys.executable, "-B", ROOT / "tests/system/sandbox.py", UNIT,
                 house.program("sevd"), "--config", config]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        house.until("sevd answers", lambda: house.answers(its_house.socket) or self.died())

    def died(self):
        if self.process.poll() is not None:
            raise AssertionError(f"sevd ended with {self.process.returncode}:\n{self.text()}")
        return False

    def text(self):
        return self.log.read_text(errors="replace")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(house.PATIENCE)


class Channel(unittest.TestCase):
    def setUp(self):
        self.dom0 = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-dom0-"))
        self.addCleanup(shutil.rmtree, self.dom0, ignore_errors=True)
        self.dom0.chmod(0o755)
        for folder in ("usr/bin", "usr/libexec/xen-sev", "usr/lib/python3/dist-packages", "etc", "qubes"):
            (self.dom0 / folder).mkdir(parents=True)
        python = self.dom0 / "usr/lib/python3/dist-packages"
        shutil.copytree(ROOT / "libxl-hooks/qubes/xen_sev_qubes", python / "xen_sev_qubes", ignore=shutil.ignore_patterns("__pycache__"))
        checkout = os.environ.get("QUBES_CORE_ADMIN_CLIENT")
        if checkout:
            shutil.copytree(pathlib.Path(checkout) / "qubesadmin", python / "qubesadmin")
        else:
            (python / "qubesadmin.py").write_text(far_end.QUBESADMIN)
        (self.dom0 / "etc/qubes-release").write_text("Qubes release\n")  # by which qubesadmin knows that it is in dom0
        shutil.copy(ROOT / "libxl-hooks/qubes/qubes-exchange", self.dom0 / "usr/libexec/xen-sev")
        client = self.dom0 / "usr/bin/qrexec-client"
        client.write_text(far_end.QREXEC_CLIENT)
        client.chmod(0o755)
        self.qubesd = far_end.Qubesd(self.dom0 / "qubesd.sock")
        self.addCleanup(self.qubesd.close)
        self.house = house.House(channel=["/usr/libexec/xen-sev/qubes-exchange", "sev-vault"])
        self.addCleanup(self.house.close)
        config = self.house.owner_folder / "owner.json"
        config.write_text(config.read_text().replace('"relay"', '"dom0"'))
        self.vault = self.answering("sev-vault")
        # a channel that fails is tried again until then: well before the test's own patience ends
        self.house.configuration["owners"]["vault"]["deadline_s"] = int(house.PATIENCE / 3)
        self.house.daemon = Sandboxed(self.house, self.dom0)

    def answering(self, name):
        vault = far_end.Vault(self.dom0 / f"qubes/qrexec.{name}", house.PROGRAMS)
        vault.configured_in(self.house.owner_folder)
        self.addCleanup(vault.close)
        return vault

    def launch(self, name="work", layout="guest", status=0):
        done = self.house.sevctl("launch", "--image", self.house.folder / f"{layout}.json", "--owner", "vault", "--policy", "web", "--name", name, "--json")
        self.assertEqual(done.returncode, status, done.stdout.decode() + done.stderr.decode() + self.house.daemon.text())
        return json.loads(done.stdout)

    def test_the_sandbox_is_one(self):
        status = pathlib.Path(f"/proc/{self.house.daemon.process.pid}/status").read_text()
        self.assertIn("NoNewPrivs:\t1\n", status)
        self.assertIn("Seccomp:\t2\n", status)
        self.assertGreaterEqual(int(status.split("Seccomp_filters:\t")[1].split("\n")[0]), 3)  # the unit's two here, and sevd's own
        capabilities = int(status.split("CapBnd:\t")[1].split("\n")[0], 16)
        self.assertFalse(capabilities >> 16 & 1, "CAP_SYS_MODULE")
        # what a channel command, which is outside sevd's own filter, may not do
        probe = ("import ctypes, os, socket\n"
                 "libc = ctypes.CDLL(None, use_errno=True)\n"
                 "out = []\n"
                 "for call in (lambda: libc.unshare(0x10000000), lambda: libc.ptrace(0, 0, 0, 0), lambda: libc.personality(0x0040000), lambda: libc.init_module(0, 0, 0)):\n"
                 "    ctypes.set_errno(0); out.append((call(), ctypes.get_errno()))\n"
                 "try:\n    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n    out.append('packet')\nexcept OSError as error:\n    out.append(error.errno)\n"
                 "print(out)\n")
        done = subprocess.run([sys.executable, "-B", str(ROOT / "tests/system/sandbox.py"), str(UNIT), PYTHON, "-c", probe], capture_output=True, text=True, check=False)
        self.assertEqual(done.stdout, "[(-1, 1), (-1, 1), (-1, 1), (-1, 1), 97]\n", done.stderr)

    def test_a_launch_through_qrexecs_channel(self):
        result = self.launch()
        self.assertTrue(result["verdict"]["trusted"])
        self.assertEqual(self.vault.asked, ["xen-sev/session-request", "xen-sev/judgement-request"])
        self.assertIn(("admin.vm.List", "", "dom0"), self.qubesd.calls)
        self.assertIn("LAUNCH_SECRET", [step["step"] for step in result["steps"]])

    def test_the_relay_of_the_qube_and_a_vault_that_has_to_be_started(self):
        self.qubesd.features["work", "sev.relay"] = "sys-attest"
        self.qubesd.names = ("work", "sev-vault", "sys-attest")
        relay = self.answering("sys-attest")
        self.launch()
        self.assertEqual((len(relay.asked), self.vault.asked), (2, []))
        self.assertIn("sys-attest", self.qubesd.running)

    def test_a_vault_that_lies_is_refused_and_nothing_of_it_is_shown_as_it_is(self):
        terminal = b"\x1b]0;owned\x07\x1b[2J\x9b\xe2\x80\xae\r\n\0"
        good, kept = self.vault.answer, []

        def keeping(request):
            kept.append(good(request)[0])
            return kept[-1], 0

        self.vault.answer = keeping
        self.launch("honest")
        session, judgement = kept
        lies = {
            "control characters": lambda request: (terminal * 100, 0), "and a complaint": lambda request: (terminal, 3), "nothing": lambda request: (b"", 0),
            "no end": lambda request: (b"x" * ((12 << 20) + 1), 0), "half an answer": lambda request: (good(request)[0][:-100], 0),
            "an answer from before": lambda request: (session, 0), "another step's": lambda request: (judgement, 0),
            "two answers": lambda request: (good(request)[0] * 2, 0), "with more behind it": lambda request: (good(request)[0] + terminal, 0),
            "names of its own": lambda request: (json.dumps({"format": "xen-sev/exchange-answer", "version": 1, "launch_name": terminal.decode("latin-1"), "reason": terminal.decode("latin-1")}).encode(), 0),
        }
        for number, (lie, answer) in enumerate(lies.items()):
            with self.subTest(lie):
                self.vault.answer = answer
                name = f"lie-{number}"
                self.qubesd.names += (name,)
                failed = self.launch(name, status=1)
                self.assertEqual(failed["launch"]["state"], "failed")
                self.assertNotIn("LAUNCH_SECRET", [step["step"] for step in failed["steps"]])
                shown = self.house.sevctl("launches", "show", failed["launch"]["id"])
                self.assertNotRegex((shown.stdout + shown.stderr).decode(), r"[^ -~\n]")
        self.assertNotRegex(self.house.daemon.text(), r"[^ -~\n]")
        self.assertLess(len(self.house.daemon.text()), 64 << 10)
        self.vault.answer = good
        self.launch("honest-again")

    def test_a_no_and_no_vault_at_all(self):
        (self.house.folder / "evil").write_bytes(b"\x01" + (self.house.folder / "kernel").read_bytes()[1:])
        self.house.layout("evil-guest", kernel="evil")
        self.assertFalse(self.launch("evil", "evil-guest", status=1)["verdict"]["trusted"])
        self.qubesd.names = ("work",)
        failed = self.launch("lost", status=1)
        self.assertEqual(failed["launch"]["state"], "failed")
        self.assertIn("the channel command ended with status 2", failed["launch"]["reason"])
        self.assertIn("there is no qube sev-vault", self.house.daemon.text())  # its one printable line is in the journal


if __name__ == "__main__":
    REASON = reason_to_skip()
    if REASON:
        print(f"SKIPPED: {REASON}")
        sys.exit(77)
    unittest.main()
