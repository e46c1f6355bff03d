#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sev-relay exchange against a service on the loopback that answers right and in every wrong way: what it carries it neither reads nor sends twice."""
import argparse
import base64
import http.server
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import key_server

parser = argparse.ArgumentParser()
parser.add_argument("--relay", required=True)
options, rest = parser.parse_known_args()
REQUEST = b'{"any": "bytes \xff\x00 at all"}'
ANSWER = b"eyJh.eyJi.c2ln"
DEADLINE = 4  # seconds, of those that pass: half of it is room for a machine at work


class Owner:
    """A service with TLS 1.3 that wants a client certificate. `answer` is a function (handler) or bytes."""

    def __init__(self, folder, answer=ANSWER, version=ssl.TLSVersion.TLSv1_3, port=0):
        owner = self
        self.answer, self.requests, self.peers, self.stopping = answer, [], [], threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.requests.append((self.path, self.headers["Content-Type"], body))
                owner.peers.append(self.connection.getpeercert())
                self.close_connection = True
                if callable(owner.answer):
                    owner.answer(self)
                else:
                    send(self, owner.answer)

            def do_GET(self):
                owner.requests.append((self.path, None, None))
                send(self, ANSWER)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        context.minimum_version = context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
        self.http = Server(("127.0.0.1", port), Handler)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()


def send(handler, body, code=200, kind="application/jose", length=None, headers=()):
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    if kind:
        handler.send_header("Content-Type", kind)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


class Proxy:
    """An HTTP proxy that opens the way to whatever CONNECT names, or answers with `status`. It wants `credentials`, if any."""

    def __init__(self, status=200, credentials=None):
        proxy = self
        self.status, self.asked = status, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_CONNECT(self):
                proxy.asked.append(self.path)
                wanted = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
                status = proxy.status if self.headers["Proxy-Authorization"] == wanted else 407
                self.send_response(status)
                if status == 407:
                    self.send_header("Proxy-Authenticate", 'Basic realm="office"')
                self.end_headers()
                if status == 200:
                    host, port = self.path.rsplit(":", 1)
                    with socket.create_connection((host, int(port)), 30) as there:
                        back = threading.Thread(target=pump, args=(there, self.connection))
                        back.start()
                        pump(self.connection, there)
                        back.join()
                self.close_connection = True

            def log_message(self, *_):
                pass

        def pump(source, sink):
            try:
                while piece := source.recv(65536):
                    sink.sendall(piece)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # one end is gone

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.place = f"localhost:{self.http.server_address[1]}"
        self.url = f"http://{self.place}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class Exchange(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-exchange-"))
        key_server.make_certificates(cls.folder)
        os.chmod(cls.folder / "server.key", 0o600)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def owner(self, *args, **more):
        owner = Owner(self.folder, *args, **more)
        self.addCleanup(owner.close)
        return owner

    def proxy(self, *args, **more):
        proxy = Proxy(*args, **more)
        self.addCleanup(proxy.close)
        return proxy

    def run_relay(self, url, *words, request=REQUEST, identity=True, cacert="ca.pem", proxy="none", **more):
        command = [options.relay, "exchange", "--owner", url, "--cacert", str(self.folder / cacert), *(["--proxy", proxy] if proxy else []), *words]
        if identity:  # any certificate of that CA will do here: the server's own
            command += ["--cert", str(self.folder / "server.pem"), "--key", str(self.folder / "server.key")]
        if "--deadline" not in words:
            command += ["--deadline", "30"]
        return subprocess.run(command, input=request, capture_output=True, timeout=60, **more)

    def refused(self, done, *words):
        self.assertEqual(done.returncode, 2, done)
        self.assertEqual(done.stdout, b"")
        lines = done.stderr.decode().splitlines()
        self.assertLessEqual(len(lines), 2, lines)
        self.assertTrue(lines[0].startswith("sev-relay: error: "), lines)
        for word in words:
            self.assertIn(word, done.stderr.decode())

    def test_bytes_go_out_and_come_back_as_they_are(self):
        owner = self.owner()
        done = self.run_relay(owner.url + "/")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, ANSWER, b""))
        self.assertEqual(owner.requests, [("/v1/exchange", "application/json", REQUEST)])
        self.assertTrue(owner.peers[0])

    def test_large_ones_too(self):
        answer = os.urandom(6 << 20)
        owner = self.owner(answer)
        request = os.urandom(5 << 20)
        done = self.run_relay(owner.url, request=request)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout == answer and owner.requests[0][2] == request)

    def test_too_large(self):
        owner = self.owner(b"x" * ((12 << 20) + 1))
        self.refused(self.run_relay(owner.url, request=b"x" * ((8 << 20) + 1)), "request: more than 8388608 bytes")
        self.assertEqual(owner.requests, [])
        self.refused(self.run_relay(owner.url), "longer than 12582912 bytes", "no owner's answer is that long")

    def test_settings_file(self):
        owner = self.owner()
        settings = self.folder / "relay.json"
        settings.write_text(json.dumps({"format": "xen-sev/relay", "version": 1, "owner_url": owner.url, "owner_cacert": str(self.folder / "ca.pem"), "proxy": "",
                                        "owner_cert": str(self.folder / "server.pem"), "owner_key": str(self.folder / "server.key"), "owner_deadline_seconds": 30}))
        done = subprocess.run([options.relay, "exchange", "--config", str(settings)], input=REQUEST, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (0, ANSWER), done)
        settings.write_text(json.dumps({"format": "xen-sev/relay", "version": 1, "owner_url": "http://owner.example"}))
        self.refused(subprocess.run([options.relay, "exchange", "--config", str(settings)], input=REQUEST, capture_output=True, timeout=60), "owner_url", "https://")

    def test_who_we_are(self):
        owner = self.owner()
        self.refused(self.run_relay(owner.url, identity=False), "hint: no client certificate was given, and an owner's service wants one: --cert and --key")
        self.refused(self.run_relay(owner.url, "--cert", str(self.folder / "server.pem"), identity=False), "--cert and --key are needed together")
        readable = self.folder / "readable.key"
        shutil.copy(self.folder / "server.key", readable)
        os.chmod(readable, 0o644)
        self.refused(self.run_relay(owner.url, "--cert", str(self.folder / "server.pem"), "--key", str(readable), identity=False), "mode is 0644", "chmod 600")
        self.assertEqual(owner.requests, [])

    def test_who_they_are(self):
        owner = self.owner()
        self.refused(self.run_relay(owner.url, cacert="stranger.pem"), "the server is not who it should be")
        self.refused(self.run_relay(owner.url.replace("localhost", "127.0.0.1")), "the server is not who it should be")
        old = self.owner(version=ssl.TLSVersion.TLSv1_2)
        self.refused(self.run_relay(old.url), "hint: the owner's service must speak TLS 1.3")
        self.assertEqual(owner.requests + old.requests, [])

    def test_no_other_answer_is_taken(self):
        for answer, words in [
            (lambda h: send(h, b"<html>log in</html>", kind="text/html"), ["type text/html, want application/jose", "proxy or login page"]),
            (lambda h: send(h, ANSWER, kind=None), ["type none"]),
            (lambda h: send(h, b""), ["the answer is empty"]),
            (lambda h: send(h, b'{"detail":"not you\x1b[2J"}', 403, "application/problem+json"), ["status 403", "not you\\x1b[2J", "client certificate"]),
            (lambda h: send(h, b"later", 503, "text/plain", headers=[("Retry-After", "1")]), ["status 503: later"]),
            (lambda h: send(h, b"", 307, headers=[("Location", "/v1/other")]), ["status 307"]),
            (lambda h: send(h, ANSWER, length=100), []),
            (lambda h: h.connection.close(), []),
            (lambda h: h.wfile.write(b"garbage\r\n\r\n"), []),
        ]:
            with self.subTest(words):
                owner = self.owner(answer)
                self.refused(self.run_relay(owner.url), *words)
                self.assertEqual(len(owner.requests), 1)  # never twice, and nowhere else

    def test_one_that_never_answers(self):
        owner = self.owner(lambda h: owner.stopping.wait(30))
        started = time.monotonic()
        self.refused(self.run_relay(owner.url, "--deadline", str(DEADLINE)))
        self.assertLess(time.monotonic() - started, 1.5 * DEADLINE)
        self.assertEqual(len(owner.requests), 1)

    def test_the_deadline_is_for_the_request_and_the_answer_together(self):
        owner = self.owner(lambda h: owner.stopping.wait(60))
        command = [options.relay, "exchange", "--owner", owner.url, "--cacert", str(self.folder / "ca.pem"), "--cert", str(self.folder / "server.pem"), "--key", str(self.folder / "server.key"),
                   "--deadline", str(DEADLINE), "--proxy", "none"]
        started = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as relay:
            relay.stdin.write(REQUEST)
            relay.stdin.flush()
            time.sleep(0.75 * DEADLINE)
            relay.stdin.close()
            relay.wait(60)
        took = time.monotonic() - started
        self.assertEqual((relay.returncode, len(owner.requests)), (2, 1))
        self.assertGreaterEqual(took, DEADLINE)
        self.assertLess(took, 1.5 * DEADLINE)

    def test_a_request_that_never_ends(self):
        owner = self.owner()
        command = [options.relay, "exchange", "--owner", owner.url, "--cacert", str(self.folder / "ca.pem"), "--deadline", "0.5", "--proxy", "none"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as relay:
            relay.stdin.write(b"{")
            relay.stdin.flush()
            relay.wait(30)
            self.assertEqual(relay.returncode, 2)
            self.assertIn(b"request: 1 bytes and no end within 500 ms", relay.stderr.read())
        self.refused(self.run_relay(owner.url, request=b""), "request: nothing came")
        self.assertEqual(owner.requests, [])

    def test_a_service_that_starts_late_is_waited_for(self):
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
        late = []
        timer = threading.Timer(0.5, lambda: late.append(self.owner(port=port)))
        timer.start()
        done = self.run_relay(f"https://localhost:{port}")
        timer.join()
        self.assertEqual((done.returncode, done.stdout), (0, ANSWER), done.stderr)
        self.assertEqual(len(late[0].requests), 1)

    def test_through_a_proxy(self):
        owner, proxy = self.owner(), self.proxy()
        done = self.run_relay(owner.url, proxy=proxy.url)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, ANSWER, b""))
        self.assertEqual((len(owner.requests), proxy.asked), (1, [owner.url.removeprefix("https://")]))
        self.assertTrue(owner.peers[0])  # TLS is between the two, and the proxy carries it

    def test_what_names_the_proxy(self):
        owner, proxy = self.owner(), self.proxy(credentials="relay:office word")
        settings = {"format": "xen-sev/relay", "version": 1, "proxy": f"http://relay:office%20word@{proxy.place}"}
        path = self.folder / "proxy.json"
        plain = {name: value for name, value in os.environ.items() if name.lower() not in ("https_proxy", "no_proxy", "all_proxy")}

        def run(environment, **more):
            path.write_text(json.dumps(settings | more))
            proxy.asked.clear()
            done = self.run_relay(owner.url, "--config", str(path), proxy=None, env=plain | environment)
            self.assertEqual((done.returncode, done.stdout), (0, ANSWER), done)
            return len(proxy.asked)

        self.assertEqual(run({}), 1)  # the settings, with name and password at once
        self.assertEqual(run({}, no_proxy="owner.example,localhost"), 0)
        self.assertEqual(run({}, no_proxy="owner.example"), 1)
        self.assertEqual(run({"no_proxy": "localhost"}), 0)
        self.assertEqual(run({"https_proxy": "http://localhost:1"}), 1)  # the settings win
        del settings["proxy"]
        self.assertEqual(run({"https_proxy": f"http://relay:office%20word@{proxy.place}"}), 1)
        self.assertEqual(run({}), 0)

    def test_a_proxy_that_refuses(self):
        owner = self.owner()
        for proxy, again, words in [
            (self.proxy(credentials="somebody:else"), False, ["the proxy answered with status 407", "hint: the proxy wants a name and password"]),
            (self.proxy(403), False, ["the proxy answered with status 403", "hint: the proxy does not let us through"]),
            (self.proxy(502), True, ["the proxy answered with status 502", "hint: the proxy cannot reach the host"]),
        ]:
            with self.subTest(words):
                self.refused(self.run_relay(owner.url, "--deadline", "2.5", proxy=proxy.url), *words)
                self.assertEqual(len(proxy.asked) > 1, again)  # the owner may begin to serve
        self.assertEqual(owner.requests, [])

    def test_an_owner_that_a_proxy_reaches_late(self):
        owner, proxy = self.owner(), self.proxy(502)
        timer = threading.Timer(0.5, setattr, (proxy, "status", 200))
        timer.start()
        done = self.run_relay(owner.url, proxy=proxy.url)
        timer.join()
        self.assertEqual((done.returncode, done.stdout), (0, ANSWER), done.stderr)
        self.assertEqual(len(owner.requests), 1)

    def test_nobody_is_there(self):
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            self.refused(self.run_relay(f"https://localhost:{reserved.getsockname()[1]}", "--deadline", "1.5"), "onnect")
        self.refused(self.run_relay("http://localhost:1"), "https://")
        self.refused(self.run_relay("https://user:word@localhost:1"), "credentials")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    unittest.main(argv=[sys.argv[0], *rest])
