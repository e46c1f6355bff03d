# SPDX-License-Identifier: Apache-2.0
"""How sevctl behaves: terminals, pipes that are full or gone, keys on command lines, files that are written together."""
import base64
import fcntl
import os
import pty
import re
import resource
import stat
import subprocess
import time
import unittest

from support import CHAIN, FIRMWARE, SEVCTL, TEST_ROOT, Case, sevctl

KEY = base64.b64encode(bytes(range(16))).decode()


class Manners(Case):
    measurement = ["measurement", "build", "--api-major", "0", "--api-minor", "24", "--build-id", "1", "--policy", "1", "--nonce", base64.b64encode(bytes(16)).decode(),
                   "--launch-digest", base64.b64encode(bytes(32)).decode()]

    def test_no_binary_to_a_terminal(self):
        for words in (["vmsa", "build", "-", "--cpu", "0", "--userspace", "qemu"], [*self.measurement, "--tik", self.file("tik", bytes(16)), "--outfile", "-"]):
            master, slave = pty.openpty()
            done = subprocess.run([SEVCTL, *words], stdout=slave, stderr=subprocess.PIPE, timeout=60)
            os.close(slave)
            os.set_blocking(master, False)
            with self.assertRaises((BlockingIOError, OSError)):
                os.read(master, 1)
            os.close(master)
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"terminal", done.stderr)
            self.assertIn(b"hint", done.stderr)
            into_pipe = sevctl(*words)
            self.assertEqual(into_pipe.returncode, 0)
            self.assertIn(len(into_pipe.stdout), (48, 4096))

    def test_half_a_result_is_no_result(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([SEVCTL, "explain", "BAD_MEASUREMENT"], stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"standard output", done.stderr)

    def test_quiet(self):
        chain = self.file("chain", CHAIN)
        for words, status in ((["verify", "--sev", chain, "--root", TEST_ROOT], 0), (["verify", "--sev", chain], 1), (["verify"], 2), (["no-such"], 2)):
            done = sevctl("-q", *words)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (status, b"", b""))

    def test_a_key_on_the_command_line_is_warned_of_and_blanked(self):
        done = sevctl(*self.measurement, "--tik", KEY)
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"warning: --tik", done.stderr)
        self.assertNotIn(b"warning", sevctl(*self.measurement, "--tik", self.file("tik", bytes(16))).stderr)
        for option in (["--tik", KEY], [f"--tik={KEY}"]):
            seen = self.while_it_writes([*self.measurement, *option])
            self.assertIn("--tik", seen["cmdline"])
            self.assertNotIn(KEY, seen["cmdline"])
            self.assertRegex(seen["limits"], r"Max core file size +0 +0 ")

    def while_it_writes(self, words):
        """What /proc says of sevctl while it waits for a full pipe to take its result: limits, cmdline, status."""
        read, write = os.pipe()
        os.write(write, bytes(fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)))
        child = subprocess.Popen([SEVCTL, *map(str, words)], stdout=write, stderr=subprocess.PIPE)

        def proc(name):
            with open(f"/proc/{child.pid}/{name}") as file:
                return file.read()

        try:
            asleep = 0
            while asleep < 10:
                self.assertIsNone(child.poll(), "it did not wait for the pipe")
                asleep = asleep + 1 if proc("stat").rsplit(")", 1)[1].split()[0] == "S" else 0
                time.sleep(0.01)
            return {name: proc(name) for name in ("limits", "cmdline", "status")}
        finally:
            os.close(read)  # it dies of SIGPIPE
            os.close(write)
            child.communicate(timeout=60)

    def test_a_mistyped_key_is_not_repeated(self):
        line = self.trouble(*self.measurement, "--tik", KEY[:-4], says="--tik")
        self.assertNotIn(KEY[:-4], line)
        self.trouble(*self.measurement, "--tik", "keys/tik.bin", says="keys/tik.bin")

    def test_no_half_written_files_when_the_disk_is_full(self):
        """RLIMIT_FSIZE stands in for a full disk: the certificate (2084 bytes) does not fit, so neither file appears."""
        def limited():
            import signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        for words in (["generate", "c", "k"], ["session", self.file("pdh", CHAIN[:2084]), "5"], ["vmsa", "build", "v", "--cpu", "0", "--userspace", "qemu"]):
            before = sorted(os.listdir(self.dir))
            self.trouble(*words, preexec_fn=limited)
            self.assertEqual(sorted(os.listdir(self.dir)), before)

    def test_key_files_are_private_whatever_the_umask(self):
        done = sevctl("session", self.file("pdh", CHAIN[:2084]), "5", cwd=self.dir, umask=0)
        self.assertEqual(done.returncode, 0)
        self.assertEqual([stat.S_IMODE(os.stat(self.dir / f"vm_{n}.bin").st_mode) for n in ("tik", "tek")], [0o600, 0o600])

    def test_memory(self):
        """Peak memory of measurement build (4 MiB firmware, SEV-ES, 4 vCPUs) stays within 16 MiB."""
        firmware, vmsa = self.file("fw", FIRMWARE.read_bytes() * 1024), self.file("v", bytes(4096))
        options = ["--api-major", "0", "--api-minor", "24", "--build-id", "1", "--policy", "5", "--nonce", self.file("nonce", bytes(16)), "--tik", self.file("tik", bytes(16))]
        seen = self.while_it_writes(["measurement", "build", *options, "--firmware", firmware, "--num-cpus", "4", "--vmsa-cpu0", vmsa, "--vmsa-cpu1", vmsa])
        peak_kib = int(re.search(r"VmHWM:\s+(\d+) kB", seen["status"]).group(1))
        print(f"measurement build: peak memory {peak_kib} KiB")
        if os.environ.get("SEV_SANITIZED") != "1":
            self.assertLessEqual(peak_kib, 16 * 1024)
        self.assertGreater(peak_kib, 4 * 1024, "the firmware was not even read")


if __name__ == "__main__":
    unittest.main()
