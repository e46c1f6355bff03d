# SPDX-License-Identifier: Apache-2.0
"""sevd as its users meet it: the life of a launch, its document, events, configuration, signals, clients of every sort, sizes and times."""
import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import host

try:
    import jsonschema
except ImportError:
    jsonschema = None

OPENAPI = json.loads((host.ROOT / "docs/sevd.openapi.json").read_text())


def check(method, path, status, body, content_type):
    """Holds one answer against the document: path, method, status, media type and schema."""
    operation = OPENAPI["paths"][path][method.lower()]
    described = operation["responses"][str(status)]["content"]
    media = content_type.split(";")[0]
    assert media in described, f"{method} {path} {status}: {media} is not in the document"
    schema = dict(described[media]["schema"])
    schema["components"] = OPENAPI["components"]
    if jsonschema:
        jsonschema.Draft202012Validator(schema).validate(body if "json" in media else "")


class Document(host.Host):
    @unittest.skipUnless(jsonschema, "SKIPPED: no python3-jsonschema")
    def test_every_answer_is_as_the_document_says(self):
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        seen = set()

        def ask(method, path, route, want, **options):
            status, body, headers = self.ask(method, path, **options)
            self.assertEqual(status, want, body)
            check(method, route, status, body, headers["Content-Type"])
            seen.add((method, route))
            return body

        ask("GET", "/v1/status", "/v1/status", 200)
        ask("GET", "/v1/platform", "/v1/platform", 200)
        chain = ask("GET", "/v1/platform/certificates", "/v1/platform/certificates", 200)
        self.assertEqual(len(chain), 4 * 2084 + 2 * 832)
        launched = ask("POST", "/v1/launches", "/v1/launches", 201, body=self.request())
        running = self.settle(launched["id"], "running")
        self.assertEqual(running["state"], "running", running)
        check("GET", "/v1/launches/{id}", 200, running, "application/json")
        self.assertEqual(running["level"], 0)
        self.assertTrue(running["emulated"])
        self.assertTrue(running["verdict"]["trusted"])
        ask("GET", f"/v1/launches/{launched['id']}", "/v1/launches/{id}", 200)
        self.assertEqual(len(ask("GET", "/v1/launches", "/v1/launches", 200)["launches"]), 1)
        ask("GET", "/v1/launches?limit=1", "/v1/launches", 200)
        ask("GET", "/v1/launches?limit=0", "/v1/launches", 400)
        for query, found in (("name=web", 1), ("name=%77e%62&limit=1", 1), ("name=other", 0), ("name=web%27", 0)):
            self.assertEqual(len(ask("GET", f"/v1/launches?{query}", "/v1/launches", 200)["launches"]), found)
        for query, says in (("name=", "query: name: 0 bytes, want 1 to 128"), (f"name={'x' * 129}", "129 bytes"), ("name=%C3%A9", "outside printable ASCII"), ("name=a&name=b", "each name once"),
                            ("name=%1B[2J", "query is not"), ("limit=1001", 'query: limit is "1001", want 1 to 1000'), ("limit=", "limit is"), ("limit=-1", "limit is"),
                            ("limit=1&names=web", "query: names is not known, want name or limit")):
            problem = ask("GET", f"/v1/launches?{query}", "/v1/launches", 400)
            self.assertIn(says, problem["detail"])
        ask("GET", "/v1/launches?what=1", "/v1/launches", 400)
        ask("GET", "/v1/launches/77", "/v1/launches/{id}", 404)
        key = ask("GET", "/v1/host-key", "/v1/host-key", 200)
        bundle = ask("GET", f"/v1/launches/{launched['id']}/bundle", "/v1/launches/{id}/bundle", 200)
        header, payload = (json.loads(base64.urlsafe_b64decode(part + b"===")) for part in bundle.split(b".")[:2])
        self.assertEqual(header, {"alg": "ES384", "kid": key["kid"], "typ": "vnd.xen-sev.bundle+jws;version=1"})
        jsonschema.Draft202012Validator(json.loads((host.ROOT / "docs/schemas/signed-bundle.schema.json").read_text())).validate(payload)
        self.assertEqual((payload["launch"], payload["state"], payload["bundle"]["offer"]["session_id"]), (launched["id"], "running", running["session"]))
        ask("GET", "/v1/launches/77/bundle", "/v1/launches/{id}/bundle", 404)
        ask("GET", "/v1/launches/x/bundle", "/v1/launches/{id}/bundle", 404)
        ask("GET", "/v1/launches/x", "/v1/launches/{id}", 404)
        ask("GET", "/v1/launches/99999999999999999999", "/v1/launches/{id}", 404)
        ask("POST", "/v1/launches", "/v1/launches", 409, body=self.request())
        ask("DELETE", "/v1/launches/77", "/v1/launches/{id}", 404)
        ask("DELETE", f"/v1/launches/{launched['id']}", "/v1/launches/{id}", 202)
        self.assertEqual(self.settle(launched["id"])["state"], "destroyed")
        ask("DELETE", f"/v1/launches/{launched['id']}", "/v1/launches/{id}", 409)
        ask("GET", "/v1/openapi.json", "/v1/openapi.json", 200)
        self.assertEqual(self.get("/v1/openapi.json")[1], OPENAPI)
        metrics = ask("GET", "/metrics", "/metrics", 200).decode()
        self.assertIn('sevd_launches_ended_total{state="destroyed"} 1\n', metrics)
        self.assertIn('sevd_asids{pool="sev",use="free"} 7\n', metrics)
        wrong = [self.request("a", owner="bob"), self.request("a", guest={"kind": "ghost"}), self.request("a", guest=[]), self.request(7),
                 self.request("a", guest={"kind": "image", "layout": "relative"}), self.request("a\nb"), self.request("a", policy="../x"),
                 {**self.request(), "x": 1}, {"name": 1}, [], 0]
        for bad in [json.dumps(value).encode() for value in wrong] + [b"", b"{", b"[" * 1000, b'{"name":"a","name":"b"}', b"\xff"]:
            ask("POST", "/v1/launches", "/v1/launches", 400, body=bad)
        ask("POST", "/v1/launches", "/v1/launches", 500, body=self.request("a", guest={"kind": "image", "layout": "/absent"}))
        ask("POST", "/v1/launches", "/v1/launches", 413, body=b"1" * 65537)
        ask("POST", "/v1/launches", "/v1/launches", 415, body=b"{}", headers={"Content-Type": "text/plain"})
        wanted = {(method.upper(), path) for path, operations in OPENAPI["paths"].items() for method in operations} - {("GET", "/v1/events")}
        self.assertEqual(seen, wanted)  # the event stream has a test of its own
        self.stop()
        self.assertEqual(self.owner.stop(), {"sessions": 1, "judged": 1, "released": 1})

    def test_events_are_live_and_can_be_taken_up_again(self):
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        connection = host.UnixConnection(self.socket)
        connection.request("GET", "/v1/events")
        stream = connection.getresponse()
        self.assertEqual(stream.getheader("Content-Type"), "text/event-stream")
        launched = self.launch()
        states, ids = [], []
        while "running" not in states:
            line = stream.readline().decode().rstrip("\n")
            if line.startswith("id: "):
                ids.append(int(line[4:]))
            if line.startswith("data: "):
                event = json.loads(line[6:])
                if jsonschema:
                    jsonschema.Draft202012Validator({"$ref": "#/components/schemas/Event", "components": OPENAPI["components"]}).validate(event)
                self.assertEqual(event["launch"], launched)
                if "step" not in event:
                    states.append(event["state"])
        self.assertEqual(states, ["accepted", "opening", "session", "loading", "judging", "releasing", "starting", "running"])
        self.assertEqual(ids, list(range(ids[0], ids[0] + len(ids))))
        connection.close()
        again = host.UnixConnection(self.socket)
        again.request("GET", "/v1/events", headers={"Last-Event-ID": str(ids[-2])})
        stream = again.getresponse()
        line = ""
        while not line.startswith("id: "):
            line = stream.readline().decode()
        self.assertEqual(int(line[4:]), ids[-1])
        again.close()
        self.stop()


class Rights(host.Host):
    def test_only_writers_change_anything(self):
        self.owner = host.Owner(self.dir)
        self.configure(writers=[4294967294])
        self.start()
        status, body, headers = self.ask("POST", "/v1/launches", self.request())
        self.assertEqual(status, 403)
        check("POST", "/v1/launches", 403, body, headers["Content-Type"])
        self.assertIn(f"uid:{os.getuid()} may look", body["detail"])
        self.assertEqual(self.ask("DELETE", "/v1/launches/1")[0], 403)
        self.assertEqual(self.get("/v1/launches")[1], {"launches": []})
        # A refused body is not read: 10 GiB are announced, and the answer comes at once.
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            raw.connect(str(self.socket))
            raw.sendall(b"POST /v1/launches HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 10737418240\r\n\r\n")
            self.assertIn(b" 403 ", raw.recv(100))
        self.configure()
        self.daemon.send_signal(signal.SIGHUP)
        until = time.monotonic() + 10
        while self.ask("DELETE", "/v1/launches/1")[0] == 403 and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(self.ask("DELETE", "/v1/launches/1")[0], 404)
        self.stop()

    @unittest.skipUnless(os.getuid() == 0 and os.path.exists("/usr/bin/python3"), "SKIPPED: needs root to be somebody else, who needs a Python")
    def test_another_user(self):
        self.owner = host.Owner(self.dir)
        self.configure(writers=[0])
        self.start()
        os.chmod(self.dir, 0o755)
        shutil.copy(host.__file__, self.dir / "host.py")  # where another user can read it
        os.chmod(self.dir / "host.py", 0o644)
        program = ("import sys; sys.path.insert(0, sys.argv[1]); import host, json; c = host.UnixConnection(sys.argv[2]);\n"
                   "c.request(sys.argv[3], '/v1/launches/1'); print(c.getresponse().status)")

        def as_user(uid, gid, method):
            return subprocess.run(["/usr/bin/python3", "-B", "-c", program, str(self.dir), str(self.socket), method], capture_output=True, text=True,
                                  user=uid, group=gid, extra_groups=[], cwd="/", check=False)

        self.assertIn("PermissionError", as_user(65534, 65534, "GET").stderr)  # the socket's mode keeps strangers out
        os.chown(self.socket, 0, 12345)
        self.assertEqual(as_user(65534, 12345, "GET").stdout, "404\n")  # the group may look
        self.assertEqual(as_user(65534, 12345, "DELETE").stdout, "403\n")  # and no more
        self.stop()


class Clients(host.Host):
    def test_a_thousand_that_say_nothing_are_slow_or_endless(self):
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        before = host.rss_kib(self.daemon.pid)
        crowd = []
        for number in range(1000):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(5)
            try:
                one.connect(str(self.socket))
                if number % 3 == 1:
                    one.sendall(b"GET /v1/sta")
                if number % 3 == 2:
                    one.sendall(b"POST /v1/launches HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 10737418240\r\n\r\n" + b"x" * 4096)
            except OSError:
                pass  # pushed out already
            crowd.append(one)
        begun = time.monotonic()
        self.assertEqual(self.get("/v1/status", timeout=5)[0], 200)
        self.assertLess(time.monotonic() - begun, 2)
        launched = self.launch()
        self.assertEqual(self.settle(launched, "running")["state"], "running")
        self.assertLess(host.rss_kib(self.daemon.pid) - before, 32 * 1024)
        for one in crowd:
            one.close()
        self.stop()


class Signals(host.Host):
    def test_socket_activation_notification_and_watchdog(self):
        self.owner = host.Owner(self.dir)
        self.configure()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(self.dir / "notify"))
        notify.settimeout(10)
        self.addCleanup(notify.close)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.dir / "activated"))
        listening.listen(8)
        self.addCleanup(listening.close)
        # As systemd does it: the socket is descriptor 3, and LISTEN_PID is the process itself.
        starter = ("import os, sys; fd = int(sys.argv[1]); os.dup2(fd, 3, True) if fd != 3 else os.set_inheritable(3, True); "
                   "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid())); "
                   "os.execv(sys.argv[2], sys.argv[2:])")
        self.daemon = subprocess.Popen(
            [sys.executable, "-c", starter, str(listening.fileno()), host.SEVD, "--config", str(self.configuration)], pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env={**os.environ, "NOTIFY_SOCKET": str(self.dir / "notify"), "WATCHDOG_USEC": "1000000"})
        self.assertIn(b"READY=1", notify.recv(4096))
        self.socket = self.dir / "activated"
        self.assertEqual(self.get("/v1/status")[0], 200)
        self.assertFalse((self.dir / "sevd.sock").exists())
        self.assertEqual(notify.recv(4096), b"WATCHDOG=1")
        self.daemon.send_signal(signal.SIGHUP)
        told = b""
        while b"RELOADING=1" not in told:
            told = notify.recv(4096)
        while b"READY=1" not in told:
            told = notify.recv(4096)
        self.stop()
        while b"STOPPING=1" not in told:
            told = notify.recv(4096)
        self.assertTrue((self.dir / "activated").exists())

    def test_the_process_is_hardened(self):
        self.configure()
        self.start()
        status = pathlib.Path(f"/proc/{self.daemon.pid}/status").read_text()
        self.assertRegex(status, r"(?m)^NoNewPrivs:\t1$")
        self.assertRegex(status, r"(?m)^Seccomp:\t2$")
        limits = pathlib.Path(f"/proc/{self.daemon.pid}/limits").read_text()
        self.assertRegex(limits, r"(?m)^Max core file size +0 +0 ")
        self.stop()

    def test_a_bad_configuration_changes_nothing_on_reload(self):
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        self.configuration.write_text("{")
        self.daemon.send_signal(signal.SIGHUP)
        until = time.monotonic() + 10
        while "the new configuration is not taken" not in self.log_text() and time.monotonic() < until:
            time.sleep(0.05)
        self.assertIn("the new configuration is not taken", self.log_text())
        self.assertEqual(self.settle(self.launch(), "running")["state"], "running")
        self.stop()


class Owners(host.Host):
    def test_a_command_is_the_channel(self):
        """One step is a program: request on stdin, answer on stdout. Here it carries to the owner's socket."""
        self.owner = host.Owner(self.dir)
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

        def channel(*argv):
            self.configure(owners={"alice": {"key": self.owner.key, "channel": {"command": list(argv)}, "deadline_s": 3}})

        channel(str(carrier))
        self.start()
        record = self.settle(self.launch(), "running")
        self.assertEqual(record["state"], "running", record["reason"])
        for argv, reason in ((["/bin/false"], "ended with status 1"), (["/absent"], "could not be started"),
                             (["/bin/sleep", "1000"], "no whole answer before the deadline"),
                             ([sys.executable, "-c", "import sys\nwhile True: sys.stdout.write('x' * 65536)"], "answer of more than")):
            channel(*argv)
            self.daemon.send_signal(signal.SIGHUP)
            time.sleep(1.2)
            record = self.settle(self.launch("c" + str(abs(hash(reason)))[:6]))
            self.assertEqual(record["state"], "failed")
            self.assertIn(reason, record["reason"])
        children = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        self.assertNotIn("/bin/sleep 1000", children)  # no command outlives its exchange
        self.stop()

    def test_the_platform_is_refused(self):
        policy = json.loads((self.dir / "policy.json").read_text())
        policy["chips"][0]["cek"] = "00" * 32
        (self.dir / "policy.json").write_text(json.dumps(policy))
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        record = self.settle(self.launch())
        self.assertEqual(record["state"], "refused")
        self.assertTrue(any(not check["passed"] for check in record["verdict"]["platform_checks"]))
        check("GET", "/v1/launches/{id}", 200, record, "application/json")
        self.stop()


class Sizes(host.Host):
    def test_start_memory_and_clock(self):
        self.owner = host.Owner(self.dir)
        self.configure()
        times = []
        for _ in range(5):
            times.append(self.start())
            idle = host.rss_kib(self.daemon.pid)
            self.stop()
        print(f"start to first answer {min(times) * 1000:.0f} ms (best of 5), idle {idle} KiB")
        if os.environ.get("SEV_SANITIZED") != "1":
            self.assertLessEqual(idle, 16 * 1024)
            self.assertLessEqual(min(times), 0.050)


if __name__ == "__main__":
    unittest.main()
