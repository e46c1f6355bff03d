# SPDX-License-Identifier: Apache-2.0
"""Other people's programs for /dev/sev: virtee's sevctl and sev, Rust crates, built once from their published packages into a folder that builds share.

What building them takes on Debian: a Rust tool chain newer than Debian 12's own (rustup), libssl-dev, pkg-config, and for sevctl, which brings its own OpenSSL, perl and
make. Without cargo, or when it cannot build them (no network, an old tool chain), the tests are skipped and say so.
"""
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys

SKIP = 77  # ctest's SKIP_RETURN_CODE
SEVCTL_VERSION = "0.6.2"
SEV_VERSION = "6.3.1"  # the one that sevctl 0.6.2 is built with
BUILD_SECONDS = 2400


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(SKIP)


def cargo(words, folder, why, environment=None):
    """Runs cargo, politely: one job, behind everything else. Skips the test when it cannot do its work."""
    program = shutil.which("cargo")
    if not program:
        skip(f"{why}: there is no cargo here (Rust's package manager)")
    log = folder / f"cargo-{words[0]}.log"
    with open(log, "w", encoding="utf-8") as out:
        try:
            done = subprocess.run(["nice", program, *words], stdout=subprocess.PIPE, stderr=out, timeout=BUILD_SECONDS, cwd=folder, check=False,
                                  env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            skip(f"{why}: cargo was not done after {BUILD_SECONDS} seconds")
    if done.returncode != 0:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("error")] or ["no reason given"]
        skip(f"{why}: cargo {words[0]} failed: {lines[0]} (see {log})")
    return done.stdout


class Alone:
    """One build at a time in that folder."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.file = open(folder / "lock", "w", encoding="utf-8")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def their_sevctl(folder):
    """Path of virtee's sevctl."""
    program = folder.resolve() / "bin" / "sevctl"
    with Alone(folder):
        def version():
            return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1] if program.exists() else None
        if version() != SEVCTL_VERSION:
            cargo(["install", "sevctl", "--version", SEVCTL_VERSION, "--locked", "--root", str(folder), "-j1", "--force"], folder, "virtee's sevctl")
        if version() != SEVCTL_VERSION:
            skip(f"virtee's sevctl: want version {SEVCTL_VERSION}, got {version()}")
    return program


def their_sev_source(folder):
    """A copy of the published package of the sev crate, which has its tests in it."""
    source = folder.resolve() / f"sev-{SEV_VERSION}"
    if not (source / "Cargo.toml").exists():
        fetcher = folder.resolve() / "fetcher"
        (fetcher / "src").mkdir(parents=True, exist_ok=True)
        (fetcher / "src/lib.rs").write_text("")
        (fetcher / "Cargo.toml").write_text('[package]\nname = "fetcher"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n'
                                            f'sev = {{ version = "={SEV_VERSION}", default-features = false, features = ["sev"] }}\n[workspace]\n')
        metadata = json.loads(cargo(["metadata", "--format-version", "1"], fetcher, "virtee's sev crate"))
        package = next(entry for entry in metadata["packages"] if entry["name"] == "sev")
        if package["version"] != SEV_VERSION:
            skip(f"virtee's sev crate: want version {SEV_VERSION}, got {package['version']}")
        shutil.copytree(pathlib.Path(package["manifest_path"]).parent, source, dirs_exist_ok=True)
    return source
