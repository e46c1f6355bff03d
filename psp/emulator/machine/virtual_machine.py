# SPDX-License-Identifier: Apache-2.0
"""Boots the virtual SEV machine: QEMU's software emulation of a host with SEV, and the emulated PSP as its secure processor. One command is run in it."""
import contextlib
import ctypes
import importlib.machinery
import importlib.util
import json
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
from debian import ROOT, Trouble, run

LATE, NEVER = 124, 125
READY_S = 20
PR_SET_PDEATHSIG = 1
GENERATION_OF_PERSONALITY = {"epyc-3151": 1}  # the PCI function 1022:1456; later ones have 1022:1486
MEMORY_MIB, DOM0_MIB = {False: 1536, True: 3072}, 1024  # without and with Xen
# No SMAP under Xen: QEMU 7.2 applies it to IRET at ring 3, which ends a PV dom0. No RDTSCP: QEMU reports its intercept as that of RDTSC, which Xen takes for a fault.
CPU = {False: "max", True: "max,-smap,-rdtscp"}


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def module_at(path):
    """A Python module by its file, whatever that is called."""
    name = f"xen_sev_{path.parent.name}_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def emulator():
    """Folder of QEMU, built if need be."""
    return module_at(ROOT / "tests/lab/qemu").emulator()


def disk(xen=False):
    """Folder of the disk to boot from, made if need be: a plain Linux host, or Xen and its dom0."""
    if xen:
        return module_at(ROOT / "tests/xen/image.py").disk()
    import host_image
    return host_image.disk()


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


def stage(source, folder):
    """The project's programs and modules, without debug information, to be copied to the machine's own disk."""
    for path in sorted(pathlib.Path(source).iterdir()):
        if path.name.startswith(("sev", "libsev", "xen-sev", "libxen-sev")) and path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            run(["strip", "--strip-debug", "-o", folder / path.name, path])


class Psp:
    """The emulated PSP as a process, behind the mailbox of one machine. Can be stopped and started again."""

    def __init__(self, program, state, ram, folder, faults=(), plain=False, transcript=None, verbose=False):
        self.program, self.state, self.ram, self.socket = program, state, ram, folder / "mailbox"
        self.plain, self.transcript, self.verbose, self.process = plain, transcript, verbose, None
        self.start(faults)

    def start(self, faults=()):
        reader, writer = os.pipe()
        words = [self.program, "serve", "--state", self.state, "--mailbox", self.socket, "--memory", f"/proc/self/fd/{self.ram}", "--ready-fd", writer]
        words += [word for fault in faults for word in ("--fault", fault)]
        words += ["--plain-after-finish"] * self.plain + ["--verbose"] * self.verbose + (["--transcript", self.transcript] if self.transcript else [])
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[self.ram, writer], preexec_fn=die_with_parent)
        os.close(writer)
        with os.fdopen(reader, "rb") as ready:
            if ready.read() != b"READY=1\n":
                self.process.wait()
                raise Trouble("the emulated PSP did not start, as said above")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(READY_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Machine:
    """One boot. `stdout` and `stderr` are called with the bytes that the command writes, as they come. While it runs, `folder` is what the machine sees as /lab, `psp` its PSP,
    and `ram` a descriptor of its memory."""

    def __init__(self, program, programs, *, state=None, personality="epyc-3151", memory_mib=None, cpus=1, faults=(), plain=False, xen=False, share=".", timeout_s=600,
                 console=None, transcript=None, ccp_options="", deadline_ms=None, verbose=False, stdout=None, stderr=None):
        self.program, self.programs, self.state, self.personality = program, programs, state, personality
        self.memory_mib, self.cpus, self.faults, self.plain, self.xen = memory_mib or MEMORY_MIB[xen], cpus, faults, plain, xen
        self.share, self.timeout_s, self.console, self.transcript = share, timeout_s, console, transcript
        self.ccp_options, self.deadline_ms, self.verbose = ccp_options, deadline_ms, verbose
        self.stdout = stdout or (lambda data: (sys.stdout.buffer.write(data), sys.stdout.buffer.flush()))
        self.stderr = stderr or (lambda data: (sys.stderr.buffer.write(data), sys.stderr.buffer.flush()))
        self.folder = self.psp = self.ram = None

    def chip(self):
        """What the chip tells of itself; made first when there is no state directory."""
        words = ["show", "--state", self.state]
        if self.state is None:
            self.state = self.folder / "psp"
            words = ["create", "--state", self.state, "--personality", self.personality]
        return json.loads(run([self.program, *words, "--json"]))

    def kernel(self, image):
        if not self.xen:
            return ["-kernel", image / "vmlinuz", "-initrd", image / "initrd.gz", "-append", "console=ttyS0 quiet loglevel=6"]
        memory = f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M"
        return ["-kernel", image / "xen", "-append", f"console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all {memory}",
                "-initrd", f"{image / 'vmlinuz'} console=hvc0,{image / 'initrd.gz'}"]

    def words(self, chip, more):
        qemu, image = emulator(), disk(self.xen)
        fsdev = "local,security_model=none,multidevs=remap"
        cpu = (f"{CPU[self.xen]},x-sev-host=on,x-sev-host-features={chip['cpuid_8000001f_eax']},x-sev-host-cbitpos={chip['c_bit']},phys-bits={chip['c_bit'] + 1},"
               f"x-sev-host-reduced-phys-bits={chip['address_reduction']},x-sev-host-asids={chip['max_asid']},x-sev-host-min-asid={chip['min_sev_asid']}")
        device = f"psp-mailbox,chardev=psp,generation={GENERATION_OF_PERSONALITY.get(chip['personality'], 2)}"
        if self.deadline_ms:
            device += f",deadline-ms={self.deadline_ms}"
        return [qemu / "qemu-system-x86_64", "-L", qemu, "-accel", "tcg,thread=multi", "-machine", "q35,memory-backend=ram", "-cpu", cpu, "-smp", self.cpus, "-m", self.memory_mib,
                "-object", f"memory-backend-file,id=ram,size={self.memory_mib}M,mem-path=/proc/self/fd/{self.ram},share=on", "-nodefaults", "-display", "none", "-no-reboot",
                "-chardev", f"socket,id=psp,path={self.folder / 'mailbox'},reconnect=1", "-device", device, *self.kernel(image),
                "-drive", f"if=none,id=root,file={image / ('dom0.img' if self.xen else 'host.img')},format=raw,snapshot=on", "-device", "virtio-blk-pci,drive=root",
                "-fsdev", f"{fsdev},id=lab,path={self.folder}/lab", "-device", "virtio-9p-pci,fsdev=lab,mount_tag=lab",
                "-fsdev", f"{fsdev},id=share,path={pathlib.Path(self.share).resolve()},readonly=on", "-device", "virtio-9p-pci,fsdev=share,mount_tag=share", *more]

    @contextlib.contextmanager
    def ready(self):
        """The PSP is there; yields what its chip tells of itself."""
        with folder_of_this_run() as folder:
            self.folder = folder
            lab = folder / "lab"
            stage(self.programs, lab / "bin")
            (lab / "options").write_text(f"ccp_options={shlex.quote(self.ccp_options)}\n", encoding="utf-8")
            chip = self.chip()
            self.ram = os.memfd_create("machine-ram")
            try:
                os.ftruncate(self.ram, self.memory_mib << 20)
                self.psp = Psp(self.program, self.state, self.ram, folder, self.faults, self.plain, self.transcript, self.verbose)
                try:
                    yield chip
                finally:
                    self.psp.stop()
            finally:
                os.close(self.ram)

    @property
    def out(self):
        """What the machine sees as /lab/out."""
        return self.folder / "lab" / "out"

    def shell(self):
        """An interactive shell in the machine, on this terminal."""
        with self.ready() as chip:
            words = self.words(chip, ["-serial", "mon:stdio"])
            return subprocess.run([str(word) for word in words], check=False, pass_fds=[self.ram], preexec_fn=die_with_parent).returncode

    def run(self, command, results=None, meanwhile=None):
        """Exit status of the command (a list of words); LATE, NEVER. What it leaves in /lab/out is copied to the folder `results`. `meanwhile` is called, in a thread of its own,
        while the machine runs; it must end when the machine does."""
        with self.ready() as chip:
            lab = self.folder / "lab"
            (lab / "command").write_text(shlex.join(map(str, command)) + "\n", encoding="utf-8")
            console = pathlib.Path(self.console) if self.console else self.folder / "console.log"
            console.unlink(missing_ok=True)
            late = not self.emulate(chip, console, meanwhile)
            if results:
                shutil.copytree(self.out, results, dirs_exist_ok=True)
            return self.status(lab, console, late)

    def emulate(self, chip, console, meanwhile):
        """Runs the machine to its end; whether that came in time."""
        ports, ends, threads = ["-serial", f"file:{console}", "-device", "virtio-serial-pci"], [], []
        for number, take in enumerate((self.stdout, self.stderr), 1):
            reader, writer = os.pipe()
            ends.append(writer)
            ports += ["-add-fd", f"fd={writer},set={number}", "-chardev", f"file,id=port{number},path=/dev/fdset/{number},append=on", "-device", f"virtserialport,nr={number},chardev=port{number}"]
            threads.append(threading.Thread(target=copy, args=(reader, take), daemon=True))
        words = [str(word) for word in self.words(chip, ports)]
        machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=[*ends, self.ram], preexec_fn=die_with_parent)
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
