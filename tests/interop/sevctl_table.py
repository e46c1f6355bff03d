# SPDX-License-Identifier: Apache-2.0
"""Makes docs/virtee-sevctl.md, the table of virtee's sevctl commands and options against ours, from both programs' --help and from runs of both, and fails when the
committed one is another. --write writes it.

Every command and option that virtee's --help names must be in RUNS, and runs in both programs; "same" means: the same words, the same success, the same text on stdout (apart from
colours), the same files (of random keys and what is made with them, the same sizes). What differs must have its reason in WHY, and a reason for what is the same is an
error, so that neither the programs nor the reasons can change unseen.
"""
import argparse
import base64
import difflib
import hashlib
import hmac
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
import devsev_bench  # noqa: E402
import devsev_peers as peers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/virtee-sevctl.md"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--emulator", required=True)
parser.add_argument("--sevctl", required=True)
parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder where peers are built, once")
parser.add_argument("--write", action="store_true")
args = parser.parse_args()
args.cuse = False
os.environ["SEV_EMULATOR"], os.environ["SEVCTL"] = args.emulator, args.sevctl
THEIRS = peers.their_sevctl(args.peers)

MEASURE = ["measurement", "build", "--api-major", "0", "--api-minor", "17", "--build-id", "48", "--policy", "1", "--tik", "tik"]
NONCE = ["--nonce", base64.b64encode(bytes(range(16))).decode()]
DIGEST = ["--launch-digest", base64.b64encode(bytes(range(32))).decode()]
SECRET = ["secret", "build", "--tik", "tik", "--tek", "tek", "--launch-measure-blob", "blob", "--secret", "736869e5-84f0-4973-92ec-06879ce3da0b:disk.key"]
IV = ["--iv", base64.b64encode(bytes(16)).decode()]
VMSA = ["--cpu", "0", "--family", "25", "--model", "1", "--stepping", "1", "--userspace", "qemu"]
ES = [*MEASURE[:-4], "--policy", "7", *MEASURE[-2:], *NONCE, "--firmware", "ovmf.fd", "--num-cpus", "2", "--vmsa-cpu0", "vmsa", "--vmsa-cpu1", "vmsa"]
ROOTS = ["--root", "root"]  # for ours: an emulated root must be named


def run(*words, ours=None, sizes=False, policy=None):
    """The words for virtee's and, where ours needs others, for ours. sizes: of files alone, for what is random; with policy: and whether the session is for it."""
    return {"theirs": list(words), "ours": list(ours or words), "sizes": sizes, "policy": policy}


def for_policy(files, policy):
    """Whether POLICY_MAC, the last 32 of a session's 128 bytes, is the HMAC of this policy under its TIK."""
    session = base64.b64decode(next(content for name, content in files.items() if name.endswith("session.b64")))
    tik = next(content for name, content in files.items() if name.endswith("tik.bin"))
    return session[96:] == hmac.new(tik, policy.to_bytes(4, "little"), hashlib.sha256).digest()


# What is run for each command (""), and for each of its options and arguments.
EXPORT = run("export", "out", ours=["export", "--cek", "cek", "out"])
SESSION = run("session", "chain", "1", sizes=True, policy=1)
RUNS = {
    "export": {"": EXPORT, "<destination>": EXPORT, "--full": run("export", "--full", "out", ours=["export", "--full", "--cek", "cek", "--ca", "ca", "out"])},
    "generate": {word: run("generate", "out", "out2", sizes=True) for word in ("", "<cert>", "<key>")},
    "ok": {"": run("ok"), "[gen]": run("ok", "es")},
    "provision": {word: run("provision", "oca", "oca.key", ours=["provision", "--yes", "oca", "oca.key"]) for word in ("", "<cert>", "<key>")},
    "reset": {"": run("reset", ours=["reset", "--yes"])},
    "rotate": {"": run("rotate", ours=["rotate", "--yes"])},
    "session": {"": SESSION, "<pdh>": SESSION, "<policy>": SESSION, "--name": run("session", "--name", "out", "chain", "1", sizes=True, policy=1)},
    **{f"show {what}": {"": run("show", what)} for what in ("flags", "guests", "identifier", "version")},
    "verify": {"": run("verify", "--ca", "ca", ours=["verify", "--cek", "cek", "--ca", "ca", *ROOTS]),
               "--sev": run("verify", "--sev", "full", "--ca", "ca", ours=["verify", "--sev", "full", "--ca", "ca", *ROOTS]),
               "--oca": run("verify", "--sev", "full", "--oca", "own-oca", "--ca", "ca", ours=["verify", "--sev", "full", "--oca", "own-oca", "--ca", "ca", *ROOTS]),
               "--ca": run("verify", "--sev", "chain", "--ca", "ca", ours=["verify", "--sev", "chain", "--ca", "ca", *ROOTS])},
    "validate": {word: run("validate", "psp-chain", "report") for word in ("", "<sev-cert-chain>", "<attestation-report>")},
    "measurement build": {
        **{word: run(*MEASURE, *NONCE, *DIGEST) for word in ("", "--api-major", "--api-minor", "--build-id", "--policy", "--tik", "--nonce", "--launch-digest")},
        "--launch-measure-blob": run(*MEASURE, "--launch-measure-blob", "blob", *DIGEST),
        "--firmware": run(*MEASURE, *NONCE, "--firmware", "ovmf.fd"),
        **{word: run(*MEASURE, *NONCE, "--firmware", "ovmf.fd", "--kernel", "kernel", "--initrd", "initrd", "--cmdline", "console=ttyS0") for word in ("--kernel", "--initrd", "--cmdline")},
        **{word: run(*ES) for word in ("--num-cpus", "--vmsa-cpu0", "--vmsa-cpu1")},
        "--outfile": run(*MEASURE, *NONCE, *DIGEST, "--outfile", "out")},
    "secret build": {
        **{word: run(*SECRET, *IV, "out", "out2") for word in ("", "--tik", "--tek", "--launch-measure-blob", "--secret", "--iv (in no --help)", "<header-file>", "<payload-file>")}},
    "vmsa build": {**{word: run("vmsa", "build", *VMSA, "out") for word in ("", "--cpu", "--family", "--model", "--stepping", "--userspace", "<filename>")},
                   "--firmware": run("vmsa", "build", "--cpu", "1", "--userspace", "qemu", "--firmware", "ovmf.fd", "out")},
    "vmsa update": {**{word: run("vmsa", "update", *VMSA, "vmsa") for word in ("", "--cpu", "--family", "--model", "--stepping", "--userspace", "<filename>")},
                    "--firmware": run("vmsa", "update", "--cpu", "1", "--userspace", "qemu", "--firmware", "ovmf.fd", "vmsa")},
    "vmsa show": {word: run("vmsa", "show", "vmsa") for word in ("", "<filename>")},
}
# What one lets pass and the other refuses, or both do in their way.
MANNERS = {
    "`generate` over files that exist": run("generate", "oca", "oca.key", sizes=True),
    "`session` over files that exist": run("session", "--name", "old", "chain", "1", sizes=True),
    "`export` over a file that exists": run("export", "full", ours=["export", "--cek", "cek", "full"]),
    "`provision`, `rotate`, `reset` with no terminal to ask": run("rotate"),
    "`session` with a policy in hexadecimal": run("session", "--name", "out", "chain", "0x1", sizes=True),
    "`session` with a policy above 0xffff (a minimum API version)": run("session", "--name", "out", "chain", "1048577", sizes=True, policy=1048577),
    "`verify` of a chain to another root than AMD's": run("verify", "--sev", "full"),
    "`verify` of a flipped bit": run("verify", "--sev", "flipped", "--ca", "ca", ours=["verify", "--sev", "flipped", "--ca", "ca", *ROOTS]),
    "`measurement build` with a TIK of 15 bytes": run(*MEASURE[:-1], "short", *NONCE, *DIGEST),
    "`measurement build` with a build id of 304": run(*MEASURE[:6], "--build-id", "304", *MEASURE[8:], *NONCE, *DIGEST),
    "`measurement build` with --vmsa-cpu0, and no SEV-ES in the policy": run(*MEASURE, *NONCE, *DIGEST, "--vmsa-cpu0", "vmsa"),
    "`vmsa build --cpu 1` without `--firmware`": run("vmsa", "build", "--cpu", "1", "--userspace", "qemu", "out"),
    "`secret build` without `--secret`": run(*SECRET[:-2], *IV, "out", "out2"),
}
FETCH = "virtee's asks AMD's server for the CEK by itself; ours has no network, and takes it from `--cek` or from where `sev-relay fetch` put it"
ROOT_TOO = "; and a root that is not AMD's, as the emulated one here, counts in ours only when `--root` names it"
ASKS = "ours asks before it changes the platform, or wants `--yes`"
WHY = {
    ("export", ""): FETCH,
    ("export", "--full"): FETCH + "; and virtee's knows AMD's own ASK and ARK alone, so it has no full chain of this emulated platform",
    ("ok", ""): "more tests, and none that goes by the CPU's family or model, reads a CPUID leaf above the maximum, or asks KVM where Xen runs; also says why and what to do. Which "
                "tests pass is the machine's affair, so what they print is not compared here",
    ("provision", ""): ASKS, ("reset", ""): ASKS, ("rotate", ""): ASKS,
    ("verify", ""): FETCH + ROOT_TOO,
    ("validate", ""): "ours shows what the report says, and with `--ca`, `--root` or `--pin-cek` verifies the chain above the PEK as well",
    "`generate` over files that exist": "keys that may be in use are not replaced without `--force`",
    "`session` over files that exist": "likewise",
    "`export` over a file that exists": "likewise",
    "`provision`, `rotate`, `reset` with no terminal to ask": "the platform's keys and its owner are lost by these; scripts say `--yes`",
    "`session` with a policy above 0xffff (a minimum API version)": "virtee's binds the session to another policy than the one asked for, and the firmware refuses it",
    "`session` with a policy in hexadecimal": "decimal means the same in both",
    "`verify` of a chain to another root than AMD's": "ours names the root it does not trust, and what is invalid",
    "`verify` of a flipped bit": "ours also lists each check that failed, with the reason",
    "`measurement build` with a TIK of 15 bytes": "a key of another length is a mistake, and its measurement never matches",
    "`measurement build` with a build id of 304": "one byte each is what the firmware puts under the HMAC",
    "`measurement build` with --vmsa-cpu0, and no SEV-ES in the policy": "an option that would be ignored is refused",
    "`vmsa build --cpu 1` without `--firmware`": "where that vCPU starts is in the firmware's image; without it the page is never the real one",
    "`secret build` without `--secret`": "an empty table is no secret",
}


def clean(text):
    """Without colours; ours adds a line that names the root, and virtee's writes that tree with other blank lines."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text.decode(errors="replace"))
    return [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("root: ")]


class Both:
    """A platform, the inputs of the runs, and what both programs do with them."""

    def __init__(self, folder):
        self.bench = devsev_bench.Bench(folder, args, THEIRS)
        self.folder, self.runs = folder, 0

    def prepare(self):
        """Inputs, as files in a folder that each run gets a copy of."""
        device, fixtures = self.bench.device, ROOT / "tests/fixtures"
        self.bench.ours("export", "--full", "--cek", device.cek, "--ca", device.ca, "full")
        full = (self.folder / "full").read_bytes()
        flipped = bytearray(full)
        flipped[0x20] ^= 1  # in the PDH's public key
        old = {f"old_{name}": b"kept" for name in ("tik.bin", "tek.bin", "godh.b64", "session.b64")}
        self.inputs = {
            "full": full, "chain": full[:8336], "flipped": bytes(flipped), "own-oca": full[2 * 2084:3 * 2084], "ca": device.ca.read_bytes(), "cek": device.cek.read_bytes(),
            "root": device.root.read_bytes(), "oca": device.oca.read_bytes(), "oca.key": device.oca_key.read_bytes(), "tik": bytes(range(16)), "tek": bytes(range(16, 32)),
            "short": bytes(15), "blob": bytes(range(48)), "disk.key": bytes(range(48)), "kernel": b"kernel" * 100, "initrd": b"initrd" * 100, **old,
            "ovmf.fd": (fixtures / "measure/full.fd").read_bytes(), "psp-chain": (fixtures / "psp/chain_rsa2048.bin").read_bytes()[:8336],
            "report": (fixtures / "psp/report.bin").read_bytes()}
        self.inputs["vmsa"] = self.of(args.sevctl, ["vmsa", "build", *VMSA, "out"])[2]["out"]

    def of(self, program, words):
        """(success, text, files that are new or changed) of one run."""
        self.runs += 1
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            place = pathlib.Path(name)
            for file, content in self.inputs.items():
                (place / file).write_bytes(content)
            by = [args.emulator, "run", "--socket", self.bench.device.socket, "--"]
            done = subprocess.run([*by, program, *words], capture_output=True, timeout=120, cwd=place, env=self.bench.environment, stdin=subprocess.DEVNULL, check=False)
            files = {path.name: path.read_bytes() for path in place.iterdir() if self.inputs.get(path.name) != path.read_bytes()}
        return done.returncode == 0, clean(done.stdout), files

    def differences(self, one, other_state):
        """What differs between the two programs' runs: nothing, or some of success, text, files."""
        results = []
        for program, words in ((THEIRS, one["theirs"]), (args.sevctl, one["ours"])):
            other_state()
            success, text, files = self.of(program, words)
            found = {name: len(content) for name, content in files.items()} if one["sizes"] else files
            if one["policy"] is not None:
                found["for the policy"] = for_policy(files, one["policy"])
            results.append((success, text, found))
        differing = [what for what, left, right in zip(("success", "text", "files"), *results) if left != right]
        return (["words"] if one["theirs"] != one["ours"] else []) + differing, results


def their_commands(under=()):
    """Every command of virtee's: its options and arguments, with the letters, as --help names them."""
    text = subprocess.run([THEIRS, *under, "--help"], capture_output=True, text=True, check=True).stdout
    section = re.search(r"^Commands:\n(.*?)\n\n", text, re.S | re.M)
    if section:
        out = {}
        for name in re.findall(r"^  (\w+)", section.group(1), re.M):
            if name != "help":
                out.update(their_commands((*under, name)))
        return out
    options = {long: letter for letter, long in re.findall(r"^ +(?:-(\w), )?(--[\w-]+)", text, re.M) if long != "--help"}
    section = re.search(r"^Arguments:\n(.*?)(?:\n\n(?=\S)|\Z)", text, re.S | re.M)
    arguments = {name: "" for name in re.findall(r"^  ([<\[][\w-]+[>\]])", section.group(1), re.M)} if section else {}
    return {" ".join(under): {**arguments, **options}}


def our_options(command):
    text = subprocess.run([args.sevctl, *command.split(), "--help"], capture_output=True, text=True, check=True).stdout
    return {long: letter for letter, long in re.findall(r"^  (?:-(\w), )?(--[\w-]+)", text, re.M) if long != "--help"}


def judged(what, differing):
    """The table's last cell. A difference without a reason, and a reason without a difference, end the test."""
    why = WHY.get(what)
    reasons_used.add(what)
    if bool(differing) != bool(why):
        faults.append(f"{what}: " + (f"differs in {', '.join(differing)}, and WHY has no reason" if differing else f"is the same, and WHY has a reason: {why}"))
    return f"different in {' and '.join(differing)}: {why}" if differing else "same"


def table(both):
    theirs, rows = their_commands(), []
    nothing, fresh = lambda: None, lambda: both.bench.ours("reset", "--yes")
    wanted = {(command, word) for command, words in theirs.items() for word in ["", *words]}
    listed = {(command, word) for command, words in RUNS.items() for word in words if "in no --help" not in word}
    for missing in sorted(wanted ^ listed):
        faults.append(f"{missing}: is in virtee's --help or in RUNS, and not in both")
    done = {}
    for command, words in RUNS.items():
        options = our_options(command)
        besides = ", ".join(f"`{option}`" for option in options if option not in words)
        rows.append(f"| **`{command}`** | " + (f"and in ours: {besides}" if besides else "") + " |")
        for word, one in words.items():
            letter = theirs.get(command, {}).get(word)
            if word.startswith("--") and "in no --help" not in word and (word not in options or (letter and options[word] != letter)):
                faults.append(f"{command} {word}: ours has it not, or without -{letter}")
            key = str(one)
            if key not in done:
                done[key] = both.differences(one, fresh if command in ("provision", "reset") else nothing)[0]
            differing = done[key]
            if command == "ok":  # which tests pass is the machine's affair, so the table must not depend on it
                differing = ["text"]
            spelled = f"`-{letter}`, `{word}`" if letter else f"`{word}`" if word else "the command"
            like_command = word and differing and (command == "ok" or differing == done[str(words[""])])
            rows.append(f"| {spelled} | {'as the command' if like_command else judged((command, word), differing)} |")
    manners = []
    for what, one in MANNERS.items():
        differing, results = both.differences(one, nothing)
        does = ["does it" if result[0] else "refuses" for result in results]
        if differing and results[0][0] == results[1][0]:
            does = ["does it", "does it"] if results[0][0] else ["refuses", "refuses"]
        manners.append(f"| {what} | {does[0]} | {does[1]} | {(WHY.get(what) or '') if differing else 'same'} |")
        judged(what, differing)
    faults.extend(f"{what}: WHY has a reason for what is in no table" for what in set(WHY) - reasons_used)
    return rows, manners


TEXT = """# virtee's `sevctl` {version} and ours

Made by `tests/interop/sevctl_table.py`, which reads both programs' `--help`, runs both on one emulated `/dev/sev`, and fails when this page is not what it finds. *Same*
means the same words on the command line, the same success or failure, the same text on stdout apart from colours, and the same
files byte by byte; of random keys and what is made
with them, the same sizes, and a session for the policy that was asked for.
A command of two words is also one with a hyphen in ours, as in `vmsa-build`. Exit status: where virtee's gives 1 for every failure, ours gives 1 for *no* and 2 for
trouble.

| | |
|---|---|
{rows}
| **options before the command** | |
| `-q`, `--quiet`; `-h`, `--help`; `-V`, `--version`; `help` | same words; the texts are each program's own |

## Where one lets pass what the other refuses

| | virtee's | ours | |
|---|---|---|---|
{manners}

The commands that only ours has are in `sevctl --help`.
"""

faults, reasons_used = [], set()
with tempfile.TemporaryDirectory(prefix="xen-sev-peer-") as name:
    both = Both(pathlib.Path(name))
    with both.bench.device.served():
        both.prepare()
        rows, manners = table(both)
page = TEXT.format(version=peers.SEVCTL_VERSION, rows="\n".join(rows), manners="\n".join(manners))
if args.write:
    PAGE.write_text(page)
for fault in faults:
    print(fault)
if not args.write and (not PAGE.exists() or PAGE.read_text() != page):
    faults.append("page")
    print(f"{PAGE} is another than what was found; make it again with --write:")
    print("\n".join(difflib.unified_diff(PAGE.read_text().splitlines() if PAGE.exists() else [], page.splitlines(), "committed", "found", lineterm="")))
print(f"{both.runs} runs of both programs, {len(faults)} faults")
sys.exit(1 if faults else 0)
