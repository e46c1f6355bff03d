# SPDX-License-Identifier: Apache-2.0
"""Boots the virtual SEV machine: QEMU's software emulation of a host with SEV, and the emulated PSP as its secure processor. One command is run in it."""
import concurrent.futures
import contextlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess

import boot
from boot import NEVER, die_with_parent  # noqa: F401
from debian import Trouble, run

HERE = pathlib.Path(__file__).resolve().parent
READY_S = 20
GENERATION_OF_PERSONALITY = {"epyc-3151": 1}  # the PCI function 1022:1456; later ones have 1022:1486
MEMORY_MIB = {False: 1536, True: 3072}  # without and with Xen


def module_at(path):
    """A Python module by its file, whatever that is called."""
    name = f"xen_sev_{path.parent.name}_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def emulator():
    """Folder of QEMU, built if need be."""
    return module_at(HERE / "qemu").emulator()


def disk(xen=False):
    """Folder of the disk to boot from, made if need be: a plain Linux host, or Xen and its dom0."""
    import host_image
    import xen_image
    return (xen_image if xen else host_image).disk()


def build(xen=False):
    """Folders of QEMU and of the disk. Both are made at once: each waits now and then for what the other does not need."""
    with concurrent.futures.ThreadPoolExecutor() as threads:
        return [made.result() for made in [threads.submit(emulator), threads.submit(disk, xen)]]


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


class Machine(boot.Boot):
    """One boot. While it runs, `psp` is its PSP, and `ram` a descriptor of its memory."""

    def __init__(self, program, programs, *, state=None, personality="epyc-3151", memory_mib=None, cpus=1, faults=(), plain=False, xen=False, transcript=None, ccp_options="",
                 deadline_ms=None, verbose=False, **of_boot):
        super().__init__(**of_boot)
        self.program, self.programs, self.state, self.personality = program, programs, state, personality
        self.memory_mib, self.cpus, self.faults, self.plain, self.xen = memory_mib or MEMORY_MIB[xen], cpus, faults, plain, xen
        self.transcript, self.ccp_options, self.deadline_ms, self.verbose = transcript, ccp_options, deadline_ms, verbose
        self.psp = self.ram = None

    def chip(self):
        """What the chip tells of itself; made first when there is no state directory."""
        words = ["show", "--state", self.state]
        if self.state is None:
            self.state = self.folder / "psp"
            words = ["create", "--state", self.state, "--personality", self.personality]
        return json.loads(run([self.program, *words, "--json"]))

    def own_words(self, chip, image):
        cpu = (f"{boot.XEN_CPU if self.xen else 'max'},x-sev-host=on,x-sev-host-features={chip['cpuid_8000001f_eax']},x-sev-host-cbitpos={chip['c_bit']},"
               f"phys-bits={chip['c_bit'] + 1},x-sev-host-reduced-phys-bits={chip['address_reduction']},x-sev-host-asids={chip['max_asid']},"
               f"x-sev-host-min-asid={chip['min_sev_asid']}")
        device = f"psp-mailbox,chardev=psp,generation={GENERATION_OF_PERSONALITY.get(chip['personality'], 2)}"
        if self.deadline_ms:
            device += f",deadline-ms={self.deadline_ms}"
        plain_linux = ["-kernel", image / "vmlinuz", "-initrd", image / "initrd.gz", "-append", "console=ttyS0 quiet loglevel=6"]
        return ["-machine", "q35,memory-backend=ram", "-cpu", cpu, "-smp", self.cpus, "-m", self.memory_mib,
                "-object", f"memory-backend-file,id=ram,size={self.memory_mib}M,mem-path=/proc/self/fd/{self.ram},share=on",
                "-chardev", f"socket,id=psp,path={self.folder / 'mailbox'},reconnect=1", "-device", device, *(boot.under_xen(image) if self.xen else plain_linux)]

    @contextlib.contextmanager
    def ready(self):
        lab = self.folder / "lab"
        programs = [path for path in pathlib.Path(self.programs).iterdir() if path.name.startswith(("sev", "libsev", "xen-sev", "libxen-sev"))]
        boot.stage(programs, lab / "bin")
        (lab / "options").write_text(f"ccp_options={shlex.quote(self.ccp_options)}\n", encoding="utf-8")
        chip = self.chip()
        qemu, image = emulator(), disk(self.xen)
        self.ram = os.memfd_create("machine-ram")
        try:
            os.ftruncate(self.ram, self.memory_mib << 20)
            self.psp = Psp(self.program, self.state, self.ram, self.folder, self.faults, self.plain, self.transcript, self.verbose)
            try:
                yield qemu, image / ("dom0.img" if self.xen else "host.img"), self.own_words(chip, image), [self.ram]
            finally:
                self.psp.stop()
        finally:
            os.close(self.ram)
