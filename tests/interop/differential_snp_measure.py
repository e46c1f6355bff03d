#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds sevctl's launch digests against sev-snp-measure (a package of the Python package index) over generated launches.

The peer is installed into a virtual environment in the build folder, once, at the version that this test was written against.
"""
import json
import os
import subprocess
import sys

from common import OVMF, Workspace, arguments, begin, sevctl, skip, write_report
from install_snp_measure import PACKAGE, install

WANT_CASES = 60
KINDS = ["SEV", "SEV, kernel hashes", "kvm-init2", "kvm-init2, kernel hashes", "ec2", "gce"]
VMM_TYPES = {"kvm-init2": "QEMU", "ec2": "ec2", "gce": "gce"}
MODELS = ["EPYC", "EPYC-v1", "EPYC-v2", "EPYC-v3", "EPYC-v4", "EPYC-IBPB", "EPYC-Rome", "EPYC-Rome-v1", "EPYC-Rome-v2", "EPYC-Rome-v3", "EPYC-Milan",
          "EPYC-Milan-v1", "EPYC-Milan-v2", "EPYC-Genoa", "EPYC-Genoa-v1", "EPYC-Turin"]


class Programs:
    def __init__(self, ours, peer):
        self.ours, self.peer = ours, peer

    def peer_digest(self, words):
        done = subprocess.run([self.peer, *map(str, words)], capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else None, done.stderr.strip()

    def our_digest(self, words):
        status, printed, errors = sevctl(self.ours, *words)
        return json.loads(printed)["launch_digest"] if status == 0 else None, errors.strip()


def run_case(programs, work, kind, ovmf):
    """What both said: digest or None, and their errors; and the words that led there."""
    rng = work.random
    profile = kind.split(",")[0]
    with_kernel = "kernel" in kind or (profile in ("ec2", "gce") and rng.random() < 0.3)
    firmware = ovmf if ovmf and not with_kernel and rng.random() < 0.2 else work.firmware()[0]
    path = work.file(firmware, "fd")
    peer_words = ["--mode", "sev" if profile == "SEV" else "seves", "--ovmf", path]
    our_words = ["measure", "qemu", "--json", "--firmware", path]
    if with_kernel:
        kernel = work.file(rng.randbytes(rng.randrange(1, 50000)))
        peer_words += ["--kernel", kernel]
        our_words += ["--kernel", kernel]
        if rng.random() < 0.7:
            initrd = work.file(rng.randbytes(rng.randrange(50000)))
            peer_words += ["--initrd", initrd]
            our_words += ["--initrd", initrd]
        if rng.random() < 0.7:
            cmdline = work.cmdline()
            peer_words += [f"--append={cmdline}"]
            our_words += [f"--cmdline={cmdline}"]
    if profile != "SEV":
        vcpus = rng.choice([1, 2, 3, 4, 8, rng.randrange(9, 257)])
        peer_words += ["--vcpus", vcpus, "--vmm-type", VMM_TYPES[profile]]
        our_words += ["--vcpus", vcpus, "--profile", profile]
        if profile == "kvm-init2":
            if rng.random() < 0.6:
                model = rng.choice(MODELS)
                peer_words += ["--vcpu-type", model]
                our_words += ["--cpu-model", model]
            else:
                for name, value in (("family", rng.randrange(1, 271)), ("model", rng.randrange(256)), ("stepping", rng.randrange(16))):
                    peer_words += [f"--vcpu-{name}", value]
                    our_words += [f"--{name}", value]
    return programs.peer_digest(peer_words), programs.our_digest(our_words), our_words


def main():
    parser = arguments(__doc__)
    parser.add_argument("--venv", required=True, help="folder of the virtual environment")
    args = begin(parser)
    peer, why = install(args.venv)
    if peer is None:
        skip(args, f"{PACKAGE} cannot be had: {why}")
    work = Workspace(args.seed)
    ovmf = OVMF.read_bytes() if OVMF.exists() else None
    print(f"seed {args.seed}; OVMF of this machine: {OVMF if ovmf else 'absent, synthetic images only'}")
    programs = Programs(args.sevctl, os.fspath(peer))
    counts, failures, seen = {}, [], set()
    for number in range(args.cases or 72):
        kind = KINDS[number % len(KINDS)]
        (theirs, their_error), (ours, our_error), words = run_case(programs, work, kind, ovmf)
        if theirs is None or theirs != ours:
            failures.append(f"case {number} ({kind}): peer {theirs} {their_error}, sevctl {ours} {our_error}; sevctl {' '.join(map(str, words))}")
        counts[kind] = counts.get(kind, 0) + 1
        seen.add(ours)
    total = sum(counts.values())

    # both refuse a kernel with firmware that has no place for its hashes
    firmware, kernel = work.file(work.firmware(hashes=False)[0], "fd"), work.file(b"kernel")
    theirs, _ = programs.peer_digest(["--mode", "sev", "--ovmf", firmware, "--kernel", kernel])
    ours, error = programs.our_digest(["measure", "qemu", "--json", "--firmware", firmware, "--kernel", kernel])
    if theirs is not None or ours is not None or "has base 0" not in error:
        failures.append(f"kernel without hash block: want two refusals, got peer {theirs}, sevctl {ours} {error}")
    # one firmware image can come twice, yet most launches are different ones
    if len(seen) < total * 0.9:
        failures.append(f"only {len(seen)} different digests in {total} cases")

    for kind, count in sorted(counts.items()):
        print(f"{count:4} {kind}")
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"{total} cases, {len(failures)} failures")
    write_report(args.report, cases=total, failures=len(failures), seed=args.seed)
    sys.exit(1 if failures or (args.cases is None and total < WANT_CASES) else 0)


if __name__ == "__main__":
    main()
