#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sevctl cert import, cert show and advisories: certificates brought to a host without a network, and what is known of weaknesses."""
import argparse
import base64
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from key_server import CERTIFICATE, Chain

parser = argparse.ArgumentParser()
parser.add_argument("--sevctl", required=True)
parser.add_argument("--relay", required=True)
options, rest = parser.parse_known_args()
FIXTURES = pathlib.Path("tests/fixtures/psp")
VECTORS = pathlib.Path(os.environ.get("SEV_VECTORS", "../shared/spec/vectors")) / "certs"
NAPLES, ROME = Chain(FIXTURES / "chain_rsa2048.bin", "naples"), Chain(FIXTURES / "chain_rsa4096.bin", "rome")
FULL = (FIXTURES / "chain_rsa2048.bin").read_bytes()
ID = "0123456789abcdef" * 8
SCHEMAS = pathlib.Path("docs/schemas")


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-cert-"))
        self.cache = self.folder / "cache"

    def tearDown(self):
        shutil.rmtree(self.folder)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def sevctl(self, *words, **more):
        return subprocess.run([options.sevctl, *words], capture_output=True, text=True, timeout=60, **more)

    def cert(self, command, *words, roots=(NAPLES, ROME), **more):
        named = [word for root in roots for word in ("--root", root.root)]
        return self.sevctl("cert", command, "--cache", str(self.cache), *named, *words, **more)

    def good(self, done, status=0):
        self.assertEqual(done.returncode, status, done)
        return json.loads(done.stdout)

    def refused(self, done, *words):
        self.assertEqual((done.returncode, done.stdout), (2, ""), done)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertEqual([p for p in self.cache.rglob("*") if p.is_file()], [])

    def valid(self, value, name):
        try:
            import jsonschema
        except ImportError:
            print("SKIPPED: python3-jsonschema is absent")
            return
        jsonschema.validate(value, json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


class Import(Case):
    def test_ca_and_cek_with_an_id(self):
        ca, cek = self.file("ask_ark_naples.cert", NAPLES.ca), self.file("cek.cert", NAPLES.cek)
        told = self.good(self.cert("import", ca, cek, "--id", ID, "--json"))
        self.valid(told, "sevctl-cert-import")
        self.assertEqual([(one["what"], one["product"], one["fingerprint"]) for one in told["stored"]], [("ca", "naples", NAPLES.fingerprint), ("cek", "naples", NAPLES.key)])
        self.assertEqual((self.cache / f"cek/{ID}.cert").read_bytes(), NAPLES.cek)
        self.assertEqual((self.cache / "ca/naples.cert").read_bytes(), NAPLES.ca)
        # and sev-relay finds it without a network
        found = subprocess.run([options.relay, "fetch", "cek", "--id", ID, "--offline", "--cache", str(self.cache), "--root", NAPLES.root], capture_output=True, text=True, timeout=60)
        self.assertEqual(found.returncode, 0, found)

    def test_the_id_by_other_means(self):
        ca = self.file("ca", NAPLES.ca)
        for name, extra in ((f"{ID}.cert", []), ("cek.cert", [self.file("getid_s0_out.txt", ID.encode())]), ("cek", [self.file("id.txt", f"  {ID.upper()}\n".encode())])):
            with self.subTest(name=name, extra=extra):
                self.assertEqual(self.cert("import", ca, self.file(name, NAPLES.cek), *extra).returncode, 0)
                self.assertTrue((self.cache / f"cek/{ID}.cert").exists())
                shutil.rmtree(self.cache)

    def test_forms(self):
        half = len(NAPLES.ca) // 2
        cases = {
            "apart": [self.file("ask", NAPLES.ca[:half]), self.file("ark", NAPLES.ca[half:])],
            "full chain": [self.file("full", FULL)],
            "base64": [self.file("b64", base64.encodebytes(NAPLES.ca))],
            "several": [self.file("a", NAPLES.ca), self.file("b", ROME.ca), self.file("c", NAPLES.cek), self.file("d", ROME.cek)],
        }
        for name, files in cases.items():
            with self.subTest(name):
                told = self.good(self.cert("import", *files, "--json"))
                self.assertGreaterEqual(len(told["stored"]), 1)
                self.assertTrue((self.cache / "ca/naples.cert").exists())
                shutil.rmtree(self.cache)

    def test_a_cek_after_its_ca(self):
        self.cert("import", self.file("ca", NAPLES.ca))
        done = self.cert("import", self.file("cek", NAPLES.cek))
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("kept by its key alone", done.stderr)
        self.assertTrue((self.cache / f"cek/key-{NAPLES.key}.cert").exists())

    def test_refused(self):
        unsigned = FULL[: 3 * CERTIFICATE] + NAPLES.cek[:0x414] + (b"\x00\x10\x00\x00" + bytes(516)) * 2
        half = len(NAPLES.ca) // 2
        flipped = bytearray(NAPLES.ca)
        flipped[0x180] ^= 1
        cases = {
            "HTML": ([b"<!DOCTYPE html><p>log in"], "an HTML page"),
            "PEM": ([b"-----BEGIN CERTIFICATE-----\n"], "PEM"),
            "empty": ([b""], "empty"),
            "text": ([b"milk, bread\n"], "text"),
            "truncated": ([NAPLES.ca[:-1]], "1663 bytes"),
            "a CEK without its CA": ([NAPLES.cek], "ASK and ARK"),
            "a CEK of another product": ([NAPLES.cek, ROME.ca], "not endorsed"),
            "unsigned": ([unsigned], "no ASK"),
            "a PDH": ([FULL[:CERTIFICATE]], "nothing that AMD issues"),
            "an ASK alone": ([NAPLES.ca[:half]], "without its ARK"),
            "an ARK alone": ([NAPLES.ca[half:]], "without an ASK"),
            "one good, one bad": ([ROME.ca, bytes(flipped)], "signature_by_ark"),
            "an id alone": ([ID.encode()], "no CEK"),
            "two ids": ([NAPLES.ca, NAPLES.cek, ID.encode(), ID[::-1].encode()], "more than one id"),
            "two CEKs, one id": ([NAPLES.ca, ROME.ca, NAPLES.cek, ROME.cek, ID.encode()], "which of them"),
        }
        for name, (contents, word) in cases.items():
            with self.subTest(name):
                self.refused(self.cert("import", *[self.file(f"f{i}", content) for i, content in enumerate(contents)]), word)
        self.refused(self.cert("import", self.file("ca", NAPLES.ca), roots=()), "chain.ark.root")
        self.refused(self.cert("import", self.file("ca", NAPLES.ca), self.file("cek", NAPLES.cek), "--id", "00"), "--id")

    def test_no_room(self):
        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        self.refused(self.cert("import", self.file("ca", NAPLES.ca), preexec_fn=limited), "naples.cert")

    def test_real_certificates(self):
        for product in ("naples", "rome", "milan"):
            folder = VECTORS / product
            if not (folder / "ask.cert").exists():
                print(f"SKIPPED: {folder} is absent (set SEV_VECTORS)")
                self.skipTest("vectors are absent")
            files = [str(folder / "ask.cert"), str(folder / "ark.cert")]
            if (folder / "cek.cert").exists():
                files.append(str(folder / "cek.cert"))
            self.assertEqual(self.cert("import", *files, roots=()).returncode, 0)
        told = self.good(self.cert("show", "--json", roots=()))
        self.assertEqual([one["name"] for one in told["entries"][:3]], ["naples", "rome", "milan"])


class Show(Case):
    def test_empty(self):
        done = self.cert("show")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing in it", done.stdout)
        self.assertEqual(self.good(self.cert("show", "--json"), 1)["entries"], [])
        self.assertFalse(self.cache.exists())

    def test_good_bad_and_missing(self):
        self.cert("import", self.file("ca", NAPLES.ca), self.file("cek", NAPLES.cek), "--id", ID)
        self.cert("import", self.file("ca2", ROME.ca), self.file("cek2", ROME.cek))
        told = self.good(self.cert("show", "--json"))
        self.valid(told, "sevctl-cert-show")
        self.assertEqual([(one["what"], one["name"], one["state"]) for one in told["entries"]],
                         [("ca", "naples", "good"), ("ca", "rome", "good"), ("cek", ID, "good"), ("key", ROME.key, "good")])
        text = self.cert("show")
        self.assertEqual(text.returncode, 0)
        self.assertTrue(all(len(line) <= 80 for line in text.stdout.splitlines()), text.stdout)
        self.assertEqual(self.cert("show", "--id", ID).returncode, 0)
        self.assertEqual(self.cert("show", "--id", ID[::-1]).returncode, 1)
        told = self.good(self.cert("show", "--json", roots=()), 1)  # without the roots they end at
        self.assertEqual({one["state"] for one in told["entries"]}, {"bad"})
        self.valid(told, "sevctl-cert-show")

    def test_a_missing_endorsement(self):
        (self.cache / "cek").mkdir(parents=True)
        import time
        now = int(time.time() * 1000)
        (self.cache / f"cek/{ID}.missing").write_text(json.dumps({"format": "xen-sev/endorsement-missing", "version": 1, "subject": f"cek {ID}", "server": "localhost:443", "asked_ms": now,
                                                                  "ask_again_ms": now + 3600_000, "reason": "HTTP 404"}))
        (entry,) = self.good(self.cert("show", "--json"), 1)["entries"]
        self.assertEqual((entry["what"], entry["name"], entry["state"]), ("cek", ID, "missing"))
        self.assertIn("HTTP 404", entry["detail"])


class Advisories(Case):
    def test_list(self):
        known = json.loads(pathlib.Path("attest/data/advisories.json").read_text())
        told = self.good(self.sevctl("advisories", "--json"))
        self.valid(told, "sevctl-advisories")
        self.assertEqual([one["id"] for one in told["advisories"]], [one["id"] for one in known["advisories"]])
        self.assertEqual((told["evaluated"], told["revised"]), (False, known["revised"]))
        text = self.sevctl("advisories")
        self.assertEqual(text.returncode, 0)
        for one in known["advisories"]:
            self.assertIn(one["id"], text.stdout)
        self.assertTrue(all(len(line) <= 80 or " " not in line.strip() for line in text.stdout.splitlines()))

    def test_which_apply(self):
        old = self.good(self.sevctl("advisories", "--build", "0.17.10", "--policy", "0x1", "--product", "naples", "--json"), 1)
        self.valid(old, "sevctl-advisories")
        self.assertTrue(old["evaluated"])
        ids = [one["id"] for one in old["advisories"]]
        self.assertIn("CVE-2019-9836", ids)
        self.assertIn("CEK-EXTRACTION-2019", ids)
        rome = [one["id"] for one in json.loads(self.sevctl("advisories", "--build", "0.24.10", "--policy", "0x5", "--product", "rome", "--json").stdout)["advisories"]]
        self.assertNotIn("CVE-2019-9836", rome)
        self.assertNotIn("CEK-EXTRACTION-2019", rome)

    def test_half_a_question(self):
        for words in (["--product", "naples"], ["--build", "0.17.1"], ["--policy", "1"], ["--emulated"], ["--build", "x", "--policy", "1"], ["--build", "0.17.1", "--policy", "-1"],
                      ["--build", "0.17.1", "--policy", "1", "--product", "zen5"]):
            with self.subTest(words=words):
                done = self.sevctl("advisories", *words)
                self.assertEqual((done.returncode, done.stdout), (2, ""))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *rest])
