# SPDX-License-Identifier: Apache-2.0
# lab: group=pages timeout=900
"""docs/xen.md, from its first command to its last as they stand there, in a real Xen's dom0. Stand-ins: apt puts the programs of this build where the packages would, systemctl starts what
the units say (tests/package/pages.py). The guest is Debian's kernel and a ramdisk that shows, again and again, the hash of the key it finds."""
import hashlib
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import unittest

from dom0 import KERNEL_CLOUD, PRODUCT, ROOT, Case, ramdisk, run

sys.path.insert(0, str(ROOT / "tests/package"))
import pages  # noqa: E402

KEY = b"correct horse battery staple"  # as the page has it
SAY = "while :; do echo SECRET $(sha256sum </luks-key | cut -d' ' -f1); sleep 2; done\n"
APT = f"""#!/bin/sh
set -eu
[ "$1" = install ]
for program in sevctl sev-emulator sev-owner; do ln -sf {PRODUCT}/$program /usr/bin/$program; done
ln -sf {PRODUCT}/sevd /usr/sbin/sevd
for folder in /usr/libexec /usr/local/libexec; do mkdir -p $folder/xen-sev; ln -sf {PRODUCT}/xen-sev-keeper $folder/xen-sev/xen-sev-keeper; done
mkdir -p /lib/systemd/system /etc/xen-sev
cp {ROOT}/packaging/systemd/*.service /lib/systemd/system/
grep -q ^xen-sev-owner: /etc/passwd || echo 'xen-sev-owner:x:490:490::/var/lib/xen-sev-owner:/usr/sbin/nologin' >>/etc/passwd
grep -q ^xen-sev-owner: /etc/group || printf 'xen-sev-owner:x:490:\\nxen-sev:x:491:\\n' >>/etc/group
install -d -o xen-sev-owner -g xen-sev-owner -m 0700 /var/lib/xen-sev-owner
"""
LIMIT_S = 800


class Page(Case):
    def test_xen_page(self):
        home = pathlib.Path.home()
        (home / "guest").mkdir(exist_ok=True)
        self.addCleanup(shutil.rmtree, home / "guest", ignore_errors=True)
        shutil.copy(KERNEL_CLOUD, home / "guest/vmlinuz")  # the page takes the host's where there is none yet
        (home / "guest/initrd.img").write_bytes(ramdisk(SAY))
        for name, text in (("apt", APT), ("systemctl", pages.SYSTEMCTL)):
            program = pathlib.Path("/usr/local/sbin") / name
            program.write_text(text)
            program.chmod(0o755)
        chosen = [commands for place, commands in pages.blocks("xen.md") if place in pages.PLACES["xen.md"]]
        self.assertEqual(len(chosen), len(pages.blocks("xen.md")))
        script = self.dir / "page.sh"
        script.write_text("set -euxo pipefail\n" + "\n".join(chosen))
        self.addCleanup(run, "xl", "destroy", "web")
        self.addCleanup(self.stop_services)
        status, said = self.on_a_terminal("bash", str(script))
        self.assertEqual(status, 0, said[-6000:])
        self.assertRegex(said, r"\nTRUSTED")
        self.assertIn("as its configuration says, byte for byte", said)
        self.assertIn("refused, as it should be", said.splitlines()[-1])
        self.assertNotIn(KEY.decode(), re.sub(r"(?m)^\+.*$", "", said))  # but for the command that makes it
        self.assertIsNone(re.search(r"\nweb\s", self.xl("list").stdout), "the changed guest is still there")

    def stop_services(self):
        for service in ("sevd", "sev-owner"):
            for line in run("ps", "-C", service, "-o", "pid=").stdout.split():
                os.kill(int(line), 15)

    def on_a_terminal(self, *words):
        """Runs it as a person would, who leaves the guest's console (Ctrl-]) once the key's hash is on it. Exit status, and all that was said."""
        wanted = f"SECRET {hashlib.sha256(KEY).hexdigest()}".encode()
        master, slave = pty.openpty()
        environment = {**os.environ, "HOME": str(pathlib.Path.home()), "START_TENTHS": "1200"}
        process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True, cwd=self.dir)
        os.close(slave)
        said, left, end = b"", False, time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if select.select([master], [], [], 1)[0]:
                try:
                    piece = os.read(master, 65536)
                except OSError:  # nobody has the other end any more
                    break
                if not piece:
                    break
                said += piece
                if not left and wanted in said:
                    os.write(master, b"\x1d")
                    left = True
            elif process.poll() is not None:  # daemons that it started may hold the terminal
                break
        else:
            process.kill()
            self.fail(f"not done after {LIMIT_S} s:\n{said.decode(errors='replace')[-6000:]}")
        os.close(master)
        self.assertTrue(left, f"the key never was on the guest's console:\n{said.decode(errors='replace')[-6000:]}")
        return process.wait(30), said.decode(errors="replace").replace("\r\n", "\n").rstrip("\n")


if __name__ == "__main__":
    unittest.main()
