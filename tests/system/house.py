# SPDX-License-Identifier: Apache-2.0
"""The whole house on one machine, in a temporary folder, with the real programs: an emulated chip, sev-owner, sev-relay, sevd and sevctl. Nothing of it needs root."""
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PROGRAMS = pathlib.Path(os.environ.get("SEV_PROGRAMS", "build/dev/bin")).resolve()
PATIENCE = float(os.environ.get("SEV_PATIENCE", "60"))  # seconds that anything may take before a test gives up
SECRET = b"correct horse battery staple\n"


def program(name):
    return str(PROGRAMS / name)


def run(name, *words, **more):
    return subprocess.run([program(name), *map(str, words)], capture_output=True, timeout=PATIENCE, **more)


def check(name, *words, **more):
    done = run(name, *words, **more)
    if done.returncode != 0:
        raise AssertionError(f"{name} {words}: {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


def answers(path):
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(str(path))
            return True
        except OSError:
            return False


class Process:
    """A program of ours, ended by its pid. Its stderr goes to a file, for whoever asks why."""

    def __init__(self, folder, name, words, socket_path):
        self.log = folder / f"{name}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([program(name), *map(str, words)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
        until(f"{name} answers\n{self.text()}", lambda: answers(socket_path) or self.died(name))

    def died(self, name):
        if self.process.poll() is not None:
            raise AssertionError(f"{name} ended with {self.process.returncode}:\n{self.text()}")
        return False

    def text(self):
        return self.log.read_text(errors="replace")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        return self.process.wait(PATIENCE)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@functools.cache
def advisories():
    return [one["id"] for one in json.loads(check("sevctl", "advisories", "--json"))["advisories"]]


class House:
    """One host and its owner. `channel` is sevd's way to the owner: None for the owner's Unix socket, or a command line. `chip`: a folder made by
    sev-emulator create, of which this house has a copy; None makes one."""

    def __init__(self, channel=None, es=False, faults=(), limits=None, chip=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-house-"))
        self.folder.chmod(0o700)
        self.owner = self.daemon = None
        self.es = es
        if chip:
            shutil.copytree(chip, self.folder / "psp")
        else:
            check("sev-emulator", "create", "--state", self.folder / "psp", "--personality", "epyc-7002" if not es else "epyc-3151")
        self.chip = json.loads(check("sev-emulator", "show", "--state", self.folder / "psp", "--json"))
        (self.folder / "luks-key").write_bytes(SECRET)
        (self.folder / "luks-key").chmod(0o600)
        (self.folder / "kernel").write_bytes(bytes(range(256)) * 64)
        (self.folder / "initrd").write_bytes(bytes(4096) + b"070701" + bytes(4090))
        self.owner_folder = self.folder / "owner"
        self.owner_socket = self.folder / "owner.sock"
        check("sev-owner", "init", self.owner_folder, "--socket", self.owner_socket, "--client-uid", os.getuid(), "--client-stdio", "relay")
        config = json.loads((self.owner_folder / "owner.json").read_text())
        config["viewers"] = {"uids": [os.getuid()], "certificates": []}
        config.setdefault("limits", {}).update(limits or {})
        if not config["limits"]:
            del config["limits"]
        (self.owner_folder / "owner.json").write_text(json.dumps(config))
        self.key = json.loads(check("sev-owner", "key", "show", "--config", self.owner_folder / "owner.json"))
        self.policy("web")
        self.layout("guest")
        self.socket = self.folder / "sevd.sock"
        self.state = self.folder / "state"
        self.state.mkdir(mode=0o700, exist_ok=True)
        self.configuration = {
            "format": "xen-sev/sevd-configuration", "version": 1,
            "psp": {"backend": "emulated", "state": str(self.folder / "psp"), "faults": list(faults)},
            "socket": str(self.socket), "state": str(self.state), "writers": [os.getuid()],
            "owners": {"vault": {"key": self.key, "channel": {"command": list(map(str, channel))} if channel else {"unix": str(self.owner_socket)}, "deadline_s": 30}},
        }

    # what the owner trusts, and what the host has
    def policy(self, name, **changes):
        policy = {
            "format": "xen-sev/owner-policy", "version": 1, "owner": "house", "validity": {"not_before": "2025-01-01T00:00:00Z", "not_after": "2099-12-31T23:59:59Z"},
            "roots": {"amd": [], "other": [{"label": "house emulator", "product": self.chip["product"], "emulated": True, "fingerprint": self.chip["root_fingerprint"]}]},
            "chips": [{"label": "house chip", "cek": self.chip["cek_fingerprint"]}], "minimum_build": "0.17.0", "accept_unproven_build": False,
            "guest_policy": {"required": ["NODBG", "NOKS"], "forbidden": [] if self.es else ["ES"]}, "level": 0, "evidence": ["measurement"],
            "references": [{"name": "the guest", "image": {"parts": [{"label": "initrd", "gpa": "0x10000000", "file": str(self.folder / "initrd")},
                                                                     {"label": "kernel", "gpa": "0x1000000", "file": str(self.folder / "kernel")}]}}],
            "secrets": [{"name": "disk key", "file_name": "luks-key", "path": str(self.folder / "luks-key"), "when": {"references": ["the guest"]}}],
            "accepted_advisories": advisories(),
        }
        policy.update(changes)
        path = self.owner_folder / "policies" / f"{name}.json"
        path.write_text(json.dumps(policy))
        path.chmod(0o600)
        return policy

    def layout(self, name, kernel="kernel"):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"format": "xen-sev/image-layout", "version": 1,
                                    "parts": [{"label": "initrd", "gpa": "0x10000000", "file": str(self.folder / "initrd")},
                                              {"label": "kernel", "gpa": "0x1000000", "file": str(self.folder / kernel)}],
                                    "slots": [{"name": "initrd", "gpa": "0x10000000", "length": 4096}]}))
        return path

    # services
    def start_owner(self):
        self.owner = Process(self.folder, "sev-owner", ["serve", "--config", self.owner_folder / "owner.json"], self.owner_socket)

    def start_daemon(self, *words):
        path = self.folder / "sevd.json"
        path.write_text(json.dumps(self.configuration))
        path.chmod(0o600)
        self.daemon = Process(self.folder, "sevd", ["--config", path, *words], self.socket)

    def start(self):
        self.start_owner()
        self.start_daemon()
        return self

    def close(self):
        for process in (self.daemon, self.owner):
            if process and process.process.poll() is None:
                process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind:
            for process in (self.daemon, self.owner):
                if process:
                    print(process.text(), file=sys.stderr)
        self.close()

    # the host admin
    def sevctl(self, *words, **more):
        return run("sevctl", *words, "--socket", self.socket, **more)

    def launch(self, *words, layout="guest", policy="web"):
        """sevctl launch --json, to its end: (exit status, result or stderr)."""
        done = self.sevctl("launch", "--image", self.folder / f"{layout}.json", "--owner", "vault", "--policy", policy, "--name", "web", "--json", *words)
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr.decode()

    def launches(self):
        return json.loads(check("sevctl", "launches", "list", "--limit", 1000, "--socket", self.socket, "--json"))["launches"]

    def status(self):
        return json.loads(check_http(self.socket, "/v1/status"))

    def sessions(self):
        return json.loads(check("sev-owner", "sessions", "list", "--config", self.owner_folder / "owner.json", "--limit", 10000, "--json"))["sessions"]


def check_http(path, target):
    """GET over a Unix socket with nothing but the standard library."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(PATIENCE)
        one.connect(str(path))
        one.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while piece := one.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise AssertionError(data.decode(errors="replace"))
    return body
