# SPDX-License-Identifier: Apache-2.0
"""sev-owner as its users meet it: over stdin and stdout, a Unix socket and HTTPS; the hardened process; its commands."""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import time
import unittest

import host
import support
from support import OWNER, SECRET, Case, UnixConnection, free_port, make_certificates, request, run, tls

try:
    import jsonschema
except ImportError:
    jsonschema = None

SCHEMAS = host.ROOT / "docs/schemas"
API = json.loads((host.ROOT / "docs/sev-owner.openapi.json").read_text())


def resolved(value):
    """An OpenAPI schema with its references filled in."""
    if isinstance(value, dict):
        if "$ref" in value:
            ref = value["$ref"]
            if ref.startswith("schemas/"):
                return json.loads((host.ROOT / "docs" / ref).read_text())
            out = API
            for part in ref.removeprefix("#/").split("/"):
                out = out[part]
            return resolved(out)
        return {key: resolved(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner) for inner in value]
    return value


def fits(value, schema):
    return [f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def schema(name):
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


class Commands(Case):
    def test_init_makes_what_only_its_user_can_read_and_replaces_nothing(self):
        owner = self.owner()
        for name in ("owner.json", "owner.key", "seal.keys"):
            self.assertEqual(stat.S_IMODE((owner.folder / name).stat().st_mode), 0o600, name)
        for folder in (owner.folder, owner.folder / "policies"):
            self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        before = (owner.folder / "owner.key").read_bytes()
        run(OWNER, "init", str(owner.folder), status=2)
        self.assertEqual((owner.folder / "owner.key").read_bytes(), before)
        run("openssl", "pkey", "-inform", "DER", "-in", str(owner.folder / "owner.key"), "-noout")

    def test_keys_that_others_can_read_are_refused(self):
        owner = self.owner()
        for name in ("owner.key", "seal.keys"):
            (owner.folder / name).chmod(0o640)
            done = subprocess.run([OWNER, "check", "--config", str(owner.config)], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn("others can read it", done.stderr)
            (owner.folder / name).chmod(0o600)
        owner.command("check")

    def test_whole_launch_over_stdin_and_stdout_and_what_is_kept_of_it(self):
        owner = self.owner()
        answer, session = self.launch(owner.exchange)
        judgement = self.expect_trusted(answer, session)
        claims = host.open_jws(judgement["attestation_result"], owner.jwk, "eat+jwt")
        self.assertEqual(claims["submods"]["guest"]["ear_status"], "contraindicated")
        self.assertEqual(claims["submods"]["guest"]["ear_trustworthiness_vector"]["hardware"], 97)
        self.assertTrue(claims["submods"]["guest"]["xen_sev_verdict"]["trusted"])
        (self.dir / "owner.jwk").write_text(json.dumps(owner.jwk))
        (self.dir / "ear.jwt").write_text(judgement["attestation_result"] + "\n")
        shown = json.loads(run(OWNER, "verdict", "verify", "--key", str(self.dir / "owner.jwk"), str(self.dir / "ear.jwt"), "--json"))
        self.assertEqual(shown, claims)
        bent = judgement["attestation_result"]
        (self.dir / "ear.jwt").write_text(bent[:-9] + ("A" if bent[-9] != "A" else "B") + bent[-8:])
        run(OWNER, "verdict", "verify", "--key", str(self.dir / "owner.jwk"), str(self.dir / "ear.jwt"), status=2)
        sid = session.offer["session_id"]
        self.assertEqual(json.loads(owner.command("verdict", "show", sid, "--json")), judgement["verdict"])
        self.assertEqual(owner.command("verdict", "show", sid, "--ear").strip(), judgement["attestation_result"])
        self.assertIn("trusted", owner.command("verdict", "show", sid))
        again = owner.exchange(host.judgement_request(session.evidence()))
        self.assertEqual(again["trouble"], {"message": "the session was used already", "retry": False})
        self.assertIn(sid, owner.command("sessions", "list", "--state", "trusted"))
        self.assertEqual(owner.command("sessions", "list", "--state", "open"), "")
        log = [json.loads(line) for line in owner.command("audit", "show").splitlines()]
        self.assertEqual(
            [record["event"] for record in log],
            ["session.opened", "head.signed", "session.taken", "session.judged", "head.signed", "request.refused", "head.signed"],
        )
        previous = "0" * 64
        for line, record in zip(owner.command("audit", "show").splitlines(), log):
            self.assertEqual(record["prev"], previous)
            previous = hashlib.sha256(line.encode()).hexdigest()
        head = owner.command("audit", "verify").splitlines()[-1].removeprefix("head ")
        self.assertEqual(head, f"7:{previous}")
        owner.command("audit", "sign")
        self.assertTrue(json.loads(owner.command("audit", "verify", "--head", head, "--json"))["intact"])
        self.assertFalse(json.loads(owner.command("audit", "verify", "--head", "7:" + "0" * 64, "--json", status=1))["intact"])

    def test_no_secret_in_any_file_but_its_own(self):
        owner = self.owner()
        answer, session = self.launch(owner.exchange)
        self.expect_trusted(answer, session)
        open_one = host.Session(owner.exchange(host.session_request())["offer"])
        (self.dir / "stored").write_bytes(b"a stored secret, quite long")
        owner.command("secret", "add", "disk", str(self.dir / "stored"))
        needles = [SECRET, session.tek, session.tik, open_one.tek, open_one.tik, b"a stored secret"]
        needles += [needle.hex().encode() for needle in needles]
        for path in owner.folder.rglob("*"):
            if path.is_file() and path.name not in ("disk.key", "seal.keys", "owner.key"):
                content = path.read_bytes()
                self.assertEqual([needle for needle in needles if needle in content], [], path)

    def test_an_owner_without_a_server_lets_sessions_expire_and_forgets_them(self):
        owner = self.owner(limits={"session_seconds": 1, "keep_sessions": 2})
        for _ in range(5):
            self.assertIn("offer", owner.exchange(host.session_request()))
        time.sleep(2.1)
        owner.exchange(b"{}")  # whatever is asked next
        states = [session["state"] for session in json.loads(owner.command("sessions", "list", "--json"))["sessions"]]
        self.assertEqual(states, ["expired"] * 2)
        with contextlib.closing(sqlite3.connect(owner.folder / "owner.db")) as store:
            self.assertEqual(store.execute("SELECT count(*) FROM sessions WHERE sealed_keys IS NOT NULL").fetchone(), (0,))
        self.assertEqual(json.loads(owner.command("audit", "verify", "--json"))["unsigned_records"], 0)

    def test_one_clients_refusals_erase_nothing_of_anothers(self):
        clients = [{"stdio": name, "policies": "any"} for name in ("dom0", "noisy")]
        owner = self.owner(clients=[*clients, {"uid": os.getuid(), "policies": "any"}], limits={"keep_sessions": 4})
        answer, session = self.launch(owner.exchange)
        self.expect_trusted(answer, session)
        platform = json.loads(json.dumps(host.BUNDLE["platform"]))
        platform["level"] = 0
        for _ in range(8):
            self.assertIn("refusal", owner.exchange(host.session_request(launch="flood", platform=platform), "noisy"))
        states = [one["state"] for one in json.loads(owner.command("sessions", "list", "--json"))["sessions"]]
        self.assertEqual(states, ["refused"] * 3 + ["trusted"])
        sid = session.offer["session_id"]
        self.assertEqual(owner.command("verdict", "show", sid, "--ear").strip(), answer["judgement"]["attestation_result"])
        owner.start()
        self.assertNotIn(sid, owner.get("/?limit=3").text)
        self.assertIn("Newest 3 of 4.", owner.get("/?limit=3").text)
        for path in ("/", "/?state=trusted", "/?offset=3"):
            self.assertIn(sid, owner.get(path).text, path)
        self.assertEqual([one["id"] for one in owner.get("/v1/sessions?offset=3").json["sessions"]], [sid])
        for path in ("/?state=happy", "/?offset=-1", "/?x=1", "/v1/sessions?offset=x"):
            self.assertEqual(owner.get(path).status, 400, path)

    def waiting_exchange(self, owner, *more, drop=()):
        """An exchange that has done all that comes before its request."""
        process = subprocess.Popen(
            [*drop, OWNER, "exchange", "--config", str(owner.config), "--channel", "dom0", *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(lambda: process.poll() is None and process.kill())
        for _ in range(400):
            if process.poll() is not None:
                break
            status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":\t" in line)
            if status["Seccomp"].strip() == "2":
                return process, status
            time.sleep(0.025)
        out, problem = process.communicate(timeout=20)
        return process, (process.returncode, out, problem.decode())

    @unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root may lock as much memory as it likes, and become somebody who may not")
    @unittest.skipIf(os.environ.get("SEV_SANITIZED") == "1", "SKIPPED: the sanitizers take mlockall away")
    def test_exchange_locks_its_memory_or_refuses(self):
        owner = self.owner()
        process, status = self.waiting_exchange(owner)
        self.assertGreater(int(status["VmLck"].split()[0]), 1000)
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        body = host.session_request()
        self.assertIn("offer", host.answer(process.communicate(body, timeout=20)[0].decode(), body, owner.jwk))
        self.dir.chmod(0o755)
        for path in [owner.folder, *owner.folder.rglob("*")]:
            os.chown(path, 65534, 65534)
        drop = ["prlimit", "--memlock=65536:65536", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        _, refused = self.waiting_exchange(owner, drop=drop)
        self.assertEqual(refused[:2], (2, b""), refused)
        self.assertIn("locking memory: ", refused[2])
        self.assertIn("or --unlocked-memory", refused[2])
        process, status = self.waiting_exchange(owner, "--unlocked-memory", drop=drop)
        self.assertEqual(int(status["VmLck"].split()[0]), 0)
        out, problem = process.communicate(body, timeout=20)
        self.assertIn("offer", host.answer(out.decode(), body, owner.jwk))
        self.assertIn(b"memory is not locked, keys may reach swap: locking memory: ", problem)

    def test_key_rotation_keeps_open_sessions_and_secrets(self):
        owner = self.owner()
        policy = host.policy()
        policy["secrets"][0]["path"] = "store:disk"
        (owner.folder / "policies/web.json").write_text(json.dumps(policy))
        owner.command("secret", "add", "disk", str(host.FIXTURES / "attest/disk.key"))
        session = host.Session(owner.exchange(host.session_request())["offer"])
        before = (owner.folder / "seal.keys").read_text()
        self.assertIn("2 rows sealed anew", owner.command("key", "rotate"))
        self.assertEqual(len((owner.folder / "seal.keys").read_text().splitlines()), 3)
        self.assertIn("1 keys dropped", owner.command("key", "rotate", "--retire"))
        after = (owner.folder / "seal.keys").read_text()
        self.assertEqual(len(after.splitlines()), 2)
        self.assertNotEqual(before, after)
        self.assertEqual(stat.S_IMODE((owner.folder / "seal.keys").stat().st_mode), 0o600)
        self.expect_trusted(owner.exchange(host.judgement_request(session.evidence())), session)

    def test_stored_policies(self):
        owner = self.owner(policies={"folder": "policies", "in_store": True})
        self.assertEqual(owner.exchange(host.session_request())["trouble"]["message"], 'there is no policy named "web"')
        owner.command("policy", "add", "web", str(owner.folder / "policies/web.json"))
        answer, session = self.launch(owner.exchange)
        self.expect_trusted(answer, session)
        session = host.Session(owner.exchange(host.session_request())["offer"])
        owner.command("policy", "remove", "web")
        owner.command("policy", "remove", "web", status=1)
        self.assertIn("its log says why", owner.exchange(host.judgement_request(session.evidence()))["trouble"]["message"])
        self.assertIn("session.troubled", owner.command("audit", "show"))

    def test_a_policy_that_somebody_else_wrote_into_the_store_is_not_judged_by(self):
        owner = self.owner(policies={"folder": "policies", "in_store": True})
        policy = host.policy()
        policy["secrets"][0]["path"] = "store:disk"
        text = self.dir / "web.json"
        text.write_text(json.dumps(policy))
        owner.command("secret", "add", "disk", str(host.FIXTURES / "attest/disk.key"))
        for name in ("web", "lenient"):
            owner.command("policy", "add", name, str(text))
        answer, session = self.launch(owner.exchange)
        self.expect_trusted(answer, session)
        with contextlib.closing(sqlite3.connect(owner.folder / "owner.db")) as store:
            for statement in (
                "UPDATE documents SET sealed = (SELECT sealed FROM documents WHERE name = 'lenient') WHERE kind = 'policy' AND name = 'web'",
                "UPDATE documents SET sealed = (SELECT sealed FROM documents WHERE kind = 'secret') WHERE kind = 'policy' AND name = 'web'",
                "UPDATE documents SET sealed = x'00' WHERE kind = 'policy' AND name = 'web'",
                "UPDATE documents SET key_id = NULL, sealed = NULL WHERE kind = 'policy' AND name = 'web'",
            ):
                session = host.Session(owner.exchange(host.session_request())["offer"])
                with store:
                    self.assertEqual(store.execute(statement).rowcount, 1)
                for body in (host.judgement_request(session.evidence()), host.session_request()):
                    self.assertIn("its log says why", owner.exchange(body)["trouble"]["message"], statement)
                self.assertIn("web  CANNOT BE USED: stored policy web: ", owner.command("policy", "list", status=1))
                owner.command("check", status=1)
                owner.command("policy", "add", "web", str(text))
        owner.command("key", "rotate")
        owner.command("key", "rotate", "--retire")
        answer, session = self.launch(owner.exchange)
        self.expect_trusted(answer, session)

    def test_exchange_refuses_strangers_late_and_endless_requests(self):
        owner = self.owner()
        line = [OWNER, "exchange", "--unlocked-memory", "--config", str(owner.config), "--channel"]
        for name in ("other", "", "uid:0", "dom0\n"):
            done = subprocess.run([*line, name], input=host.session_request(), capture_output=True, check=False)
            self.assertEqual((done.returncode, done.stdout), (2, b""), name)
        start = time.monotonic()
        with subprocess.Popen([*line, "dom0", "--deadline", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as slow:
            slow.stdin.write(b"{")
            slow.stdin.flush()
            self.assertEqual(slow.wait(20), 2)
            self.assertIn(b"before the deadline", slow.stderr.read())
        self.assertLess(time.monotonic() - start, 10)
        with open("/dev/zero", "rb") as endless:
            done = subprocess.run([*line, "dom0"], stdin=endless, capture_output=True, check=False, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"more than the limit", done.stderr)

    @unittest.skipUnless(jsonschema, "SKIPPED: no jsonschema (package python3-jsonschema), no output was held against its schema")
    def test_messages_and_outputs_fit_their_schemas(self):
        owner = self.owner()
        first = host.session_request()
        self.assertEqual(fits(json.loads(first), schema("session-request")), [])
        offer = owner.exchange(first)
        self.assertEqual(fits(offer, schema("exchange-answer")), [])
        session = host.Session(offer["offer"])
        second = host.judgement_request(session.evidence())
        self.assertEqual(fits(json.loads(second), schema("judgement-request")), [])
        judgement = owner.exchange(second)
        self.assertEqual(fits(judgement, schema("exchange-answer")), [])
        self.assertEqual(fits(host.open_jws(judgement["judgement"]["attestation_result"], owner.jwk, "eat+jwt"), schema("attestation-result")), [])
        trouble = owner.exchange(second)
        self.assertEqual(fits(trouble, schema("exchange-answer")), [])
        platform = json.loads(json.dumps(host.BUNDLE["platform"]))
        platform["level"] = 0
        refusal = owner.exchange(host.session_request(platform=platform))
        self.assertIn("refusal", refusal)
        self.assertEqual(fits(refusal, schema("exchange-answer")), [])
        for bad in (
            {**judgement, "surprise": 1},
            {**judgement, "trouble": trouble["trouble"]},
            {key: value for key, value in judgement.items() if key != "judgement"},
        ):
            self.assertNotEqual(fits(bad, schema("exchange-answer")), [])
        self.assertEqual(fits(json.loads(owner.config.read_text()), schema("owner-config")), [])
        self.assertEqual(fits(json.loads((host.ROOT / "packaging/owner.json").read_text()), schema("owner-config")), [])
        owner.command("secret", "add", "disk", str(host.FIXTURES / "attest/disk.key"))
        (self.dir / "owner.jwk").write_text(json.dumps(owner.jwk))
        (self.dir / "ear.jwt").write_text(judgement["judgement"]["attestation_result"])
        outputs = {"sessions list": [], "policy list": [], "secret list": [], "audit verify": [], "verdict show": [session.offer["session_id"]]}
        for name, words in outputs.items():
            value = json.loads(owner.command(*name.split(), *words, "--json"))
            self.assertEqual(fits(value, schema("sev-owner-" + name.replace(" ", "-"))), [], name)
            self.assertNotEqual(fits({**value, "surprise": 1}, schema("sev-owner-" + name.replace(" ", "-"))), [], name)
        value = json.loads(run(OWNER, "verdict", "verify", "--key", str(self.dir / "owner.jwk"), str(self.dir / "ear.jwt"), "--json"))
        self.assertEqual(fits(value, schema("sev-owner-verdict-verify")), [])
        speaking = {
            command["name"]
            for command in json.loads(run(OWNER, "--print-commands-json"))
            if any(argument["name"] == "--json" for argument in command["arguments"])
        }
        self.assertEqual(speaking, {*outputs, "verdict verify"})
        self.assertEqual(
            {f"sev-owner-{name.replace(' ', '-')}.schema.json" for name in speaking}, {path.name for path in SCHEMAS.glob("sev-owner-*.json")}
        )

    def test_embedded_schemas_are_the_ones_that_stand_alone(self):
        def alone(name):
            return {key: value for key, value in schema(name).items() if key not in ("$schema", "$id")}

        self.assertEqual(schema("session-request")["properties"]["platform"], alone("platform-evidence"))
        self.assertEqual(schema("judgement-request")["properties"]["launch"], alone("launch-evidence"))
        answer = schema("exchange-answer")["properties"]
        self.assertEqual(answer["offer"], alone("session-offer"))
        self.assertEqual(answer["judgement"]["properties"]["verdict"], alone("verdict"))
        self.assertEqual(answer["judgement"]["properties"]["packets"]["items"], alone("secret-packet"))

    def test_manual_is_the_command_tables(self):
        self.assertEqual((host.ROOT / "attest/owner/sev-owner.8").read_text(), run(OWNER, "--print-man"))


class Serving(Case):
    def test_whole_launch_over_a_unix_socket_then_over_stdio_nothing(self):
        owner = self.owner().start()
        answer, session = self.launch(owner.ask)
        self.expect_trusted(answer, session)
        # a session of one channel is nothing to another
        session = host.Session(owner.ask(host.session_request())["offer"])
        second = host.judgement_request(session.evidence())
        self.assertEqual(owner.exchange(second)["trouble"]["message"], "there is no such session for this channel")
        self.expect_trusted(owner.ask(second), session)
        self.assertEqual(owner.stop(), 0)
        self.assertEqual([json.loads(line)["event"] for line in owner.command("audit", "show").splitlines()][-2:], ["service.stopped", "head.signed"])

    def test_the_process_is_hardened(self):
        owner = self.owner().start()
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{owner.process.pid}/status").read_text().splitlines() if ":\t" in line)
        self.assertEqual(status["Seccomp"].strip(), "2")
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertIn("Max core file size        0                    0", pathlib.Path(f"/proc/{owner.process.pid}/limits").read_text())
        if os.geteuid() == 0 and os.environ.get("SEV_SANITIZED") != "1":
            self.assertGreater(int(status["VmLck"].split()[0]), 1000)

    @unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root can be two users")
    def test_a_peer_of_the_wrong_uid_gets_nothing_and_costs_nothing(self):
        owner = self.owner().start()
        for folder in (self.dir, owner.folder):
            folder.chmod(0o755)
        owner.socket.chmod(0o666)
        for path, method in (("/v1/exchange", "POST"), ("/v1/sessions", "GET"), ("/", "GET"), ("/metrics", "GET")):
            words = [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--",
                "curl",
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--unix-socket",
                str(owner.socket),
                f"http://owner{path}",
            ]
            words += ["-H", "Content-Type: application/json", "--data-binary", "{}"] if method == "POST" else []
            self.assertEqual(run(*words), "403", path)
        events = {json.loads(line)["event"] for line in owner.command("audit", "show").splitlines()}
        self.assertLessEqual(events, {"service.started", "head.signed"})

    @unittest.skipUnless(os.geteuid() == 0, "SKIPPED: only root can become somebody else")
    def test_it_serves_as_a_user_without_privileges(self):
        owner = self.owner(clients=[{"uid": 0, "policies": "any"}])
        self.dir.chmod(0o755)
        for path in [owner.folder, *owner.folder.rglob("*")]:
            os.chown(path, 65534, 65534)
        owner.start(user=65534)
        answer, session = self.launch(owner.ask)
        self.expect_trusted(answer, session)
        self.assertEqual(os.stat(owner.folder / "owner.db").st_uid, 65534)

    @unittest.skipUnless(jsonschema, "SKIPPED: no jsonschema (package python3-jsonschema), no answer was held against the OpenAPI document")
    def test_every_answer_is_the_one_of_the_openapi_document(self):
        owner = self.owner().start()
        answer, session = self.launch(owner.ask)
        self.expect_trusted(answer, session)
        platform = json.loads(json.dumps(host.BUNDLE["platform"]))
        platform["level"] = 0
        refused = owner.ask(host.session_request(platform=platform))
        self.assertIn("refusal", refused)
        lists = {state: owner.get(f"/v1/sessions?state={state}").json["sessions"] for state in ("trusted", "refused")}
        self.assertEqual({state: len(found) for state, found in lists.items()}, {"trusted": 1, "refused": 1})
        values = {"{id}": [found[0]["id"] for found in lists.values()], "{name}": ["web"]}
        seen = set()

        def hold(path, method, got, named):
            responses = API["paths"][named][method]["responses"]
            want = responses.get(str(got.status), responses["default"])
            content = resolved(want)["content"]
            kind = got.headers.get_content_type()
            self.assertIn(kind, content, (path, got.status))
            if kind.endswith("json"):
                self.assertEqual(fits(got.json, content[kind]["schema"]), [], path)
            seen.add((named, method, got.status))

        for named, methods in API["paths"].items():
            if "post" in methods:
                body = host.session_request()
                hold(named, "post", owner.ask_raw(body), named)
                hold(named, "post", request(UnixConnection(owner.socket), "POST", named, b"x", {"Content-Type": "text/plain"}), named)
                continue
            place = re.search(r"\{\w+\}", named)
            for value in values[place.group()] if place else [""]:
                path = named.replace(place.group(), value) if place else named
                got = owner.get(path)
                self.assertEqual(got.status, 200, (path, got.text))
                hold(path, "get", got, named)
        for path, named, status in (
            ("/v1/sessions/" + "0" * 32, "/v1/sessions/{id}", 404),
            ("/v1/sessions/xyz", "/v1/sessions/{id}", 404),
            ("/sessions/" + "0" * 32, "/sessions/{id}", 404),
            ("/policies/other", "/policies/{name}", 404),
            ("/v1/sessions?state=happy", "/v1/sessions", 400),
            ("/v1/sessions?limit=0", "/v1/sessions", 400),
            ("/v1/sessions?limit=99999", "/v1/sessions", 400),
            ("/v1/sessions?x=1", "/v1/sessions", 400),
        ):
            got = owner.get(path)
            self.assertEqual(got.status, status, path)
            hold(path, "get", got, named)
        self.assertEqual({named for named, _, status in seen if status == 200}, set(API["paths"]))
        owner.change(viewers={"uids": [], "certificates": []})
        owner.process.send_signal(signal.SIGHUP)
        time.sleep(1.5)
        for named, methods in API["paths"].items():
            if "get" in methods and "For viewers" in methods["get"]["description"]:
                got = owner.get(named.replace("{id}", "0" * 32).replace("{name}", "web"))
                self.assertEqual(got.status, 403, named)
                hold(named, "get", got, named)

    def test_pages_carry_a_strict_policy_and_hostile_paths_lead_nowhere(self):
        owner = self.owner().start()
        got = owner.get("/")
        policy = got.headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(got.headers["X-Content-Type-Options"], "nosniff")
        self.assertNotIn("<script", got.text)
        for path in ("/policies/../../etc/passwd", "/policies/%2e%2e", "/sessions/..", "//", "/policies/web/", "/v1/sessions/%00"):
            self.assertIn(owner.get(path).status, (400, 404), path)

    def test_seal_keys_rotated_while_it_serves(self):
        owner = self.owner()
        policy = host.policy()
        policy["secrets"][0]["path"] = "store:disk"
        (owner.folder / "policies/web.json").write_text(json.dumps(policy))
        owner.command("secret", "add", "disk", str(host.FIXTURES / "attest/disk.key"))
        owner.start()
        session = host.Session(owner.ask(host.session_request())["offer"])
        self.assertIn("2 rows sealed anew", owner.command("key", "rotate"))
        self.expect_trusted(owner.ask(host.judgement_request(session.evidence())), session)
        session = host.Session(owner.ask(host.session_request())["offer"])
        self.assertIn("1 keys dropped", owner.command("key", "rotate", "--retire"))  # it seals with the new one already
        self.expect_trusted(owner.ask(host.judgement_request(session.evidence())), session)

    def test_clients_that_ask_too_often_are_slowed_and_others_are_not(self):
        owner = self.owner(limits={"requests_per_second": 1, "burst": 3}).start()

        def accepted(metrics):
            return int(re.search(r'^sev_owner_http_total\{what="accepted"\} (\d+)$', metrics, re.MULTILINE).group(1))

        before = accepted(owner.get("/metrics").text)
        statuses = [owner.ask_raw(b"{}").status for _ in range(8)]
        self.assertEqual(statuses[:3], [200] * 3)
        self.assertIn(429, statuses[3:])
        self.assertEqual(owner.get("/health").status, 200)
        metrics = owner.get("/metrics").text
        self.assertIn(f"sev_owner_turned_away_total {statuses.count(429)}\n", metrics)
        self.assertEqual(accepted(metrics), before + 8 + 2)
        self.assertIn('sev_owner_http_total{what="handshakes_failed"} 0\n', metrics)
        self.assertIn("sev_owner_http_connections 1\n", metrics)

    def test_too_big_bodies_are_refused_unread(self):
        owner = self.owner().start()
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(owner.socket))
            raw.settimeout(10)
            raw.sendall(b"POST /v1/exchange HTTP/1.1\r\nHost: o\r\nContent-Type: application/json\r\nContent-Length: 10737418240\r\n\r\n")
            self.assertIn(b" 413 ", raw.recv(200))
        self.assertEqual(owner.get("/health").status, 200)

    def test_reload_takes_new_clients_and_policies_and_a_bad_one_changes_nothing(self):
        owner = self.owner().start()
        good = owner.config.read_text()
        owner.config.write_text("{")
        owner.process.send_signal(signal.SIGHUP)
        time.sleep(1.2)
        self.assertIn("reload failed", owner.log_text())
        self.assertIn("offer", owner.ask(host.session_request()))
        owner.config.write_text(good)
        owner.change(clients=[])
        owner.process.send_signal(signal.SIGHUP)
        time.sleep(1.2)
        self.assertEqual(owner.ask_raw(host.session_request()).status, 403)

    def test_killed_and_started_again_it_knows_its_sessions(self):
        owner = self.owner().start()
        session = host.Session(owner.ask(host.session_request())["offer"])
        owner.stop(signal.SIGKILL)
        owner.start()
        second = host.judgement_request(session.evidence())
        self.expect_trusted(owner.ask(second), session)
        owner.stop(signal.SIGKILL)
        owner.start()
        self.assertEqual(owner.ask(second)["trouble"]["message"], "the session was used already")
        owner.command("audit", "verify")


class Faults(Case):
    def test_a_full_disk_is_trouble_for_as_long_as_it_is_full(self):
        owner = self.owner(limits={"requests_per_second": 100000, "burst": 100000}).start()
        session = host.Session(owner.ask(host.session_request())["offer"])
        size = max(path.stat().st_size for path in owner.folder.glob("owner.db*"))
        run("prlimit", "--pid", str(owner.process.pid), f"--fsize={size}:unlimited")  # to a process, a full disk and its limit look alike
        troubles = 0
        for _ in range(40):
            answer = owner.ask(host.session_request())
            troubles += "trouble" in answer
        self.assertGreater(troubles, 20)
        second = host.judgement_request(session.evidence())
        answer = owner.ask(second)
        if "judgement" not in answer:  # what cannot be recorded is not released
            self.assertIn("its log says why", answer["trouble"]["message"])
        self.assertEqual(owner.get("/health").status, 200)
        run("prlimit", "--pid", str(owner.process.pid), "--fsize=unlimited:unlimited")
        self.assertIn("offer", owner.ask(host.session_request()))
        if "judgement" not in answer:
            again = owner.ask(second)
            self.assertIn("judgement", again)
        owner.stop()
        owner.command("audit", "verify")

    def test_a_store_that_is_none(self):
        owner = self.owner()
        owner.command("check")
        for path in owner.folder.glob("owner.db-*"):
            path.unlink()
        (owner.folder / "owner.db").write_bytes(b"not a database at all, and long enough to be looked at as one" * 20)
        done = subprocess.run(
            [OWNER, "exchange", "--config", str(owner.config), "--channel", "dom0", "--unlocked-memory"],
            input=host.session_request(),
            capture_output=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"store", done.stderr)


class Https(Case):
    def setUp(self):
        super().setUp()
        self.certificates = self.dir / "tls"
        make_certificates(self.certificates)
        self.port = free_port()
        self.one = self.owner()
        der = {name: ssl.PEM_cert_to_DER_cert((self.certificates / f"{name}.pem").read_text()) for name in ("alice", "bob")}
        self.print = {name: hashlib.sha256(value).hexdigest() for name, value in der.items()}
        listen = [
            {"unix": str(self.one.socket), "mode": "0600"},
            {
                "https": "127.0.0.1",
                "port": self.port,
                "certificate": str(self.certificates / "server.pem"),
                "private_key": str(self.certificates / "server.key"),
                "client_ca": str(self.certificates / "ca.pem"),
            },
        ]
        self.one.change(
            listen=listen,
            clients=[{"certificate": self.print["alice"], "label": "alice", "policies": ["web"]}, {"uid": os.getuid(), "policies": "any"}],
        )
        self.one.start()

    def connection(self, client, **more):
        context = tls(self.certificates, client)
        for name, value in more.items():
            setattr(context, name, value)
        return http.client.HTTPSConnection("localhost", self.port, context=context, timeout=20)

    def ask(self, client, body):
        out = request(self.connection(client), "POST", "/v1/exchange", body)
        self.assertEqual(out.status, 200, out.text)
        return host.answer(out.text, body, self.one.jwk)

    def test_whole_launch_and_who_gets_none(self):
        alice = lambda body: self.ask("alice", body)
        answer, session = self.launch(alice)
        self.expect_trusted(answer, session)
        # a certificate of the CA that the configuration does not name: TLS lets it in, the owner does not
        self.assertEqual(request(self.connection("bob"), "POST", "/v1/exchange", host.session_request()).status, 403)
        for client in (None, "mallory"):
            with self.assertRaises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected), msg=client):
                request(self.connection(client), "POST", "/v1/exchange", host.session_request())
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            request(self.connection("alice", maximum_version=ssl.TLSVersion.TLSv1_2), "GET", "/health")
        self.assertEqual(request(self.connection("alice"), "GET", "/").status, 403)

    def test_evidence_over_another_channel(self):
        session = host.Session(self.ask("alice", host.session_request())["offer"])
        second = host.judgement_request(session.evidence())
        self.assertEqual(self.one.ask(second)["trouble"]["message"], "there is no such session for this channel")
        self.expect_trusted(self.ask("alice", second), session)

    def test_a_policy_that_the_client_may_not_use(self):
        policies = self.one.folder / "policies"
        (policies / "lenient.json").write_text((policies / "web.json").read_text())
        self.assertEqual(
            self.ask("alice", host.session_request(policy_name="lenient"))["trouble"]["message"], 'this channel may not use a policy named "lenient"'
        )

    def test_silent_clients_keep_nobody_out(self):
        idle = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(200)]
        try:
            self.assertEqual(request(self.connection("alice"), "GET", "/health").status, 200)
        finally:
            for one in idle:
                one.close()


if __name__ == "__main__":
    support.main()
