# SPDX-License-Identifier: Apache-2.0
"""What the tests of the virtual SEV machine have in common: one machine for a class of tests, commands and guests in it, and the guest owner, who is outside."""
import base64
import json
import mmap
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "psp/emulator/machine"))
import virtual_machine  # noqa: E402

BIN = pathlib.Path(os.environ.get("VSEV_BUILD", ROOT / "build/dev")).resolve() / "bin"
FIRMWARE = "/usr/share/OVMF/OVMF_CODE.fd"  # in the machine
GUESTS = "/usr/lib/xen-sev"
BOOT_S = 240  # on a busy machine; 8 s on an idle one
COMMAND_S = 120
C_BIT, REDUCTION = 47, 5  # of the personality epyc-3151, and of Rome
VERSION = ("0", "17", "48")
CPU = ["--family", "23", "--model", "1", "--stepping", "2"]  # QEMU's CPU model EPYC


def tool(*words, status=0):
    """A program of the project, or one with a path, outside the machine: the guest owner's. Returns its stdout."""
    done = subprocess.run([BIN / words[0], *map(str, words[1:])], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != status:
        raise AssertionError(f"{' '.join(map(str, words))}: exit status {done.returncode}, want {status}: {done.stdout}{done.stderr}")
    return done.stdout


class Ran:
    def __init__(self, reply):
        self.status, self.out, self.err = reply["status"], reply["out"], reply["err"]


class MachineCase(unittest.TestCase):
    """One machine for all tests of a class, in the order of their names. `options` are those of virtual_machine.Machine."""

    kind = virtual_machine.Machine
    options = {}
    personality = "epyc-3151"

    @classmethod
    def setUpClass(cls):
        if not (BIN / "sev-emulator").exists():
            raise AssertionError(f"{BIN}: no sev-emulator: build it first")
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="vsev-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.transcript = cls.work / "transcript"
        cls.console = cls.work / "console"
        cls.said = []
        cls.state, cls.ca, cls.cek = cls.work / "psp", cls.work / "ca", cls.work / "cek"
        cls.chip = json.loads(tool("sev-emulator", "create", "--state", cls.state, "--personality", cls.personality, "--json"))
        for what in ("ca", "cek"):
            tool("sev-emulator", what, "--state", cls.state, "--out", cls.work / what)
        cls.machine = cls.kind(BIN / "sev-emulator", BIN, state=cls.state, share=ROOT, transcript=cls.transcript, console=cls.console, stdout=cls.said.append,
                               stderr=cls.said.append, **{"timeout_s": 900, **cls.options})
        cls.number, cls.process, cls.exit_status = 0, None, None
        cls.lock = threading.Lock()
        cls.thread = threading.Thread(target=cls.boot, daemon=True)
        cls.thread.start()
        cls.addClassCleanup(cls.end)
        cls.wait("the machine to come up", lambda: cls.machine.folder and (cls.lab() / "done/ready").exists(), BOOT_S)

    @classmethod
    def boot(cls):
        def meanwhile(process):
            cls.process = process
        cls.exit_status = cls.machine.run(["python3", "-B", "/share/tests/vsev/agent.py"], meanwhile=meanwhile)

    @classmethod
    def end(cls):
        if cls.thread.is_alive():
            (cls.lab() / "asked/end").touch()
            cls.thread.join(BOOT_S)
        if cls.exit_status != 0:
            raise AssertionError(f"the machine ended with {cls.exit_status}: {b''.join(x if isinstance(x, bytes) else b'' for x in cls.said).decode(errors='replace')[-3000:]}")

    @classmethod
    def lab(cls):
        return cls.machine.folder / "lab"

    @classmethod
    def wait(cls, what, condition, seconds=COMMAND_S):
        until = time.monotonic() + seconds
        while not (value := condition()):
            if not cls.thread.is_alive() or time.monotonic() > until:
                tail = cls.console.read_text(errors="replace")[-2000:] if cls.console.exists() else ""
                raise AssertionError(f"waited in vain for {what} ({'machine is there' if cls.thread.is_alive() else 'the machine ended'}); console: {tail}")
            time.sleep(0.02)
        return value

    @classmethod
    def ask(cls, **request):
        with cls.lock:
            cls.number += 1
            name = f"{cls.number}.json"
        request.setdefault("timeout_s", COMMAND_S)
        staged = cls.lab() / f"{name}.new"
        staged.write_text(json.dumps(request))
        staged.rename(cls.lab() / "asked" / name)
        done = cls.lab() / "done" / name
        cls.wait(f"{request}", done.exists, request["timeout_s"] + 10)
        reply = json.loads(done.read_text())
        done.unlink()
        return reply

    @classmethod
    def ran(cls, *words, status=0, timeout_s=COMMAND_S):
        """A command in the machine, to its end."""
        reply = cls.ask(do="run", words=[str(word) for word in words], timeout_s=timeout_s)
        if "error" in reply or (status is not None and reply["status"] != status):
            raise AssertionError(f"{' '.join(map(str, words))}: want exit status {status}: {reply}")
        return Ran(reply)

    @classmethod
    def sevctl(cls, *words, status=0):
        return cls.ran("sevctl", *words, status=status).out

    def reload(self):
        """The drivers start afresh, as at boot."""
        self.ran("modprobe", "-r", "kvm_amd", "ccp")
        self.ran("modprobe", "ccp")
        self.ran("modprobe", "kvm_amd")

    def answers(self):
        return self.ran("sevctl", "show", "version", status=None).status == 0

    def restart_psp(self, faults=()):
        """The PSP is switched off and on, now with these faults; the drivers have initialised it."""
        self.machine.psp.kill()
        self.machine.psp.start(faults=faults)
        self.wait("the machine to find its PSP again", self.answers)
        self.reload()

    def assert_kernel_is_well(self):
        log = self.ran("dmesg").out
        for word in ("WARNING:", "BUG:", "Oops", "Call Trace", "timed out"):
            self.assertNotIn(word, log)

    @classmethod
    def lines(cls):
        """The transcript so far."""
        return [line for line in cls.transcript.read_text().splitlines() if not line.startswith("#")]

    @classmethod
    def ram(cls):
        """The machine's memory as it is now, for a search."""
        return mmap.mmap(cls.machine.ram, 0, prot=mmap.PROT_READ)


class Owner:
    """A guest owner: one session for one launch, made from the platform's certificates by `program`, a sevctl."""

    def __init__(self, case, policy, name="vm", program="sevctl"):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=case.work))
        self.policy, self.name, self.program = policy, name, program
        case.sevctl("export", "--unsigned", "/lab/out/chain", "--force")
        tool(program, "session", "--name", self.folder / name, case.lab() / "out/chain", policy)

    def file(self, suffix):
        return self.folder / f"{self.name}_{suffix}"

    def give(self, case):
        """Puts what the host may have into the machine; (godh, session) there."""
        out = case.lab() / "out" / self.folder.name
        out.mkdir(exist_ok=True)
        for suffix in ("godh.b64", "session.b64"):
            shutil.copy(self.file(suffix), out / suffix)
        return f"/lab/out/{out.name}/godh.b64", f"/lab/out/{out.name}/session.b64"

    def expected(self, blob, firmware, vcpus=0, *more):
        """MEASURE and MNONCE in base64 as an honest launch reports them; `blob` is what was reported, `more` options of measurement build."""
        words = ["measurement", "build", "--api-major", VERSION[0], "--api-minor", VERSION[1], "--build-id", VERSION[2], "--policy", hex(self.policy), "--tik", self.file("tik.bin"),
                 "--launch-measure-blob", blob, "--firmware", firmware, *more]
        if vcpus:
            for cpu in (0, 1):
                tool(self.program, "vmsa", "build", self.file(f"vmsa{cpu}"), "--cpu", cpu, *CPU, "--firmware", firmware, "--userspace", "qemu")
            words += ["--num-cpus", vcpus, "--vmsa-cpu0", self.file("vmsa0"), "--vmsa-cpu1", self.file("vmsa1")]
        return tool(self.program, *words).strip()

    def seal(self, blob, secret):
        """Header and payload in base64 of a packet with one secret."""
        self.file("secret").write_bytes(secret)
        header, payload = self.file("header"), self.file("payload")
        tool(self.program, "secret", "build", "--tik", self.file("tik.bin"), "--tek", self.file("tek.bin"), "--launch-measure-blob", blob,
             "--secret", f"736869e5-84f0-4973-92ec-06879ce3da0b:{self.file('secret')}", header, payload)
        return base64.b64encode(header.read_bytes()).decode(), base64.b64encode(payload.read_bytes()).decode()


class Guest:
    """A SEV guest of Debian's QEMU in the machine, held before its first instruction."""

    count = 0

    def __init__(self, case, policy, vcpus=1, owner=None, firmware=FIRMWARE, more=(), memory_mib=128, start=True, sev=""):
        Guest.count += 1
        self.case, self.name = case, f"guest{Guest.count}"
        self.qmp_path, self.log, self.serial = f"/tmp/{self.name}.qmp", f"/tmp/{self.name}.log", f"/tmp/{self.name}.serial"
        sev = f"sev-guest,id=sev0,cbitpos={C_BIT},reduced-phys-bits={REDUCTION},policy={policy}{sev and ','}{sev}"
        if owner:
            godh, session = owner.give(case)
            sev += f",dh-cert-file={godh},session-file={session}"
        self.words = ["qemu-system-x86_64", "-enable-kvm", "-cpu", "EPYC", "-S", "-machine", "q35,confidential-guest-support=sev0", "-smp", str(vcpus), "-m", str(memory_mib),
                      "-nodefaults", "-display", "none", "-no-reboot", "-object", sev, "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={firmware}",
                      "-serial", f"file:{self.serial}", "-qmp", f"unix:{self.qmp_path},server=on,wait=off", *more]
        self.pid = case.ask(do="start", words=self.words, log=self.log)["pid"]
        case.addCleanup(self.end, "KILL")
        if start:
            case.assertEqual(self.qmp("query-sev")["state"], "launch-secret")

    def qmp_raw(self, command, **arguments):
        return self.case.ask(do="qmp", socket=self.qmp_path, execute=command, arguments=arguments)

    def qmp(self, command, **arguments):
        reply = self.qmp_raw(command, **arguments)
        if "return" not in reply.get("answer", {}):
            log = self.case.ran("cat", self.log).out
            raise AssertionError(f"{command}: {reply}; QEMU said: {log}")
        return reply["answer"]["return"]

    def measurement(self):
        return self.qmp("query-sev-launch-measure")["data"]

    def events(self):
        return self.qmp_raw("query-status")["events"]

    def end(self, signal="TERM"):
        """Ends it, if it has not ended by itself."""
        self.case.ran("kill", f"-{signal}", self.pid, status=None)
        self.case.ran("sh", "-c", f"while kill -0 {self.pid} 2>/dev/null; do sleep 0.02; done")

    def said(self):
        return self.case.ran("cat", self.log).out
