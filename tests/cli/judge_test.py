# SPDX-License-Identifier: Apache-2.0
"""Our own commands: judge, policy, measure, explain."""
import base64
import hashlib
import json
import re
import shutil
import struct
import unittest

from support import CHAIN, FIRMWARE, FIXTURES, REPORT, ROOT, Case, judged_launch, kernel_table, sevctl


def padded(data):
    return data + bytes(-len(data) % 16)


class Judge(Case):
    def setUp(self):
        super().setUp()
        policy, bundle, tik, self.at = judged_launch()
        for name in ("one.bin", "two.bin", "disk.key"):
            shutil.copy(FIXTURES / "attest" / name, self.dir)
        self.policy, self.bundle, self.tik = self.file("policy.json", policy.read_bytes()), self.file("bundle.json", bundle.read_bytes()), self.file("tik", tik)
        self.pdh = self.file("pdh", CHAIN[:2084])

    def judge(self, *rest, status=0, **changed):
        words = {"policy": self.policy, "bundle": self.bundle, "pdh": self.pdh, "tik": self.tik, "at": self.at, **changed}
        return self.ok("judge", words.pop("policy"), *[word for name, value in words.items() for word in (f"--{name}", value)], *rest, status=status)

    def failed(self, *rest, **changed):
        verdict = json.loads(self.judge("--json", *rest, status=1, **changed))
        self.assertFalse(verdict["trusted"])
        return {check["check"] for check in verdict["verdict"]["checks"] if not check["passed"]}

    def test_trusted(self):
        out = self.judge()
        self.assertIn("launch.digest", out)
        for line in out.splitlines():
            self.assertLessEqual(len(line), 80)
        result = json.loads(self.judge("--json"))
        self.assertTrue(result["trusted"])
        self.assertEqual(result["verdict"]["reference"], "fixture image")

    def test_each_lie_fails_its_check(self):
        tik = self.file("other_tik", bytes(16))
        self.assertIn("launch.digest", self.failed(tik=tik))
        self.file("two.bin", b"x" + (self.dir / "two.bin").read_bytes()[1:])
        self.assertEqual(self.failed(), {"launch.digest"})
        shutil.copy(FIXTURES / "attest/two.bin", self.dir)
        self.assertEqual(self.failed(at="2027-01-01T00:00:00Z"), {"policy.validity"})
        other = (FIXTURES / "psp/chain_rsa4096.bin").read_bytes()[:2084]
        self.assertEqual(self.failed(pdh=self.file("other_pdh", other)), {"session.pdh"})

    def test_messages_apart(self):
        parts = json.loads(self.bundle.read_text())
        names = {name: self.file(f"{name}.json", json.dumps(parts[name]).encode()) for name in ("platform", "launch", "offer")}
        words = ["judge", self.policy, "--platform", names["platform"], "--launch", names["launch"], "--pdh", self.pdh, "--tik", self.tik, "--at", self.at]
        self.ok(*words, "--offer", names["offer"])
        self.trouble(*words, says="--offer")
        parts["offer"]["session_id"] = "00" * 16
        self.ok(*words, "--offer", self.file("another.json", json.dumps(parts["offer"]).encode()), status=1)

    def test_files_of_other_tools(self):
        parts = json.loads(self.bundle.read_text())
        policy = json.loads(self.policy.read_text())
        policy["level"] = 0  # these files say nothing of a level
        del policy["chips"][0]["id"]  # nor of GET_ID
        policy["secrets"] = []
        policy = self.file("raw.json", json.dumps(policy).encode())
        shutil.copy(FIXTURES / "attest/one.bin", self.dir)
        chain = self.file("chain", base64.b64decode(parts["platform"]["chain"]))
        words = ["judge", policy, "--chain", chain, "--build", "0.17.48", "--guest-policy", parts["launch"]["policy"], "--pdh", self.pdh, "--at", self.at]
        measured = [*words, "--tik", self.tik, "--measurement", parts["launch"]["measurement"]]
        self.ok(*measured)
        self.assertIn("launch.digest", self.ok(*[w if w != "0.17.48" else "0.17.49" for w in measured], status=1))
        report = self.file("report", REPORT)
        self.ok(*words, "--report", report, "--nonce", base64.b64encode(bytes(16)).decode(), status=1)  # this policy takes no reports, and the nonce is another
        self.trouble(*words, "--report", report, says="--nonce")
        self.trouble(*words, says="--measurement")

    def test_evidence_in_one_form(self):
        self.trouble("judge", self.policy, "--pdh", self.pdh, says="--bundle")
        self.trouble("judge", self.policy, "--bundle", self.bundle, "--chain", self.pdh, "--pdh", self.pdh, says="--bundle")
        self.trouble("judge", self.policy, "--bundle", self.bundle, "--nonce", "AAAA", "--pdh", self.pdh, says="--nonce")
        self.trouble("judge", self.policy, "--bundle", self.bundle, "--pdh", self.pdh, says="--tik")
        self.trouble("judge", self.policy, "--bundle", self.bundle, "--pdh", self.pdh, "--tik", self.tik, "--at", "yesterday", says="--at")

    def test_a_bundle_that_a_host_signed(self):
        signed, key = FIXTURES / "attest/signed-bundle.jws", FIXTURES / "attest/host.jwk"
        words = {"bundle": signed, "host-key": key}
        out = self.judge(**words)
        for check in ("pass  host.signature", "pass  host.times", "pass  session.known", "pass  launch.digest"):
            self.assertIn(check, out)
        result = json.loads(self.judge("--json", **words))
        self.assertTrue(result["trusted"])
        self.assertEqual((result["collected"]["launch"], result["collected"]["state"]), (7, "running"))
        # the host's signature attests nothing: without the TIK there is no trust
        without = ["judge", self.policy, "--bundle", signed, "--host-key", key, "--pdh", self.pdh, "--at", self.at]
        verdict = json.loads(self.ok(*without, "--json", status=1))["verdict"]
        self.assertEqual({check["check"] for check in verdict["checks"] if not check["passed"]}, {"session.known", "evidence.kind", "launch.digest"})
        self.assertIn("TIK is not at hand", " ".join(self.ok(*without, status=1).split()))
        self.assertEqual(self.failed(tik=self.file("other_tik", bytes(16)), **words), {"session.known", "launch.digest"})
        self.assertEqual(self.failed(**words, **{"max-age": 60}), {"host.times"})
        self.judge(**words, **{"max-age": 300})
        self.assertEqual(self.failed(**{**words, "at": "2026-05-01T00:00:00Z"}), {"host.times"})
        offer = json.loads(self.bundle.read_text())["offer"]
        self.judge("--offer", self.file("mine.json", json.dumps(offer).encode()), **words)
        offer["report_nonce"] = "00" * 16
        self.assertEqual(self.failed("--offer", self.file("mine.json", json.dumps(offer).encode()), **words), {"session.known"})

    def test_a_bundle_whose_signature_is_not_the_hosts_is_not_judged(self):
        signed, key = (FIXTURES / "attest/signed-bundle.jws").read_bytes(), FIXTURES / "attest/host.jwk"
        words = ["judge", self.policy, "--pdh", self.pdh, "--tik", self.tik, "--at", self.at, "--bundle"]
        good = self.file("good", signed)
        self.trouble(*words, good, says=("good", "--host-key is missing"))
        self.trouble(*words, good, "--host-key", FIXTURES / "attest/other-host.jwk", says=("good", "want the pinned"))
        self.trouble(*words, self.bundle, "--host-key", key, says=("bundle.json", "is not signed"))
        self.trouble(*words, self.bundle, "--max-age", "60", says="--max-age")
        head, payload, signature = signed.strip().split(b".")
        for number, bad in enumerate((head + b"." + payload + b".", head + b"." + payload, payload + b"." + payload + b"." + signature, signed[:-100], signed[:5000], signed + signed,
                                      head + b"." + payload[:-8] + b"AAAAAAAA." + signature, b"eyJ", signed.replace(b".", b"="))):
            with self.subTest(number):
                self.trouble(*words, self.file(f"bad{number}", bad), "--host-key", key, says=f"bad{number}")
        self.trouble("judge", self.policy, "--platform", self.bundle, "--launch", self.bundle, "--pdh", self.pdh, "--host-key", key, says="--host-key")

    def test_policy_lint_show_diff(self):
        self.assertIn("can be met", self.ok("policy", "lint", self.policy, "--at", self.at, "--references"))
        self.assertIn("FATAL", self.ok("policy", "lint", self.policy, "--at", "2030-01-01T00:00:00Z", status=1))
        self.assertIn("fixture", self.ok("policy", "show", self.policy))
        changed = json.loads(self.policy.read_text())
        changed["minimum_build"] = "0.24.1"
        changed = self.file("changed.json", json.dumps(changed).encode())
        self.assertEqual(self.ok("policy", "diff", self.policy, self.policy), "")
        self.assertEqual(self.ok("policy", "diff", self.policy, changed, status=1), '/minimum_build: "0.17.22" -> "0.24.1"\n')
        (self.dir / "two.bin").unlink()
        self.ok("policy", "lint", self.policy, "--at", self.at)
        self.trouble("policy", "lint", self.policy, "--at", self.at, "--references", says="two.bin")
        self.trouble("policy", "show", self.file("unknown.json", self.policy.read_bytes().replace(b'"owner"', b'"onwer"')), says=("unknown.json", "ow"))


class Measure(Case):
    def test_qemu(self):
        image, kernel, initrd = FIRMWARE.read_bytes(), b"kernel" * 99, b"initrd" * 99
        plain = json.loads(self.ok("measure", "qemu", "--json", "--firmware", FIRMWARE))
        self.assertEqual(plain["launch_digest"], hashlib.sha256(image).hexdigest())
        self.assertEqual([r["sha256"] for r in plain["descriptor"]["regions"]], [hashlib.sha256(image).hexdigest()])
        self.assertIn("addresses-unbound", {finding["id"] for finding in plain["uncovered"]})
        open_boot = json.loads(self.ok("measure", "qemu", "--json", "--firmware", FIRMWARE, "--unhashed-kernel"))
        self.assertIn("kernel-unmeasured", {finding["id"] for finding in open_boot["uncovered"]})
        self.assertNotIn("kernel-unmeasured", {finding["id"] for finding in plain["uncovered"]})
        k, i = self.file("k", kernel), self.file("i", initrd)
        hashed = self.ok("measure", "qemu", "--firmware", FIRMWARE, "--kernel", k, "--initrd", i, "--cmdline", "x y")
        self.assertIn(hashlib.sha256(image + kernel_table(kernel, initrd, b"x y")).hexdigest(), hashed.splitlines()[0])
        pages = b""
        for cpu in (0, 1, 1):
            self.ok("vmsa", "build", "v", "--cpu", cpu, "--family", "25", "--model", "1", "--stepping", "1", "--userspace", "qemu", "--profile", "kvm-init2", "--firmware", FIRMWARE)
            pages += (self.dir / "v").read_bytes()
        for cpu in (["--cpu-model", "EPYC-Milan"], ["--family", "25", "--model", "1", "--stepping", "1"]):
            es = json.loads(self.ok("measure", "qemu", "--json", "--firmware", FIRMWARE, "--vcpus", "3", "--profile", "kvm-init2", *cpu))
            self.assertEqual(es["launch_digest"], hashlib.sha256(image + pages).hexdigest())
            self.assertEqual(es["descriptor"]["vcpus"], 3)
        for wrong, says in ((["--vcpus", "0", "--profile", "krun"], "--vcpus"), (["--vcpus", "2"], "--profile"), (["--profile", "krun"], "--vcpus"),
                            (["--vcpus", "2", "--profile", "kvm-init2"], "--cpu-model"), (["--initrd", i], "--kernel"), (["--kernel", k, "--unhashed-kernel"], "--kernel")):
            self.trouble("measure", "qemu", "--firmware", FIRMWARE, *wrong, says=says)

    def test_image(self):
        one, two = self.file("one@home", b"1" * 100), self.file("two", b"2" * 16)
        out = self.ok("measure", "image", f"{one}@0x100000", f"{two}@0x200000+64")
        self.assertIn(hashlib.sha256(padded(b"1" * 100) + b"2" * 16 + bytes(48)).hexdigest(), out.splitlines()[0])
        layout = {"format": "xen-sev/image-layout", "version": 1, "parts": [{"label": "a", "gpa": "0x100000", "file": "one@home"}, {"label": "b", "gpa": "0x200000", "file": "two", "length": 64}]}
        same = self.ok("measure", "image", "--layout", self.file("layout.json", json.dumps(layout).encode()))
        self.assertEqual(same.splitlines()[0], out.splitlines()[0])
        self.trouble("measure", "image", says="--layout")
        for wrong in (str(two), f"{two}@", f"{two}@x", f"@0", f"{two}@0+", f"{two}@0+0", f"{two}@0x10000000000000"):
            self.trouble("measure", "image", wrong)


class Explain(Case):
    def test_words(self):
        for word in ("BAD_MEASUREMENT", "bad_measurement", "0x0B", "11"):
            self.assertIn("BAD_MEASUREMENT (0x000B)", self.ok("explain", word))
        for check in ("launch.digest", "chain.pek.signature_by_cek", "chain.ask.certifying_id", "chain.roots"):
            self.assertIn(f"(check)", self.ok("explain", check))
        self.assertIn("(advisory)", self.ok("explain", "CVE-2019-9836"))
        for word in ("", "chain.xyz.curve", "0x7fff", "launch", "chain..curve", "chain.*.curve"):
            self.trouble("explain", word)

    def test_every_check_of_status_is_explained_by_its_page(self):
        pages = [page for page in (ROOT / "docs/checks").glob("*.md") if page.stem != "README"]
        self.assertGreater(len(pages), 30)
        for page in pages:
            told = json.loads(self.ok("explain", page.stem, "--json"))
            self.assertEqual((told["kind"], told["name"]), ("host-check", page.stem))
            text = page.read_text()
            # every sentence of the page, and nothing besides the headings
            sections = dict(re.findall(r"^## (.*?)\n\n(.*?)\n*(?=^## |\Z)", text, re.S | re.M))
            self.assertEqual(told["remedy"], sections["What to do"])
            title = text.splitlines()[0].removeprefix(f"# {page.stem}: ")
            self.assertEqual(told["meaning"], f"Passes when {title}.\n\nWhat is looked at: {sections['What is looked at']}\n\nWhy it fails: {sections['Why it fails']}")
            shown = self.ok("explain", page.stem)
            self.assertTrue(shown.startswith(f"{page.stem} (check of sevctl status)\n"))
            for said in (title, sections["What is looked at"], sections["Why it fails"], sections["What to do"]):
                self.assertIn(" ".join(said.split()), " ".join(shown.split()))

    def test_near_matches(self):
        for word, near in (("bios-smeee", "bios-smee"), ("BIOS-SEV-ES-ASID", "bios-sev-es-asids"), ("es-asids", "bios-sev-es-asids"), ("BAD_MEASURMENT", "BAD_MEASUREMENT"),
                           ("launch.diget", "launch.digest"), ("chain.pek.curv", "chain.pek.curve"), ("CVE-2019-983", "CVE-2019-9836")):
            done = sevctl("explain", word)
            self.assertEqual((done.returncode, done.stdout), (2, b""))
            self.assertRegex(done.stderr.decode(), rf"(?m)^sevctl: hint: did you mean (.*, )?{re.escape(near)}\b")
        for word in ("", "x", "nothing-like-it-at-all", "x" * 200):
            self.assertIn("hint: checks are named", sevctl("explain", word).stderr.decode())

    def test_every_check_of_a_verdict_is_explained(self):
        policy, bundle, _, at = judged_launch()
        tik = self.file("tik", bytes(16))
        words = ["judge", policy, "--pdh", self.file("pdh", CHAIN[:2084]), "--at", at, "--json"]
        verdicts = [sevctl(*words, "--bundle", bundle, "--tik", tik)]
        verdicts.append(sevctl(*words, "--chain", self.file("chain", CHAIN), "--build", "0.17.48", "--guest-policy", "1", "--report", FIXTURES / "psp/report.bin", "--nonce", tik))
        verdicts.append(sevctl(*words, "--bundle", FIXTURES / "attest/signed-bundle.jws", "--host-key", FIXTURES / "attest/host.jwk", "--tik", tik))
        for done in verdicts:
            self.assertEqual(done.returncode, 1, done.stderr)
            for check in json.loads(done.stdout)["verdict"]["checks"]:
                name = check["check"].removeprefix("advisory.")
                self.assertIn("what to do", self.ok("explain", name), name)


if __name__ == "__main__":
    unittest.main()
