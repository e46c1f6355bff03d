#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An owner without a network, with the whole house: requests and answers carried by hand, as files; a launch's bundle collected on the host and judged elsewhere; and every way in
which such a bundle must not be believed, with the host's own key in the liar's hands."""
import base64
import copy
import hashlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import threading
import time
import unittest

import house

try:
    import jsonschema
except ImportError:
    jsonschema = None
ROOT = pathlib.Path(__file__).resolve().parents[2]
CARRY = ROOT / "docs/examples/carry-by-hand"
TYPE = "vnd.xen-sev.bundle+jws;version=1"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sign(key_file, header, payload):
    """A compact JWS by OpenSSL's own hand."""
    text = b64(json.dumps(header).encode()) + "." + b64(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    der = subprocess.run(["openssl", "dgst", "-sha384", "-sign", str(key_file), "-keyform", "DER"], input=text.encode(), capture_output=True, check=True).stdout
    at, parts = 2 if der[1] < 0x80 else 3, b""
    for _ in "rs":
        length = der[at + 1]
        parts += int.from_bytes(der[at + 2:at + 2 + length], "big").to_bytes(48, "big")
        at += 2 + length
    return text + "." + b64(parts)


class Owner(threading.Thread):
    """An owner who has sevctl, a signing key and a folder, and no service: makes its sessions with sevctl session and judges with sevctl judge. It answers what is put into `out`
    with a file in `in`, as one who carries files by hand."""

    def __init__(self, home, desk):
        super().__init__(daemon=True)
        self.home, self.desk, self.sessions, self.problems, self.over = home, desk, [], [], threading.Event()
        for folder in ("out", "in", "vault"):
            (desk / folder).mkdir(parents=True)
        house.check("sev-owner", "key", "new", desk / "owner.key")
        self.key = json.loads(house.check("sev-owner", "key", "show", "--key", desk / "owner.key"))

    def run(self):
        while not self.over.wait(0.02):
            for request in sorted((self.desk / "out").glob("*.json")):
                answer = self.desk / "in" / (request.stem + ".jws")
                if answer.exists():
                    continue
                try:
                    answer.write_text(self.answer(request.read_bytes()))
                except Exception as error:  # noqa: BLE001 the test looks at them
                    self.problems.append(repr(error))
                    return

    def answer(self, text):
        request = json.loads(text)
        body = {"format": "xen-sev/exchange-answer", "version": 1, "request": hashlib.sha256(text).hexdigest(), "answered_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        vault = self.desk / "vault"
        if request["format"] == "xen-sev/session-request":
            folder = vault / str(len(self.sessions))
            folder.mkdir()
            (folder / "chain").write_bytes(base64.b64decode(request["platform"]["chain"]))
            (folder / "platform.json").write_text(json.dumps(request["platform"]))
            prefix = folder / request["launch_name"]
            house.check("sevctl", "session", "--name", prefix, folder / "chain", "0x3", "--offer", folder / "offer.json")
            self.sessions.append({"folder": folder, "tik": f"{prefix}_tik.bin", "pdh": folder / "chain", "offer": folder / "offer.json"})
            body["offer"] = json.loads((folder / "offer.json").read_text())
        else:
            session = self.sessions[-1]
            (session["folder"] / "launch.json").write_text(json.dumps(request["launch"]))
            tik = [] if "report" in request["launch"] else ["--tik", session["tik"]]
            done = house.run("sevctl", "judge", self.home.owner_folder / "policies/web.json", "--platform", session["folder"] / "platform.json", "--launch", session["folder"] / "launch.json",
                             "--offer", session["offer"], "--pdh", session["pdh"], *tik, "--json")
            session["verdict"] = json.loads(done.stdout)["verdict"]
            body["judgement"] = {"verdict": session["verdict"], "packets": []}
        return sign(self.desk / "owner.key", {"alg": "ES384", "kid": self.key["kid"], "typ": "xen-sev-answer+jwt"}, body)

    def close(self):
        self.over.set()
        self.join(house.PATIENCE)


class Bundles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.house = h = house.House()
        h.policy("web", evidence=["measurement", "report"], accept_unproven_build=True)
        (h.folder / "evil").write_bytes(b"\x01" + (h.folder / "kernel").read_bytes()[1:])
        h.layout("evil-guest", kernel="evil")
        cls.owner = Owner(h, h.folder / "desk")
        h.configuration["owners"]["byhand"] = {"key": cls.owner.key, "channel": {"command": [str(CARRY), str(h.folder / "desk")]}, "deadline_s": 60}
        h.start()
        cls.owner.start()

    @classmethod
    def tearDownClass(cls):
        cls.owner.close()
        cls.house.close()

    number = 0

    def launched(self, layout="guest", evidence="measurement", status=0, owner="byhand"):
        """The id of a launch that was judged by hand, and what its owner knows of it."""
        Bundles.number += 1
        done = self.house.sevctl("launch", "--image", self.house.folder / f"{layout}.json", "--owner", owner, "--policy", "web", "--name", f"guest{Bundles.number}", "--evidence", evidence,
                                 "--json")
        self.assertEqual(self.owner.problems, [])
        self.assertEqual(done.returncode, status, done.stderr.decode() + self.house.daemon.text()[-1500:])
        return json.loads(done.stdout)["launch"]["id"], self.owner.sessions[-1] if owner == "byhand" else None

    def collected(self, launch):
        """The bundle and the host's key, away from the host: nothing else of it is there."""
        away = self.house.folder / f"away{launch}"
        shutil.rmtree(away, ignore_errors=True)
        away.mkdir()
        house.check("sevctl", "bundle", launch, "-o", away / "bundle", "--socket", self.house.socket)
        (away / "host.jwk").write_bytes(house.check("sevctl", "bundle", "--print-key", "--socket", self.house.socket))
        return away

    def judge(self, bundle, session, *words, host=None, tik=True, offer=False):
        words = ["judge", self.house.owner_folder / "policies/web.json", "--bundle", bundle, "--host-key", host or bundle.parent / "host.jwk", "--pdh", session["pdh"], *words]
        words += ["--tik", session["tik"]] if tik else []
        words += ["--offer", session["offer"]] if offer else []
        return house.run("sevctl", *words, "--json")

    def failed(self, done):
        self.assertEqual(done.returncode, 1, done)
        return [check["check"] for check in json.loads(done.stdout)["verdict"]["checks"] if not check["passed"]]

    def trouble(self, done, *words):
        self.assertEqual((done.returncode, done.stdout), (2, b""), done)
        for word in words:
            self.assertIn(word, done.stderr.decode())

    def test_a_launch_judged_elsewhere(self):
        launch, session = self.launched()
        away = self.collected(launch)
        done = self.judge(away / "bundle", session)
        self.assertEqual(done.returncode, 0, done)
        result = json.loads(done.stdout)
        self.assertTrue(result["trusted"] and result["verdict"]["emulated"])
        # the same checks, with the same outcome, as the owner's own when the guest was launched, and three that only a bundle has
        self.assertEqual([c["check"] for c in result["verdict"]["checks"]], ["host.signature", "host.times", "session.known"] + [c["check"] for c in session["verdict"]["checks"]])
        self.assertEqual((result["collected"]["launch"], result["collected"]["state"]), (launch, "running"))
        self.assertEqual(self.judge(away / "bundle", session, "--max-age", "600").returncode, 0)
        later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 7200))
        self.assertEqual(self.failed(self.judge(away / "bundle", session, "--max-age", "600", "--at", later)), ["host.times"])
        # without the TIK nothing is known, whoever signed
        self.assertEqual(self.failed(self.judge(away / "bundle", session, tik=False)), ["session.known", "evidence.kind", "launch.digest"])
        self.assertEqual(self.failed(self.judge(away / "bundle", session, tik=False, offer=True)), ["evidence.kind", "launch.digest"])
        if jsonschema:
            payload = json.loads(unb64((away / "bundle").read_text().split(".")[1]))
            jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schemas/signed-bundle.schema.json").read_text())).validate(payload)
            jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schemas/sevctl-judge.schema.json").read_text())).validate(result)
            for words in ([launch, "-o", away / "again"], ["--print-key"]):
                out = json.loads(house.check("sevctl", "bundle", *words, "--socket", self.house.socket, "--json"))
                jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schemas/sevctl-bundle.schema.json").read_text())).validate(out)
        else:
            print("SKIPPED: python3-jsonschema is not installed, no output was held against its schema")

    def test_a_report_needs_no_tik_and_the_owners_own_offer(self):
        launch, session = self.launched(evidence="report")
        away = self.collected(launch)
        self.assertEqual(self.judge(away / "bundle", session, tik=False, offer=True).returncode, 0)
        self.assertEqual(self.failed(self.judge(away / "bundle", session, tik=False)), ["session.known"])

    def test_a_refused_launch_can_be_judged_again(self):
        launch, session = self.launched("evil-guest", status=1)
        away = self.collected(launch)
        done = self.judge(away / "bundle", session)
        self.assertEqual(self.failed(done), ["launch.digest"])
        self.assertEqual(json.loads(done.stdout)["collected"]["state"], "refused")

    def test_bundles_and_the_key_survive_a_restart(self):
        launch, session = self.launched()
        before = self.collected(launch)
        key = (before / "host.jwk").read_bytes()
        self.house.daemon.kill()
        self.house.start_daemon()
        away = self.collected(launch)
        self.assertEqual((away / "host.jwk").read_bytes(), key)
        done = self.judge(away / "bundle", session)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn(json.loads(done.stdout)["collected"]["state"], ("running", "failed", "destroyed"))
        file = self.house.state / "host.key"
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        scalar = subprocess.run(["openssl", "ec", "-inform", "DER", "-in", str(file), "-text", "-noout"], capture_output=True, check=True).stdout.decode()
        scalar = scalar.split("priv:")[1].split("pub:")[0].replace(":", "").split()
        self.assertGreater(len("".join(scalar)), 80)
        self.assertNotIn("".join(scalar), self.house.daemon.text())

    def test_what_is_not_the_hosts_is_not_judged(self):
        launch, session = self.launched()
        away = self.collected(launch)
        text = (away / "bundle").read_text().strip()
        header, payload, signature = text.split(".")
        value = json.loads(unb64(payload))

        def refused(name, content, *words):
            (away / name).write_text(content)
            self.trouble(self.judge(away / name, session), name, *words)

        # every field, changed under the old signature
        def places(node, path=()):
            if isinstance(node, dict):
                for key, inner in node.items():
                    yield from places(inner, (*path, key))
            elif isinstance(node, list):
                for index, inner in enumerate(node[:3]):
                    yield from places(inner, (*path, index))
            else:
                yield path

        changed = 0
        for path in places(value):
            bad = copy.deepcopy(value)
            node = bad
            for key in path[:-1]:
                node = node[key]
            old = node[path[-1]]
            node[path[-1]] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else ("A" if not old.startswith("A") else "B") + old[1:]
            with self.subTest(path):
                refused("changed", f"{header}.{b64(json.dumps(bad, separators=(',', ':')).encode())}.{signature}", "does not verify")
            changed += 1
        self.assertGreater(changed, 25)
        for length in list(range(0, 200, 7)) + list(range(200, len(text), 997)):
            refused("truncated", text[:length])
        refused("long", text + text)
        with open(away / "huge", "w") as huge:
            huge.write(text)
            huge.truncate(64 << 20)
        self.trouble(self.judge(away / "huge", session), "huge")
        house.check("sev-owner", "key", "new", away / "other.key")
        (away / "other.jwk").write_bytes(house.check("sev-owner", "key", "show", "--key", away / "other.key"))
        self.trouble(self.judge(away / "bundle", session, host=away / "other.jwk"), "want the pinned")
        kid = json.loads((away / "host.jwk").read_text())["kid"]
        other = json.loads((away / "other.jwk").read_text())["kid"]
        refused("other", sign(away / "other.key", {"alg": "ES384", "kid": other, "typ": TYPE}, value), "want the pinned")
        refused("posing", sign(away / "other.key", {"alg": "ES384", "kid": kid, "typ": TYPE}, value), "does not verify")
        refused("none", f"{b64(json.dumps({'alg': 'none', 'kid': kid, 'typ': TYPE}).encode())}.{payload}.", "96")
        # signed by the host itself, and still no bundle
        key = self.house.state / "host.key"
        good = {"alg": "ES384", "kid": kid, "typ": TYPE}
        (away / "resigned").write_text(sign(key, good, value))
        self.assertEqual(self.judge(away / "resigned", session).returncode, 0)  # so that the following fail for their own reason
        refused("version", sign(key, {**good, "typ": TYPE[:-1] + "2"}, value), "typ")
        refused("answer", sign(key, {**good, "typ": "xen-sev-answer+jwt"}, value), "typ")
        refused("critical", sign(key, {**good, "crit": ["x"]}, value), "crit")
        refused("unknown", sign(key, good, {**value, "surprise": 1}), "surprise")
        refused("deep", sign(key, good, b'{"format":' + b"[" * 5000 + b"]" * 5000 + b"}"), "nested deeper")
        refused("number", sign(key, good, json.dumps(value).replace(f'"launch": {launch},', '"launch": 1' + "0" * 400 + ",").encode()))
        refused("twice", sign(key, good, json.dumps(value).replace('"version": 1', '"version": 1, "version": 1', 1).encode()), "version")
        refused("text", sign(key, good, b"\xff\xfe"))

    def test_a_host_that_lies_in_a_bundle_it_signed(self):
        one, session = self.launched()
        two, other_session = self.launched()
        away, other = self.collected(one), self.collected(two)
        value, another = (json.loads(unb64((path / "bundle").read_text().split(".")[1])) for path in (away, other))
        header = {"alg": "ES384", "kid": json.loads((away / "host.jwk").read_text())["kid"], "typ": TYPE}

        def judged(change, **more):
            bad = copy.deepcopy(value)
            change(bad)
            (away / "lie").write_text(sign(self.house.state / "host.key", header, bad))
            return self.failed(self.judge(away / "lie", session, **more))

        def swap(part):
            return lambda bad: bad["bundle"].__setitem__(part, another["bundle"][part])

        # parts of two bundles
        self.assertEqual(judged(swap("launch")), ["session.id", "session.launch_name", "launch.digest"])
        self.assertIn("session.known", judged(swap("offer")))
        self.assertEqual(self.failed(self.judge(other / "bundle", session)), ["session.known", "launch.digest"])
        self.assertEqual(self.judge(other / "bundle", other_session).returncode, 0)
        # another chip's certificates
        strange = self.house.folder / "strange"
        if not strange.exists():
            house.check("sev-emulator", "create", "--state", strange, "--personality", "epyc-7002")
            shown = self.house.folder / "strange-house"
            shown.mkdir()
            (shown / "state").mkdir()
            (shown / "sevd.json").write_text(json.dumps({**self.house.configuration, "psp": {"backend": "emulated", "state": str(strange)}, "socket": str(shown / "s"), "state": str(shown / "state")}))
            (shown / "sevd.json").chmod(0o600)
            daemon = house.Process(shown, "sevd", ["--config", shown / "sevd.json"], shown / "s")
            chain = house.check_http(shown / "s", "/v1/platform")
            daemon.stop()
        self.assertLess({"platform.chip", "session.pdh"}, set(judged(lambda bad: bad["bundle"].__setitem__("platform", json.loads(chain)))))
        # a clearer policy, another build, another measurement, another level, other times
        measurement = base64.b64decode(value["bundle"]["launch"]["measurement"])
        for change, failed in (
                (lambda bad: (bad["bundle"]["offer"].__setitem__("policy", 0), bad["bundle"]["launch"].__setitem__("policy", 0)), ["session.known", "policy.required_bits", "launch.digest"]),
                (lambda bad: bad["bundle"]["launch"].__setitem__("build", "0.24.200"), ["launch.build", "launch.digest"]),
                (lambda bad: bad["bundle"]["launch"].__setitem__("measurement", base64.b64encode(measurement[:32] + os.urandom(16)).decode()), ["launch.digest"]),
                (lambda bad: bad["bundle"]["launch"].__setitem__("session_id", "00" * 16), ["session.id"]),
                (lambda bad: bad["bundle"]["launch"].__setitem__("launch_name", "other"), ["session.launch_name"]),
                (lambda bad: bad.__setitem__("collected_at", "2098-01-01T00:00:00Z"), ["host.times"]),
                (lambda bad: bad.__setitem__("measured_at", "2020-01-01T00:00:00Z"), ["host.times"])):
            self.assertEqual(judged(change), failed)
        # what it claims to be is worth no more than its root
        bad = copy.deepcopy(value)
        bad["bundle"]["platform"]["level"] = 5
        (away / "lie").write_text(sign(self.house.state / "host.key", header, bad))
        verdict = json.loads(self.judge(away / "lie", session).stdout)["verdict"]
        self.assertEqual((verdict["level"], verdict["emulated"]), (1, True))

    def test_what_has_no_bundle(self):
        def bundle(*words):
            return self.house.sevctl("bundle", *words)

        away = self.house.folder / "nothing"
        self.trouble(bundle("99999", "-o", away), "knows no launch 99999")
        self.trouble(bundle("x", "-o", away), "LAUNCH is x")
        self.trouble(bundle("1"), "--outfile")
        self.trouble(bundle("--print-key", "-o", away), "--outfile and --print-key")
        self.house.policy("strict", level=5)
        done = self.house.sevctl("launch", "--image", self.house.folder / "guest.json", "--owner", "vault", "--policy", "strict", "--name", "strict", "--json")
        self.trouble(bundle(json.loads(done.stdout)["launch"]["id"], "-o", away), "was never measured")
        launch, _ = self.launched(owner="vault")
        self.assertFalse(away.exists())
        self.assertEqual(bundle(launch, "-o", away).returncode, 0)
        self.trouble(bundle(launch, "-o", away), "exists already")
        self.assertEqual(bundle(launch, "-o", away, "--force").returncode, 0)
        done = house.run("sevctl", "bundle", launch, "-o", self.house.folder / "x", "--socket", self.house.folder / "nowhere")
        self.trouble(done, "nobody listens there")
        self.assertNotIn(house.SECRET.strip(), away.read_bytes() + unb64(away.read_text().split(".")[1]))


class ByHand(unittest.TestCase):
    """docs/owner.md, "An owner without a network": sev-owner on a machine of its own answers the files, and the secret comes back in one."""

    def test_a_secret_released_by_files(self):
        h = house.House()
        self.addCleanup(h.close)
        desk = h.folder / "desk"
        for name in ("out", "in"):
            (desk / name).mkdir(parents=True)
        h.configuration["owners"]["vault"] = {"key": h.key, "channel": {"command": [str(CARRY), str(desk)]}, "deadline_s": 60}
        h.start_daemon()
        client = subprocess.Popen([house.program("sevctl"), "launch", "--image", str(h.folder / "guest.json"), "--owner", "vault", "--policy", "web", "--name", "web", "--socket", str(h.socket)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        answered = []
        for step in ("session-request", "judgement-request"):
            request = house.until(f"a {step} lies on the desk", lambda: next((path for path in (desk / "out").glob("*.json") if path not in answered), None))
            self.assertEqual(json.loads(request.read_text())["format"], f"xen-sev/{step}")
            self.assertEqual(stat.S_IMODE(request.stat().st_mode), 0o600)
            answered.append(request)
            with open(request, "rb") as text:
                done = house.run("sev-owner", "exchange", "--config", h.owner_folder / "owner.json", "--channel", "relay", stdin=text)
            self.assertEqual(done.returncode, 0, done)
            answer = desk / "in" / (request.stem + ".jws")
            half = len(done.stdout) // 2
            with open(answer, "wb", buffering=0) as slow:  # as a stick may bring it
                slow.write(done.stdout[:half])
                time.sleep(0.3)
                slow.write(done.stdout[half:])
        out, err = client.communicate(timeout=house.PATIENCE)
        self.assertEqual(client.returncode, 0, out.decode() + err.decode())
        self.assertIn(b"LAUNCH_SECRET", out)
        house.until("the desk is clean", lambda: not list(desk.rglob("*.js*")))
        # an answer to another request is none: the same files again
        client = subprocess.Popen([house.program("sevctl"), "launch", "--image", str(h.folder / "guest.json"), "--owner", "vault", "--policy", "web", "--name", "again", "--socket", str(h.socket)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        request = house.until("a request lies on the desk", lambda: next((desk / "out").glob("*.json"), None))
        (desk / "in" / (request.stem + ".jws")).write_bytes(done.stdout)
        out, err = client.communicate(timeout=house.PATIENCE)
        self.assertEqual(client.returncode, 1, err)
        self.assertIn(b"another request", out)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    unittest.main()
