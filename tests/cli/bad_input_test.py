# SPDX-License-Identifier: Apache-2.0
"""Bad files for every file option of every command: exit status 2, one line that names the file, and no output file left behind.

The options come from sevctl's own command table, so that none can be forgotten: a command with a file option and no invocation here fails.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

from support import CHAIN, FIRMWARE, FIXTURES, LUKS, REPORT, ROOT, SEVCTL, TEST_ROOT, Case, emulated_device, judged_launch, sevctl, table

NOBODY = 65534


def invocations(case):
    """Good command lines: each a list of words, in which a file option's value is ("--option", value) so that it can be replaced."""
    file = case.file
    tik, tek, blob = file("tik", bytes(16)), file("tek", bytes(range(16))), file("blob", bytes(48))
    chain, ca, short = file("chain", CHAIN), file("ca", CHAIN[8336:]), file("short", CHAIN[:8336])
    oca, report, nonce = file("oca", CHAIN[2 * 2084:3 * 2084]), file("report", REPORT), file("nonce", bytes(16))
    roots = file("roots", TEST_ROOT.encode())
    kernel, initrd, vmsa = file("kernel", b"kernel"), file("initrd", b"initrd"), file("vmsa", bytes(4096))
    firmware = file("firmware", FIRMWARE.read_bytes())
    policy, bundle, judged_tik, at = judged_launch()
    policy = file("policy.json", policy.read_bytes())
    for name in ("one.bin", "two.bin", "disk.key"):
        shutil.copy(FIXTURES / "attest" / name, case.dir)
    bundle_text = bundle.read_bytes()
    bundle = file("bundle.json", bundle_text)
    import json
    parts = json.loads(bundle_text)
    platform, launch, offer = (file(f"{n}.json", json.dumps(parts[n]).encode()) for n in ("platform", "launch", "offer"))
    judged = file("judged_tik", judged_tik)
    layout = {"format": "xen-sev/image-layout", "version": 1, "parts": [{"label": "one", "gpa": "0x100000", "file": "one.bin"}]}
    layout = file("layout.json", json.dumps(layout).encode())
    version = ["--api-major", "0", "--api-minor", "24", "--build-id", "1"]
    yield "session", [("PDH", chain), "5", ("--ca", ca), ("--root", roots), ("--name", "out"), ("--offer", "out_offer.json")], 0
    yield "generate", [("CERT", "out_cert"), ("KEY", "out_key")], 0
    yield "verify", [("--sev", short), ("--oca", oca), ("--ca", ca), ("--root", roots), ("--pin-cek", roots)], 0
    yield "validate", [("CHAIN", short), ("REPORT", report), ("--ca", ca), ("--root", roots), ("--pin-cek", roots)], 0
    for source in (("--nonce", nonce), ("--launch-measure-blob", blob)):
        yield "measurement build", [*version, "--policy", "5", source, ("--tik", tik), ("--firmware", firmware), ("--kernel", kernel), ("--initrd", initrd), "--cmdline", "x",
                                    "--num-cpus", "2", ("--vmsa-cpu0", vmsa), ("--vmsa-cpu1", vmsa), ("--outfile", "out_file")], 0
    yield "secret build", [("--tik", tik), ("--tek", tek), ("--launch-measure-blob", blob), ("--secret", kernel), ("HEADER", "out_header"), ("PAYLOAD", "out_payload")], 0
    yield "vmsa build", [("FILE", "out_vmsa"), "--cpu", "1", "--userspace", "qemu", ("--firmware", firmware)], 0
    yield "vmsa update", [("FILE", vmsa), "--cpu", "1", "--userspace", "qemu", ("--firmware", firmware)], 0
    yield "vmsa show", [("FILE", vmsa)], 0
    yield "vmsa diff", [("LEFT", vmsa), ("RIGHT", vmsa)], 0
    yield "measure qemu", [("--firmware", firmware), ("--kernel", kernel), ("--initrd", initrd)], 0
    yield "measure image", [("REGION", kernel)], 0
    yield "measure image", [("--layout", layout)], 0
    xen = FIXTURES / "xen"
    for name in ("kernel.elf", "ramdisk.cpio", "hvmloader.elf", "bios.bin"):
        shutil.copy(xen / name, case.dir)
    pvh, acpi = file("pvh_kernel", (xen / "kernel.elf").read_bytes()), file("acpi.json", (xen / "acpi-2-2.json").read_bytes())
    ramdisk, loader, bios = (file(name, (xen / source).read_bytes()) for name, source in (("ramdisk", "ramdisk.gz"), ("loader", "hvmloader.elf"), ("bios", "bios.bin")))
    ssdt, smbios = file("ssdt", (xen / "ssdt.bin").read_bytes()), file("smbios", (xen / "smbios.bin").read_bytes())
    for option, source in (("--xl-cfg", "guest.cfg"), ("--json-config", "guest.json"), ("--libvirt-xml", "guest.xml")):
        yield "measure xen", [(option, file(source, (xen / source).read_bytes())), ("--kernel", pvh), ("--ramdisk", ramdisk), ("--reference", acpi)], 0
    yield "measure xen", ["--type", "hvm", "--memory", "64", ("--hvmloader", loader), ("--firmware", bios), ("--acpi-firmware", ssdt), ("--smbios-firmware", smbios),
                          "--xen-version", "4.17.7"], 0
    store = case.dir / "references"
    store.mkdir(exist_ok=True)
    shutil.copy(acpi, store / "xen-acpi-4.17.7+made-2-0-1.json")
    yield "reference import", [("FILE", acpi), "--store", store, "--force"], 0
    yield "reference show", [("FILE", acpi), "--store", store], 0
    yield "reference export", ["--vcpus", "2", ("--outfile", "out_reference"), "--store", store], 0
    for evidence in ([("--bundle", bundle)], [("--platform", platform), ("--launch", launch), ("--offer", offer)]):
        yield "judge", [("POLICY", policy), *evidence, ("--pdh", chain), ("--tik", judged), "--at", at], 0
    signed, host_key = (file(name, (FIXTURES / "attest" / name).read_bytes()) for name in ("signed-bundle.jws", "host.jwk"))
    yield "judge", [("POLICY", policy), ("--bundle", signed), ("--host-key", host_key), ("--pdh", chain), ("--tik", judged), "--at", at], 0
    raw = ["--build", "0.17.48", "--guest-policy", "1"]
    yield "judge", [("POLICY", policy), ("--chain", chain), *raw, ("--measurement", blob), ("--pdh", chain), ("--tik", judged), "--at", at], 1
    yield "judge", [("POLICY", policy), ("--chain", chain), *raw, ("--report", report), ("--nonce", nonce), ("--pdh", chain), "--at", at], 1
    yield "policy lint", [("POLICY", policy), "--at", at], 0
    yield "slot add", [("INITRD", initrd), "--pages", "2", ("--outfile", "out_slot")], 0
    yield "slot add", [("INITRD", initrd), ("--for", file("disk", bytes(4096))), ("--outfile", "out_slot")], 0
    yield "slot show", [("FILE", file("slot", bytes(4096) + b"initrd"))], 0
    yield "slot smbios", ["--length", "100", ("--outfile", "out_smbios")], 0
    cache = case.dir / "cache"
    yield "cert import", [("FILE", ca), "--cache", cache, ("--root", roots)], 0
    yield "cert show", ["--cache", cache, ("--root", roots)], 0
    yield "advisories", ["--build", "0.24.10", "--policy", "5", "--product", "rome"], 0
    host = file("host.json", (ROOT / "docs/probe-bundles/epyc-7443.json").read_bytes())
    log = file("kernel.log", b"[    4.310] ccp 0000:04:00.2: SEV API:0.17 build:48\n")
    yield "status", [("--from", host)], 0
    yield "status", [("--kernel-log", log), "--explain"], 0
    yield "ok", ["es", ("--from", host)], 0
    yield "probe", [("--to", "out_probe"), ("--kernel-log", log)], 0
    yield "policy show", [("POLICY", policy)], 0
    yield "policy diff", [("LEFT", policy), ("RIGHT", policy)], 0
    if os.environ.get("SEV_EMULATOR"):
        subprocess.run([os.environ["SEV_EMULATOR"], "create", "--state", case.dir / "psp"], check=True, capture_output=True, timeout=60)
        yield "launch", [("--image", layout), ("--owner", policy), "--psp", "emulated", "--state", case.dir / "psp", ("--bundle", "out_bundle")], 1
        with emulated_device(case) as device:
            for what in ("flags", "guests", "identifier", "version"):
                yield f"show {what}", [], 0
            endorsement = [("--cek", device.cek), ("--ca", device.ca)]
            yield "export", [("FILE", "out_chain"), "--full", *endorsement, ("--root", device.root)], 0
            yield "pek-csr", [("FILE", "out_csr")], 0
            yield "verify", [*endorsement, ("--root", device.root)], 0
            yield "rotate", ["--yes"], 0
            yield "provision", [("CERT", device.oca), ("KEY", device.oca_key), "--yes"], 0
            yield "reset", ["--yes"], 0


def value_of(argument, path):
    """How this argument takes a path."""
    return {"labelled_input": f"{LUKS}:{path}", "placed_input": f"{path}@0x100000"}.get(argument["kind"], str(path))


def words_of(command, words, replace=None, path=None):
    """The command line, with the value of one file argument replaced."""
    arguments = {argument["name"]: argument for argument in command["arguments"]}
    out = command["name"].split()
    for word in words:
        if not isinstance(word, tuple):
            out.append(str(word))
            continue
        name, value = word
        if not name.startswith("-"):
            out.append(value_of(arguments[name], path if name == replace else value))
        else:
            out += [name, value_of(arguments[name], path if name == replace else value)]
    return out


class BadInput(Case):
    def listing(self):
        """What is on disk; of a huge sparse file its size is enough."""
        files = [path for path in sorted(self.dir.rglob("*")) if not path.is_symlink() and path.is_file() and "psp" not in path.parts]
        return {path: path.read_bytes() if path.stat().st_size < 1 << 20 else path.stat().st_size for path in files}

    def refused(self, command, words, name, path, why, **options):
        """The command with this bad file: exit status 2, one line with the file's name, and nothing changed on disk."""
        before = self.listing()
        line = self.trouble(*words_of(command, words, name, path), **options)
        told = path if str(path) in line else pathlib.Path(path).name
        self.assertIn(str(told), line, f"{command['name']} {name}: {why}: the message does not name the file")
        self.assertEqual(self.listing(), before, f"{command['name']} {name}: {why}: files were left behind or changed")

    def bad_files(self, argument, good):
        """(why, path) of what must be refused for this argument."""
        bad = self.dir / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        bad.mkdir()

        def made(name, content):
            (bad / name).write_bytes(content)
            return bad / name

        yield "absent", bad / "absent"
        yield "directory", bad
        yield "through a file", bad.parent / "tik" / "x"
        yield "unreadable", pathlib.Path("/proc/self/mem")
        yield "device", pathlib.Path("/dev/zero")
        os.mkfifo(bad / "fifo")
        yield "pipe without a writer", bad / "fifo"
        os.symlink("loop", bad / "loop")
        yield "symlink loop", bad / "loop"
        if argument["content"] != "any":
            yield "empty", made("empty", b"")
        with open(bad / "huge", "wb") as huge:
            huge.truncate(argument["limit_bytes"] + 1)
        yield "oversized", bad / "huge"
        if argument["content"] == "structured":
            content = good.read_bytes()
            yield "truncated", made("truncated", content.rstrip(b"\n")[:-1])
            yield "one byte too many", made("long", content + b"x")
            yield "wrong type, text", made("text.txt", b"This is a shopping list, and nothing else: milk, bread.\n")
            yield "wrong type, binary", made("wrong.bin", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 7)

    def test_every_file_that_is_read(self):
        covered = set()
        commands = table()
        for name, words, status in invocations(self):
            command = commands[name]
            done = sevctl(*words_of(command, words), cwd=self.dir)
            self.assertEqual(done.returncode, status, f"{name}: the good invocation: {done.stdout.decode()}{done.stderr.decode()}")
            for out in self.dir.glob("out*"):
                out.unlink()
            for argument in command["arguments"]:
                good = next((word[1] for word in words if isinstance(word, tuple) and word[0] == argument["name"]), None)
                if not argument["reads_file"] or good is None:
                    continue
                self.assertGreater(argument["limit_bytes"], 0, f"{name} {argument['name']}: has no size limit")
                for why, path in self.bad_files(argument, pathlib.Path(good)):
                    with self.subTest(command=name, argument=argument["name"], why=why):
                        self.refused(command, words, argument["name"], path, why)
                covered.add((name, argument["name"]))
        wanted = {(name, argument["name"]) for name, command in commands.items() for argument in command["arguments"] if argument["reads_file"]}
        if not os.environ.get("SEV_EMULATOR"):
            print("SKIPPED: launch, export, provision and verify of a platform, for want of sev-emulator")
            wanted = {pair for pair in wanted if pair[0] not in ("launch", "export", "provision") and pair != ("verify", "--cek")}
        wanted.discard(("launch", "--xl-cfg"))  # sevd reads it: tests/system and tests/xen
        self.assertEqual(wanted - covered, set(), "these file options have no invocation in this test")

    def test_every_file_that_is_written(self):
        covered = set()
        commands = table()
        for name, words, status in invocations(self):
            if status == 1:
                continue
            command = commands[name]
            for argument in command["arguments"]:
                if not argument["writes_file"] or argument["kind"] == "update" or not any(isinstance(w, tuple) and w[0] == argument["name"] for w in words):
                    continue
                covered.add((name, argument["name"]))
                prefix = argument["kind"] == "output_prefix"
                (self.dir / "taken_tik.bin").mkdir(exist_ok=True)
                for why, path in (("directory", self.dir / "taken" if prefix else self.dir / "taken_tik.bin"), ("in no directory", self.dir / "none" / "out"),
                                  ("through a file", self.dir / "tik" / "out"), *(() if prefix else (("device", pathlib.Path("/dev/null")), ("empty name", "")))):
                    with self.subTest(command=name, argument=argument["name"], why=why):
                        before = self.listing()
                        self.trouble(*words_of(command, words, argument["name"], path), says=str(path))
                        self.assertEqual(self.listing(), before)
        wanted = {(name, a["name"]) for name, c in commands.items() for a in c["arguments"] if a["writes_file"] and a["kind"] != "update" and name not in ("launch", "reference capture", "bundle")}
        if not os.environ.get("SEV_EMULATOR"):
            wanted = {pair for pair in wanted if pair[0] not in ("export", "pek-csr")}
        self.assertEqual(wanted - covered, set(), "these output options have no invocation in this test")

    @unittest.skipUnless(os.getuid() == 0, "SKIPPED: only root can drop privileges; elsewhere mode 000 is tested directly")
    def test_without_permission(self):
        """As a user who may not read the file: mode bits mean nothing to root."""
        commands = table()
        shutil.copy(SEVCTL, self.dir / "sevctl-copy")
        os.chmod(self.dir, 0o755)
        secret = self.file("closed", CHAIN)
        os.chmod(secret, 0)
        for name, words, _ in invocations(self):
            for argument in commands[name]["arguments"]:
                if argument["reads_file"] and any(isinstance(w, tuple) and w[0] == argument["name"] for w in words):
                    done = subprocess.run([self.dir / "sevctl-copy", *words_of(commands[name], words, argument["name"], secret)], user=NOBODY, cwd=self.dir,
                                          capture_output=True, timeout=60)
                    self.assertEqual(done.returncode, 2, (name, argument["name"]))
                    self.assertRegex(done.stderr.decode(), r"(?m)^sevctl: error: .*(closed.*Permission denied|out)")


if __name__ == "__main__":
    unittest.main()
