# SPDX-License-Identifier: Apache-2.0
"""What the tests of the program share: an owner in a temporary folder, its process, and HTTP over its sockets."""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

import host

OWNER = os.environ.get("SEV_OWNER", str(host.ROOT / "build/dev/bin/sev-owner"))
SECRET = (host.FIXTURES / "attest/disk.key").read_bytes()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=30):
        super().__init__("owner", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


def request(connection, method, path, body=None, headers=None):
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})} if body is not None else headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


class Owner:
    """One instance: a folder, and a process while it serves."""

    def __init__(self, folder, *, like=None, store=None, **changes):
        self.folder = pathlib.Path(folder)
        self.socket = self.folder / "owner.sock"
        self.config = self.folder / "owner.json"
        self.process = None
        run(OWNER, "init", str(self.folder), "--socket", str(self.socket), "--client-uid", str(os.getuid()), "--client-stdio", "dom0")
        if like:  # another instance of the same owner
            for name in ("owner.key", "seal.keys"):
                shutil.copy(like.folder / name, self.folder / name)
        (self.folder / "policies/web.json").write_text(json.dumps(host.policy()))
        for name in ("one.bin", "two.bin", "disk.key"):
            shutil.copy(host.FIXTURES / "attest" / name, self.folder / "policies" / name)
        self.change(viewers={"uids": [os.getuid()], "certificates": []}, **({"store": store} if store else {}), **changes)
        self.jwk = json.loads(run(OWNER, "key", "show", "--config", str(self.config)))

    def change(self, **changes):
        value = json.loads(self.config.read_text()) | changes
        self.config.write_text(json.dumps(value))

    def start(self, user=None):
        self.log = open(self.folder / "log", "ab")
        drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] if user else []
        self.process = subprocess.Popen([*drop, OWNER, "serve", "--config", str(self.config), "--unlocked-memory"], stdout=self.log, stderr=self.log)
        for _ in range(400):
            if self.process.poll() is not None:
                break
            try:
                if self.get("/health").status == 200:
                    return self
            except OSError:
                time.sleep(0.025)
        raise AssertionError("sev-owner does not serve:\n" + self.log_text())

    def stop(self, how=signal.SIGTERM):
        if not self.process:
            return None
        self.process.send_signal(how)
        status = self.process.wait(30)
        self.process = None
        self.log.close()
        return status

    def log_text(self):
        return (self.folder / "log").read_text(errors="replace") if (self.folder / "log").exists() else ""

    def get(self, path, **more):
        return request(UnixConnection(self.socket), "GET", path, **more)

    def ask_raw(self, body):
        return request(UnixConnection(self.socket), "POST", "/v1/exchange", body)

    def ask(self, body):
        out = self.ask_raw(body)
        assert out.status == 200, out.text
        return host.answer(out.text, body, self.jwk)

    def exchange(self, body, channel="dom0"):
        done = subprocess.run(
            [OWNER, "exchange", "--config", str(self.config), "--channel", channel, "--unlocked-memory"],
            input=body,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return host.answer(done.stdout.decode(), body, self.jwk)

    def command(self, *words, status=0):
        return run(OWNER, *words, "--config", str(self.config), status=status)


def run(*words, status=0, **more):
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **more)
    if done.returncode != status:
        raise AssertionError(f"{words}: status {done.returncode}, want {status}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sev-owner-"))
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.owners = []
        self.addCleanup(lambda: [owner.process and owner.stop(signal.SIGKILL) for owner in self.owners])

    def owner(self, name="one", **more):
        out = Owner(self.dir / name, **more)
        self.owners.append(out)
        return out

    def launch(self, ask_first, ask_second=None):
        """A whole launch; returns the judgement's answer and the session."""
        first = host.session_request()
        session = host.Session(ask_first(first)["offer"])
        second = host.judgement_request(session.evidence())
        return (ask_second or ask_first)(second), session

    def expect_trusted(self, answer, session):
        judgement = answer["judgement"]
        self.assertTrue(judgement["verdict"]["trusted"], [check for check in judgement["verdict"]["checks"] if not check["passed"]])
        self.assertEqual(len(judgement["packets"]), 1)
        self.assertIn(SECRET, session.open_packet(judgement["packets"][0]))
        return judgement


def make_certificates(folder):
    """ca.pem, server, and clients alice and bob of it; mallory of another CA."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    folder.mkdir()
    for ca in ("ca", "otherca"):
        openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            f"{ca}.key",
            "-out",
            f"{ca}.pem",
            "-subj",
            f"/CN={ca}",
            "-days",
            "30",
        )
    for name, ca in (("server", "ca"), ("alice", "ca"), ("bob", "ca"), ("mallory", "otherca")):
        openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n" if name == "server" else "extendedKeyUsage=clientAuth\n")
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            f"{ca}.pem",
            "-CAkey",
            f"{ca}.key",
            "-CAcreateserial",
            "-out",
            f"{name}.pem",
            "-days",
            "30",
            "-extfile",
            "ext",
        )
    for path in folder.glob("*.key"):
        path.chmod(0o600)


def tls(folder, client=None):
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if client:
        context.load_cert_chain(folder / f"{client}.pem", folder / f"{client}.key")
    return context


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Result(unittest.TextTestResult):
    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main():
    """Runs the calling program's tests and ends it: with 1 unless all that ran passed and something did; with 77, which ctest reports as skipped,
    when all were skipped; and with 1 for any that was skipped for want of a "(package NAME)" where SEV_NO_SKIP is 1: there, all are installed."""
    result = unittest.main(testRunner=unittest.TextTestRunner(resultclass=Result), exit=False).result
    wanting = [(test, reason) for test, reason in result.skipped if "(package " in reason and os.environ.get("SEV_NO_SKIP") == "1"]
    for test, reason in wanting:
        print(f"SEV_NO_SKIP is 1, and {test} was skipped: {reason}", file=sys.stderr)
    if wanting or not result.wasSuccessful():
        sys.exit(1)
    sys.exit(0 if result.passed else 77 if result.skipped else 1)
