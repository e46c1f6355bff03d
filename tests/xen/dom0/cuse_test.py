# SPDX-License-Identifier: Apache-2.0
# lab: timeout=600
"""sev-emulator cuse in a real kernel: a real character device /dev/sev, and programs that know nothing of the emulator on it."""
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import unittest

from device_test import PROGRAM  # ioctls of <linux/psp-sev.h> made by hand
from dom0 import EMULATOR, ROOT, SEVCTL, Case, run
from runner import NO_PEER
from support import EmulatedDevice, wait_until

PEERS = ROOT / "build/peers"
THEIRS = PEERS / "bin/sevctl"
BUILDING = "ctest --preset dev -R interop_devsev builds it where there is cargo"
CRATE_TESTS = {"get_identifier", "pdh_cert_export", "pdh_generate", "pek_cert_import", "pek_csr", "pek_generate", "platform_reset", "platform_status"}
NOBODY = 65534


def setUpModule():
    done = run("modprobe", "cuse")
    if done.returncode != 0 or os.path.exists("/dev/sev"):
        raise AssertionError(f"no CUSE, or a /dev/sev that is not ours: {done.stderr}")


class Cuse(Case):
    def setUp(self):
        super().setUp()
        self.device = EmulatedDevice(self.dir / "device")
        self.environment = {**os.environ, "HOME": str(self.dir), "XDG_CACHE_HOME": str(self.dir)}

    def ours(self, *words, status=0):
        return self.sevctl(*words, status=status, env=self.environment)

    def refused(self, *words):
        """sevctl's one line of error, and its hint."""
        done = self.ours(*words, status=2)
        errors = [line for line in done.stderr.splitlines() if line.startswith("sevctl: error: ")]
        self.assertEqual((len(errors), done.stdout), (1, ""), done.stderr)
        self.assertIn("sevctl: hint: ", done.stderr)
        return errors[0]

    def wait_for_long_ioctl(self, child):
        """Returns when this process has been in one and the same ioctl for a second."""
        since, before = time.monotonic(), ""
        deadline = since + 60
        while time.monotonic() - since < 1:
            self.assertIsNone(child.poll(), "it ended before its command hung")
            self.assertLess(time.monotonic(), deadline, f"no ioctl hung: {before}")
            time.sleep(0.05)
            now = pathlib.Path(f"/proc/{child.pid}/syscall").read_text()
            if now != before or not now.startswith("16 "):  # x86-64's ioctl
                since, before = time.monotonic(), now

    def test_our_sevctl_from_provision_to_reset(self):
        endorsement = ["--cek", self.device.cek, "--ca", self.device.ca]
        with self.device.cuse():
            self.assertTrue(stat.S_ISCHR(os.stat("/dev/sev").st_mode))
            self.assertEqual(stat.S_IMODE(os.stat("/dev/sev").st_mode), 0o600)
            self.assertEqual(self.ours("show", "version").stdout.strip(), "0.17.48")
            self.assertEqual(self.ours("show", "flags").stdout.split(), ["es"])
            self.assertEqual(self.ours("show", "identifier").stdout.strip().lower(), self.device.identity["chip_id"].lower())
            self.ours("provision", "--yes", self.device.oca, self.device.oca_key)
            self.assertEqual(self.ours("show", "flags").stdout.split(), ["owned", "es"])
            self.assertIn("ALREADY_OWNED", self.refused("provision", "--yes", self.device.oca, self.device.oca_key))
            self.ours("export", "--full", *endorsement, "full")
            full = (self.dir / "full").read_bytes()
            self.assertEqual(len(full), 10000)
            self.assertEqual(full[2 * 2084:3 * 2084], self.device.oca.read_bytes())
            self.assertEqual(full[3 * 2084:], self.device.cek.read_bytes() + self.device.ca.read_bytes())
            self.ours("verify", *endorsement, "--root", self.device.root)
            self.ours("verify", "--sev", "full", "--ca", self.device.ca, "--root", self.device.root)
            self.assertIn("chain.ark.root", self.ours("verify", *endorsement, status=1).stdout)  # an emulated root that nobody named
            self.ours("pek-csr", "csr")
            self.assertEqual((self.dir / "csr").stat().st_size, 2084)
            self.ours("rotate", "--yes")
            self.ours("export", "--full", *endorsement, "rotated")
            rotated = (self.dir / "rotated").read_bytes()
            self.assertNotEqual(rotated[:2084], full[:2084])
            self.assertEqual(rotated[2084:], full[2084:])
            self.ours("reset", "--yes")
            self.assertEqual(self.ours("show", "flags").stdout.split(), [])
        self.assertIn("there is no such device", self.refused("show", "version"))

    def test_status_names_the_emulator_and_claims_nothing(self):
        before = json.loads(self.ours("status", "--json").stdout)
        with self.device.cuse():
            text, value = self.ours("status").stdout, json.loads(self.ours("status", "--json").stdout)
        self.valid("sevctl-status", value)
        self.assertTrue(value["psp"]["emulated"])
        self.assertTrue(any("emulated PSP" in note for note in value["notes"]), value["notes"])
        self.assertIn("emulated", text)
        for key in ("host", "level", "features", "layers", "first_missing_layer"):
            self.assertEqual(value[key], before[key], key)

    def test_the_kernels_side(self):
        """Hostile and wrong calls, made by hand: the errno of the kernel or of Linux's driver, and the device lives on."""
        with self.device.cuse():
            self.ran(sys.executable, "-B", "-c", PROGRAM + '''
fd, reader = os.open("/dev/sev", os.O_RDWR), os.open("/dev/sev", os.O_RDONLY)
want = status(fd)
assert want.hex() == "001101000100003000000000", want.hex()
assert issue(fd, 99)[0] == errno.EINVAL
assert issue(fd, 1, 8)[0] == errno.EFAULT                            # an address that is not mapped
assert issue(fd, 1, 0xFFFF800000000000)[0] == errno.EFAULT           # one of the kernel
assert issue(fd, 1, request=0xC0105301)[0] == errno.EINVAL           # another request
assert issue(fd, 1, request=0xC0085300)[0] == errno.EINVAL           # another size
for command in (0, 2, 3, 4, 6):                                      # reset, PEK_GEN, PEK_CSR, PDH_GEN, PEK_CERT_IMPORT want a writer
    assert issue(reader, command)[0] == errno.EPERM, command
half = ctypes.create_string_buffer(8192)                             # an answer across two pages
at = (ctypes.addressof(half) + 4096) // 4096 * 4096 - 6
assert issue(fd, 1, at) == (0, 0) and ctypes.string_at(at, 12) == want
child = os.fork()
if child == 0:
    os._exit(0 if status(fd) == want else 1)
assert os.waitpid(child, 0)[1] == 0
assert status(reader) == want
''')
            done = run(SEVCTL, "show", "version", env=self.environment, preexec_fn=lambda: os.setuid(NOBODY))
            self.assertEqual(done.returncode, 2)
            self.assertIn("permission denied", done.stderr)
            quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": self.environment}
            many = [subprocess.Popen([SEVCTL, "show", "version"], **quiet) for _ in range(8)]
            self.assertEqual({child.communicate(timeout=120)[0].strip() for child in many}, {b"0.17.48"})

    def test_a_status_of_the_firmware_comes_through(self):
        with self.device.cuse("--fault", "PDH_CERT_EXPORT=HWERROR_PLATFORM"):
            self.assertIn("PDH_CERT_EXPORT: HWERROR_PLATFORM (0x0013)", self.refused("export", "--unsigned", "out"))
        with self.device.cuse("--timeout", "500", "--fault", "PDH_CERT_EXPORT=hang"):
            self.assertIn("(ETIMEDOUT)", self.refused("export", "--unsigned", "out"))
        self.assertFalse((self.dir / "out").exists())

    def test_the_daemon_is_killed_while_a_command_runs(self):
        """A clear error at once, nothing half-written, the device gone; the platform serves again from its state directory."""
        with self.device.cuse():
            self.ours("provision", "--yes", self.device.oca, self.device.oca_key)
        with self.device.cuse("--timeout", "60000", "--fault", "PDH_CERT_EXPORT=hang") as server:
            child = subprocess.Popen([SEVCTL, "export", "--unsigned", "out"], cwd=self.dir, env=self.environment, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)
            self.wait_for_long_ioctl(child)
            begun = time.monotonic()
            server.kill()
            output, errors = child.communicate(timeout=30)
            self.assertLess(time.monotonic() - begun, 20)
            self.assertEqual((child.returncode, output), (2, ""), errors)
            self.assertRegex(errors, r"sevctl: error: .*PDH_CERT_EXPORT: .*the program that serves the device .*ended while the command ran")
            self.assertIn("(ECONNABORTED)", errors)
            self.assertIn("sevctl: hint: start it again", errors)
            server.wait()
        self.assertFalse((self.dir / "out").exists())
        self.assertIn("there is no such device", self.refused("show", "flags"))
        with self.device.cuse():
            self.assertEqual(self.ours("show", "flags").stdout.split(), ["owned", "es"])
            self.ours("export", "--unsigned", "out")
            self.assertEqual((self.dir / "out").read_bytes()[2 * 2084:3 * 2084], self.device.oca.read_bytes())

    def test_one_platform_one_device(self):
        other = EmulatedDevice(self.dir / "other")
        with self.device.cuse():
            for words, says in ((["--state", self.device.state, "--name", "sev2"], "is in use by another process"),
                                (["--state", other.state], "/dev/sev: is there already")):
                done = run(EMULATOR, "cuse", *words)
                self.assertEqual(done.returncode, 2)
                self.assertIn(says, done.stderr)
            server = subprocess.Popen([EMULATOR, "cuse", "--state", other.state, "--name", "sev2"], stdout=subprocess.DEVNULL)
            self.addCleanup(server.kill)
            wait_until(lambda: os.path.exists("/dev/sev2"), "/dev/sev2 did not appear")
            ids = {self.ran(sys.executable, "-B", "-c", PROGRAM + '''
fd = os.open(sys.argv[1], os.O_RDWR)
room = ctypes.create_string_buffer(128)
question = ctypes.create_string_buffer(struct.pack("<QI", ctypes.addressof(room), 128))
assert issue(fd, 8, ctypes.addressof(question)) == (0, 0)            # GET_ID2
print(room.raw[:64].hex())
''', path).stdout.strip().lower() for path in ("/dev/sev", "/dev/sev2")}
            self.assertEqual(ids, {chip.identity["chip_id"].lower() for chip in (self.device, other)})
            server.send_signal(signal.SIGINT)
            self.assertEqual(server.wait(30), 0)
            wait_until(lambda: not os.path.exists("/dev/sev2"), "/dev/sev2 did not go away")

    @unittest.skipUnless(THEIRS.exists(), f"{NO_PEER}virtee's sevctl was not built ({BUILDING})")
    def test_virtees_sevctl_and_ours(self):
        """virtee's sevctl, unmodified: the whole sequence of tests/interop, on the character device."""
        (self.dir / "peers/bin").mkdir(parents=True)
        shutil.copy(THEIRS, self.dir / "peers/bin")
        done = self.ran(sys.executable, "-B", ROOT / "tests/interop/devsev_sevctl.py", "--emulator", EMULATOR, "--sevctl", SEVCTL,
                        "--peers", self.dir / "peers", "--cuse", timeout_s=400)
        self.assertRegex(done.stdout, r"(?m)^[1-9][0-9]{2,} steps with virtee's sevctl .* and ours agree$")

    def test_host_tests_of_the_sev_crate(self):
        """virtee's sev crate, its own tests of a host, as they were built."""
        built = sorted((PEERS / "target-sev/debug/deps").glob("api-*"), key=lambda path: path.stat().st_mtime)
        built = [path for path in built if path.suffix == ""]
        if not built:
            self.skipTest(f"{NO_PEER}virtee's sev crate was not built ({BUILDING})")
        with self.device.cuse():
            done = self.ran(built[-1], "--test-threads=1", timeout_s=200, env=self.environment)
        self.assertEqual(set(re.findall(r"^test sev::(\w+) \.\.\. ok$", done.stdout, re.MULTILINE)), CRATE_TESTS, done.stdout)


if __name__ == "__main__":
    unittest.main()
