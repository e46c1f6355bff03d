# SPDX-License-Identifier: Apache-2.0
"""What the tests of sevd as a program share: a host with an emulated chip, a small owner, an image guest, and HTTP over a Unix socket."""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "build/dev/bin"
SEVD = os.environ.get("SEVD", str(BIN / "sevd"))
OWNER = os.environ.get("DAEMON_OWNER", str(BIN / "daemon_owner"))
EMULATOR = os.environ.get("SEV_EMULATOR", str(BIN / "sev-emulator"))
ENDED = ("refused", "failed", "cancelled", "destroyed")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def rss_kib(pid):
    """Resident set of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


class Owner:
    """The test owner as a process. Ends with its stdin."""

    def __init__(self, directory, mode="honest", delay_ms=0):
        self.directory, self.socket, self.key_file = directory, directory / "owner.sock", directory / "owner.jwk"
        self.process = subprocess.Popen([OWNER, str(directory / "policy.json"), str(self.socket), str(self.key_file), mode, str(delay_ms)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        self.key = json.loads(self.key_file.read_text())

    def stop(self):
        """What it counted: sessions made, launches judged, verdicts with secrets."""
        if self.process.poll() is not None:
            return {}
        words = self.process.communicate("", timeout=30)[0].split()
        return dict(zip(words[::2], map(int, words[1::2])))


class Host(unittest.TestCase):
    """A test with a host of its own."""

    faults = []
    image_bytes = 3 << 16

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-sevd-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.socket, self.state = self.dir / "sevd.sock", self.dir / "state"
        self.state.mkdir()
        subprocess.run([EMULATOR, "create", "--state", self.dir / "psp"], check=True, stdout=subprocess.DEVNULL)
        self.chip = json.loads(subprocess.run([EMULATOR, "show", "--state", self.dir / "psp", "--json"], check=True, capture_output=True).stdout)
        (self.dir / "one").write_bytes(bytes(i * 7 & 255 for i in range(self.image_bytes)))
        (self.dir / "two").write_bytes(b"x" * 5000)
        (self.dir / "secret").write_bytes(b"correct horse battery staple")
        parts = [{"label": "one", "gpa": "0x100000", "file": "one"}, {"label": "two", "gpa": "0x10000000", "file": "two"}]
        self.layout = self.dir / "guest.json"
        self.layout.write_text(json.dumps({"format": "xen-sev/image-layout", "version": 1, "parts": parts,
                                           "slots": [{"name": "initrd", "gpa": "0x20000000", "length": 4096}]}))
        self.write_policy(parts)
        self.daemon = self.owner = None
        self.log = open(self.dir / "log", "ab", buffering=0)
        self.addCleanup(self.log.close)
        self.addCleanup(self.end)

    def write_policy(self, parts, es=False):
        (self.dir / "policy.json").write_text(json.dumps({
            "format": "xen-sev/owner-policy", "version": 1, "owner": "test",
            "validity": {"not_before": "2020-01-01T00:00:00Z", "not_after": "2090-01-01T00:00:00Z"},
            "roots": {"amd": [], "other": [{"label": "test emulator", "product": "naples", "emulated": True,
                                            "fingerprint": self.chip["root_fingerprint"]}]},
            "chips": [{"label": "chip", "cek": self.chip["cek_fingerprint"]}],
            "minimum_build": "0.17.22", "accept_unproven_build": False,
            "guest_policy": {"required": ["NODBG", "NOKS"] + ["ES"] * es, "forbidden": [] if es else ["ES"]}, "level": 0, "evidence": ["measurement"],
            "references": [{"name": "guest", "image": {"parts": [{"label": p["label"], "gpa": p["gpa"], "file": p["file"]} for p in parts]}}],
            "secrets": [{"name": "key", "file_name": "key", "path": "secret", "when": {"references": ["guest"]}}],
            "accepted_advisories": []}))

    def end(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        if self.owner:
            self.owner.stop()

    def configure(self, **changes):
        owner = {"key": self.owner.key, "channel": {"unix": str(self.owner.socket)}, "deadline_s": 20} if self.owner else None
        configuration = {"format": "xen-sev/sevd-configuration", "version": 1,
                         "psp": {"backend": "emulated", "state": str(self.dir / "psp"), "faults": self.faults, "deadline_ms": 2000},
                         "socket": str(self.socket), "state": str(self.state), "writers": [os.getuid()],
                         "owners": {"alice": owner} if owner else {}}
        configuration.update(changes)
        self.configuration = self.dir / "sevd.json"
        self.configuration.write_text(json.dumps(configuration))
        self.configuration.chmod(0o600)

    def carrier(self):
        """A channel's program that carries to the owner's socket."""
        carrier = self.dir / "carrier"
        carrier.write_text(f"""#!{sys.executable} -B
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import host
connection = host.UnixConnection({str(self.owner.socket)!r})
connection.request("POST", "/v1/exchange", sys.stdin.buffer.read(), {{"Content-Type": "application/json"}})
sys.stdout.buffer.write(connection.getresponse().read() + b"\\n")
""")
        carrier.chmod(0o755)
        return str(carrier)

    def start(self, *options, wait=True):
        """Starts sevd and returns how long it took until it answered."""
        begun = time.monotonic()
        command = [SEVD, "--config", str(self.configuration), *options]
        self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        while wait:
            with contextlib.suppress(OSError):
                if self.get("/v1/status", timeout=5)[0] == 200:
                    break
            self.assertIsNone(self.daemon.poll(), self.log_text())
            self.assertLess(time.monotonic() - begun, 20, self.log_text())
            time.sleep(0.002)
        return time.monotonic() - begun

    def log_text(self):
        return (self.dir / "log").read_text(errors="replace")[-4000:]

    def ask(self, method, path, body=None, timeout=30, headers=None):
        """Status, body (parsed when it is JSON) and headers."""
        connection = UnixConnection(self.socket, timeout)
        try:
            all_headers = {"Content-Type": "application/json"} if body is not None else {}
            all_headers.update(headers or {})
            connection.request(method, path, None if body is None else body if isinstance(body, bytes) else json.dumps(body), all_headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        kind = answer.getheader("Content-Type", "")
        return answer.status, json.loads(data) if "json" in kind else data, dict(answer.getheaders())

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def request(self, name="web", **changes):
        return {"name": name, "owner": "alice", "policy": "web", "guest": {"kind": "image", "layout": str(self.layout)}, **changes}

    def launch(self, name="web", **changes):
        status, record, _ = self.ask("POST", "/v1/launches", self.request(name, **changes))
        self.assertEqual(status, 201, record)
        return record["id"]

    def settle(self, launch, *states, seconds=20):
        """The launch once it has one of these states, or has ended."""
        until = time.monotonic() + seconds
        while True:
            record = self.get(f"/v1/launches/{launch}")[1]
            if record["state"] in states or record["state"] in ENDED:
                return record
            self.assertLess(time.monotonic(), until, record)
            time.sleep(0.01)

    def stop(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.assertEqual(self.daemon.wait(30), 0, self.log_text())

    def journal(self, sql):
        """Reads the journal of a daemon that is not running."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/journal.sqlite?mode=ro", uri=True)) as database:
            return database.execute(sql).fetchall()
