#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds `sevctl measurement build` against virt-qemu-sev-validate (Debian package libvirt-clients-qemu) over generated launches.

This script plays the firmware: it computes the measurement that a launch reports with hashlib and hmac. Then both programs are
asked whether it is the expected one; for right launches both must say yes, for launches in which one thing is wrong both must say no.
"""
import base64
import contextlib
import hashlib
import hmac
import importlib.machinery
import importlib.util
import io
import os
import struct
import subprocess
import sys
from dataclasses import dataclass, field

from common import OVMF, Workspace, arguments, begin, make, reset_address, sevctl, skip, write_report

PEER = "/usr/bin/virt-qemu-sev-validate"
SYSTEM_PYTHON = "/usr/bin/python3"
WANT_CASES = 200
KINDS = ["SEV", "SEV, kernel hashes", "SEV-ES, CPU signature", "SEV-ES, CPU signature, kernel hashes", "SEV-ES, VMSA files"]


@dataclass
class Launch:
    """What a guest owner tells both programs."""
    firmware: bytes
    reset: int
    api: tuple
    policy: int
    tik: bytes
    kernel: bytes = None
    initrd: bytes = None  # None: not given
    cmdline: str = None
    vcpus: int = 0
    sku: tuple = None     # family, model, stepping
    vmsas: list = field(default_factory=list)

    def pages(self):
        if self.sku:
            return [make.vmsa("kvm-legacy", boot, make.signature(*self.sku), 0, self.reset) for boot in (True, False)]
        return self.vmsas

    def measure(self, mnonce):
        parts = [self.firmware]
        if self.kernel is not None:
            parts.append(make.hash_table(self.kernel, self.initrd or b"", (self.cmdline or "").encode()))
        if self.policy & 4:
            first, others = self.pages()
            parts += [first] + [others] * (self.vcpus - 1)
        digest = hashlib.sha256(b"".join(parts)).digest()
        message = bytes([4, *self.api]) + struct.pack("<I", self.policy) + digest + mnonce
        return hmac.new(self.tik, message, "sha256").digest()


def launch(work, kind, ovmf):
    rng = work.random
    es = kind.startswith("SEV-ES")
    if "kernel" not in kind and ovmf and rng.random() < 0.3:
        firmware, reset = ovmf, reset_address(ovmf)
    else:
        firmware, reset = work.firmware()
    policy = rng.choice([1, 3, 0x21, 0x0D, rng.randrange(1 << 32) & 0xFFFF003F])
    # API 0.17 and later: older firmware leaves its version out of the measurement, which the peer does not know
    api = rng.choice([(0, rng.randrange(17, 256), rng.randrange(256)), (1, rng.randrange(256), rng.randrange(256))])
    made = Launch(firmware=firmware, reset=reset, api=api, policy=policy | 4 if es else policy & ~4, tik=rng.randbytes(16))
    if "kernel" in kind:
        made.kernel = rng.randbytes(rng.randrange(1, 50000))
        made.initrd = rng.choice([None, b"", rng.randbytes(rng.randrange(1, 50000))])
        made.cmdline = rng.choice([None, "", work.cmdline(), work.cmdline()])
    if es:
        made.vcpus = rng.choice([1, 2, 3, 4, rng.randrange(5, 65)])
        if "files" in kind:
            profile = rng.choice(["kvm-legacy", "kvm-init2", "ec2", "krun"])
            made.vmsas = [make.vmsa(profile, boot, rng.randrange(1 << 32), 0, reset) for boot in (True, False)]
            if rng.random() < 0.3:
                made.vmsas = [rng.randbytes(4096), rng.randbytes(4096)]
        else:
            made.sku = rng.choice([(23, 1, 2), (23, 49, 0), (25, 1, 1), (25, 17, 0), (rng.randrange(1, 271), rng.randrange(256), rng.randrange(16))])
    return made


def flipped(rng, content):
    out = bytearray(content)
    bit = rng.randrange(8 * len(out))
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def mistakes(given, rng):
    """Name -> function that changes one thing the owner tells; None for a mistake that lies in what is reported."""
    def change(**values):
        def apply():
            for name, value in values.items():
                setattr(given, name, value)
        return apply
    major, minor, build = given.api
    all_of_them = {
        "flipped measure": None,
        "flipped nonce": None,
        "policy": change(policy=given.policy ^ rng.choice([1, 2, 8, 32, 1 << 16, 1 << 31])),
        "TIK": change(tik=flipped(rng, given.tik)),
        "API major": change(api=(major + 1, minor, build)),
        "API minor": change(api=(major, minor + 1 if minor < 255 else minor - 1, build)),
        "build": change(api=(major, minor, build ^ 1)),
        # not the last kilobyte: a GUID table that reads differently is another mistake, and has its tests elsewhere
        "firmware": change(firmware=flipped(rng, given.firmware[:-1024]) + given.firmware[-1024:]),
    }
    if given.kernel is not None:
        all_of_them["kernel"] = change(kernel=flipped(rng, given.kernel))
        all_of_them["no kernel"] = change(kernel=None, initrd=None, cmdline=None)
        all_of_them["initrd"] = change(initrd=flipped(rng, given.initrd) if given.initrd else b"\0")
        all_of_them["cmdline"] = change(cmdline=(given.cmdline or "") + " ")
    elif len(given.firmware) <= 65536:
        all_of_them["a kernel too many"] = change(kernel=b"kernel", initrd=b"", cmdline="")
    if given.policy & 4:
        all_of_them["one vCPU more"] = change(vcpus=given.vcpus + 1)
        if given.vcpus > 1:
            all_of_them["one vCPU less"] = change(vcpus=given.vcpus - 1)
        all_of_them["no ES in the policy"] = change(policy=given.policy & ~4)
        if given.sku:
            family, model, stepping = given.sku
            all_of_them["CPU model"] = change(sku=(family, model ^ 1, stepping))
            all_of_them["CPU stepping"] = change(sku=(family, model, stepping ^ 1))
        else:
            first, others = given.vmsas
            all_of_them["VMSA of the first vCPU"] = change(vmsas=[flipped(rng, first), others])
            if given.vcpus > 1:
                all_of_them["VMSA of the other vCPUs"] = change(vmsas=[first, flipped(rng, others)])
                all_of_them["VMSAs swapped"] = change(vmsas=[others, first])
    return all_of_them


def load_peer():
    loader = importlib.machinery.SourceFileLoader("virt_qemu_sev_validate", PEER)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class Programs:
    def __init__(self, ours, peer, work):
        self.ours, self.peer, self.work = ours, peer, work
        self.tek = work.file(bytes(16))

    def peer_words(self, given, reported):
        work = self.work
        words = ["--tik", work.file(given.tik), "--tek", self.tek, "--measurement", reported, "--policy", str(given.policy),
                 "--firmware", work.file(given.firmware, "fd"), "--api-major", str(given.api[0]), "--api-minor", str(given.api[1]),
                 "--build-id", str(given.api[2])]
        if given.kernel is not None:
            words += ["--kernel", work.file(given.kernel)]
            if given.initrd is not None:
                words += ["--initrd", work.file(given.initrd)]
            if given.cmdline is not None:
                words += [f"--cmdline={given.cmdline}"]
        if given.vcpus:
            words += ["--num-cpus", str(given.vcpus)]
        if given.sku:
            for name, value in zip(("family", "model", "stepping"), given.sku):
                words += [f"--cpu-{name}", str(value)]
        elif given.vmsas:
            words += ["--vmsa-cpu0", work.file(given.vmsas[0]), "--vmsa-cpu1", work.file(given.vmsas[1])]
        return words

    def peer_says(self, words):
        """Its own main(), in this process: exit status and what it printed."""
        printed = io.StringIO()
        kept, sys.argv = sys.argv, [PEER, *words]
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                self.peer.main()
            status = 0
        except SystemExit as end:
            status = end.code
        finally:
            sys.argv = kept
        return status, printed.getvalue().strip()

    def our_pages(self, given, firmware):
        if not given.sku:
            return [self.work.file(page) for page in given.vmsas]
        family, model, stepping = map(str, given.sku)
        pages = []
        for cpu in ("0", "1"):
            pages.append(self.work.name("vmsa"))
            status, _, errors = sevctl(self.ours, "vmsa", "build", pages[-1], "--cpu", cpu, "--family", family, "--model", model,
                                       "--stepping", stepping, "--firmware", firmware, "--userspace", "qemu")
            if status != 0:
                raise RuntimeError(f"sevctl vmsa build: {status} {errors}")
        return pages

    def our_words(self, given, reported):
        work = self.work
        firmware = work.file(given.firmware, "fd")
        words = ["measurement", "build", "--api-major", given.api[0], "--api-minor", given.api[1], "--build-id", given.api[2],
                 "--policy", given.policy, "--tik", work.file(given.tik), "--launch-measure-blob", work.file(base64.b64decode(reported)),
                 "--firmware", firmware]
        if given.kernel is not None:
            words += ["--kernel", work.file(given.kernel), "--initrd", work.file(given.initrd or b""), f"--cmdline={given.cmdline or ''}"]
        if given.policy & 4:
            first, others = self.our_pages(given, firmware)
            words += ["--num-cpus", given.vcpus, "--vmsa-cpu0", first]
            if given.vcpus > 1:
                words += ["--vmsa-cpu1", others]
        return words

    def we_say(self, words, reported):
        """Status as the peer has it: 0 the measurement is the expected one, 1 it is not, anything else trouble."""
        status, printed, errors = sevctl(self.ours, *words)
        if status != 0:
            return 2, errors.strip()
        return (0 if printed.strip() == reported else 1), printed.strip()


def run_cases(args, programs, work, ovmf):
    rng = work.random
    total = args.cases or 300
    counts, failures = {}, []
    for number in range(total):
        kind = KINDS[number % len(KINDS)]
        given = launch(work, kind, ovmf)
        mnonce = rng.randbytes(16)
        measure = given.measure(mnonce)
        mistake = ""
        if number // len(KINDS) % 2:
            possible = mistakes(given, rng)
            mistake = rng.choice(sorted(possible))
            if mistake == "flipped measure":
                measure = flipped(rng, measure)
            elif mistake == "flipped nonce":
                mnonce = flipped(rng, mnonce)
            else:
                possible[mistake]()
        reported = base64.b64encode(measure + mnonce).decode()
        want = 1 if mistake else 0
        peer_words = programs.peer_words(given, reported)
        peer_status, peer_text = programs.peer_says(peer_words)
        our_status, our_text = programs.we_say(programs.our_words(given, reported), reported)
        if number < 2 * len(KINDS):  # calling its main() is as good as running it
            alone = subprocess.run([sys.executable, PEER, *peer_words], capture_output=True, check=False, timeout=60).returncode
            if alone != peer_status:
                failures.append(f"case {number}: the peer as a process says {alone}, in here {peer_status}")
        if not our_status == peer_status == want:
            what = f"{kind}, wrong: {mistake}" if mistake else kind
            failures.append(f"case {number} ({what}): want {want}, sevctl {our_status} ({our_text}), peer {peer_status} ({peer_text})")
        label = (kind, "wrong" if mistake else "right")
        counts[label] = counts.get(label, 0) + 1
    return counts, failures


def deliberate_differences(programs, work):
    """Launches that no QEMU can make: the peer takes them, sevctl refuses with exit status 2."""
    rng = work.random
    failures = []

    def check(what, given, want_text):
        mnonce = rng.randbytes(16)
        reported = base64.b64encode(given.measure(mnonce) + mnonce).decode()
        peer_status, peer_text = programs.peer_says(programs.peer_words(given, reported))
        status, text = 2, ""
        try:
            status, text = programs.we_say(programs.our_words(given, reported), reported)
        except RuntimeError as error:
            text = str(error)
        print(f"deliberate difference: {what}: peer {peer_status}, sevctl refuses: {text.splitlines()[0] if text else '?'}")
        if peer_status != 0 or status != 2 or want_text not in text:
            failures.append(f"{what}: want peer 0 and our refusal with '{want_text}', got peer {peer_status} ({peer_text}), sevctl {status} ({text})")

    firmware, reset = work.firmware(hashes=False)
    base = {"api": (0, 24, 1), "tik": rng.randbytes(16)}
    check("kernel hashes with firmware whose hash block has base 0",
          Launch(firmware=firmware, reset=reset, policy=1, kernel=b"kernel", initrd=b"", cmdline="", **base), "has base 0")
    firmware, reset = work.firmware(reset=0)
    check("AP reset address 0", Launch(firmware=firmware, reset=0, policy=5, vcpus=2, sku=(23, 1, 2), **base), "AP reset address 0")
    firmware, reset = work.firmware()
    none = Launch(firmware=firmware, reset=reset, policy=5, vcpus=0, vmsas=[bytes(4096), bytes(4096)], **base)
    peer_none = programs.peer_words
    programs.peer_words = lambda given, reported: peer_none(given, reported) + ["--num-cpus", "0"]
    check("0 vCPUs", none, "number of vCPUs is '0'")
    programs.peer_words = peer_none
    return failures


def main():
    args = begin(arguments(__doc__))
    if not os.path.exists(PEER):
        skip(args, f"{PEER} is absent (Debian package libvirt-clients-qemu)")
    try:
        peer = load_peer()
    except ImportError as error:
        # its modules belong to the distribution's Python, which need not be the first in PATH
        if os.path.exists(SYSTEM_PYTHON) and not os.path.samefile(SYSTEM_PYTHON, sys.executable):
            os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])
        skip(args, f"{PEER} cannot be loaded by {sys.executable}: {error}")
    work = Workspace(args.seed)
    ovmf = OVMF.read_bytes() if OVMF.exists() else None
    print(f"seed {args.seed}; OVMF of this machine: {OVMF if ovmf else 'absent, synthetic images only'}")
    programs = Programs(args.sevctl, peer, work)
    counts, failures = run_cases(args, programs, work, ovmf)
    failures += deliberate_differences(programs, work)
    total = sum(counts.values())
    for (kind, right), count in sorted(counts.items()):
        print(f"{count:4} {right}: {kind}")
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"{total} cases, {len(failures)} failures")
    write_report(args.report, cases=total, failures=len(failures), seed=args.seed)
    sys.exit(1 if failures or (args.cases is None and total < WANT_CASES) else 0)


if __name__ == "__main__":
    main()
