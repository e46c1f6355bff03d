# SPDX-License-Identifier: Apache-2.0
"""sevctl 0.6's commands: options, file formats, output. Expected values come from support.py's formulas, and from the shared vectors."""
import base64
import hashlib
import json
import os
import stat
import struct
import unittest

from support import (CHAIN, FIRMWARE, FIXTURES, LUKS, OTHER, PSP_ANSWERS, REPORT, ROOT_FINGERPRINT, TEST_ROOT, Case, aes128, ctr, expected_measure, kdf, kernel_table, le,
                     mac, on_curve, point_of, secret_table, sevctl, signed_by, times, vector, G)

TIK, TEK, NONCE = bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 48))


def b64(data):
    return base64.b64encode(data).decode()


class Reference(unittest.TestCase):
    def test_our_aes_is_fips_197(self):  # FIPS 197 appendix C.1
        key = bytes(range(16))
        self.assertEqual(aes128(key, bytes.fromhex("00112233445566778899aabbccddeeff")).hex(), "69c4e0d86a7b0430d8cdb78070b4c55a")

    def test_our_curve_is_p384(self):
        self.assertTrue(on_curve(G))
        answer = PSP_ANSWERS["pdh"]
        self.assertEqual(times(int(answer["scalar_be"], 16), G), (int(answer["qx_be"], 16), int(answer["qy_be"], 16)))


class Generate(Case):
    def test_files(self):
        self.assertEqual(self.ok("generate", "oca.cert", "oca.key"), "")
        certificate = (self.dir / "oca.cert").read_bytes()
        key = (self.dir / "oca.key").read_bytes()
        self.assertEqual(len(certificate), 2084)
        self.assertEqual(struct.unpack("<IBBHII", certificate[:16]), (1, 0, 0, 0, 0x1001, 2))
        self.assertEqual(struct.unpack("<I", certificate[16:20]), (2,))
        self.assertTrue(on_curve(point_of(certificate)))
        self.assertEqual(struct.unpack("<II", certificate[0x414:0x41C]), (0x1001, 2))
        self.assertTrue(signed_by(certificate, 0, point_of(certificate)))
        self.assertEqual(certificate[0x61C:], struct.pack("<II", 0x1000, 0) + bytes(512))
        # RFC 5915: SEQUENCE { INTEGER 1, OCTET STRING scalar, [0] secp384r1, [1] public key }
        self.assertEqual(key[:7], bytes.fromhex("3081a402010104"))
        scalar = int.from_bytes(key[8:8 + key[7]], "big")
        self.assertEqual(times(scalar, G), point_of(certificate))
        self.assertIn(bytes.fromhex("06052b81040022"), key)
        self.assertEqual(stat.S_IMODE(os.stat(self.dir / "oca.key").st_mode), 0o600)

    def test_existing_files_stay(self):
        self.file("oca.key", b"precious")
        self.trouble("generate", "oca.cert", "oca.key", says=("oca.key", "exists"))
        self.assertEqual((self.dir / "oca.key").read_bytes(), b"precious")
        self.assertEqual(os.listdir(self.dir), ["oca.key"])
        self.ok("generate", "--force", "oca.cert", "oca.key")
        self.assertNotEqual((self.dir / "oca.key").read_bytes(), b"precious")
        self.assertEqual(sorted(os.listdir(self.dir)), ["oca.cert", "oca.key"])


class Session(Case):
    def open_session(self, policy, prefix="vm"):
        """What the firmware with the PDH's private key does with the four files."""
        godh = base64.b64decode((self.dir / f"{prefix}_godh.b64").read_bytes(), validate=True)
        blob = base64.b64decode((self.dir / f"{prefix}_session.b64").read_bytes(), validate=True)
        tik, tek = (self.dir / f"{prefix}_tik.bin").read_bytes(), (self.dir / f"{prefix}_tek.bin").read_bytes()
        self.assertEqual((len(godh), len(blob), len(tik), len(tek)), (2084, 128, 16, 16))
        self.assertEqual(struct.unpack("<IBBHIII", godh[:20]), (1, 0, 0, 0, 0x1003, 3, 2))
        self.assertEqual(godh[0x414:], (struct.pack("<II", 0x1000, 0) + bytes(512)) * 2)
        shared = times(int(PSP_ANSWERS["pdh"]["scalar_be"], 16), point_of(godh))[0].to_bytes(48, "big")
        nonce, wrapped, iv, wrap_mac, policy_mac = blob[:16], blob[16:48], blob[48:64], blob[64:96], blob[96:]
        master = kdf(shared, b"sev-master-secret", nonce)
        self.assertEqual(mac(kdf(master, b"sev-kik"), wrapped), wrap_mac)
        self.assertEqual(ctr(kdf(master, b"sev-kek"), iv, wrapped), tek + tik)
        self.assertEqual(mac(tik, struct.pack("<I", policy)), policy_mac)
        return tik, tek

    def test_four_files_that_the_firmware_accepts(self):
        pdh = self.file("pdh.cert", CHAIN[:2084])
        self.assertEqual(self.ok("session", pdh, "5"), "")
        self.open_session(5)
        for name in ("vm_tik.bin", "vm_tek.bin"):
            self.assertEqual(stat.S_IMODE(os.stat(self.dir / name).st_mode), 0o600)
        self.assertEqual(len((self.dir / "vm_godh.b64").read_bytes()), 2780)
        self.assertEqual(len((self.dir / "vm_session.b64").read_bytes()), 172)

    def test_all_32_bits_of_the_policy(self):
        chain = self.file("chain", CHAIN)
        done = sevctl("session", "-n", "guest", chain, "0x00110005", cwd=self.dir)
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"warning", done.stderr)  # virtee's sevctl would have used another policy
        self.open_session(0x00110005, "guest")
        self.assertEqual(self.ok("session", "--name=g2", chain, str(0x00110005)), "")
        self.assertNotEqual(self.open_session(0x00110005, "g2"), self.open_session(0x00110005, "guest"))

    def test_all_or_none(self):
        pdh = self.file("pdh.cert", CHAIN[:2084])
        self.file("vm_session.b64", b"older")
        self.trouble("session", pdh, "5", says=("vm_session.b64", "exists"))
        self.assertEqual(sorted(os.listdir(self.dir)), ["pdh.cert", "vm_session.b64"])
        self.ok("session", "--force", pdh, "5")
        self.open_session(5)

    def test_a_chain_that_is_not_good_gives_no_session(self):
        chain = self.file("chain", CHAIN)
        self.ok("session", "--ca", self.file("ca", CHAIN[8336:]), chain, "5", status=1)  # no root of AMD's
        self.assertEqual(sorted(os.listdir(self.dir)), ["ca", "chain"])
        self.ok("session", "--root", TEST_ROOT, chain, "5")
        self.open_session(5)

    def test_other_certificates_are_no_pdh(self):
        for at, name in ((1, "PEK"), (2, "OCA"), (3, "CEK")):
            wrong = self.file("wrong.cert", CHAIN[2084 * at:2084 * (at + 1)])
            self.trouble("session", wrong, "5", says=("wrong.cert", name, "PDH"))
        self.assertEqual(os.listdir(self.dir), ["wrong.cert"])

    def test_policy(self):
        pdh = self.file("pdh.cert", CHAIN[:2084])
        for wrong in ("", "x", "-1", "4294967296", "0x", "5 ", "1e3"):
            self.trouble("session", "--", pdh, wrong, says="POLICY")


class MeasurementBuild(Case):
    def setUp(self):
        super().setUp()
        self.tik = self.file("tik.bin", TIK)
        self.versions = ["--api-major", "0x01", "--api-minor", "49", "--build-id", "6"]

    def build(self, policy, *rest):
        return self.ok("measurement", "build", *self.versions, "--policy", policy, "--tik", self.tik, *rest)

    def expected(self, policy, digest):
        return b64(expected_measure(TIK, 1, 49, 6, policy, digest, NONCE) + NONCE) + "\n"

    def test_launch_digest(self):
        digest = hashlib.sha256(b"x").digest()
        self.assertEqual(self.build("0x03", "--nonce", b64(NONCE), "--launch-digest", b64(digest)), self.expected(3, digest))
        self.assertEqual(self.build("0x00110003", "--nonce", b64(NONCE), "--launch-digest", b64(digest)), self.expected(0x00110003, digest))
        self.assertEqual(self.ok("measurement-build", *self.versions, "--policy=3", f"--tik={b64(TIK)}", f"--nonce={b64(NONCE)}", f"--launch-digest={b64(digest)}"),
                         self.expected(3, digest))

    def test_nonce_sources(self):
        digest = hashlib.sha256(b"x").digest()
        blob = bytes(32) + NONCE
        for nonce in (["--nonce", self.file("nonce", NONCE)], ["--launch-measure-blob", b64(blob)], ["--launch-measure-blob", self.file("blob", blob)]):
            self.assertEqual(self.build("3", *nonce, "--launch-digest", b64(digest)), self.expected(3, digest))
        self.trouble("measurement", "build", *self.versions, "--policy", "3", "--tik", self.tik, "--launch-digest", b64(digest), says="--nonce")
        self.trouble("measurement", "build", *self.versions, "--policy", "3", "--tik", self.tik, "--launch-digest", b64(digest), "--nonce", b64(NONCE),
                     "--launch-measure-blob", b64(blob), says="--nonce")

    def test_firmware_kernel_and_vcpus(self):
        image, kernel, initrd = FIRMWARE.read_bytes(), b"kernel" * 1000, b"initrd" * 100000
        nonce = ["--nonce", b64(NONCE)]
        self.assertEqual(self.build("3", *nonce, "--firmware", FIRMWARE), self.expected(3, hashlib.sha256(image).digest()))
        for cmdline in ("foo bar baz", "", "[a,b]", "-x --y", "{}", "%%", "a=b"):
            boot = ["--kernel", self.file("kernel", kernel), "--initrd", self.file("initrd", initrd)]
            digest = hashlib.sha256(image + kernel_table(kernel, initrd, cmdline.encode())).digest()
            self.assertEqual(self.build("3", *nonce, "--firmware", FIRMWARE, *boot, "--cmdline", cmdline), self.expected(3, digest), cmdline)
            self.assertEqual(self.build("3", *nonce, f"--cmdline={cmdline}", "--firmware", FIRMWARE, *boot), self.expected(3, digest), cmdline)
        for empty in ("/dev/null", self.file("empty", b"")):
            digest = hashlib.sha256(image + kernel_table(kernel, b"", b"x")).digest()
            self.assertEqual(self.build("3", *nonce, "--firmware", FIRMWARE, "--kernel", self.dir / "kernel", "--initrd", empty, "--cmdline", "x"), self.expected(3, digest))
        zero, one = bytes(range(256)) * 16, bytes(range(255, -1, -1)) * 16
        pages = ["--vmsa-cpu0", self.file("v0", zero), "--vmsa-cpu1", self.file("v1", one)]
        for count in (1, 2, 4, 512):
            digest = hashlib.sha256(image + zero + one * (count - 1)).digest()
            self.assertEqual(self.build("5", *nonce, "--firmware", FIRMWARE, "--num-cpus", count, *pages), self.expected(5, digest))
        digest = hashlib.sha256(image + zero).digest()
        self.assertEqual(self.build("5", *nonce, "--firmware", FIRMWARE, "--num-cpus", 1, *pages[:2]), self.expected(5, digest))

    def test_outfile(self):
        digest = hashlib.sha256(b"x").digest()
        self.assertEqual(self.build("3", "--nonce", b64(NONCE), "--launch-digest", b64(digest), "--outfile", "out.bin"), "Wrote outfile: out.bin\n")
        self.assertEqual(b64((self.dir / "out.bin").read_bytes()) + "\n", self.expected(3, digest))

    def test_what_contradicts_itself(self):
        base = ["measurement", "build", *self.versions, "--tik", self.tik, "--nonce", b64(NONCE)]
        digest = ["--launch-digest", b64(bytes(32))]
        kernel = self.file("kernel", b"k")
        vmsa = self.file("vmsa", bytes(4096))
        for rest, says in (
                (["--policy", "3"], "--firmware"),
                (["--policy", "3", *digest, "--firmware", FIRMWARE], "--firmware"),
                (["--policy", "3", *digest, "--kernel", kernel], "--kernel"),
                (["--policy", "3", "--firmware", FIRMWARE, "--kernel", kernel], "--initrd"),
                (["--policy", "3", "--firmware", FIRMWARE, "--kernel", kernel, "--initrd", kernel], "--cmdline"),
                (["--policy", "5", "--firmware", FIRMWARE], "--num-cpus"),
                (["--policy", "5", "--firmware", FIRMWARE, "--num-cpus", "2"], "--vmsa-cpu0"),
                (["--policy", "5", "--firmware", FIRMWARE, "--num-cpus", "2", "--vmsa-cpu0", vmsa], "--vmsa-cpu1"),
                (["--policy", "5", "--firmware", FIRMWARE, "--num-cpus", "0", "--vmsa-cpu0", vmsa], "--num-cpus"),
                (["--policy", "5", "--firmware", FIRMWARE, "--num-cpus", "-1", "--vmsa-cpu0", vmsa], "--num-cpus"),
                (["--policy", "5", "--firmware", FIRMWARE, "--num-cpus", "4097", "--vmsa-cpu0", vmsa], "--num-cpus"),
                (["--policy", "3", "--firmware", FIXTURES / "measure/no_hashes.fd", "--kernel", kernel, "--initrd", kernel, "--cmdline", "x"], "no_hashes.fd"),
                (["--policy", "0x100000000", *digest], "--policy"),
                (["--policy", "3", "--launch-digest", b64(bytes(31))], "--launch-digest"),
                (["--policy", "3", "--launch-digest", "!"], "--launch-digest")):
            self.trouble(*base, *rest, says=says)
        for version in ("256", "0x100", "-1", "", "one"):
            self.trouble("measurement", "build", "--api-major", version, "--api-minor", "1", "--build-id", "1", "--policy", "3", "--tik", self.tik, "--nonce", b64(NONCE),
                         *digest, says="--api-major")

    def test_vectors(self):
        path = vector("measurement/launch_measure.json")
        for case in json.loads(path.read_text())["cases"] if path else []:
            out = self.ok("measurement", "build", "--api-major", case["api_major"], "--api-minor", case["api_minor"], "--build-id", case["build_id"], "--policy", case["policy"],
                          "--tik", self.file("t", bytes.fromhex(case["tik_hex"])), "--nonce", self.file("n", bytes.fromhex(case["mnonce_hex"])),
                          "--launch-digest", b64(bytes.fromhex(case["digest_hex"])))
            self.assertEqual(base64.b64decode(out)[:32].hex(), case["measure_hex"])


class SecretBuild(Case):
    def test_packet(self):
        measure, iv = hashlib.sha256(b"m").digest(), bytes(range(100, 116))
        secrets = [(LUKS, b"MY-PASSPHRASE"), (OTHER, b"\0\1\2" * 50), (LUKS, b"again")]
        options = []
        for at, (guid, data) in enumerate(secrets):
            options += ["--secret", f"{guid}:{self.file(f's:{at}', data)}"]
        out = self.ok("secret", "build", "--tik", self.file("tik", TIK), "--tek", self.file("tek", TEK), "--launch-measure-blob", b64(measure + NONCE), "--iv", b64(iv),
                      *options, "header.bin", "payload.bin")
        self.assertEqual(out, "Wrote header to: header.bin\nWrote payload to: payload.bin\n")
        plain = secret_table(secrets)
        data = ctr(TEK, iv, plain)
        self.assertEqual((self.dir / "payload.bin").read_bytes(), data)
        length = struct.pack("<I", len(plain))
        self.assertEqual((self.dir / "header.bin").read_bytes(), bytes(4) + iv + mac(TIK, b"\1", bytes(4), iv, length, length, data, measure))

    def test_a_fresh_iv_each_time(self):
        secret = f"{LUKS}:{self.file('s', b'x')}"
        base = ["secret-build", "--tik", self.file("tik", TIK), "--tek", self.file("tek", TEK), "--launch-measure-blob", b64(bytes(48)), "--secret", secret]
        self.ok(*base, "h1", "p1")
        self.ok(*base, "h2", "p2")
        self.assertNotEqual((self.dir / "h1").read_bytes()[4:20], (self.dir / "h2").read_bytes()[4:20])
        self.assertNotEqual((self.dir / "p1").read_bytes(), (self.dir / "p2").read_bytes())

    def test_limits(self):
        base = ["secret", "build", "--tik", self.file("tik", TIK), "--tek", self.file("tek", TEK), "--launch-measure-blob", b64(bytes(48))]
        most = self.file("most", b"x" * (16384 - 40))
        self.ok(*base, "--secret", f"{LUKS}:{most}", "h", "p")
        self.assertEqual(len((self.dir / "p").read_bytes()), 16384)
        os.unlink(self.dir / "h"), os.unlink(self.dir / "p")
        self.trouble(*base, "--secret", f"{LUKS}:{self.file('more', b'x' * (16384 - 39))}", "h", "p")
        self.trouble(*base, "h", "p", says="--secret")
        self.trouble(*base, "--secret", f"{most}", "h", "p", says="--secret")
        self.trouble(*base, "--secret", f"{LUKS[:-1]}:{most}", "h", "p", says="GUID")
        self.trouble(*base, "--secret", f"{LUKS}:{most}", "h", "h", says="HEADER")
        self.assertFalse((self.dir / "h").exists() or (self.dir / "p").exists())

    def test_vectors(self):
        path = vector("secret/launch_secret.json")
        if not path:
            return
        whole = json.loads(path.read_text())
        for case in whole["cases"]:
            options = []
            for at, entry in enumerate(case["entries"]):
                options += ["--secret", f"{entry['guid']}:{self.file(f's{at}', entry['data_ascii'].encode())}"]
            self.ok("secret", "build", "--tik", self.file("t", bytes.fromhex(whole["tik_hex"])), "--tek", self.file("k", bytes.fromhex(whole["tek_hex"])),
                    "--launch-measure-blob", whole["launch_measure_blob_b64"], "--iv", whole["iv_b64"], *options, "h", "p")
            self.assertEqual(b64((self.dir / "h").read_bytes()), case["header_b64"])
            self.assertEqual(b64((self.dir / "p").read_bytes()), case["payload_b64"])


class Vmsa(Case):
    epyc = ["--family", "25", "--model", "1", "--stepping", "1"]

    def answer(self, profile, boot):
        """SHA-256 of the page for EPYC-Milan, by the independent script of tests/fixtures/measure."""
        answers = json.loads((FIXTURES / "measure/answers.json").read_text())["vmsas"]
        return next(a["sha256"] for a in answers if (a["profile"], a["boot"], a["signature"], a["sev_features"]) == (profile, boot, 0xA00F11, 0))

    def digest(self, name):
        data = (self.dir / name).read_bytes()
        self.assertEqual(len(data), 4096)
        return hashlib.sha256(data).hexdigest()

    def test_build(self):
        for userspace, profile, options in (("qemu", "kvm-legacy", []), ("krun", "krun", []), ("qemu", "kvm-init2", ["--profile", "kvm-init2"]), ("qemu", "gce", ["--profile", "gce"])):
            for cpu in (0, 1, 7):
                self.assertEqual(self.ok("vmsa", "build", "v", "--cpu", cpu, *self.epyc, "--firmware", FIRMWARE, "--userspace", userspace, *options), "")
                self.assertEqual(self.digest("v"), self.answer(profile, cpu == 0), (profile, cpu))
        self.trouble("vmsa", "build", "none", "--cpu", "1", "--userspace", "qemu", says="--firmware")
        self.trouble("vmsa", "build", "none", "--cpu", "1", "--userspace", "qemu", "--firmware", FIXTURES / "measure/no_table.fd", says="no_table.fd")
        self.trouble("vmsa", "build", "none", "--cpu", "4096", "--userspace", "qemu", says="--cpu")
        self.trouble("vmsa", "build", "none", "--cpu", "0", "--userspace", "xen", says="qemu|krun")
        self.trouble("vmsa", "build", "none", "--cpu", "0", "--userspace", "qemu", "--profile", "new", says="kvm-init2")
        self.assertFalse((self.dir / "none").exists())

    def test_update(self):
        self.ok("vmsa", "build", "v", "--cpu", "0", *self.epyc, "--userspace", "qemu")
        page = bytearray((self.dir / "v").read_bytes())
        self.ok("vmsa", "update", "v", "--cpu", "1", "--userspace", "qemu", "--firmware", FIRMWARE)
        self.assertEqual(self.digest("v"), self.answer("kvm-legacy", False))
        page[0xABC] = 7  # a byte that nobody knows stays
        self.file("v", page)
        self.ok("vmsa-update", "v", "--cpu", "0", "--userspace", "qemu", "--family", "23", "--model", "49", "--stepping", "0")
        page[0x310:0x318] = struct.pack("<Q", 0x00830F10)
        self.assertEqual((self.dir / "v").read_bytes(), page)

    def test_show(self):
        page = bytes(i * 7 % 251 for i in range(4096))
        out = self.ok("vmsa", "show", self.file("v", page))
        shown = json.loads(out)
        self.assertEqual(out, json.dumps(shown, indent=2) + "\n")  # the form of serde_json's pretty printer
        self.assertEqual(list(shown)[:12], ["es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr", "reserved_1", "cpl"])
        self.assertEqual(shown["cs"], {"selector": le(page[0x10:0x12]), "attrib": le(page[0x12:0x14]), "limit": le(page[0x14:0x18]), "base": le(page[0x18:0x20])})
        for name, at, size in (("cpl", 0xCB, 1), ("efer", 0xD0, 8), ("rip", 0x178, 8), ("rdx", 0x310, 8), ("g_pat", 0x268, 8), ("pkru", 0x2E8, 4), ("x87_state_gpa", 0x400, 8)):
            self.assertEqual(shown[name], le(page[at:at + size]), name)
        self.assertEqual(shown["reserved_1"], list(page[0xA0:0xCB]))
        self.assertEqual(shown["reserved_7"], list(page[0x298:0x2E0]))

    def test_diff(self):
        self.ok("vmsa", "build", "a", "--cpu", "0", *self.epyc, "--userspace", "qemu")
        self.ok("vmsa", "build", "b", "--cpu", "0", *self.epyc, "--userspace", "qemu", "--profile", "kvm-init2")
        self.assertEqual(self.ok("vmsa", "diff", "a", "a"), "")
        out = self.ok("vmsa", "diff", "a", "b", status=1)
        self.assertEqual([line.split() for line in out.splitlines()], [["mxcsr", "0x0", "->", "0x1f80"], ["x87_fcw", "0x0", "->", "0x37f"]])

    def test_vectors(self):
        path = vector("vmsa/vmsa0_sevctl.bin")
        if path:
            self.ok("vmsa", "build", "v", "--cpu", "0", *self.epyc, "--userspace", "qemu")
            self.assertEqual((self.dir / "v").read_bytes(), path.read_bytes())


class Verify(Case):
    def test_tree_and_root(self):
        chain = self.file("chain", CHAIN)
        out = self.ok("verify", "--sev", chain, "--root", TEST_ROOT)
        lines = out.splitlines()
        prints = [hashlib.sha256(CHAIN[2084 * i:2084 * i + 0x414]).hexdigest() for i in range(4)]
        prints += [hashlib.sha256(CHAIN[8336 + 832 * i:8336 + 832 * i + 576]).hexdigest() for i in range(2)]
        self.assertEqual(prints[5], ROOT_FINGERPRINT)
        self.assertEqual(lines[:6], [f"PDH EP384 D256 {prints[0]}", f" ⬑ PEK EP384 E256 {prints[1]}", f"   •⬑ OCA EP384 E256 {prints[2]}",
                                     f"    ⬑ CEK EP384 E256 {prints[3]}", f"       ⬑ ASK R2048 R256 {prints[4]}", f"         •⬑ ARK R2048 R256 {prints[5]}"])
        self.assertIn("root: test root (an emulated PSP", out)
        parts = self.ok("verify", "--sev", self.file("sev", CHAIN[:8336]), "--ca", self.file("ca", CHAIN[8336:]), "--root", self.file("roots", f"# mine\n\n{TEST_ROOT}\n".encode()))
        self.assertEqual(parts, out)
        self.assertEqual(self.ok("-q", "verify", "--sev", chain, "--root", TEST_ROOT), "")

    def test_another_root_than_amds_must_be_named(self):
        chain = self.file("chain", CHAIN)
        out = self.ok("verify", "--sev", chain, status=1)
        self.assertIn("invalid: chain.ark.root", out)
        self.assertNotIn("\nroot:", out)
        self.ok("verify", "--sev", chain, "--root", TEST_ROOT[:-1] + ("0" if TEST_ROOT[-1] != "0" else "1"), status=1)
        for wrong in ("a:b", "::", f"x:zen:{ROOT_FINGERPRINT}", "x:naples:00", "x:naples:"):
            self.trouble("verify", "--sev", chain, "--root", wrong)

    def test_without_ca_there_is_no_answer(self):
        done = sevctl("verify", "--sev", self.file("sev", CHAIN[:8336]))
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"ends at the CEK", done.stderr)
        self.trouble("verify", "--device", self.dir / "none", says=str(self.dir / "none"))  # without --sev it is this machine's platform

    def unsigned(self):
        """The chain as a platform exports it whose endorsement is not to be had: PDH, PEK, OCA and a CEK that nobody signed; and the CEK's fingerprint."""
        empty = struct.pack("<II", 0x1000, 0) + bytes(512)
        cek = CHAIN[3 * 2084:4 * 2084]
        return self.file("unsigned", CHAIN[:3 * 2084] + cek[:0x414] + empty * 2), hashlib.sha256(cek[:0x414]).hexdigest()

    def test_a_chip_that_is_pinned(self):
        chain, cek = self.unsigned()
        done = sevctl("verify", "--sev", chain)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"endorsement missing", done.stdout)
        self.assertIn("endorsement missing", done.stderr.decode().splitlines()[0])
        self.assertIn(f"--pin-cek LABEL:PRODUCT:{cek}", done.stderr.decode())
        pin = f"board 7:naples:{cek}"
        for given in (pin, self.file("pins", f"# mine\n\n{pin}\n".encode())):
            out = self.ok("verify", "--sev", chain, "--pin-cek", given)
            self.assertIn(f'endorsement missing; pinned: "board 7" is trusted by your word for its CEK\n{cek}\n', out)
            self.assertNotIn("root:", out)
            told = json.loads(self.ok("verify", "--sev", chain, "--pin-cek", given, "--json"))
            self.assertEqual((told["valid"], told["endorsement"], told["root"]), (True, "pinned", "board 7"))
            self.assertIn("chain.cek.pinned", [check["check"] for check in told["checks"]])

    def test_what_a_pin_is_not(self):
        chain, cek = self.unsigned()
        pin = f"board 7:naples:{cek}"
        other = f"board 8:naples:{cek[:-1]}{'0' if cek[-1] != '0' else '1'}"
        told = json.loads(self.ok("verify", "--sev", chain, "--pin-cek", other, "--json", status=1))
        self.assertEqual((told["valid"], told["endorsement"], told["root"]), (False, "missing", None))
        self.assertIn("endorsement missing", self.ok("verify", "--sev", chain, "--pin-cek", other, status=1))
        # a root is no pin, and a pin is no root
        self.ok("verify", "--sev", chain, "--root", pin, "--pin-cek", other, status=1)
        self.ok("verify", "--sev", self.file("chain", CHAIN), "--pin-cek", TEST_ROOT, status=1)
        # a chain that brings ASK and ARK is judged by them, whatever is pinned
        told = json.loads(self.ok("verify", "--sev", self.file("chain", CHAIN), "--pin-cek", pin, "--json", status=1))
        self.assertEqual(told["endorsement"], "invalid")
        told = json.loads(self.ok("verify", "--sev", self.file("chain", CHAIN), "--pin-cek", pin, "--root", TEST_ROOT, "--json"))
        self.assertEqual((told["endorsement"], told["root"]), ("verified", "test root"))
        # the pinned CEK must still have signed the PEK, and so on downwards
        for at in (0x10 + 8, 2084 + 30, 2084 + 0x41C, 2084 + 0x624, 2 * 2084 + 0x41C, 3 * 2084 + 0x41C):
            broken = bytearray(chain.read_bytes())
            broken[at] ^= 1
            self.assertIn(sevctl("verify", "--sev", self.file("broken", broken), "--pin-cek", pin).returncode, (1, 2), at)
        for wrong in ("a:b", "::", f"x:zen:{cek}", "x:naples:00", "x:naples:"):
            self.trouble("verify", "--sev", chain, "--pin-cek", wrong)
        self.trouble("verify", "--sev", chain, "--pin-cek", "x:naples:00", says="--pin-cek")

    def test_a_report_of_a_pinned_chip(self):
        chain, cek = self.unsigned()
        report, pin = self.file("report", REPORT), f"board 7:naples:{cek}"
        self.assertEqual(json.loads(self.ok("validate", chain, report, "--json"))["pinned"], False)
        told = json.loads(self.ok("validate", chain, report, "--pin-cek", pin, "--json"))
        self.assertEqual((told["valid"], told["chain_verified"], told["pinned"]), (True, True, True))
        done = sevctl("validate", chain, report, "--pin-cek", pin)
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"note: endorsement missing", done.stderr)
        self.ok("validate", chain, report, "--pin-cek", f"board 7:naples:{'0' * 64}", status=1)

    def test_one_flipped_bit_anywhere(self):
        for at in (0x10 + 8, 0x418 + 100, 2084 + 30, 2084 + 0x41C, 2084 + 0x624, 2 * 2084 + 0x41C, 3 * 2084 + 0x41C, 8336 + 600, 8336 + 832 + 700):
            broken = bytearray(CHAIN)
            broken[at] ^= 1
            done = sevctl("verify", "--sev", self.file("broken", broken), "--root", TEST_ROOT)
            self.assertIn(done.returncode, (1, 2), at)
            if done.returncode == 1:
                self.assertIn(b"invalid: chain.", done.stdout)

    def test_another_oca(self):
        self.ok("generate", "oca.cert", "oca.key")
        out = self.ok("verify", "--sev", self.file("chain", CHAIN), "--oca", "oca.cert", "--root", TEST_ROOT, status=1)
        self.assertIn("invalid: chain.pek.signature_by_oca", out)
        self.trouble("verify", "--sev", self.dir / "chain", "--oca", self.file("pek", CHAIN[2084:4168]), says=("pek", "OCA"))

    def test_vectors(self):
        for product in ("naples", "rome"):
            if not vector(f"certs/{product}/pdh.cert"):
                continue
            read = lambda *names: b"".join(vector(f"certs/{product}/{name}").read_bytes() for name in names)
            sev = self.file("sev", read("pdh.cert", "pek.cert", "oca.cert", "cek.cert"))
            out = self.ok("verify", "--sev", sev, "--ca", self.file("ca", read("ask.cert", "ark.cert")))
            self.assertIn(f"root: AMD ARK {product.capitalize()}", out)
            self.assertNotIn("\u0338", out.splitlines()[1])
            if product == "naples":
                self.ok("verify", "--sev", sev, "--ca", self.file("ca", read("ask.cert", "ark.cert.truncated")))


class Validate(Case):
    def test_report(self):
        report = PSP_ANSWERS["report"]
        chain = self.file("chain", CHAIN)
        out = self.ok("validate", chain, FIXTURES / "psp/report.bin")
        self.assertIn(report["launch_digest"], out)
        self.assertIn(report["mnonce"], out)
        self.ok("validate", self.file("short", CHAIN[:8336]), FIXTURES / "psp/report.bin")
        raw = bytearray((FIXTURES / "psp/report.bin").read_bytes())
        for at in (0, 0x10, 0x30, 0x40, 0x88):
            raw[at] ^= 1
            self.ok("validate", chain, self.file("flipped", raw), status=1)
            raw[at] ^= 1

    def test_with_the_chain(self):
        chain, report = self.file("chain", CHAIN), FIXTURES / "psp/report.bin"
        self.ok("validate", chain, report, "--root", TEST_ROOT)
        self.ok("validate", self.file("short", CHAIN[:8336]), report, "--ca", self.file("ca", CHAIN[8336:]), "--root", TEST_ROOT)
        self.ok("validate", chain, report, "--ca", self.dir / "ca", status=1)


if __name__ == "__main__":
    unittest.main()
