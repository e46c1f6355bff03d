# SPDX-License-Identifier: Apache-2.0
"""What the labs take from Debian 12, by the mirrors that this machine's apt is set up with.

The machine's apt is not changed by that, and needs no deb-src line.
"""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = ROOT / "build" / "lab"
SUITE = "bookworm"  # Xen 4.17, Linux 6.1, QEMU 7.2


class Trouble(Exception):
    """A lab that cannot be built or started, in one line with a remedy."""


def run(words, log=None, **options):
    """Runs a program to its end; Trouble, with the end of its output, when it fails."""
    output = log if log else subprocess.PIPE
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False, **options)
    if done.returncode != 0:
        told = f"see {log.name}" if log else done.stdout.decode(errors="replace").strip()[-2000:]
        raise Trouble(f"{words[0]} {words[1] if len(words) > 1 else ''}: exit status {done.returncode}: {told}")
    return b"" if log else done.stdout


def need(programs):
    """Trouble unless all these programs are there; {program: Debian package}."""
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if missing:
        raise Trouble(f"missing: {' '.join(missing)} (scripts/setup --xen installs them)")


def sources(*kinds):
    """Lines of a sources.list for Debian 12's main archive with its updates; kinds are "deb" and "deb-src"."""
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(SIGNED_BY)", "Created-By: Packages"]).decode()
    lines = set()
    for target in targets.splitlines():
        uri, suite, *rest = target.split(" ", 2)
        key = rest[0] if rest and rest[0].startswith("/") else ""
        if suite in (SUITE, f"{SUITE}-updates", f"{SUITE}-security"):
            lines.update(f"{kind} {f'[signed-by={key}] ' if key else ''}{uri} {suite} main" for kind in kinds)
    if not any(line.split()[-2] == SUITE for line in lines):
        raise Trouble(f"apt has no package lists of Debian 12 ({SUITE}): run apt-get update, on Debian 12")
    return sorted(lines)


class Apt:
    """apt-get with lists of its own, below BUILD, which builders share: one command at a time."""

    def __init__(self):
        self.folder = BUILD / "apt"
        self.options = []
        for option in ("APT::Sandbox::User=root", "Acquire::Languages=none",
                       f"Dir::Etc::sourcelist={self.folder / 'sources.list'}", "Dir::Etc::sourceparts=-",
                       f"Dir::State::lists={self.folder / 'lists'}", f"Dir::Cache={self.folder / 'cache'}"):
            self.options += ["-o", option]
        for name in ("lists", "cache/archives"):
            (self.folder / name / "partial").mkdir(parents=True, exist_ok=True)
        lines = "\n".join(sources("deb", "deb-src")) + "\n"
        with alone("apt"):
            (self.folder / "sources.list").write_text(lines)
            run(["apt-get", "-q", *self.options, "update"])

    def __call__(self, *words, cwd):
        with alone("apt"):
            run(["apt-get", "-q", *self.options, *words], cwd=cwd)

    def depends(self, package):
        """Names of the packages that this one depends on, and of what they are known by."""
        with alone("apt"):
            return run(["apt-cache", *self.options, "depends", "--important", package]).decode().split()


def key_of(*parts):
    """Twelve hexadecimal digits that change with any of these texts or bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def alone(name):
    """One builder of that name at a time."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def finish(work, result):
    """Moves what was built to its place in one step, and drops what earlier keys left."""
    family = result.name.rsplit("-", 1)[0]
    os.rename(work, result)
    for old in result.parent.glob(f"{family}-" + "[0-9a-f]" * 12):
        if old != result:
            shutil.rmtree(old)
