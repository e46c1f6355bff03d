#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command with SEV_TEST_POSTGRESQL naming a PostgreSQL server of its own: in a temporary folder, on a Unix socket alone, as a user without
privileges."""

import glob
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIP = 77


def find_server():
    """Folder of PostgreSQL's server programs, or None."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True) + [
        str(pathlib.Path(p).resolve().parent) for p in [shutil.which("postgres")] if p
    ]
    return next((folder for folder in folders if all(os.access(f"{folder}/{name}", os.X_OK) for name in ("initdb", "postgres", "pg_isready"))), None)


class Server:
    """A server that lives as long as the `with` block."""

    def __init__(self, bin_folder):
        self.bin = bin_folder
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sev-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        os.chmod(self.folder, 0o755)
        self.process = None

    def command(self, *words):
        drop = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--"] if self.user else []
        return [*drop, *words]

    @property
    def environment(self):
        return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.folder)}

    def __enter__(self):
        subprocess.run(
            self.command(f"{self.bin}/initdb", "-D", str(self.folder / "data"), "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8"),
            check=True,
            stdout=subprocess.DEVNULL,
            env=self.environment,
            cwd="/",
        )
        return self.start()

    def start(self):
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            self.command(
                f"{self.bin}/postgres",
                "-D",
                str(self.folder / "data"),
                "-k",
                str(self.folder),
                "-c",
                "listen_addresses=",
                "-c",
                "unix_socket_permissions=0777",
                "-c",
                "max_connections=200",
            ),
            stdout=log,
            stderr=log,
            env=self.environment,
            cwd="/",
        )
        log.close()
        for _ in range(300):
            ready = subprocess.run([f"{self.bin}/pg_isready", "-h", str(self.folder), "-q"], check=False)
            if ready.returncode == 0:
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not start:\n" + (self.folder / "log").read_text(errors="replace"))

    def stop(self):
        """At once: clients are cut off."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def signal_all(self, number):
        """To the server and to each process that works for it."""
        for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, parent = int(entry.parent.name), int(entry.read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue  # it ended meanwhile
            if self.process.pid in (pid, parent):
                os.kill(pid, number)

    def __exit__(self, *_):
        if self.process:
            self.signal_all(signal.SIGCONT)
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def connection(self):
        return f"host={self.folder} user=tester dbname=postgres"


def main():
    folder = find_server()
    if not folder:
        print("SKIPPED: no PostgreSQL server is installed (package postgresql)")
        return SKIP
    with Server(folder) as server:
        return subprocess.run(sys.argv[1:], check=False, env={**os.environ, "SEV_TEST_POSTGRESQL": server.connection}).returncode


if __name__ == "__main__":
    sys.exit(main())
