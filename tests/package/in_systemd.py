# SPDX-License-Identifier: Apache-2.0
"""Runs in a machine whose process 1 is systemd: our packages are installed, and the services live as their units say. Called by systemd_test.py."""
import glob
import itertools
import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

import pages

OUT = pathlib.Path("/lab/out")
EXPOSURE = {"sevd.service": 4.0, "sev-owner.service": 2.0}
PATIENCE_S = 120


def run(*words, status=0, **options):
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False, **options)
    if status is not None and done.returncode != status:
        raise AssertionError(f"{' '.join(map(str, words))}: exit status {done.returncode}, want {status}: {done.stdout[-4000:]}{journal()[-4000:]}")
    return done.stdout


def journal(*units):
    return subprocess.run(["journalctl", "--no-pager", "-q", "-n", "60", *(f"--unit={unit}" for unit in units)], capture_output=True, text=True, check=False).stdout


def show(unit, name):
    return run("systemctl", "show", "-P", name, unit).strip()


def main_pid(unit):
    pid = int(show(unit, "MainPID"))
    if pid == 0:
        raise AssertionError(f"{unit} does not run: {journal(unit)}")
    return pid


def process_status(pid):
    return dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def launch_words(count=itertools.count(1)):
    """A launch of the sample, of a name that no other has."""
    return ["sevctl", "launch", "--name", f"guest{next(count)}", "--image", "/root/sample/guest.json", "--owner", "server", "--policy", "web"]


def trusted():
    return "\nTRUSTED" in "\n" + run(*launch_words(), status=None)


def until(what, condition):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}: {journal()}")


class Systemd(unittest.TestCase):
    def installed(self):
        tree = OUT / "tree.tar"
        if tree.exists():
            run("tar", "-C", "/", "--no-same-owner", "--keep-directory-symlink", "-xf", tree)
            run("ldconfig")
            run("systemd-sysusers")
            run("systemd-tmpfiles", "--create")
            run("systemctl", "daemon-reload")
        else:
            run("dpkg", "-i", *sorted(OUT.glob("*.deb")))

    def test_01_installed_nothing_runs(self):
        self.installed()
        self.assertEqual(pathlib.Path("/proc/1/comm").read_text(), "systemd\n")
        for unit in ("sevd.service", "sevd.socket", "sev-owner.service"):
            self.assertEqual(run("systemctl", "is-active", unit, status=3).strip(), "inactive")
            self.assertEqual(run("systemctl", "is-enabled", unit, status=1).strip(), "disabled")

    def test_02_owner_page_with_a_real_systemctl(self):
        """docs/owner.md, as it stands but for the installation: keys, certificates, two services, a launch to its verdict."""
        commands = [text for place, text in pages.blocks("owner.md") if place in pages.PLACES["owner.md"] and not text.startswith("apt install")]
        self.assertGreaterEqual(len(commands), 7)
        pathlib.Path("/tmp/page.sh").write_text("set -euxo pipefail\ncd\n" + "\n".join(commands))
        said = run("bash", "/tmp/page.sh")
        self.assertIn("\nTRUSTED", said)
        self.assertRegex(said, r"[0-9]+ records, [0-9]+ signatures")
        self.assertIn("emulated", said.lower())

    def test_03_services_are_what_their_units_say(self):
        for unit in EXPOSURE:
            with self.subTest(unit=unit):
                self.assertEqual((show(unit, "ActiveState"), show(unit, "SubState"), show(unit, "Type")), ("active", "running", "notify"))
                self.assertEqual(show(unit, "WatchdogUSec"), "30s")
                self.assertNotEqual(show(unit, "WatchdogTimestampMonotonic"), "0")  # it has said that it lives
                pid = main_pid(unit)
                status = process_status(pid)
                self.assertEqual((status["Seccomp"], status["NoNewPrivs"]), ("2", "1"))
                self.assertGreaterEqual(int(status["Seccomp_filters"]), 2)  # the unit's and the program's own
                self.assertRegex(pathlib.Path(f"/proc/{pid}/limits").read_text(), r"Max core file size +0 +0 ")
                for thread in os.listdir(f"/proc/{pid}/task"):
                    self.assertIn("Seccomp:\t2\n", pathlib.Path(f"/proc/{pid}/task/{thread}/status").read_text())
        owner = process_status(main_pid("sev-owner.service"))
        uid = run("id", "-u", "xen-sev-owner").strip()
        self.assertNotEqual(uid, "0")
        self.assertEqual(set(owner["Uid"].split()), {uid})
        for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
            self.assertEqual(int(owner[kind], 16), 0, kind)
        for unit in EXPOSURE:
            self.assertGreater(int(process_status(main_pid(unit))["VmLck"].split()[0]), 0, unit)  # keys never in swap

    def test_04_exposure(self):
        for unit, limit in EXPOSURE.items():
            found = re.search(rf"Overall exposure level for {unit}: ([0-9.]+)", run("systemd-analyze", "security", "--no-pager", unit))
            print(f"{unit}: exposure {found.group(1)} (limit {limit})", flush=True)
            self.assertLessEqual(float(found.group(1)), limit)

    def test_05_socket_activation(self):
        run("systemctl", "stop", "sevd.service")
        self.assertEqual(show("sevd.socket", "ActiveState"), "active")
        self.assertEqual(show("sevd.service", "ActiveState"), "inactive")
        about = os.stat("/run/xen-sev/sevd.sock")
        self.assertEqual(about.st_mode & 0o7777, 0o660)
        run("sevctl", "launches", "list")  # whoever asks starts it
        self.assertEqual(show("sevd.service", "ActiveState"), "active")
        self.assertEqual(show("sevd.service", "NRestarts"), "0")
        nobody = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sevctl", "launches", "list", status=2)
        self.assertIn("sevd.sock: permission denied", nobody)

    def test_06_reload(self):
        """Whom the owner's configuration no longer names gets nothing, from the next connection on; the process is the same."""
        path = pathlib.Path("/etc/xen-sev/owner.json")
        before, pids = path.read_text(), {unit: main_pid(unit) for unit in EXPOSURE}
        path.write_text(before.replace('"policies": ["web"]', '"policies": ["other"]'))
        run("systemctl", "reload", "sev-owner.service")
        until("the owner to refuse this host", lambda: not trusted())
        path.write_text(before)
        run("systemctl", "reload", "sev-owner.service", "sevd.service")
        until("the owner to trust this host again", trusted)
        self.assertEqual({unit: main_pid(unit) for unit in EXPOSURE}, pids)

    def test_07_stop(self):
        """Stopped while a launch waits for its owner, sevd calls it off: no success, no running guest, and both services end well."""
        owner = main_pid("sev-owner.service")
        os.kill(owner, signal.SIGSTOP)
        try:
            launch = subprocess.Popen(launch_words(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            time.sleep(3)
            if launch.poll() is not None:
                raise AssertionError(f"the launch did not wait for its owner: {launch.stdout.read()}{journal('sevd')}")
            run("systemctl", "stop", "sevd.service")
            said, _ = launch.communicate(timeout=PATIENCE_S)
        finally:
            os.kill(owner, signal.SIGCONT)
        self.assertIn(launch.returncode, (1, 2), said)
        self.assertNotIn("\nTRUSTED", "\n" + said)
        self.assertRegex(journal("sevd"), r"state=cancelled reason=\"owner server: called off\"\n.* stopped\n")
        for unit in EXPOSURE:
            run("systemctl", "stop", unit)
            self.assertEqual((show(unit, "Result"), show(unit, "ExecMainStatus"), show(unit, "ActiveState")), ("success", "0", "inactive"), journal(unit))
        run("systemctl", "start", "sev-owner.service")
        self.assertTrue(trusted())  # which starts sevd

    def test_08_watchdog(self):
        """A process that lives says so; one that sleeps is killed and started anew. With a shorter limit, so as not to wait."""
        for unit in EXPOSURE:
            with self.subTest(unit=unit):
                folder = pathlib.Path(f"/run/systemd/system/{unit}.d")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "watchdog.conf").write_text("[Service]\nWatchdogSec=4\n")
                run("systemctl", "daemon-reload")
                run("systemctl", "restart", unit)
                pid = main_pid(unit)
                time.sleep(9)
                self.assertEqual((main_pid(unit), show(unit, "ActiveState")), (pid, "active"), journal(unit))
                os.kill(pid, signal.SIGSTOP)
                until(f"{unit} to be started anew", lambda: show(unit, "MainPID") not in (str(pid), "0") and show(unit, "ActiveState") == "active")
                self.assertEqual(show(unit, "NRestarts"), "1")
        self.assertTrue(trusted())

    def test_09_no_core_dumps(self):
        """A crash leaves no memory behind, and the service comes back."""
        pathlib.Path("/proc/sys/kernel/core_pattern").write_text("/var/tmp/core.%e.%p\n")
        for unit in EXPOSURE:
            with self.subTest(unit=unit):
                pid = main_pid(unit)
                os.kill(pid, signal.SIGSEGV)
                until(f"{unit} to be started anew", lambda: show(unit, "MainPID") not in (str(pid), "0") and show(unit, "ActiveState") == "active")
        self.assertEqual(glob.glob("/var/tmp/core.*") + glob.glob("/tmp/core*") + glob.glob("/core*"), [])
        # and one would be seen
        crashed = subprocess.run(["sh", "-c", "ulimit -c unlimited; kill -SEGV $$"], check=False)
        self.assertNotEqual(crashed.returncode, 0)
        self.assertEqual(len(glob.glob("/var/tmp/core.*")), 1)
        self.assertTrue(trusted())

    def test_10_nothing_failed(self):
        self.assertEqual(run("systemctl", "--failed", "--no-legend", "--plain").strip(), "")


if __name__ == "__main__":
    unittest.main()
