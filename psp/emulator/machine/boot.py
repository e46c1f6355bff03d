# SPDX-License-Identifier: Apache-2.0
"""Boots an emulated machine in which one command is run, and reads its output, its exit status and the console. Each kind of machine says what QEMU is given."""
import contextlib
import ctypes
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import debian
from debian import run

LATE, NEVER = 124, 125
DOM0_MIB = 1024
PR_SET_PDEATHSIG = 1
# No SMAP under Xen: QEMU 7.2 applies it to IRET at ring 3, which ends a PV dom0. No RDTSCP: QEMU reports its intercept as that of RDTSC, which Xen takes for a fault.
XEN_CPU = "max,-smap,-rdtscp"


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def folder_of_this_run():
    """A folder for one run, whose lab/ the machine sees as /lab; what killed runs left behind is removed."""
    runs = debian.BUILD / "machine-runs"
    runs.mkdir(parents=True, exist_ok=True)
    for old in runs.iterdir():
        if not pathlib.Path("/proc", old.name.split(".")[0]).exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{os.getpid()}.", dir=runs))
    for name in ("bin", "out"):
        (folder / "lab" / name).mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stage(paths, folder):
    """Those of the files that are programs or libraries, without debug information, to be copied to the machine's own disk. How many."""
    programs = [path for path in sorted(paths) if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    for path in programs:
        run(["strip", "--strip-debug", "-o", folder / path.name, path])
    return len(programs)


def under_xen(image):
    """Words that start Xen and its dom0 from this disk."""
    return ["-kernel", image / "xen", "-append", f"console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M",
            "-initrd", f"{image / 'vmlinuz'} console=hvc0,{image / 'initrd.gz'}"]


class Boot:
    """One boot. `stdout` and `stderr` are called with the bytes that the command writes, as they come. While it runs, `folder` is the folder of the run."""

    def __init__(self, *, share=".", timeout_s=600, console=None, stdout=None, stderr=None):
        self.share, self.timeout_s, self.console = share, timeout_s, console
        self.stdout = stdout or (lambda data: (sys.stdout.buffer.write(data), sys.stdout.buffer.flush()))
        self.stderr = stderr or (lambda data: (sys.stderr.buffer.write(data), sys.stderr.buffer.flush()))
        self.folder = None

    @contextlib.contextmanager
    def ready(self):
        """What the machine needs is there; yields the words that are its own (CPU, memory, kernel, the disk) and the descriptors that go with them."""
        raise NotImplementedError
        yield  # pylint: disable=unreachable

    def words(self, qemu, disk, own, more):
        """QEMU's command line: what all machines share, and what is their own."""
        # One thread for all CPUs. With one for each, all of them came to stand now and then at an instruction that Linux patches when the first guest comes and the last one
        # goes (a static key of KVM). Supposed, not traced: QEMU 7.2 translated it while another CPU changed it, and kept the breakpoint that is there meanwhile.
        fsdev = "local,security_model=none,multidevs=remap"
        words = [qemu / "qemu-system-x86_64", "-L", qemu, "-accel", "tcg,thread=single", *own, "-nodefaults", "-display", "none", "-no-reboot",
                 "-drive", f"if=none,id=root,file={disk},format=raw,snapshot=on", "-device", "virtio-blk-pci,drive=root",
                 "-fsdev", f"{fsdev},id=lab,path={self.folder / 'lab'}", "-device", "virtio-9p-pci,fsdev=lab,mount_tag=lab",
                 "-fsdev", f"{fsdev},id=share,path={pathlib.Path(self.share).resolve()},readonly=on", "-device", "virtio-9p-pci,fsdev=share,mount_tag=share", *more]
        return [str(word) for word in words]

    @property
    def out(self):
        """What the machine sees as /lab/out."""
        return self.folder / "lab" / "out"

    @contextlib.contextmanager
    def prepared(self):
        with folder_of_this_run() as self.folder, self.ready() as (qemu, disk, own, descriptors):
            yield lambda more: self.words(qemu, disk, own, more), list(descriptors)

    def shell(self):
        """An interactive shell in the machine, on this terminal."""
        with self.prepared() as (words, descriptors):
            return subprocess.run(words(["-serial", "mon:stdio"]), check=False, pass_fds=descriptors, preexec_fn=die_with_parent).returncode

    def run(self, command, results=None, meanwhile=None):
        """Exit status of the command (a list of words); LATE, NEVER. What it leaves in /lab/out is copied to the folder `results`. `meanwhile` is called, in a thread of its own,
        while the machine runs; it must end when the machine does."""
        with self.prepared() as (words, descriptors):
            lab = self.folder / "lab"
            (lab / "command").write_text(shlex.join(map(str, command)) + "\n", encoding="utf-8")
            console = pathlib.Path(self.console) if self.console else self.folder / "console.log"
            console.unlink(missing_ok=True)
            late = not self.emulate(words, descriptors, console, meanwhile)
            if results:
                shutil.copytree(self.out, results, dirs_exist_ok=True)
            return self.status(lab, console, late)

    def emulate(self, words, descriptors, console, meanwhile):
        """Runs the machine to its end; whether that came in time."""
        ports, ends, threads = ["-serial", f"file:{console}", "-device", "virtio-serial-pci"], [], []
        for number, take in enumerate((self.stdout, self.stderr), 1):
            reader, writer = os.pipe()
            ends.append(writer)
            ports += ["-add-fd", f"fd={writer},set={number}", "-chardev", f"file,id=port{number},path=/dev/fdset/{number},append=on",
                      "-device", f"virtserialport,nr={number},chardev=port{number}"]
            threads.append(threading.Thread(target=copy, args=(reader, take), daemon=True))
        machine = subprocess.Popen(words(ports), stdin=subprocess.DEVNULL, pass_fds=[*ends, *descriptors], preexec_fn=die_with_parent)
        for end in ends:
            os.close(end)
        if meanwhile:
            threads.append(threading.Thread(target=meanwhile, args=(machine,), daemon=True))
        for thread in threads:
            thread.start()
        in_time = True
        try:
            machine.wait(self.timeout_s)
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            if machine.poll() is None:
                machine.kill()
                machine.wait()
        for thread in threads:
            thread.join()
        return in_time

    def status(self, lab, console, late):
        written = (lab / "status").read_text() if (lab / "status").exists() else ""
        if written.strip():
            return int(written)
        began = (lab / "began").exists()
        tail = "\n".join(console.read_text(errors="replace").splitlines()[-40:]) if console.exists() else "no console output"
        if late and began:
            self.stderr(f"machine: time limit of {self.timeout_s} s reached\n".encode())
            return LATE
        why = "it stopped before the command ended" if began else "it did not come up"
        self.stderr(f"machine: {why}; its console:\n{tail}\n".encode())
        return NEVER


def copy(reader, take):
    with os.fdopen(reader, "rb", buffering=0) as source:
        while data := source.read(65536):
            take(data)
