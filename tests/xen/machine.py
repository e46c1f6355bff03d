# SPDX-License-Identifier: Apache-2.0
"""Boots the lab: a real Xen 4.17 and its PV dom0 in an emulated machine, in which one command is run."""
import contextlib
import ctypes
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import threading

import image
from debian import BUILD, ROOT, Trouble, run

LATE, NEVER = 124, 125
MEMORY_MIB, DOM0_MIB = 3072, 1024
# No SMAP: QEMU 7.2 applies it to IRET at ring 3, which ends a PV dom0. No RDTSCP: QEMU reports its intercept as that of RDTSC, which Xen takes for
# a fault.
CPU = "max,-smap,-rdtscp"
NOT_PRODUCT = ("test_", "corpus_", "bench_", "fuzz_")
FOR_DOM0 = ("bench_xen_capture",)
PR_SET_PDEATHSIG = 1


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def emulator():
    """Folder of the emulator, built if need be."""
    done = subprocess.run([ROOT / "tests/lab/qemu"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Trouble("the emulator cannot be built, as said above")
    return pathlib.Path(done.stdout.strip())


@contextlib.contextmanager
def folder_of_this_run():
    """A folder that dom0 sees as /lab; what killed runs left behind is removed."""
    runs = BUILD / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for old in runs.iterdir():
        if not pathlib.Path("/proc", old.name).exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = runs / str(os.getpid())
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    (folder / "out").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stage(build, folder):
    """The product's programs and modules, without debug information, to be copied to dom0's own disk."""
    source = pathlib.Path(build) / "bin"
    programs = [path for path in source.iterdir() if path.is_file() and (path.name in FOR_DOM0 or not path.name.startswith(NOT_PRODUCT))] if source.is_dir() else []
    if not programs:
        raise Trouble(f"{source}: holds no programs of the product: build them first")
    for path in programs:
        if path.read_bytes()[:4] == b"\x7fELF":
            run(["strip", "--strip-debug", "-o", folder / path.name, path])


class Machine:
    """One boot. `stdout` and `stderr` are called with the bytes that the command writes, as they come."""

    def __init__(self, build, timeout_s=600, console=None, stdout=None, stderr=None):
        self.build, self.timeout_s, self.console = build, timeout_s, console
        self.stdout = stdout or (lambda data: (sys.stdout.buffer.write(data), sys.stdout.buffer.flush()))
        self.stderr = stderr or (lambda data: (sys.stderr.buffer.write(data), sys.stderr.buffer.flush()))

    def words(self, folder, more):
        qemu, disk = emulator(), image.disk()
        fsdev = "local,security_model=none,multidevs=remap"
        return [qemu / "qemu-system-x86_64", "-L", qemu, "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", CPU, "-smp", "1",
                "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none", "-no-reboot", "-kernel", disk / "xen",
                "-append", f"console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M",
                "-initrd", f"{disk / 'vmlinuz'} console=hvc0,{disk / 'initrd.gz'}",
                "-drive", f"if=none,id=root,file={disk / 'dom0.img'},format=raw,snapshot=on", "-device", "virtio-blk-pci,drive=root",
                "-fsdev", f"{fsdev},id=lab,path={folder}", "-device", "virtio-9p-pci,fsdev=lab,mount_tag=lab",
                "-fsdev", f"{fsdev},id=share,path={ROOT},readonly=on", "-device", "virtio-9p-pci,fsdev=share,mount_tag=share", *more]

    def shell(self):
        """An interactive shell in dom0, on this terminal."""
        with folder_of_this_run() as folder:
            stage(self.build, folder / "bin")
            words = [str(word) for word in self.words(folder, ["-serial", "mon:stdio"])]
            return subprocess.run(words, check=False, preexec_fn=die_with_parent).returncode

    def run(self, command, results=None):
        """Exit status of the command (a list of words); LATE, NEVER. What it leaves in /lab/out is copied to the folder `results`."""
        with folder_of_this_run() as folder:
            stage(self.build, folder / "bin")
            (folder / "command").write_text(shlex.join(map(str, command)) + "\n", encoding="utf-8")
            console = pathlib.Path(self.console) if self.console else folder / "console.log"
            console.unlink(missing_ok=True)
            late = not self.emulate(folder, console)
            if results:
                shutil.copytree(folder / "out", results, dirs_exist_ok=True)
            return self.status(folder, console, late)

    def emulate(self, folder, console):
        """Runs the machine to its end; whether that came in time."""
        ports, ends, threads = ["-serial", f"file:{console}", "-device", "virtio-serial-pci"], [], []
        for number, take in enumerate((self.stdout, self.stderr), 1):
            reader, writer = os.pipe()
            ends.append(writer)
            ports += ["-add-fd", f"fd={writer},set={number}", "-chardev", f"file,id=port{number},path=/dev/fdset/{number},append=on",
                      "-device", f"virtserialport,nr={number},chardev=port{number}"]
            threads.append(threading.Thread(target=copy, args=(reader, take), daemon=True))
        words = [str(word) for word in self.words(folder, ports)]
        machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=ends, preexec_fn=die_with_parent)
        for end in ends:
            os.close(end)
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

    def status(self, folder, console, late):
        written = (folder / "status").read_text() if (folder / "status").exists() else ""
        if written.strip():
            return int(written)
        began = (folder / "began").exists()
        tail = "\n".join(console.read_text(errors="replace").splitlines()[-40:]) if console.exists() else "no console output"
        if late and began:
            self.stderr(f"lab: time limit of {self.timeout_s} s reached\n".encode())
            return LATE
        why = "the machine stopped before the command ended" if began else "dom0 did not come up"
        self.stderr(f"lab: {why}; its console:\n{tail}\n".encode())
        return NEVER


def copy(reader, take):
    with os.fdopen(reader, "rb", buffering=0) as source:
        while data := source.read(65536):
            take(data)

