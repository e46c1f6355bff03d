# SPDX-License-Identifier: Apache-2.0
"""Sessions and secret packets of virtee's sevctl and of ours, each driven through a whole launch on an emulated PSP: LAUNCH_START takes the session, the reported
measurement is the one that the other program computes, and the guest finds the other program's secret in its memory. What was tampered with is refused."""
import argparse
import base64
import os
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
import devsev_bench  # noqa: E402
import devsev_peers as peers  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--emulator", required=True)
parser.add_argument("--sevctl", required=True)
parser.add_argument("--launcher", required=True, help="launch_with_files")
parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder where peers are built, once")
args = parser.parse_args()
args.cuse = False
os.environ["SEV_EMULATOR"], os.environ["SEVCTL"] = args.emulator, args.sevctl
THEIRS = peers.their_sevctl(args.peers)
IMAGE = pathlib.Path(__file__).resolve().parents[1] / "fixtures/measure/full.fd"
SECRET, VALUE = "736869e5-84f0-4973-92ec-06879ce3da0b", b"the disk's passphrase"
done = 0


class Launch:
    """One guest, launched with the session files of that name; MEASURE‖MNONCE once it is measured."""

    def __init__(self, bench, name, policy):
        words = [args.launcher, bench.device.state, f"{name}_godh.b64", f"{name}_session.b64", str(policy), IMAGE]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=bench.folder)
        self.measurement = self.process.stdout.readline().strip()

    def secret(self, header, payload):
        """What the guest sees where the packet went; nothing when the firmware refused it."""
        out, self.error = self.process.communicate(f"{header} {payload}\n", timeout=60)
        return bytes.fromhex(out.strip())

    def refused(self, why):
        _, error = self.process.communicate(timeout=60)
        if self.measurement or self.process.returncode != 2 or why not in error:
            sys.exit(f"want {why}, got {self.measurement!r} and {error!r}")


def check(what, good):
    global done
    if not good:
        sys.exit(f"{what}: does not hold")
    done += 1


def whole_launch(bench, name, owner_program, policy=1):
    """The owner's program made the session; here it computes the measurement and seals the secret."""
    launch = Launch(bench, name, policy)
    blob = base64.b64decode(launch.measurement)
    if len(blob) != 48:
        sys.exit(f"{name}: no measurement: {launch.process.communicate()[1]}")
    (bench.folder / "blob").write_bytes(blob)
    expected = owner_program("measurement", "build", "--api-major", "0", "--api-minor", "17", "--build-id", "48", "--policy", str(policy), "--tik", f"{name}_tik.bin",
                             "--launch-measure-blob", "blob", "--firmware", IMAGE).stdout.decode().strip()
    check(f"{name}: measurement", expected == launch.measurement)
    for part in ("header", "payload"):
        (bench.folder / part).unlink(missing_ok=True)
    owner_program("secret", "build", "--tik", f"{name}_tik.bin", "--tek", f"{name}_tek.bin", "--launch-measure-blob", "blob", "--secret", f"{SECRET}:value", "header", "payload")
    seen = launch.secret("header", "payload")
    check(f"{name}: the guest's secret", VALUE in seen and launch.process.returncode == 0)
    # the same packet is worth nothing in the next launch of the same session
    again = Launch(bench, name, policy)
    check(f"{name}: another launch has another nonce", base64.b64decode(again.measurement)[32:] != blob[32:])
    check(f"{name}: an old packet", again.secret("header", "payload") == b"" and "BAD_MEASUREMENT" in again.error)


with tempfile.TemporaryDirectory(prefix="xen-sev-peer-") as folder:
    bench = devsev_bench.Bench(pathlib.Path(folder), args, THEIRS)
    with bench.device.served():
        bench.ours("export", "--full", "--cek", bench.device.cek, "--ca", bench.device.ca, "full")
        bench.theirs("session", "--name", "their", "full", "1")
        bench.ours("session", "--name", "our", "full", "1")
        high = 0x11000001  # NODBG, and API 0.17 at least
        bench.theirs("session", "--name", "their-high", "full", str(high))
        bench.ours("session", "--name", "our-high", "full", str(high))
        (bench.folder / "value").write_bytes(VALUE)

        # those that compute need no platform, but a bench with one runs them; the launcher opens the chip by itself, once nobody serves it
        programs = {"theirs": lambda *words: subprocess.run([THEIRS, *map(str, words)], cwd=bench.folder, check=True, capture_output=True, timeout=60),
                    "ours": lambda *words: subprocess.run([args.sevctl, *map(str, words)], cwd=bench.folder, check=True, capture_output=True, timeout=60)}
    for name in ("their", "our"):
        for program in programs.values():
            whole_launch(bench, name, program)
        Launch(bench, name, 3).refused("BAD_MEASUREMENT")  # another policy than the session's
        session = bytearray(base64.b64decode((bench.folder / f"{name}_session.b64").read_bytes()))
        for at in (0, 16, 48, 64, 96):  # nonce, wrapped keys, IV, and the two MACs
            broken = bytearray(session)
            broken[at] ^= 1
            (bench.folder / "broken_session.b64").write_bytes(base64.b64encode(broken))
            (bench.folder / "broken_godh.b64").write_bytes((bench.folder / f"{name}_godh.b64").read_bytes())
            Launch(bench, "broken", 1).refused("BAD_MEASUREMENT")
            done += 1
    whole_launch(bench, "our-high", programs["ours"], high)
    Launch(bench, "their-high", high).refused("BAD_MEASUREMENT")  # virtee's puts another policy under the MAC
    print(f"{done + 1} checks of launches with sessions and packets of virtee's sevctl {peers.SEVCTL_VERSION} and of ours")
