# SPDX-License-Identifier: Apache-2.0
"""The machine is reset under a guest, and under a PSP that hangs: a power cycle, after which both serve again and the chip is who it was."""
import unittest

from vsev import BOOT_S, Guest, MachineCase, virtual_machine

SEV = 0x1
NOBODY = 1 << 22  # no process has this number


class Rebooting(virtual_machine.Machine):
    def words(self, *given):
        return [word for word in super().words(*given) if word != "-no-reboot"]


class Reset(MachineCase):
    kind = Rebooting
    options = {"ccp_options": "psp_cmd_timeout=5 psp_probe_timeout=5"}

    def reset(self):
        ready = self.lab() / "done/ready"
        before = self.ran("cat", "/proc/sys/kernel/random/boot_id").out
        ready.unlink()
        self.ask(do="start", words=["sh", "-c", "sync; sleep 0.5; echo b >/proc/sysrq-trigger"], log="/tmp/reset.log")
        self.wait("the machine to come up again", ready.exists, BOOT_S)
        self.assertNotEqual(self.ran("cat", "/proc/sys/kernel/random/boot_id").out, before)

    def test_01_under_a_guest(self):
        chip, guest = self.sevctl("show", "identifier"), Guest(self, SEV)
        self.assertEqual(self.sevctl("show", "guests"), "1\n")
        self.reset()
        guest.pid = NOBODY  # it went with its host
        self.assertEqual(self.sevctl("show", "guests"), "0\n")
        self.assertEqual(self.sevctl("show", "identifier"), chip)
        again = Guest(self, SEV)
        self.assertEqual(self.sevctl("show", "guests"), "1\n")
        again.end()

    def test_02_under_a_psp_that_hangs(self):
        self.restart_psp(["PDH_GEN=hang"])
        self.assertRegex(self.ran("sevctl", "rotate", "--yes", status=2).err, "(?i)timed out|did not answer|timeout")
        self.assertFalse(self.answers())
        self.reset()
        self.assertTrue(self.answers())
        Guest(self, SEV).end()


if __name__ == "__main__":
    unittest.main()
