# SPDX-License-Identifier: Apache-2.0
"""virtee's sev crate runs its own host tests, from its published package, against our /dev/sev.

They reset the platform, make keys, take ownership with a key of their own and verify the chain with their own code. Those of KVM (sev_launch) need SEV hardware.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import devsev_peers as peers  # noqa: E402

# tests/api.rs, module sev: each must have run and passed, so that a renamed or ignored one is no pass
WANTED = {"get_identifier", "pdh_cert_export", "pdh_generate", "pek_cert_import", "pek_csr", "pek_generate", "platform_reset", "platform_status"}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--emulator", required=True)
parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder where peers are built, once")
args = parser.parse_args()
args.peers.mkdir(parents=True, exist_ok=True)

with peers.Alone(args.peers), tempfile.TemporaryDirectory(prefix="xen-sev-peer-") as home:
    source = peers.their_sev_source(args.peers)
    state = pathlib.Path(home) / "psp"
    subprocess.run([args.emulator, "create", "--state", state], check=True, capture_output=True)
    run = [args.emulator, "run", "--state", state, "--"]
    environment = {"CARGO_TARGET_DIR": str(args.peers.resolve() / "target-sev"), "CARGO_BUILD_JOBS": "1"}
    # The build script looks for /dev/sev to decide whether this is a host, so a machine without one is told that it has.
    script = source / "build.rs"
    if 'Path::new("/dev/sev").exists()' not in script.read_text(encoding="utf-8"):
        peers.skip("virtee's sev crate: its build script decides in another way whether this is a host")
    environment["RUSTFLAGS"] = "--cfg host"
    words = ["test", "--no-default-features", "--features", "sev,openssl,dangerous_hw_tests", "--test", "api", "--no-run", "--message-format", "json"]
    messages = peers.cargo(words, source, "virtee's sev crate", environment)
    built = [message["executable"] for message in map(json.loads, messages.splitlines()) if message.get("executable")]
    if len(built) != 1:
        sys.exit(f"cargo built {len(built)} test programs, want 1")
    # no cached chain of this machine's user is in the way, or in danger: the tests remove it
    env = {**os.environ, "HOME": home, "XDG_CACHE_HOME": home}
    env.pop("SEV_CHAIN", None)
    # one at a time: some of them reset the platform
    done = subprocess.run([*run, built[0], "--test-threads=1"], capture_output=True, text=True, timeout=300, env=env, check=False)

print(done.stdout, done.stderr)
passed = set(re.findall(r"^test sev::(\w+) \.\.\. ok$", done.stdout, re.M))
if done.returncode != 0 or passed != WANTED:
    sys.exit(f"exit status {done.returncode}; missing: {', '.join(sorted(WANTED - passed)) or 'none'}; unknown: {', '.join(sorted(passed - WANTED)) or 'none'}")
print(f"{len(passed)} host tests of sev {peers.SEV_VERSION} passed")
