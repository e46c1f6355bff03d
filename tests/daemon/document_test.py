# SPDX-License-Identifier: Apache-2.0
"""sevd's document is true: each answer that it lists comes, and each that comes is as it says; events are live."""
import base64
import contextlib
import json
import os
import sqlite3
import time
import unittest

import host
from document import OPENAPI, check, described, jsonschema


@unittest.skipUnless(jsonschema, "SKIPPED: no python3-jsonschema")
class Document(host.Host):
    """Every answer that the document lists, of every operation, comes once at least and is as it says; so is each that it does not list."""

    seen, ran = set(), set()  # (method, path, which of its responses) by all tests of this class, and these tests

    @classmethod
    def tearDownClass(cls):
        listed = {(method.upper(), path, key) for path, operations in OPENAPI["paths"].items() for method, operation in operations.items() for key in operation["responses"]}
        if cls.ran == set(unittest.defaultTestLoader.getTestCaseNames(cls)):  # not when single ones were asked for
            assert cls.seen == listed, f"never came: {sorted(listed - cls.seen)}"

    def expect(self, method, path, route, want, **options):
        status, body, headers = self.ask(method, path, **options)
        self.assertEqual(status, want, body)
        Document.seen.add((method, route, check(method, route, status, body, headers["Content-Type"])))
        return body

    def tearDown(self):
        Document.ran.add(self._testMethodName)

    def test_every_answer_is_as_the_document_says(self):
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        ask = self.expect
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
        bare = host.UnixConnection(self.socket)  # without the length that http.client adds
        bare.putrequest("POST", "/v1/launches")
        bare.endheaders()
        answer = bare.getresponse()
        self.assertEqual(answer.status, 411)
        Document.seen.add(("POST", "/v1/launches", check("POST", "/v1/launches", 411, json.loads(answer.read()), answer.getheader("Content-Type"))))
        bare.close()
        (self.dir / "big").write_bytes(b"")
        os.truncate(self.dir / "big", 1 << 37)  # more than limits.guest_memory_bytes
        (self.dir / "big.json").write_text(json.dumps({"format": "xen-sev/image-layout", "version": 1, "parts": [{"label": "one", "gpa": "0x100000", "file": "big"}], "slots": []}))
        unmeasured = ask("POST", "/v1/launches", "/v1/launches", 201, body=self.request("big", guest={"kind": "image", "layout": str(self.dir / "big.json")}))
        self.assertEqual(self.settle(unmeasured["id"])["state"], "failed")
        ask("GET", f"/v1/launches/{unmeasured['id']}/bundle", "/v1/launches/{id}/bundle", 409)
        self.stop()
        self.assertEqual(self.owner.stop(), {"sessions": 1, "judged": 1, "released": 1})

    def test_answers_of_a_host_in_trouble_are_as_the_document_says(self):
        self.owner = host.Owner(self.dir)

        def psp(*faults):
            self.configure(psp={"backend": "emulated", "state": str(self.dir / "psp"), "deadline_ms": 500, "faults": list(faults)})
            self.start()

        psp("PDH_CERT_EXPORT=INVALID_CONFIG,count=2", "DF_FLUSH=HWERROR_PLATFORM,skip=1,count=1")  # the first DF_FLUSH belongs to INIT
        for path in ("/v1/platform", "/v1/platform/certificates"):
            self.assertIn("PDH_CERT_EXPORT: INVALID_CONFIG", self.expect("GET", path, path, 502)["detail"])
        self.assertIn("DF_FLUSH: HWERROR_PLATFORM", self.expect("POST", "/v1/launches", "/v1/launches", 502, body=self.request())["detail"])
        until = time.monotonic() + 10
        while not self.get("/v1/status")[1]["launches"]["admitted"] and time.monotonic() < until:
            time.sleep(0.05)
        launched = self.launch()
        self.assertEqual(self.settle(launched, "running")["state"], "running")
        (self.state / "host.key").write_bytes(b"this is no key")
        (self.state / "host.key").chmod(0o600)
        for path, route in (("/v1/host-key", "/v1/host-key"), (f"/v1/launches/{launched}/bundle", "/v1/launches/{id}/bundle")):
            self.assertIn("host.key", self.expect("GET", path, route, 500)["detail"])  # and not 400: who asked did nothing wrong
        self.ask("DELETE", f"/v1/launches/{launched}")
        self.assertEqual(self.settle(launched)["state"], "destroyed")
        self.stop()
        # what SQLite cannot do, and no constraint: an INSERT that overflows
        with contextlib.closing(sqlite3.connect(self.state / "journal.sqlite")) as database:
            database.execute("CREATE TRIGGER trouble BEFORE INSERT ON launches WHEN NEW.name = 'trouble' BEGIN SELECT abs(-9223372036854775808); END")
            database.commit()
        psp()
        self.assertIn("journal", self.expect("POST", "/v1/launches", "/v1/launches", 507, body=self.request("trouble"))["detail"])
        self.stop()
        psp("PLATFORM_STATUS=hang,count=0")
        for path in ("/v1/platform", "/v1/platform/certificates"):
            self.assertIn("the PSP does not answer", self.expect("GET", path, path, 503)["detail"])
        self.assertIn("the PSP does not answer", self.expect("POST", "/v1/launches", "/v1/launches", 503, body=self.request())["detail"])
        self.daemon.kill()  # which waits for nothing
        self.daemon.wait()

    def test_what_no_operation_takes_is_refused_as_the_document_says(self):
        self.configure()
        self.start()
        for path, operations in OPENAPI["paths"].items():
            target = path.replace("{id}", "1")
            for method in (name.upper() for name in operations):
                with self.subTest(method, path=path):
                    self.expect(method, target, path, 431, headers={"X": "y" * 20000})
                    if method != "POST":
                        self.assertIn("without a body", self.expect(method, target, path, 413, body=b"x")["detail"])
                    query = self.expect(method, target + "?a=1&a=2", path, 400, body=b"{}" if method == "POST" else None)
                    self.assertEqual(query["detail"], "the query is not of the form name=value, each name once")
            status, body, headers = self.ask("PUT", target)
            self.assertEqual((status, body["status"], headers["Allow"]), (405, 405, ", ".join(name.upper() for name in operations)))
            jsonschema.Draft202012Validator({"$ref": "#/components/schemas/Problem", "components": OPENAPI["components"]}).validate(body)
        self.expect("POST", "/v1/launches", "/v1/launches", 417, body=b"{}", headers={"Expect": "x"})
        self.stop()
        self.configure(writers=[4294967294])
        self.start()
        self.expect("POST", "/v1/launches", "/v1/launches", 403, body=b"{}")
        self.expect("DELETE", "/v1/launches/1", "/v1/launches/{id}", 403)
        self.stop()

    def test_event_streams_without_end_are_so_many_and_no_more(self):
        self.configure()
        self.start()
        streams = []
        try:
            for _ in range(32):
                one = host.UnixConnection(self.socket)
                streams.append(one)
                one.request("GET", "/v1/events")
                answer = one.getresponse()
                Document.seen.add(("GET", "/v1/events", described("GET", "/v1/events", answer.status)[0]))
                self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "text/event-stream"))
            self.expect("GET", "/v1/events", "/v1/events", 503)
        finally:
            for one in streams:
                one.close()
        self.stop()


class Events(host.Host):

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


if __name__ == "__main__":
    unittest.main()
