#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sev-relay fetch against a key server on the loopback that answers right and in every wrong way. No test asserts on time: what must be waited for is
counted in requests, and deadlines only bound the whole."""
import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import key_server
from key_server import Chain, KeyServer, status

parser = argparse.ArgumentParser()
parser.add_argument("--relay", required=True)
parser.add_argument("--sevctl")
options, rest = parser.parse_known_args()
FIXTURES = pathlib.Path("tests/fixtures/psp")
VECTORS = pathlib.Path(os.environ.get("SEV_VECTORS", "../shared/spec/vectors")) / "certs"
NAPLES = Chain(FIXTURES / "chain_rsa2048.bin", "naples")
ROME = Chain(FIXTURES / "chain_rsa4096.bin", "rome")
ID = "0123456789abcdef" * 8
OTHER_ID = "fedcba9876543210" * 8
HTML = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n"


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.certificates = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-relay-"))
        key_server.make_certificates(cls.certificates)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.certificates)

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-relay-"))
        self.cache = self.folder / "cache"
        self.server = KeyServer(self.certificates)
        for chain in (NAPLES, ROME):
            self.server.answers[f"/ca/{chain.product}"] = chain.ca
        self.server.answers[f"/cek/{ID}"] = NAPLES.cek
        self.server.answers[f"/cek/{OTHER_ID}"] = ROME.cek

    def tearDown(self):
        self.server.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words, server=None, roots=(NAPLES, ROME)):
        server = server or self.server
        out = [options.relay, "fetch", *words, "--cache", str(self.cache), "--cacert", str(self.certificates / "ca.pem"), "--cek-url", server.url("/cek/{id}"),
               "--ca-url", server.url("/ca/{product}"), "--proxy", "none", "--back-off", "0.01"]
        if "--deadline" not in words:
            out += ["--deadline", "30"]
        for root in roots:
            out += ["--root", root.root]
        return out

    def fetch(self, *words, server=None, roots=(NAPLES, ROME), **more):
        done = subprocess.run(self.command(*words, server=server, roots=roots), capture_output=True, text=True, timeout=120, **more)
        self.assertLessEqual(len(done.stderr.splitlines()), 2, done.stderr)
        for line in done.stderr.splitlines():
            self.assertRegex(line, r"^sev-relay: (error|hint): ")
        return done

    def valid(self, done):
        """The result, held against its schema."""
        told = json.loads(done.stdout)
        try:
            import jsonschema
        except ImportError:
            print("SKIPPED: python3-jsonschema is absent")
        else:
            jsonschema.validate(told, json.loads(pathlib.Path("docs/schemas/relay-fetch.schema.json").read_text()))
        return told

    def stored(self):
        """Certificates in the cache, and nothing half-written beside them."""
        files = [p for p in self.cache.rglob("*") if p.is_file()]
        self.assertEqual([p.name for p in files if p.name.startswith(".")], [])
        return sorted(p.relative_to(self.cache).as_posix() for p in files if p.suffix == ".cert")

    def refused(self, done, *words):
        self.assertEqual(done.returncode, 2, done)
        self.assertEqual(done.stdout, "")
        for word in words:
            self.assertIn(word, done.stderr)


class Right(Case):
    def test_ca_is_fetched_once(self):
        first = self.fetch("ca", "--product", "naples", "--json")
        self.assertEqual(first.returncode, 0, first)
        self.assertEqual(json.loads(first.stdout)["outcome"], "fetched")
        self.assertEqual((self.cache / "ca/naples.cert").read_bytes(), NAPLES.ca)
        second = self.fetch("ca", "--product", "naples", "--json")
        self.assertEqual(json.loads(second.stdout)["outcome"], "cached")
        self.assertEqual(self.server.requests, ["/ca/naples"])

    def test_cek_is_fetched_once_with_its_ca(self):
        done = self.fetch("cek", "--id", ID, "--product", "naples", "--json")
        self.assertEqual(done.returncode, 0, done)
        told = self.valid(done)
        self.assertEqual((told["outcome"], told["product"], told["fingerprint"], told["root"], told["amd"]), ("fetched", "naples", NAPLES.key, "test naples", False))
        self.assertEqual(pathlib.Path(told["file"]).read_bytes(), NAPLES.cek)
        self.assertEqual(self.stored(), ["ca/naples.cert", f"cek/{ID}.cert", f"cek/key-{NAPLES.key}.cert"])
        self.assertEqual(self.fetch("cek", "--id", ID).stdout.strip(), told["file"])
        self.assertEqual(sorted(self.server.requests), ["/ca/naples", f"/cek/{ID}"])

    def test_modes(self):
        self.fetch("cek", "--id", ID, preexec_fn=lambda: os.umask(0o077))
        for path in [self.cache, *self.cache.rglob("*")]:
            self.assertEqual(path.stat().st_mode & 0o777, 0o755 if path.is_dir() else 0o644, path)

    def test_unknown_product_is_found_by_the_asks(self):
        for chip, chain in ((ID, NAPLES), (OTHER_ID, ROME)):
            told = json.loads(self.fetch("cek", "--id", chip, "--json").stdout)
            self.assertEqual(told["product"], chain.product)

    def test_expected_key(self):
        self.assertEqual(self.fetch("cek", "--id", ID, "--key", NAPLES.key).returncode, 0)
        self.refused(self.fetch("cek", "--id", OTHER_ID, "--key", NAPLES.key), "another chip")
        self.assertNotIn(f"cek/{OTHER_ID}.cert", self.stored())

    def test_two_processes_make_one_flight(self):
        self.server.answers[f"/cek/{ID}"] = key_server.slow(NAPLES.cek, 0.5)
        running = [subprocess.Popen(self.command("cek", "--id", ID, "--product", "naples"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
        for process in running:
            out, error = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0, error)
        self.assertEqual(sorted(self.server.requests), ["/ca/naples", f"/cek/{ID}"])

    def test_redirect_within_https_is_followed(self):
        self.server.answers["/ca/naples"] = status(302, [("Location", self.server.url("/moved"))])
        self.server.answers["/moved"] = NAPLES.ca
        self.assertEqual(self.fetch("ca", "--product", "naples").returncode, 0)

    def test_offline(self):
        self.refused(self.fetch("cek", "--id", ID, "--offline"), "--offline", "not in", "sevctl cert import")
        self.assertFalse(self.cache.exists())
        self.assertEqual(self.server.requests, [])
        self.fetch("cek", "--id", ID)
        asked = len(self.server.requests)
        self.assertEqual(self.fetch("cek", "--id", ID, "--offline").returncode, 0)
        self.assertEqual(len(self.server.requests), asked)

    def test_a_broken_cache_is_fetched_anew(self):
        self.fetch("cek", "--id", ID)
        path = self.cache / f"cek/{ID}.cert"
        broken = bytearray(path.read_bytes())
        broken[0x100] ^= 1
        path.write_bytes(broken)
        self.refused(self.fetch("cek", "--id", ID, "--offline"), path.name)
        done = self.fetch("cek", "--id", ID, "--json")
        self.assertEqual(json.loads(done.stdout)["outcome"], "fetched")
        self.assertEqual(path.read_bytes(), NAPLES.cek)

    def test_configuration_file(self):
        config = self.folder / "relay.json"
        config.write_text(json.dumps({"format": "xen-sev/relay", "version": 1, "cek_url": self.server.url("/cek/{id}"), "ca_url": self.server.url("/ca/{product}"),
                                      "cacert": str(self.certificates / "ca.pem"), "cache": str(self.cache), "deadline_seconds": 30}))
        base = [options.relay, "fetch", "ca", "--product", "naples", "--root", NAPLES.root, "--config", str(config), "--proxy", "none"]
        done = subprocess.run(base, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(self.stored(), ["ca/naples.cert"])
        config.write_text('{"format": "xen-sev/relay", "version": 1, "verify": false}')
        done = subprocess.run(base, capture_output=True, text=True, timeout=60)
        self.refused(done, "relay.json", "verify")

    def test_environment_gives_cache_and_ca_file(self):
        words = self.command("ca", "--product", "naples")
        for option in ("--cache", "--cacert"):
            at = words.index(option)
            del words[at : at + 2]
        if os.geteuid() == 0:
            words += ["--cache", str(self.folder / "home/xen-sev")]  # root's place is /var/cache, which is not for tests
        environment = {**os.environ, "SSL_CERT_FILE": str(self.certificates / "ca.pem"), "XDG_CACHE_HOME": str(self.folder / "home")}
        self.assertEqual(subprocess.run(words, env=environment, capture_output=True, timeout=60).returncode, 0)
        self.assertTrue((self.folder / "home/xen-sev/ca/naples.cert").exists())


class AmdChains(Case):
    def test_real_chains_verify_to_the_pinned_roots(self):
        for product in ("naples", "rome"):
            if not (VECTORS / product / "cek.cert").exists():
                print(f"SKIPPED: {VECTORS / product} is absent (set SEV_VECTORS)")
                self.skipTest("vectors are absent")
            folder = VECTORS / product
            self.server.answers[f"/ca/{product}"] = (folder / "ask.cert").read_bytes() + (folder / ("ark.cert.truncated" if product == "naples" else "ark.cert")).read_bytes()
            self.server.answers[f"/cek/{ID}"] = (folder / "cek.cert").read_bytes()
            done = self.fetch("cek", "--id", ID, "--product", product, "--json", roots=())
            self.assertEqual(done.returncode, 0, done)
            self.assertEqual((json.loads(done.stdout)["root"], json.loads(done.stdout)["amd"]), (f"AMD ARK {product.capitalize()}", True))
            shutil.rmtree(self.cache)


class Missing(Case):
    def test_404_is_an_answer_and_is_remembered(self):
        del self.server.answers[f"/cek/{ID}"]
        for attempt in range(2):
            done = self.fetch("cek", "--id", ID, "--product", "naples", "--json")
            self.assertEqual(done.returncode, 1, done)
            self.assertIn("endorsement missing", done.stderr)
            self.assertIn("pin", done.stderr)
            self.assertEqual(self.valid(done)["outcome"], "missing")
        self.assertEqual(self.server.requests.count(f"/cek/{ID}"), 1)
        self.assertEqual(self.fetch("cek", "--id", ID, "--offline").returncode, 1)  # known, so no guess

    def test_the_note_expires(self):
        del self.server.answers[f"/cek/{ID}"]
        self.fetch("cek", "--id", ID, "--product", "naples", "--missing-hours", "0.0001")
        note = self.cache / f"cek/{ID}.missing"
        data = json.loads(note.read_text())
        self.assertLess(data["asked_ms"], data["ask_again_ms"])
        data["ask_again_ms"] = data["asked_ms"]
        note.write_text(json.dumps(data))
        self.server.answers[f"/cek/{ID}"] = NAPLES.cek
        self.assertEqual(self.fetch("cek", "--id", ID, "--product", "naples").returncode, 0)
        self.assertFalse(note.exists())

    def test_a_note_about_another_chip_or_for_ever_is_not_believed(self):
        self.fetch("ca", "--product", "naples")
        folder = self.cache / "cek"
        folder.mkdir()
        now = int(time.time() * 1000)
        for subject, until in ((f"cek {OTHER_ID}", now + 3600_000), (f"cek {ID}", now + 10**10)):
            (folder / f"{ID}.missing").write_text(json.dumps({"format": "xen-sev/endorsement-missing", "version": 1, "subject": subject, "server": "x:443", "asked_ms": now,
                                                              "ask_again_ms": until, "reason": "HTTP 404"}))
            self.assertEqual(self.fetch("cek", "--id", ID, "--product", "naples").returncode, 0)
            (folder / f"{ID}.cert").unlink()

    def test_missing_ca(self):
        done = self.fetch("ca", "--product", "genoa")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ca genoa", done.stderr)


class Wrong(Case):
    """Each body alone is refused with its reason, and nothing is stored."""

    def ca(self, body, *words):
        self.server.answers["/ca/naples"] = body
        self.refused(self.fetch("ca", "--product", "naples", "--deadline", "5"), *words)
        self.assertEqual(self.stored(), [])

    def cek(self, body, *words):
        self.server.answers[f"/cek/{ID}"] = body
        self.refused(self.fetch("cek", "--id", ID, "--product", "naples", "--deadline", "5"), *words)
        self.assertEqual(self.stored(), ["ca/naples.cert"])

    def test_ca_html(self):
        self.ca(HTML, "an HTML page", "want ASK and ARK")

    def test_ca_empty(self):
        self.ca(b"", "empty")

    def test_ca_truncated(self):
        self.ca(NAPLES.ca[:-1], "1663 bytes")

    def test_ca_of_wrong_product(self):
        self.ca(ROME.ca, "those of naples")

    def test_ca_order(self):
        half = len(NAPLES.ca) // 2
        self.ca(NAPLES.ca[half:] + NAPLES.ca[:half], "KEY_USAGE")

    def test_ca_one_bit(self):
        body = bytearray(NAPLES.ca)
        body[0x150] ^= 4
        self.ca(bytes(body), "signature_by_ark")

    def test_ca_of_nobody(self):
        done = self.fetch("ca", "--product", "naples", roots=())
        self.refused(done, "chain.ark.root")
        self.assertEqual(self.stored(), [])

    def test_cek_html(self):
        self.cek(HTML, "an HTML page")

    def test_cek_empty(self):
        self.cek(b"", "empty")

    def test_cek_truncated(self):
        self.cek(NAPLES.cek[:2000], "2000 bytes")

    def test_cek_of_wrong_product(self):
        self.cek(ROME.cek, "not endorsed by the ASK of naples")

    def test_cek_unsigned(self):
        self.cek(NAPLES.cek[:0x414] + (b"\x00\x10\x00\x00" + bytes(516)) * 2, "no ASK has signed")

    def test_cek_is_another_certificate(self):
        self.cek((FIXTURES / "chain_rsa2048.bin").read_bytes()[2084:4168], "PEK")

    def test_cek_one_bit(self):
        body = bytearray(NAPLES.cek)
        body[0x600] ^= 1
        self.cek(bytes(body), "signature_by_ask")

    def test_oversized_with_a_length(self):
        self.cek(NAPLES.cek + b"\0", "longer than 2084 bytes")

    def test_endless(self):
        self.cek(key_server.endless, "longer than 2084 bytes")

    def test_headers_without_end(self):
        self.cek(key_server.many_headers, "headers")

    def test_promise_not_kept(self):
        self.cek(key_server.cut_short(NAPLES.cek), "deadline")

    def test_other_statuses_are_no_answer(self):
        for code in (204, 206, 301, 400, 401, 403, 451, 501):
            with self.subTest(code=code):
                before = len(self.server.requests)
                self.ca(status(code, body=b""), f"HTTP {code}")
                self.assertEqual(len(self.server.requests), before + 1)


class Trouble(Case):
    def wait_note(self):
        (path,) = (self.cache / "server").glob("*.wait")
        return path, json.loads(path.read_text())

    def test_one_failure_of_each_kind_is_got_over(self):
        kinds = {"500": status(500), "502": status(502), "503": status(503), "429": status(429), "seconds": key_server.retry_after_seconds(429, 0),
                 "date": key_server.retry_after_date(503, 0), "hang up": key_server.hang_up, "cut": key_server.cut_short(NAPLES.ca), "nonsense": status(429, [("Retry-After", "soon")])}
        for name, failure in kinds.items():
            with self.subTest(name):
                self.server.script["/ca/naples"] = [failure, failure]
                before = len(self.server.requests)
                self.assertEqual(self.fetch("ca", "--product", "naples").returncode, 0)
                self.assertEqual(len(self.server.requests), before + 3)
                self.assertEqual(list((self.cache / "server").glob("*")), [])
                shutil.rmtree(self.cache)

    def test_retry_after_holds_for_every_process(self):
        for name, failure in (("seconds", key_server.retry_after_seconds(429, 3000)), ("date", key_server.retry_after_date(429, 3000))):
            with self.subTest(name):
                self.server.script["/ca/naples"] = [failure]
                before = len(self.server.requests)
                started = time.time()
                self.refused(self.fetch("ca", "--product", "naples"), "HTTP 429", "not to be asked again before")
                path, note = self.wait_note()
                self.assertGreaterEqual(note["not_before_ms"], (started + 2990) * 1000)
                self.refused(self.fetch("cek", "--id", ID), "not to be asked again before")  # another thing, the same server
                self.assertEqual(len(self.server.requests), before + 1)
                note["not_before_ms"] = int(started * 1000)
                path.write_text(json.dumps(note))
                self.assertEqual(self.fetch("ca", "--product", "naples").returncode, 0)
                shutil.rmtree(self.cache)

    def test_nobody_is_locked_out_for_longer_than_a_day(self):
        self.server.script["/ca/naples"] = [key_server.retry_after_seconds(503, 10**18)]
        self.refused(self.fetch("ca", "--product", "naples"), "not to be asked again before")
        path, note = self.wait_note()
        self.assertLessEqual(note["not_before_ms"], (time.time() + 86400) * 1000)
        note["not_before_ms"] = int((time.time() + 10 * 86400) * 1000)
        path.write_text(json.dumps(note))
        self.assertEqual(self.fetch("ca", "--product", "naples").returncode, 0)

    def test_back_off_grows_across_processes(self):
        self.server.answers["/ca/naples"] = status(500)
        seen = []
        for _ in range(3):
            self.refused(self.fetch("ca", "--product", "naples", "--deadline", "0.2"), "HTTP 500")
            path, note = self.wait_note()
            seen.append(note["failures"])
            note["not_before_ms"] = int(time.time() * 1000)
            path.write_text(json.dumps(note))
        self.assertEqual(seen, sorted(set(seen)), "each process counts on from the one before")

    def test_a_server_that_never_answers(self):
        self.server.answers["/ca/naples"] = key_server.never
        self.refused(self.fetch("ca", "--product", "naples", "--deadline", "0.5"), "deadline of 0.5 s")
        self.assertEqual(self.stored(), [])

    def test_a_server_that_drips(self):
        self.server.answers["/ca/naples"] = key_server.dripping(NAPLES.ca)
        self.refused(self.fetch("ca", "--product", "naples", "--deadline", "1"), "deadline of 1 s")

    def test_nobody_listens(self):
        gone = KeyServer(self.certificates)
        gone.close()
        self.refused(self.fetch("ca", "--product", "naples", "--deadline", "0.5", server=gone), f"localhost:{gone.port}")

    def test_redirects_that_are_not_followed(self):
        self.server.answers["/ca/naples"] = status(302, [("Location", "http://localhost:1/ca")])
        self.refused(self.fetch("ca", "--product", "naples"), "http")
        shutil.rmtree(self.cache)
        self.server.answers["/ca/naples"] = status(302, [("Location", "file:///etc/passwd")])
        self.refused(self.fetch("ca", "--product", "naples"))
        shutil.rmtree(self.cache)
        self.server.answers["/ca/naples"] = status(302, [("Location", self.server.url("/ca/naples"))])
        before = len(self.server.requests)
        self.refused(self.fetch("ca", "--product", "naples"), "redirect")
        self.assertEqual(len(self.server.requests), before + 4)

    def test_a_server_that_is_not_who_it_should_be(self):
        for certificate in ("stranger", "other"):
            server = KeyServer(self.certificates, certificate)
            server.answers["/ca/naples"] = NAPLES.ca
            self.refused(self.fetch("ca", "--product", "naples", server=server), "--cacert")
            self.assertEqual((server.requests, self.stored()), ([], []))
            server.close()
            shutil.rmtree(self.cache)

    def test_old_tls(self):
        try:
            server = KeyServer(self.certificates, tls=ssl.TLSVersion.TLSv1_1)
        except (ssl.SSLError, ValueError) as error:
            print(f"SKIPPED: this OpenSSL cannot speak TLS 1.1: {error}")
            self.skipTest("no TLS 1.1")
        server.answers["/ca/naples"] = NAPLES.ca
        self.refused(self.fetch("ca", "--product", "naples", server=server), "TLS")
        self.assertEqual(server.requests, [])
        server.close()

    def test_no_proxy_there(self):
        words = self.command("ca", "--product", "naples", "--deadline", "1")
        words[words.index("none")] = "http://localhost:1"
        self.refused(subprocess.run(words, capture_output=True, text=True, timeout=60), "localhost")
        self.assertEqual(self.server.requests, [])

    def test_proxy_of_the_environment(self):
        words = self.command("ca", "--product", "naples", "--deadline", "1")
        at = words.index("--proxy")
        del words[at : at + 2]
        environment = {name: value for name, value in os.environ.items() if name.lower() not in ("https_proxy", "no_proxy", "all_proxy")}
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, env={**environment, "https_proxy": "http://localhost:1"})
        self.refused(done, "localhost")
        self.assertEqual(self.server.requests, [])


class Disk(Case):
    def test_no_room_for_the_file(self):
        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        self.refused(self.fetch("ca", "--product", "naples", preexec_fn=limited), "naples.cert", "write")
        self.assertEqual(self.stored(), [])
        self.assertEqual(self.fetch("ca", "--product", "naples").returncode, 0)

    def test_full_disk(self):
        script = 'mount -t tmpfs -o size=64k none "$1" || exit 77; shift; head -c 1000000 /dev/zero >"$1/full" 2>/dev/null; d=$1; shift; "$@"; s=$?; find "$d" -name "*.cert*"; exit $s'
        self.cache.mkdir()
        words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(self.cache), str(self.cache), *self.command("ca", "--product", "naples")]
        if not shutil.which("unshare"):
            self.skipTest("no unshare")
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if done.returncode == 77 or "unshare" in done.stderr:
            print(f"SKIPPED: no file system of one's own here: {done.stderr.strip()}")
            self.skipTest("no mount namespace")
        self.refused(done, "No space left")

    def test_a_cache_that_is_a_file(self):
        self.cache.write_text("")
        self.refused(self.fetch("ca", "--product", "naples"), str(self.cache))

    def test_a_killed_fetch_leaves_no_lock(self):
        self.server.script["/ca/naples"] = [key_server.never]
        process = subprocess.Popen(self.command("ca", "--product", "naples"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not self.server.requests:
            time.sleep(0.01)
        process.kill()
        process.wait()
        self.assertEqual(self.fetch("ca", "--product", "naples").returncode, 0)


class Usage(Case):
    def test_bad_words(self):
        cases = [["cek", "--id", "12"], ["cek", "--id", "zz" * 64], ["cek"], ["ca"], ["ca", "--product", "zen5"], ["ca", "--product", "naples", "--deadline", "0"],
                 ["ca", "--product", "naples", "--root", "x"], ["ca", "--product", "naples", "--nonsense"], ["cek", "--id", ID, "--key", "00"]]
        for words in cases:
            with self.subTest(words=words):
                self.refused(self.fetch(*words))
        for option, value in (("--cek-url", "http://localhost/{id}"), ("--cek-url", "https://localhost/"), ("--ca-url", "https://u:p@localhost/{product}"), ("--ca-url", "https://{product}/"),
                              ("--ca-url", "file:///{product}")):
            words = self.command("ca", "--product", "naples")
            words[words.index(option) + 1] = value
            self.refused(subprocess.run(words, capture_output=True, text=True, timeout=60), option)
        words = self.command("ca", "--product", "naples")
        words[words.index("--cacert") + 1] = "/nonexistent/ca.pem"
        self.refused(subprocess.run(words, capture_output=True, text=True, timeout=60), "/nonexistent/ca.pem")
        self.assertEqual(self.server.requests, [])
        self.assertFalse(self.cache.exists())

    def test_help_and_version(self):
        for words in (["--help"], ["fetch", "--help"], ["fetch", "cek", "--help"], ["--version"]):
            done = subprocess.run([options.relay, *words], capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("sev-relay" if words[0] != "fetch" else "fetch", done.stdout)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *rest])
