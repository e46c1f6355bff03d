# SPDX-License-Identifier: Apache-2.0
"""virtee's sev crate runs its own host tests, from its published package, against our /dev/sev.

They reset the platform, make keys, take ownership with a key of their own and verify the chain with their own code. tests/vsev runs them on Linux' driver. The one of KVM
(sev_launch) asks for KVM_X86_SEV_VM, which Linux has since 6.10.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import devsev_peers as peers  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--emulator", required=True)
parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder where peers are built, once")
args = parser.parse_args()
tests = peers.their_sev_tests(args.peers)

with tempfile.TemporaryDirectory(prefix="xen-sev-peer-") as home:
    state = pathlib.Path(home) / "psp"
    subprocess.run([args.emulator, "create", "--state", state], check=True, capture_output=True)
    # no cached chain of this machine's user is in the way, or in danger: the tests remove it
    env = {**os.environ, "HOME": home, "XDG_CACHE_HOME": home}
    env.pop("SEV_CHAIN", None)
    # one at a time: some of them reset the platform
    done = subprocess.run([args.emulator, "run", "--state", state, "--", tests, "--test-threads=1"], capture_output=True, text=True, timeout=300, env=env, check=False)

print(done.stdout, done.stderr)
wrong = peers.missing_of_sev_tests(done.stdout)
if done.returncode != 0 or wrong:
    sys.exit(f"exit status {done.returncode}; {wrong}")
print(f"{len(peers.SEV_TESTS)} host tests of sev {peers.SEV_VERSION} passed")
