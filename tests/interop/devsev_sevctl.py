# SPDX-License-Identifier: Apache-2.0
"""virtee's sevctl, unmodified, and ours against one emulated /dev/sev: the sequence of its README with each, and each reads what the other wrote.

`export` and `verify` of virtee's sevctl always fetch the CEK from AMD's server, whose address is built in: a proxy on the loopback stands in for that server, with a
certificate of a test CA (HTTPS_PROXY and SSL_CERT_FILE, which it honours). `export --full` cannot be had from it: it takes only AMD's own, built-in ASK and ARK, and the
emulated CEK is signed by neither. Our full chain stands in for it, and virtee's sevctl verifies that with --ca.
"""
import argparse
import base64
import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
import devsev_bench  # noqa: E402
import devsev_peers as peers  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--emulator", required=True)
parser.add_argument("--sevctl", required=True)
where = parser.add_mutually_exclusive_group(required=True)
where.add_argument("--peers", type=pathlib.Path, help="folder where peers are built, once")
where.add_argument("--their-sevctl", type=pathlib.Path, help="virtee's sevctl")
parser.add_argument("--cuse", action="store_true",
                    help="on a real character device (root, and a kernel with CUSE) instead of by the preloaded library")
parser.add_argument("--device", type=pathlib.Path, help="on the /dev/sev that is there: a folder with its cek, ca and identity.json")
args = parser.parse_args()
os.environ["SEV_EMULATOR"], os.environ["SEVCTL"] = args.emulator, args.sevctl

FIRMWARE = pathlib.Path(__file__).resolve().parent.parent / "fixtures/measure/full.fd"
SECRET = "736869e5-84f0-4973-92ec-06879ce3da0b"
if not shutil.which("openssl"):
    peers.skip("there is no openssl program to make a test CA with")
THEIRS = args.their_sevctl or peers.their_sevctl(args.peers)


class Bench(devsev_bench.Bench):
    def both_show(self, want_flags):
        for what in ("flags", "guests", "version", "identifier"):
            self.same(f"show {what}", self.theirs("show", what).stdout, self.ours("show", what).stdout)
        self.same("flags", self.ours("show", "flags").stdout.decode().split(), want_flags)


def ownership(bench):
    """generate and provision, each by one program for the other; show, rotate, reset."""
    bench.both_show(["es"])
    bench.theirs("generate", "their.cert", "their.key")
    bench.ours("generate", "our.cert", "our.key")
    bench.same("sizes of certificates", len(bench.content("their.cert")), len(bench.content("our.cert")))
    for provisions, owner in ((bench.theirs, "our"), (bench.ours, "their")):
        yes = ["--yes"] if provisions == bench.ours else []
        provisions("provision", *yes, f"{owner}.cert", f"{owner}.key")
        bench.both_show(["owned", "es"])
        bench.theirs("provision", "their.cert", "their.key", status=1)  # ALREADY_OWNED, to both
        bench.ours("provision", "--yes", "our.cert", "our.key", status=2)
        chains(bench, owner)
        if provisions == bench.theirs:
            bench.theirs("reset")
            bench.both_show([])
            bench.ours("export", "--unsigned", "after")  # which initialises it again
            bench.both_show(["es"])
    before = bench.content("their-chain")
    bench.theirs("rotate")
    bench.theirs("export", "rotated-chain")
    bench.ours("rotate", "--yes")
    bench.theirs("export", "again-chain")
    chains_since = [bench.content(name) for name in ("their-chain", "rotated-chain", "again-chain")]
    bench.same("PDHs after each rotation", len({chain[:2084] for chain in chains_since}), 3)
    bench.same("the rest after rotation", {chain[2084:] for chain in chains_since}, {before[2084:]})


def chains(bench, owner):
    """export and verify: the same bytes, and each accepts and refuses the other's."""
    device = bench.device
    bench.theirs("export", "their-chain")
    bench.ours("export", "--force", "--cek", device.cek, "our-chain")
    bench.same("exported chains", bench.content("their-chain"), bench.content("our-chain"))
    bench.same("OCA of the chain", bench.content("our-chain")[2 * 2084:3 * 2084], bench.content(f"{owner}.cert"))
    refused = bench.theirs("export", "--full", "their-full", status=1)
    if b"could not find a matching builtin certificate" not in refused.stderr:
        sys.exit(f"virtee's export --full failed for another reason than AMD's built-in roots: {refused.stderr.decode()}")
    bench.ours("export", "--force", "--full", "--cek", device.cek, "--ca", device.ca, "our-full")
    bench.same("full chain", bench.content("our-full"), bench.content("our-chain") + device.ca.read_bytes())
    root = ["--root", device.root]
    theirs = bench.theirs("verify", "--ca", device.ca)  # the platform itself
    ours = bench.ours("verify", "--cek", device.cek, "--ca", device.ca, *root)
    plain = theirs.stdout.decode().replace("\x1b[38;5;2m", "").replace("\x1b[0m", "")
    lines = [line for line in plain.splitlines() if line.strip()]
    bench.same("trees", lines, [line for line in ours.stdout.decode().splitlines() if line.strip() and not line.startswith("root: ")])
    for chain in ("our-full", "their-chain"):
        bench.theirs("verify", "--sev", chain, "--ca", device.ca)
        bench.ours("verify", "--sev", chain, "--ca", device.ca, *root)
    bench.theirs("verify", "--sev", "our-full", "--oca", f"{owner}.cert", "--ca", device.ca)
    other = "their" if owner == "our" else "our"
    bench.theirs("verify", "--sev", "our-full", "--oca", f"{other}.cert", "--ca", device.ca, status=1)
    bench.ours("verify", "--sev", "our-full", "--oca", f"{other}.cert", "--ca", device.ca, *root, status=1)
    flipped = bytearray(bench.content("our-full"))
    flipped[0x20] ^= 1  # in the PDH's public key
    (bench.folder / "flipped").write_bytes(flipped)
    bench.theirs("verify", "--sev", "flipped", "--ca", device.ca, status=1)
    bench.ours("verify", "--sev", "flipped", "--ca", device.ca, *root, status=1)
    bench.same("asked of AMD's server", set(path.lower() for path in bench.server.seen), {bench.server.path})


def launches(bench):
    """session, measurement build, secret build: with the keys that either program made, both compute the same."""
    bench.theirs("session", "--name", "their", "our-full", "1")
    bench.ours("session", "--name", "our", "their-chain", "1")
    (bench.folder / "disk.key").write_bytes(bytes(range(48)))
    for name in ("their", "our"):
        bench.same(f"sizes of {name} session", [len(bench.content(f"{name}_{part}")) for part in ("tik.bin", "tek.bin", "godh.b64", "session.b64")], [16, 16, 2780, 172])
        godh = base64.b64decode(bench.content(f"{name}_godh.b64"), validate=True)
        bench.same(f"head of {name} GODH", godh[:0x14].hex(), bench_head)
        measurement = ["measurement", "build", "--api-major", "0", "--api-minor", "17", "--build-id", "48", "--policy", "0x01", "--tik", f"{name}_tik.bin",
                       "--nonce", base64.b64encode(bytes(range(16))).decode(), "--firmware", FIRMWARE]
        bench.theirs(*measurement, "--outfile", f"{name}.blob")
        bench.same("measurements", bench.theirs(*measurement).stdout, bench.ours(*measurement).stdout)
        bench.ours(*measurement, "--outfile", f"{name}-ours.blob")
        bench.same("measurement files", bench.content(f"{name}.blob"), bench.content(f"{name}-ours.blob"))
        bench.same("measurement's size", len(bench.content(f"{name}.blob")), 48)
        secret = ["secret", "build", "--tik", f"{name}_tik.bin", "--tek", f"{name}_tek.bin", "--launch-measure-blob", f"{name}.blob", "--secret", f"{SECRET}:disk.key",
                  "--iv", base64.b64encode(bytes(16)).decode()]
        bench.theirs(*secret, f"{name}-theirs.header", f"{name}-theirs.payload")
        bench.ours(*secret, f"{name}-ours.header", f"{name}-ours.payload")
        for part in ("header", "payload"):
            bench.same(f"secret {part}s", bench.content(f"{name}-theirs.{part}"), bench.content(f"{name}-ours.{part}"))
        bench.same("header's size", len(bench.content(f"{name}-ours.header")), 52)


# SEV API, appendix C: version 1, API 0.0, usage PDH (1003h), ECDH SHA-256 (3), curve P-384 (2)
bench_head = "01000000" "00000000" "03100000" "03000000" "02000000"

with tempfile.TemporaryDirectory(prefix="xen-sev-peer-") as name:
    bench = Bench(pathlib.Path(name), args, THEIRS)
    with contextlib.nullcontext() if args.device else bench.device.cuse() if args.cuse else bench.device.served():
        ownership(bench)
        if not (args.cuse or args.device):
            launches(bench)  # computes only, and virtee's wants a CPU with RDRAND, which an emulated one may lack
        bench.ours("reset", "--yes")
        bench.both_show([])
    print(f"{bench.steps} steps with virtee's sevctl {peers.SEVCTL_VERSION} and ours agree")
