#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""1,000 clients at once, against sevd, against sev-owner on its Unix socket and against its HTTPS: they connect and say nothing, send slowly, or send up to 10 GiB. Each is cut off early by
the server, by itself; its memory stays bounded, and an honest client is answered meanwhile."""
import json
import os
import pathlib
import resource
import selectors
import socket
import subprocess
import sys
import time
import unittest

import house
from kill_test import free_port, make_certificates

CROWD = 1000
GIB = 1 << 30
PIECE = b"x" * 65536
SANITIZED = os.environ.get("SEV_SANITIZED") == "1"
MEMORY_KIB = 32 * 1024 * (8 if SANITIZED else 1)  # what a crowd may cost, at any time; a sanitizer keeps what was freed
HEAD = b"POST /v1/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def rss_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


class Client:
    """One of the crowd. `begin` is sent at once, then `more()` whenever it may, until it has sent `limit` bytes or is cut off."""

    def __init__(self, connect, begin, more, pause):
        self.socket = connect()
        self.waiting, self.more, self.pause = begin, more, pause
        self.sent, self.next, self.ended = 0, 0.0, None

    def turn(self, now):
        """Sends what goes; true when something went."""
        if now < self.next:
            return False
        if not self.waiting:
            self.waiting = self.more()
            if not self.waiting:
                return False
        went = self.socket.send(self.waiting)
        self.sent += went
        self.waiting = self.waiting[went:]
        self.next = now + self.pause
        return True


class Crowds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 2 * CROWD:
            raise unittest.SkipTest(f"SKIPPED: {hard} open files are too few for {CROWD} clients")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * CROWD if hard == resource.RLIM_INFINITY else min(hard, 4 * CROWD)), hard))
        cls.house = h = house.House(limits={"requests_per_second": 1000, "burst": 1000})
        cls.port = free_port()
        fingerprint = make_certificates(h.folder / "tls")
        path = h.owner_folder / "owner.json"
        config = json.loads(path.read_text())
        config["listen"].append({"https": "127.0.0.1", "port": cls.port, "certificate": str(h.folder / "tls/server.pem"), "private_key": str(h.folder / "tls/server.key"),
                                 "client_ca": str(h.folder / "tls/ca.pem")})
        config["clients"].append({"certificate": fingerprint, "policies": "any"})
        path.write_text(json.dumps(config))
        h.start()
        cls.servers = {"sevd": (cls.unix(h.socket), h.daemon, b"launches"), "sev-owner": (cls.unix(h.owner_socket), h.owner, b"exchange"), "https": (cls.tcp, h.owner, b"exchange")}

    @classmethod
    def tearDownClass(cls):
        cls.house.close()

    @staticmethod
    def unix(path):
        def connect():
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(20)
            one.connect(str(path))
            one.setblocking(False)
            return one

        return connect

    @classmethod
    def tcp(cls):
        one = socket.create_connection(("127.0.0.1", cls.port), timeout=20)
        one.setblocking(False)
        return one

    def honest(self, name):
        """A client like any other is served, and soon."""
        begun = time.monotonic()
        if name == "sevd":
            house.check_http(self.house.socket, "/v1/status")
        elif name == "sev-owner":
            house.check_http(self.house.owner_socket, "/health")
        else:
            tls = self.house.folder / "tls"
            said = subprocess.run(["openssl", "s_client", "-quiet", "-no_ign_eof", "-connect", f"localhost:{self.port}", "-CAfile", tls / "ca.pem", "-cert", tls / "host.pem", "-key", tls / "host.key"],
                                  input=b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", capture_output=True, timeout=house.PATIENCE)
            if b" 200 " not in said.stdout:  # s_client ends with its input; ask again and wait for the answer
                with subprocess.Popen(["openssl", "s_client", "-quiet", "-connect", f"localhost:{self.port}", "-CAfile", tls / "ca.pem", "-cert", tls / "host.pem", "-key", tls / "host.key"],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
                    client.stdin.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    client.stdin.flush()
                    self.assertIn(b" 200 ", client.stdout.readline())
        return time.monotonic() - begun

    def crowd(self, name, begin, more=lambda: b"", pause=0.0, seconds=45):
        """Lets a crowd loose until the server has cut off every one of it. Returns how long that took, what all sent together, and the server's worst memory above the first."""
        connect, process, _ = self.servers[name]
        pid = process.process.pid
        before = worst = rss_kib(pid)
        begun = time.monotonic()
        chosen = selectors.DefaultSelector()
        crowd = [Client(connect, begin, more, pause) for _ in range(CROWD)]
        for one in crowd:
            chosen.register(one.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, one)
        honest = measured = 0.0
        waits = []
        try:
            while chosen.get_map():
                now = time.monotonic()
                self.assertLess(now - begun, seconds, f"{len(chosen.get_map())} of {CROWD} are still connected")
                busy = False
                for key, events in chosen.select(0.05):
                    one = key.data
                    try:
                        if events & selectors.EVENT_READ:
                            if not one.socket.recv(65536):
                                raise ConnectionResetError
                            busy = True
                        if events & selectors.EVENT_WRITE and one.sent < 10 * GIB:
                            busy = one.turn(now) or busy
                    except BlockingIOError:
                        pass
                    except OSError:
                        chosen.unregister(one.socket)
                        one.socket.close()
                if now - measured > 0.2:
                    measured, worst = now, max(worst, rss_kib(pid))
                if now - honest > 2:
                    waits.append(self.honest(name))
                    honest = time.monotonic()
                if not busy:
                    time.sleep(0.005)
        finally:
            for key in list(chosen.get_map().values()):
                key.data.socket.close()
            chosen.close()
        took, sent = time.monotonic() - begun, sum(one.sent for one in crowd)
        print(f"{name}: {took:.1f} s until all were cut off, {sent / 1048576:.1f} MiB sent, {worst - before} KiB more, honest client {max(waits):.2f} s", flush=True)
        self.assertLess(worst - before, MEMORY_KIB)
        self.assertLess(max(waits), 5)
        self.assertIsNone(process.process.poll())
        return took, sent

    def test_who_says_nothing(self):
        for name in self.servers:
            with self.subTest(name):
                self.crowd(name, b"")

    def test_who_sends_slowly(self):
        for name in self.servers:
            with self.subTest(name):
                self.crowd(name, b"P", lambda: b"x", pause=0.2)

    def test_who_sends_a_body_slowly(self):
        for name in ("sevd", "sev-owner"):  # before its handshake HTTPS has no bodies
            with self.subTest(name):
                self.crowd(name, HEAD % self.servers[name][2] + b"Content-Length: 5000\r\n\r\n", lambda: b" ", pause=0.2)

    def test_who_sends_ten_gibibytes(self):
        for name, (_, _, place) in self.servers.items():
            head = HEAD % place
            for begin in (head + b"Content-Length: 10737418240\r\n\r\n", head + b"Transfer-Encoding: chunked\r\n\r\n280000000\r\n", head + b"X: ", b"GET /"):
                with self.subTest(name, begin=begin[-30:]):
                    _, sent = self.crowd(name, begin, lambda: PIECE)
                    self.assertLess(sent / CROWD, 2 << 20)  # of 10 GiB each: what the sockets' buffers and one body may hold

    def test_afterwards_all_is_as_before(self):
        for name in self.servers:
            self.assertLess(self.honest(name), 2)
        self.assertEqual(self.house.launch()[0], 0)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    unittest.main()
