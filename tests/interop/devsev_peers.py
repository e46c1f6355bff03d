# SPDX-License-Identifier: Apache-2.0
"""Other people's programs for /dev/sev: virtee's sevctl and sev, Rust crates, built once from their published packages into a folder that builds share.

What building them takes on Debian: a Rust tool chain newer than Debian 12's own (rustup), libssl-dev, pkg-config, and for sevctl, which brings its own OpenSSL, perl and
make. Without cargo, or when it cannot build them (no network, an old tool chain), the tests are skipped and say so.
"""
import fcntl
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

SKIP = 77  # ctest's SKIP_RETURN_CODE
SEVCTL_VERSION = "0.6.2"
SEV_VERSION = "6.3.1"  # the one that sevctl 0.6.2 is built with
BUILD_SECONDS = 2400


class Missing(SystemExit):
    """A peer that cannot be had, said aloud. Uncaught it ends a test as skipped."""

    def __init__(self, why):
        super().__init__(SKIP)
        self.why = why
        print(f"SKIPPED: {why}")


def skip(why):
    raise Missing(why)


def cargo(words, folder, why, environment=None):
    """Runs cargo, with one job at a time beside the tests. Skips the test when it cannot do its work."""
    program = shutil.which("cargo")
    if not program:
        skip(f"{why}: there is no cargo here (Rust's package manager)")
    log = folder / f"cargo-{words[0]}.log"
    with open(log, "w", encoding="utf-8") as out:
        try:
            done = subprocess.run([program, *words], stdout=subprocess.PIPE, stderr=out, timeout=BUILD_SECONDS, cwd=folder, check=False,
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


def their_sev_tests(folder):
    """Path of the sev crate's host tests (tests/api.rs), built."""
    with Alone(folder):
        source = their_sev_source(folder)
        environment = {"CARGO_TARGET_DIR": str(folder.resolve() / "target-sev"), "CARGO_BUILD_JOBS": "1"}
        # The build script looks for /dev/sev to decide whether this is a host, so a machine without one is told that it has.
        script = source / "build.rs"
        if 'Path::new("/dev/sev").exists()' not in script.read_text(encoding="utf-8"):
            skip("virtee's sev crate: its build script decides in another way whether this is a host")
        environment["RUSTFLAGS"] = "--cfg host"
        words = ["test", "--no-default-features", "--features", "sev,openssl,dangerous_hw_tests", "--test", "api", "--no-run", "--message-format", "json"]
        messages = cargo(words, source, "virtee's sev crate", environment)
    built = [message["executable"] for message in map(json.loads, messages.splitlines()) if message.get("executable")]
    if len(built) != 1:
        sys.exit(f"cargo built {len(built)} test programs, want 1")
    return pathlib.Path(built[0])


# tests/api.rs, module sev: each must have run and passed, so that a renamed or ignored one is no pass
SEV_TESTS = {"get_identifier", "pdh_cert_export", "pdh_generate", "pek_cert_import", "pek_csr", "pek_generate", "platform_reset", "platform_status"}


def missing_of_sev_tests(output):
    """What is wrong with the output of the sev crate's host tests; nothing when all of them passed."""
    passed = set(re.findall(r"^test sev::(\w+) \.\.\. ok$", output, re.M))
    return "" if passed == SEV_TESTS else f"missing: {', '.join(sorted(SEV_TESTS - passed)) or 'none'}; unknown: {', '.join(sorted(passed - SEV_TESTS)) or 'none'}"


if __name__ == "__main__":  # only builds them
    print(their_sevctl(pathlib.Path(sys.argv[1])))
    print(their_sev_tests(pathlib.Path(sys.argv[1])))
