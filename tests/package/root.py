# SPDX-License-Identifier: Apache-2.0
"""A clean Debian 12 root to install the packages in: Debian's smallest system with systemd's tools, and what the packages say they depend on, so that no network is needed
once it is made. Kept in build/package as an archive, by what goes into it."""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "psp/emulator/machine"))
from debian import SUITE, Trouble, key_of, need, run, sources  # noqa: E402

OUT = ROOT / "build" / "package"
OURS = ("xen-sev", "libxen-sev-dev", "xen-sev-relay", "xen-sev-owner", "xen-sev-tools", "xen-sev-machine", "xen-sev-qubes")
ALWAYS = ("systemd", "ca-certificates", "python3-minimal", "procps", "curl", "iproute2", "openssl")


def packages():
    """{name: path} of the Debian packages: those of XEN_SEV_PACKAGES, or built now by scripts/package."""
    folder = os.environ.get("XEN_SEV_PACKAGES")
    if not folder:
        need({"dpkg-buildpackage": "dpkg-dev", "dh": "debhelper"})
        OUT.mkdir(parents=True, exist_ok=True)
        with open(OUT / "deb.log", "w", encoding="utf-8") as log:
            run([ROOT / "scripts/package", "deb"], log=log)
        folder = OUT
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.deb")):
        name = path.name.split("_")[0]
        if not name.endswith("-dbgsym"):
            found[name] = path
    if set(found) != set(OURS):
        raise Trouble(f"{folder} has the packages {', '.join(sorted(found)) or 'none'}, want {', '.join(OURS)}")
    return found


def field(deb, name):
    return run(["dpkg-deb", "-f", deb, name]).decode().strip()


def dependencies(debs):
    """What the packages depend on besides each other."""
    out = set()
    for deb in debs.values():
        for alternatives in filter(None, re.split(r",\s*", field(deb, "Depends"))):
            name = re.split(r"[ (:]", alternatives.split("|")[0].strip())[0]
            if name not in OURS:
                out.add(name)
    return sorted(out)


def archive(debs):
    """Path of the root's archive, made if need be."""
    need({"mmdebstrap": "mmdebstrap"})
    names = sorted({*dependencies(debs), *ALWAYS})
    path = OUT / f"root-{key_of(' '.join(names))}.tar"
    if not path.exists():
        print("package: making a clean Debian root (a minute)", file=sys.stderr)
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / "sources.list").write_text("\n".join(sources("deb")) + "\n")
        making = path.with_suffix(".part.tar")
        run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(names)}", "--aptopt=APT::Install-Recommends \"false\"", SUITE, making, OUT / "sources.list"])
        for old in OUT.glob("root-*.tar"):
            if old not in (path, making):
                old.unlink()
        making.rename(path)
    return path


class CleanRoot:
    """The root, unpacked, with /proc and /dev, until the end of the `with`."""

    def __init__(self, debs):
        self.debs, self.path = debs, None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="xen-sev-root-", dir=OUT)
        self.path = pathlib.Path(self.folder) / "root"
        self.path.mkdir()
        run(["tar", "-C", self.path, "-xf", archive(self.debs), "--exclude=./dev/*"])
        (self.path / "debs").mkdir()
        for deb in self.debs.values():
            os.link(deb, self.path / "debs" / deb.name) if os.stat(deb).st_dev == os.stat(self.path).st_dev else shutil.copy(deb, self.path / "debs")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words):
        """What runs `words` in the root: in namespaces of its own, so that nothing mounted or started there is left behind."""
        inner = ('mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/run" && mount -t tmpfs tmpfs "$0/dev" && mkdir "$0/dev/shm" "$0/dev/pts" && '
                 'mount -t devpts -o newinstance,ptmxmode=0666 devpts "$0/dev/pts" && ln -s pts/ptmx "$0/dev/ptmx" && ip link set lo up && '
                 'for node in null zero full random urandom tty; do touch "$0/dev/$node" && mount --bind "/dev/$node" "$0/dev/$node" || exit 126; done && '
                 'ln -s /proc/self/fd "$0/dev/fd" && exec chroot "$0" "$@"')
        return ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "sh", "-c", inner, str(self.path), *map(str, words)]

    def run(self, *words, status=0, timeout=300, **options):
        """Runs to the end, wants this exit status, and returns standard output and error together."""
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(self.command(*words), stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=timeout, text=True, **options)
        if done.returncode != status:
            raise AssertionError(f"{' '.join(map(str, words))}: exit status {done.returncode}, want {status}: {done.stdout[-3000:]}")
        return done.stdout

    def install(self, *names):
        """apt install from files. There is no network in the root, so that what they depend on must be what they say."""
        files = [f"/debs/{self.debs[name].name}" for name in names]
        return self.run("apt-get", "install", "-q", "-y", "--no-install-recommends", *files)

    def files(self):
        """{path: what it is and holds} of the whole root, but for what package management and the system itself keep."""
        skip = re.compile(r"^/(proc|sys|dev|run|tmp|debs|var/lib/(dpkg|apt|systemd)|var/cache|var/log|root|etc/(ld\.so\.cache|passwd-?|shadow-?|group-?|gshadow-?|\.pwd\.lock))(/|$)")
        out = {}
        for folder, subfolders, names in os.walk(self.path):
            here = pathlib.Path(folder)
            shown = "/" + here.relative_to(self.path).as_posix().removeprefix(".")
            subfolders[:] = [s for s in subfolders if not skip.match(f"{shown.rstrip('/')}/{s}")]
            for name in subfolders + names:
                path, key = here / name, f"{shown.rstrip('/')}/{name}"
                if skip.match(key):
                    continue
                about = path.lstat()
                out[key] = (about.st_mode, about.st_size if path.is_file() else 0)
        return out


@contextlib.contextmanager
def repacked(debs, version):
    """The same packages with another version, as an upgrade to come."""
    with tempfile.TemporaryDirectory(prefix="xen-sev-repack-", dir=OUT) as folder:
        out = {}
        for name, deb in debs.items():
            tree = pathlib.Path(folder) / name
            run(["dpkg-deb", "-R", deb, tree])
            old = field(deb, "Version")
            control = tree / "DEBIAN/control"
            control.write_text(control.read_text().replace(old, version))
            out[name] = pathlib.Path(folder) / f"{name}_{version}_{field(deb, 'Architecture')}.deb"
            run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, out[name]])
        yield out


def run_tests(debs):
    """The main program of a test file of the packages, which it finds in `debs`: runs its tests as root, or says why not. Exit status, 77 for a skip."""
    if os.geteuid() != 0:
        print("SKIPPED: a root to install in takes root's rights")
        return 77
    try:
        debs.update(packages())
        archive(debs)
    except Trouble as trouble:
        missing = str(trouble).startswith("missing: ")
        print(f"SKIPPED: {trouble}" if missing else f"package: {trouble}")
        return 77 if missing else 1
    return 0 if unittest.main(module="__main__", exit=False, verbosity=2).result.wasSuccessful() else 1
