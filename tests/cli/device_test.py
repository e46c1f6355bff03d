# SPDX-License-Identifier: Apache-2.0
"""/dev/sev for unmodified programs (sev-emulator run, serve, cuse), and how sevctl's platform commands meet every fault of the device.

The unmodified program is Python itself: it opens /dev/sev and makes the ioctls of <linux/psp-sev.h> by hand.
"""
import base64
import ctypes
import json
import os
import pathlib
import pty
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import unittest

from support import SEVCTL, Case, EmulatedDevice

EMULATOR = os.environ.get("SEV_EMULATOR")
STATUSES = {1: "INVALID_PLATFORM_STATE", 2: "INVALID_GUEST_STATE", 3: "INVALID_CONFIG", 4: "INVALID_LENGTH", 5: "ALREADY_OWNED", 6: "INVALID_CERTIFICATE",
            7: "POLICY_FAILURE", 8: "INACTIVE", 9: "INVALID_ADDRESS", 10: "BAD_SIGNATURE", 11: "BAD_MEASUREMENT", 12: "ASID_OWNED", 13: "INVALID_ASID",
            14: "WBINVD_REQUIRED", 15: "DF_FLUSH_REQUIRED", 16: "INVALID_GUEST", 17: "INVALID_COMMAND", 18: "ACTIVE", 19: "HWERROR_PLATFORM", 20: "HWERROR_UNSAFE",
            21: "UNSUPPORTED", 22: "INVALID_PARAM", 23: "RESOURCE_LIMIT", 24: "SECURE_DATA_INVALID", 25: "INVALID_PAGE_SIZE", 26: "INVALID_PAGE_STATE",
            27: "INVALID_MDATA_ENTRY", 28: "INVALID_PAGE_OWNER", 29: "AEAD_OFLOW", 31: "RING_BUFFER_EXIT"}  # SEV API, table of status codes

# What the guest program below begins with.
PROGRAM = '''
import ctypes, errno, fcntl, os, stat, struct, sys, threading
REQUEST = 0xC0105300
def issue(fd, command, data=0, request=REQUEST):
    """(errno, firmware status) of one ioctl."""
    argument = bytearray(struct.pack("<IQI", command, data, 0xFFFFFFFF))
    try:
        fcntl.ioctl(fd, request, argument, True)
        code = 0
    except OSError as error:
        code = error.errno
    return code, struct.unpack("<IQI", argument)[2]
def status(fd):
    out = ctypes.create_string_buffer(12)
    assert issue(fd, 1, ctypes.addressof(out)) == (0, 0), issue(fd, 1, ctypes.addressof(out))
    return out.raw
'''


@unittest.skipUnless(EMULATOR, "SKIPPED: there is no sev-emulator")
class Device(Case):
    def run_program(self, text, *options, arguments=(), **more):
        done = subprocess.run([EMULATOR, "run", *map(str, options), "--", sys.executable, "-B", "-c", PROGRAM + text, *map(str, arguments)], capture_output=True, text=True,
                              timeout=120, cwd=self.dir, **more)
        return done

    def good_program(self, text, *options, **more):
        done = self.run_program(text, *options, **more)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def emulator(self, *words, status=0, **more):
        done = subprocess.run([EMULATOR, *map(str, words)], capture_output=True, text=True, timeout=60, cwd=self.dir, stdin=subprocess.DEVNULL, **more)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def refusal(self, *words, says, **more):
        """One line of error with exit status 2."""
        done = self.emulator(*words, status=2, **more)
        errors = [line for line in done.stderr.splitlines() if line.startswith("sev-emulator: error: ")]
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertIn(says, errors[0])
        return done.stderr


class UnmodifiedPrograms(Device):
    def test_it_looks_like_the_device(self):
        out = self.good_program('''
for look in (os.stat, os.lstat): assert stat.S_ISCHR(look("/dev/sev").st_mode)
assert os.stat("/dev//./sev").st_rdev == os.makedev(10, 124)
folder = os.open("/dev", os.O_RDONLY)
assert stat.S_ISCHR(os.stat("sev", dir_fd=folder).st_mode)
os.chdir("/dev"); assert stat.S_ISCHR(os.stat("sev").st_mode); os.close(os.open("sev", os.O_RDWR)); os.chdir("/")
assert os.access("/dev/sev", os.R_OK | os.W_OK) and not os.access("/dev/sev", os.X_OK)
assert os.path.exists("/dev/sev") and os.path.realpath("/dev/sev") == "/dev/sev" and not os.path.islink("/dev/sev")
for other in ("/dev/sevx", "/sev", "/dev/sev/x", "/tmp/sev", "/dev/xsev"): assert not os.path.exists(other), other
fd = os.open("/dev/sev", os.O_RDWR); assert stat.S_ISCHR(os.fstat(fd).st_mode); assert stat.S_ISREG(os.fstat(os.open("/etc/passwd", os.O_RDONLY)).st_mode)
fd2 = os.open("sev", os.O_RDONLY, dir_fd=folder); print(status(fd).hex() == status(fd2).hex())
opened = open("/dev/sev", "r+b", buffering=0); print(status(opened.fileno()).hex())
libc = ctypes.CDLL(None, use_errno=True)
libc.fopen.restype = ctypes.c_void_p; stream = libc.fopen(b"/dev/sev", b"r+"); assert stream; print(status(libc.fileno(ctypes.c_void_p(stream))).hex())
for flags, want in ((os.O_DIRECTORY, errno.ENOTDIR), (os.O_CREAT | os.O_EXCL, errno.EEXIST)):
    try: os.open("/dev/sev", flags | os.O_RDWR); print("opened")
    except OSError as error: assert error.errno == want
assert os.read(fd, 10) == b""
''')
        self.assertEqual(out.split(), ["True", "001101000100003000000000", "001101000100003000000000"])

    def test_descriptors_may_be_copied_inherited_and_shared(self):
        out = self.good_program('''
fd = os.open("/dev/sev", os.O_RDWR)
want = status(fd)
copy = os.dup(fd); os.close(fd); assert status(copy) == want
os.dup2(copy, 77); os.close(copy); assert status(77) == want
child = os.fork()
if child == 0:
    for _ in range(30): assert status(77) == want
    os._exit(0)
for _ in range(30): assert status(77) == want
assert os.waitpid(child, 0)[1] == 0
os.set_inheritable(77, True)
import subprocess
inherited = "import sys; exec(sys.argv[1]); sys.exit(status(77).hex() != sys.argv[2])"
assert subprocess.run([sys.executable, "-c", inherited, sys.argv[1], want.hex()], close_fds=False).returncode == 0
private = os.open("/dev/sev", os.O_RDWR); assert not os.get_inheritable(private)
wrong = []
def work():
    for _ in range(40):
        if status(77) != want: wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
os.close(77)
try: status(77); print("closed, and yet")
except AssertionError: pass
print(len(wrong))
''', arguments=[PROGRAM])
        self.assertEqual(out.strip(), "0")

    def test_errors_are_those_of_linux(self):
        out = self.good_program('''
fd = os.open("/dev/sev", os.O_RDWR); reader = os.open("/dev/sev", os.O_RDONLY)
print(issue(fd, 9), issue(fd, 1, request=0xC0145300), issue(fd, 1, request=0x5401), issue(fd, 1, 0), issue(fd, 1, 1))
print([issue(reader, command)[0] for command in (0, 2, 3, 4, 6)], status(reader)[2])
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ioctl(fd, ctypes.c_ulong(REQUEST), ctypes.c_void_p(8)) == -1 and ctypes.get_errno() == errno.EFAULT
print(issue(fd, 1, 0x10)[0], issue(fd, 3, 0)[0], issue(fd, 1, ctypes.addressof(ctypes.c_char.from_buffer(bytearray(1))) | 1 << 62)[0])
argument = ctypes.create_string_buffer(struct.pack("<QI", 0, 0)); print(issue(fd, 3, ctypes.addressof(argument)), struct.unpack_from("<QI", argument)[1])
argument = ctypes.create_string_buffer(struct.pack("<QI", 8, 2084)); print(issue(fd, 3, ctypes.addressof(argument))[0])
null = os.open("/dev/null", os.O_RDWR); print(issue(null, 1)[0])
out = ctypes.create_string_buffer(1000)  # some programs probe with a null path
for call in ((libc.open, None, 0), (libc.access, None, 0), (libc.stat, None, out), (libc.statx, 0, None, 0, 0, out), (libc.fstatat, -100, None, out, 0), (libc.readlink, None, out, 10)):
    assert call[0](*call[1:]) == -1 and ctypes.get_errno() == errno.EFAULT, call
''')
        self.assertEqual(out.splitlines(), ["(22, 4294967295) (22, 4294967295) (22, 4294967295) (14, 0) (14, 0)", "[1, 1, 1, 1, 1] 1", "14 14 14", "(5, 4) 2084", "14", "25"])

    def test_permission(self):
        for permit, want in (("none", "13 13"), ("r", "0 13"), ("rw", "0 0")):
            out = self.good_program('''
for flags in (os.O_RDONLY, os.O_RDWR):
    try: os.open("/dev/sev", flags); print(0)
    except OSError as error: print(error.errno)
''', "--permit", permit)
            self.assertEqual(" ".join(out.split()), want)

    def test_exit_status_and_signals_come_through(self):
        self.assertEqual(self.run_program("sys.exit(7)").returncode, 7)
        self.assertEqual(self.run_program("import signal; os.kill(os.getpid(), signal.SIGKILL)").returncode, 128 + signal.SIGKILL)
        program = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: os._exit(9)); print('up', flush=True); time.sleep(60)"
        running = subprocess.Popen([EMULATOR, "run", "--", sys.executable, "-c", PROGRAM + program], stdout=subprocess.PIPE)
        self.assertEqual(running.stdout.readline(), b"up\n")
        running.terminate()
        self.assertEqual(running.wait(30), 9)
        running.stdout.close()

    def test_a_state_of_its_own_is_gone_afterwards(self):
        folder = self.dir / "tmp"
        folder.mkdir()
        environment = {**os.environ, "TMPDIR": str(folder)}
        out = self.good_program("print(os.environ['SEV_EMULATOR_SOCKET'])", "--personality", "epyc-3151", env=environment)
        self.assertTrue(out.startswith(str(folder)))
        self.assertEqual(list(folder.iterdir()), [])

    def test_programs_that_cannot_be_served(self):
        self.assertIn("hint: see: sev-emulator run --help", self.refusal("run", says="no program given"))
        self.refusal("run", "--", "no-such-program-here", says="no such program")
        self.refusal("run", "--", self.dir / "absent", says="No such file")
        self.refusal("run", "--", self.dir, says="no regular file")
        self.refusal("run", "--", self.file("plain", b"x"), says="is not executable")

        def program(name, content, mode=0o755):
            path = self.file(name, content)
            path.chmod(mode)
            return path

        def elf(headers, machine=62, ident=b"\x7fELF\x02\x01\x01", tail=b""):
            table = b"".join(struct.pack("<IIQQQQQQ", kind, 4, offset, 0, 0, length, length, 1) for kind, offset, length in headers)
            return ident.ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, len(headers), 0, 0, 0) + table + tail

        self.assertIn("sev-emulator cuse", self.refusal("run", "--", program("static", elf([(1, 0, 64)])), says="is statically linked"))
        self.refusal("run", "--", program("arm", elf([(1, 0, 64)], machine=183)), says="is no x86-64 program")
        self.refusal("run", "--", program("short", b"\x7fELF\x02\x01"), says="e_ident")
        self.refusal("run", "--", program("musl", elf([(3, 120, 24)], tail=b"/lib/ld-musl-x86_64.so.\0")), says="linked to musl")
        self.refusal("run", "--", program("wild", elf([(3, 1 << 40, 24)])), says="beyond the file's first")
        self.refusal("run", "--", program("script", b"#!" + str(self.dir / "static").encode() + b"\n"), says="static: is statically linked")
        self.refusal("run", "--", program("loop", b"#!" + str(self.dir / "loop").encode() + b"\n"), says="without a usable interpreter")
        copy = self.dir / "setuid"
        shutil.copy(shutil.which("true"), copy)
        copy.chmod(0o4755)
        self.refusal("run", "--", copy, says="set-user-ID")
        if shutil.which("gcc"):  # the real thing
            built = subprocess.run(["gcc", "-static", "-x", "c", "-", "-o", self.dir / "real"], input=b"int main(void) { return 0; }", capture_output=True)
            if built.returncode == 0:
                self.refusal("run", "--", self.dir / "real", says="is statically linked")

    def test_bad_options(self):
        self.refusal("run", "--personality", "zen9", "--", "true", says="--personality is zen9, want epyc-3151|epyc-7002|epyc-7003")
        listed = [line.split()[0] for line in self.emulator("personalities").stdout.splitlines()]
        self.assertEqual("|".join(listed), "epyc-3151|epyc-7002|epyc-7003")
        self.refusal("run", "--fault", "NOPE=1", "--", "true", says="NOPE")
        self.refusal("run", "--permit", "x", "--", "true", says="--permit is x")
        self.refusal("run", "--timeout", "0", "--", "true", says="--timeout is 0")
        self.refusal("run", "--state", self.dir / "none", "--", "true", says="none")
        self.refusal("run", "--socket", self.dir / "none", "--", "true", says="no emulator serves there")
        self.refusal("run", "--socket", self.dir / "none", "--fault", "PDH_GEN=1", "--", "true", says="excludes")
        self.refusal("serve", "--state", self.dir / "none", "--socket", self.dir / "s", says="none")
        self.refusal("show", "--state", self.dir / "none", "--", "true", says="unexpected argument: --")

    @unittest.skipIf(os.path.exists("/dev/cuse"), "SKIPPED: this kernel has CUSE, so that its absence cannot be tested")
    def test_a_kernel_without_cuse(self):
        self.emulator("create", "--state", self.dir / "psp")
        self.assertIn("hint: modprobe cuse", self.refusal("cuse", "--state", self.dir / "psp", says="/dev/cuse: is not there"))
        self.refusal("cuse", "--state", self.dir / "psp", "--name", "../x", says="--name is ../x")
        self.refusal("cuse", "--state", self.dir / "psp", "--name", "null", says="/dev/null: is there already")


class Serving(Device):
    def test_one_platform_for_many_programs(self):
        device = EmulatedDevice(self.dir / "device")
        with device.served():
            self.assertEqual(stat.S_IMODE(device.socket.stat().st_mode), 0o600)
            running = [subprocess.Popen([EMULATOR, "run", "--socket", device.socket, "--", sys.executable, "-c",
                                         PROGRAM + "fd = os.open('/dev/sev', os.O_RDWR)\nfor _ in range(50): status(fd)\nfor _ in range(3): assert issue(fd, 4) == (0, 0)"])
                       for _ in range(4)]
            self.assertEqual([each.wait(120) for each in running], [0] * 4)
            self.refusal("serve", "--state", device.state, "--socket", self.dir / "other", says="another process")
        self.assertFalse(device.socket.exists())

    def test_what_one_program_changes_the_next_one_sees(self):
        device = EmulatedDevice(self.dir / "device")
        run = [EMULATOR, "run", "--state", device.state, "--", SEVCTL]
        subprocess.run([*run, "provision", "--yes", device.oca, device.oca_key], check=True, capture_output=True, timeout=60)
        self.assertEqual(subprocess.run([*run, "show", "flags"], check=True, capture_output=True, timeout=60).stdout, b"owned\nes\n")
        self.assertEqual(json.loads(device.run("show", "--state", device.state, "--json")), device.identity)

    def test_many_files_in_one_program(self):
        out = self.good_program('''
held = []
try:
    for _ in range(300): held.append(os.open("/dev/sev", os.O_RDONLY))
except OSError as error: print(len(held), error.errno)
for fd in held[:-1]: os.close(fd)
import time
for _ in range(100):
    try: os.open("/dev/sev", os.O_RDONLY); break
    except OSError: time.sleep(0.05)
print(status(held[-1]).hex())
''')
        self.assertEqual(out.splitlines(), ["256 23", "001101000100003000000000"])

    def test_a_device_that_vanishes_in_the_middle_of_a_command(self):
        for words in (["show", "version"], ["rotate", "--yes"]):
            with self.subTest(words):
                folder = self.dir / words[0]
                device = EmulatedDevice(folder)
                fault = {"show": "PLATFORM_STATUS=hang", "rotate": "PDH_GEN=hang"}[words[0]]
                with self.assertRaises(AssertionError), device.served("--fault", fault + ",skip=1" if words[0] == "show" else fault) as server:
                    running = subprocess.Popen([SEVCTL, *words], env={**os.environ, **device.environment()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                    time.sleep(1)
                    self.assertIsNone(running.poll())
                    server.kill()
                    out, err = running.communicate(timeout=30)
                self.assertEqual((running.returncode, out), (2, ""))
                self.assertIn("the PSP is gone", err)
                self.assertIn("(ENODEV)", err)

    def test_a_served_device_that_is_gone_before(self):
        device = EmulatedDevice(self.dir / "device")
        done = subprocess.run([SEVCTL, "show", "version"], env={**os.environ, **device.environment()}, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no driver serves it (ENXIO)", done.stderr)


class Faults(Device):
    """sevctl: a clear error, exit status 2, nothing half-written."""

    def sevctl_under(self, options, *words, **more):
        return subprocess.run([EMULATOR, "run", *map(str, options), "--", SEVCTL, *map(str, words)], capture_output=True, text=True, timeout=120, cwd=self.dir,
                              stdin=subprocess.DEVNULL, **more)

    def trouble_under(self, options, *words, says, **more):
        before = sorted(path.name for path in self.dir.iterdir())
        done = self.sevctl_under(options, *words, **more)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("sevctl: error: ")]
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertIn(says, errors[0])
        self.assertEqual(sorted(path.name for path in self.dir.iterdir()), before, "something was left behind")
        return done.stderr

    @unittest.skipIf(os.path.exists("/dev/sev"), "SKIPPED: this machine has a /dev/sev")
    def test_no_device(self):
        for words in (["show", "flags"], ["export", "x"], ["rotate", "--yes"], ["reset", "--yes"], ["pek-csr", "x"], ["verify"]):
            line = self.trouble(*words, says="(ENOENT)")
            self.assertIn("/dev/sev", line)

    def test_no_permission(self):
        for permit, words in (("none", ["show", "flags"]), ("r", ["rotate", "--yes"]), ("r", ["pek-csr", "x"]), ("none", ["export", "x"])):
            self.trouble_under(["--permit", permit], *words, says="(EACCES)")
        self.assertEqual(self.sevctl_under(["--permit", "r"], "show", "version").returncode, 0)

    def test_not_the_device(self):
        self.trouble("show", "flags", "--device", self.file("file", b"x"), says="is no device")
        self.trouble("show", "flags", "--device", "/dev/null", says="(ENOTTY)")
        self.trouble("show", "flags", "--device", self.dir, says="is no device")
        self.trouble("show", "flags", "--device", "", says="--device is empty")

    def test_every_status_of_the_firmware(self):
        device = EmulatedDevice(self.dir / "device")
        faults = [option for code in STATUSES for option in ("--fault", f"PDH_GEN={code:#x}")]
        with device.served(*faults):
            for code, name in STATUSES.items():
                done = subprocess.run([SEVCTL, "rotate", "--yes"], env={**os.environ, **device.environment()}, capture_output=True, text=True, timeout=60)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(f"sevctl: error: PDH_GEN: {name} (0x{code:04X}): ", done.stderr)
                self.assertRegex(done.stderr, r"(?m)^sevctl: hint: .{20}")
            done = subprocess.run([SEVCTL, "rotate", "--yes"], env={**os.environ, **device.environment()}, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_each_command_of_the_device_fails_in_its_own_name(self):
        certificate, key = self.dir / "oca", self.dir / "oca.key"
        self.ok("generate", certificate, key)
        for command, words in (("PLATFORM_STATUS", ["show", "guests"]), ("GET_ID", ["show", "identifier"]), ("PEK_CSR", ["pek-csr", "out"]), ("PDH_CERT_EXPORT", ["export", "--unsigned", "out"]),
                               ("PLATFORM_RESET", ["reset", "--yes"]), ("PEK_GEN", ["rotate", "--pek", "--yes"]), ("PEK_CERT_IMPORT", ["provision", "--yes", certificate, key])):
            skip = ",skip=1" if command == "PLATFORM_STATUS" else ""  # the driver asks for it when it is loaded
            self.trouble_under(["--fault", f"{command}=HWERROR_PLATFORM{skip}"], *words, says=f"{command}: HWERROR_PLATFORM (0x0013)")

    def test_a_psp_that_never_answers(self):
        started = time.monotonic()
        error = self.trouble_under(["--timeout", "300", "--fault", "PDH_CERT_EXPORT=hang"], "export", "--unsigned", "out", says="(ETIMEDOUT)")
        self.assertLess(time.monotonic() - started, 20)
        self.assertIn("did not answer in time", error)

    def test_a_full_disk(self):
        def no_room():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # inherited by sevctl; the emulator writes its state first, so it has one already

        device = EmulatedDevice(self.dir / "device")
        with device.served():
            def run(*words):
                return subprocess.run([SEVCTL, *words], env={**os.environ, **device.environment()}, capture_output=True, text=True, timeout=60, cwd=self.dir, preexec_fn=no_room)
            (self.dir / "kept").write_bytes(b"before")
            for words in (["export", "--unsigned", "out"], ["export", "--unsigned", "--force", "kept"], ["pek-csr", "out"], ["export", "-c", "pdh", "--format", "hex", "out"]):
                done = run(*words)
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertIn("File too large", done.stderr)
            self.assertEqual(sorted(path.name for path in self.dir.iterdir()), ["device", "kept"])
            self.assertEqual((self.dir / "kept").read_bytes(), b"before")
            with open("/dev/full", "wb") as full:
                done = subprocess.run([SEVCTL, "export", "-c", "pdh", "-"], env={**os.environ, **device.environment()}, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
            self.assertEqual(done.returncode, 2)
            self.assertIn("No space left", done.stderr)


class Asking(Device):
    def on_terminal(self, answer, *words):
        """sevctl with a terminal, on which this is typed; its exit status and what it showed."""
        child, terminal = pty.fork()
        if child == 0:
            os.execv(EMULATOR, [EMULATOR, "run", "--state", str(self.dir / "device/psp"), "--", SEVCTL, *words])
        shown = b""
        try:
            while b"type yes" not in shown:
                shown += os.read(terminal, 1000)
            os.write(terminal, answer)
            while True:
                shown += os.read(terminal, 1000)
        except OSError:
            pass  # the other end is closed
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()

    def test_yes_and_anything_else(self):
        EmulatedDevice(self.dir / "device")
        def pdh():
            return subprocess.run([EMULATOR, "run", "--state", self.dir / "device/psp", "--", SEVCTL, "export", "-c", "pdh", "-"], capture_output=True, check=True, timeout=60).stdout
        before = pdh()
        for answer in (b"no\n", b"\n", b"y\n", b"YES\n", b"\x04"):
            status, shown = self.on_terminal(answer, "rotate")
            self.assertEqual(status, 2, shown)
            self.assertIn("the PDH is replaced", shown)
            self.assertIn("not done", shown)
        self.assertEqual(pdh(), before)
        status, shown = self.on_terminal(b"yes\n", "rotate")
        self.assertEqual(status, 0, shown)
        self.assertNotEqual(pdh(), before)

    def test_without_a_terminal_nothing_is_done_unasked(self):
        device = EmulatedDevice(self.dir / "device")
        with device.served():
            environment = {**os.environ, **device.environment()}
            before = subprocess.run([SEVCTL, "export", "-c", "pdh", "-"], env=environment, capture_output=True, check=True).stdout
            for words in (["rotate"], ["rotate", "--pek"], ["reset"], ["provision", device.oca, device.oca_key]):
                done = subprocess.run([SEVCTL, *words], env=environment, capture_output=True, text=True, input="yes\n", timeout=60)
                self.assertEqual(done.returncode, 2)
                self.assertRegex(done.stderr, "error: .*(lost|void).*not done without being asked to")
                self.assertIn("--yes", done.stderr)
            self.assertEqual(subprocess.run([SEVCTL, "export", "-c", "pdh", "-"], env=environment, capture_output=True, check=True).stdout, before)


class Platform(Device):
    def setUp(self):
        super().setUp()
        self.device = EmulatedDevice(self.dir / "device")
        context = self.device.served()
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.environment = {**os.environ, **self.device.environment(), "HOME": str(self.dir / "home"), "XDG_CACHE_HOME": ""}
        self.environment.pop("SEV_CHAIN", None)

    def sevctl(self, *words, status=0, **environment):
        done = subprocess.run([SEVCTL, *map(str, words)], env={**self.environment, **environment}, capture_output=True, timeout=60, cwd=self.dir, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def test_forms_of_one_certificate(self):
        endorsement = ["--cek", self.device.cek, "--ca", self.device.ca]
        self.sevctl("export", "--full", *endorsement, "full")
        full = (self.dir / "full").read_bytes()
        self.assertEqual(len(full), 10000)
        parts = {"pdh": full[:2084], "pek": full[2084:4168], "oca": full[4168:6252], "cek": full[6252:8336], "ask": full[8336:9168], "ark": full[9168:]}
        self.assertEqual(parts["cek"], self.device.cek.read_bytes())
        self.assertEqual(full[8336:], self.device.ca.read_bytes())
        for name, want in parts.items():
            def form(which):
                return self.sevctl("export", "-c", name, "--format", which, *endorsement, "-").stdout
            self.assertEqual(form("binary"), want)
            self.assertEqual(bytes.fromhex(form("hex").decode()), want)
            lines = form("pem").decode().splitlines()
            self.assertEqual((lines[0], lines[-1]), (f"-----BEGIN SEV {name.upper()} CERTIFICATE-----", f"-----END SEV {name.upper()} CERTIFICATE-----"))
            self.assertTrue(all(len(line) == 64 for line in lines[1:-2]))
            self.assertEqual(base64.b64decode("".join(lines[1:-1]), validate=True), want)
            told = json.loads(form("json"))
            self.assertEqual(base64.b64decode(told["binary"]), want)
            self.assertEqual(told["usage"], name.upper())
            if len(want) == 2084:  # SEV API, appendix C: QX at 14h, 72 bytes little-endian
                self.assertEqual(told["key"]["x"], want[0x14:0x14 + 48][::-1].hex())
        self.assertIn(b"2084", self.sevctl("export", "--unsigned", "short", status=0).stderr + b"2084")
        self.assertEqual((self.dir / "short").stat().st_size, 8336)

    def test_options_that_do_not_fit(self):
        for words, says in ((["--format", "hex", "x"], "add --certificate"), (["--full", "-c", "pdh", "x"], "want one of them"), (["--full", "--unsigned", "x"], "--unsigned leaves out"),
                            (["-c", "pdh", "--json", "-"], "want one of them"), (["--cek", self.device.cek, "--full", "x"], "has no ASK and ARK"), (["x"], "not at hand")):
            self.assertIn(says, self.sevctl("export", *words, status=2).stderr.decode())
        self.assertFalse((self.dir / "x").exists())
        (self.dir / "there").write_bytes(b"before")
        self.assertIn(b"exists already", self.sevctl("export", "--unsigned", "there", status=2).stderr)
        self.assertEqual((self.dir / "there").read_bytes(), b"before")
        other = EmulatedDevice(self.dir / "other")
        self.assertIn(b"of another chip", self.sevctl("export", "--cek", other.cek, "x", status=2).stderr)

    def test_where_the_endorsement_is_found(self):
        """--cek, then sev-relay's cache, then $SEV_CHAIN, ~/.cache, /var/cache; only for this very chip."""
        full = self.dir / "full"
        self.sevctl("export", "--full", "--cek", self.device.cek, "--ca", self.device.ca, full)
        cached = self.dir / "home/.cache/amd-sev/chain"
        cached.parent.mkdir(parents=True)
        shutil.copy(full, cached)
        self.sevctl("export", "--full", "one")
        self.assertEqual((self.dir / "one").read_bytes(), full.read_bytes())
        told = json.loads(self.sevctl("export", "--full", "--json", "two", SEV_CHAIN=str(full)).stdout)
        self.assertEqual((told["endorsement"], told["emulated"], told["content"], told["size_bytes"]), (str(full), True, "full chain", 10000))
        verified = self.sevctl("verify", "--root", self.device.root)
        self.assertIn(b"an emulated PSP", verified.stdout)
        self.assertIn(b"chain.ark.root", self.sevctl("verify", status=1).stdout)
        warned = self.sevctl("rotate", "--yes").stderr.decode()
        self.assertIn(f"{cached}: holds the chain from before", warned)
        cached.write_bytes(b"\0" * 10000)
        self.assertIn(str(cached), self.sevctl("export", "three", status=2).stderr.decode())
        other = EmulatedDevice(self.dir / "other")
        subprocess.run([EMULATOR, "run", "--state", other.state, "--", SEVCTL, "export", "--full", "--cek", other.cek, "--ca", other.ca, "--force", cached], check=True, capture_output=True)
        self.assertIn("is of another chip", self.sevctl("export", "three", status=2).stderr.decode())
        cache = self.dir / "cache"
        self.sevctl("cert", "import", self.device.ca, "--cache", cache, "--root", self.device.root)
        self.sevctl("cert", "import", self.device.cek, "--cache", cache, "--root", self.device.root)
        self.sevctl("export", "--full", "--cache", cache, "--root", self.device.root, "four")
        self.assertEqual((self.dir / "four").read_bytes()[2084:], full.read_bytes()[2084:])
        self.assertIn(b"not at hand", self.sevctl("export", "--full", "--cache", cache, "five", status=2).stderr)  # a root that nobody named

    def test_a_pinned_platform(self):
        """AMD's (here the emulator's) endorsement is not at hand; the owner vouches for the chip, and the emulation is still said."""
        told = self.sevctl("verify", status=2)
        self.assertIn(b"endorsement missing", told.stderr)
        cek = self.device.identity["cek_fingerprint"]
        pinned = json.loads(self.sevctl("verify", "--pin-cek", f"mine:naples:{cek}", "--json").stdout)
        self.assertEqual((pinned["valid"], pinned["endorsement"], pinned["emulated"], pinned["root"]), (True, "pinned", True, "mine"))
        self.assertIn(b"an emulated PSP", self.sevctl("verify", "--pin-cek", f"mine:naples:{cek}").stdout)
        self.sevctl("verify", "--pin-cek", f"mine:naples:{'0' * 64}", status=1)

    def test_ownership(self):
        self.sevctl("provision", "--yes", self.device.oca, self.device.oca_key)
        self.assertEqual(self.sevctl("show", "flags").stdout, b"owned\nes\n")
        oca = self.sevctl("export", "-c", "oca", "-").stdout
        self.assertEqual(oca, self.device.oca.read_bytes())
        self.assertIn(b"ALREADY_OWNED", self.sevctl("provision", "--yes", self.device.oca, self.device.oca_key, status=2).stderr)
        self.sevctl("verify", "--cek", self.device.cek, "--ca", self.device.ca, "--root", self.device.root)
        self.sevctl("rotate", "--yes")
        self.assertEqual(self.sevctl("export", "-c", "oca", "-").stdout, oca)
        self.sevctl("rotate", "--pek", "--yes")
        self.assertEqual(self.sevctl("show", "flags").stdout, b"es\n")
        self.assertNotEqual(self.sevctl("export", "-c", "oca", "-").stdout, oca)
        self.sevctl("reset", "--yes")
        self.assertEqual(self.sevctl("show", "flags").stdout, b"")  # not initialised until somebody needs it
        self.assertEqual(json.loads(self.sevctl("show", "version", "--json").stdout)["state"], "UNINIT")

    def test_an_owner_whose_files_do_not_belong_together(self):
        self.ok("generate", "two", "two.key")
        pek = self.dir / "pek"
        self.sevctl("export", "-c", "pek", "pek")
        forged = bytearray(self.device.oca.read_bytes())
        forged[0x418 + 30] ^= 1
        self.file("forged", bytes(forged))
        for certificate, key, says in (("two", self.device.oca_key, "is for another key"), (pek, self.device.oca_key, "PUBKEY_USAGE is PEK"), ("forged", self.device.oca_key, "not signed by itself")):
            self.assertIn(says, self.sevctl("provision", "--yes", certificate, key, status=2).stderr.decode())
        self.assertEqual(self.sevctl("show", "flags").stdout, b"es\n")


if __name__ == "__main__":
    unittest.main()
