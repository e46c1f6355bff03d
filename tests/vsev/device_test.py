# SPDX-License-Identifier: Apache-2.0
"""Linux' own ccp driver on the emulated PSP: sevctl on the real character device."""
import json
import shutil
import unittest

from vsev import MachineCase, tool


class Device(MachineCase):
    def owner_files(self):
        certificate, key = self.work / "oca.cert", self.work / "oca.key"
        if not certificate.exists():
            tool("sevctl", "generate", certificate, key)
        for path in (certificate, key, self.ca, self.cek):
            shutil.copy(path, self.lab() / "out")
        return "/lab/out/oca.cert", "/lab/out/oca.key"

    def chain(self):
        self.sevctl("export", "--unsigned", "--force", "/lab/out/chain")
        return (self.lab() / "out/chain").read_bytes()

    def test_01_the_drivers_found_what_they_want(self):
        log = self.ran("dmesg").out
        for line in ("ccp 0000:00:01.0: sev enabled", "ccp 0000:00:01.0: psp enabled", "SEV API:0.17 build:48", "SEV enabled (ASIDs 9 - 15)", "SEV-ES enabled (ASIDs 1 - 8)"):
            self.assertIn(line, log)
        self.assertEqual(self.ran("cat", "/sys/module/kvm_amd/parameters/sev", "/sys/module/kvm_amd/parameters/sev_es").out.split(), ["Y", "Y"])
        self.assertEqual(self.ran("stat", "-c", "%F %a", "/dev/sev").out, "character special file 600\n")
        self.assertEqual([line.split()[0] for line in self.lines()[:3]], ["PLATFORM_STATUS", "INIT", "DF_FLUSH"])
        self.assertIn("flags=0x1", self.lines()[1])

    def test_02_status_and_show(self):
        self.assertEqual(self.sevctl("show", "version"), "0.17.48\n")
        self.assertEqual(self.sevctl("show", "flags"), "es\n")
        self.assertEqual(self.sevctl("show", "guests"), "0\n")
        self.assertEqual(self.sevctl("show", "identifier").strip(), self.chip["chip_id"].upper())
        status = json.loads(self.sevctl("status", "--json"))
        self.assertIn("0.17.48", json.dumps(status))

    def test_03_chain_and_verify(self):
        self.owner_files()
        self.assertEqual(len(self.chain()), 8336)
        own = ("--cek", "/lab/out/cek", "--ca", "/lab/out/ca")
        self.sevctl("verify", *own, "--root", self.chip["root"])
        self.sevctl("verify", *own, status=1)  # a root that nobody has named

    def test_04_provision_rotate_reset(self):
        certificate, key = self.owner_files()
        before = self.chain()
        self.sevctl("provision", "--yes", certificate, key)
        self.assertEqual(self.sevctl("show", "flags").split(), ["owned", "es"])
        owned = self.chain()
        self.assertNotEqual(owned[:2084], before[:2084])  # PDH
        self.sevctl("verify", "--cek", "/lab/out/cek", "--ca", "/lab/out/ca", "--root", self.chip["root"], "--oca", certificate)
        refused = self.ran("sevctl", "provision", "--yes", certificate, key, status=2)
        self.assertIn("ALREADY_OWNED", refused.err)
        self.sevctl("rotate", "--yes")
        rotated = self.chain()
        self.assertNotEqual(rotated[:2084], owned[:2084])
        self.assertEqual(rotated[2084:], owned[2084:])
        self.sevctl("rotate", "--pek", "--yes")
        self.assertEqual(self.sevctl("show", "flags"), "es\n")
        self.sevctl("reset", "--yes")
        self.assertNotEqual(self.chain()[2084:4168], before[2084:4168])  # another PEK
        names = [line.split()[0] for line in self.lines()]
        for name in ("PEK_CSR", "PEK_CERT_IMPORT", "PDH_GEN", "PEK_GEN", "SHUTDOWN", "PLATFORM_RESET"):
            self.assertIn(name, names)
        self.assertEqual(names[names.index("PLATFORM_RESET") - 1], "SHUTDOWN")

    def test_05_signing_request(self):
        self.sevctl("pek-csr", "--force", "/lab/out/csr")
        self.assertEqual((self.lab() / "out/csr").stat().st_size, 2084)

    def test_06_who_may(self):
        self.ran("cp", "-r", "/opt/xen-sev/bin/sevctl", "/tmp/sevctl")
        nobody = self.ran("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/tmp/sevctl", "show", "version", status=2)
        self.assertIn("/dev/sev", nobody.err)
        self.ran("chmod", "644", "/dev/sev")
        self.assertEqual(self.ran("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/tmp/sevctl", "show", "version").out, "0.17.48\n")
        refused = self.ran("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/tmp/sevctl", "rotate", "--yes", status=2)
        self.assertIn("/dev/sev", refused.err)
        self.ran("chmod", "600", "/dev/sev")

    def test_07_every_ioctl_with_every_bad_length(self):
        """The ioctls by number, as a program does that knows <linux/psp-sev.h> alone; the errno and the firmware's status of each."""
        told = json.loads(self.ran("python3", "-B", "/share/tests/vsev/ioctls.py").out)
        invalid_length, none = 4, 0
        self.assertEqual(told["PLATFORM_STATUS"], [0, none])
        self.assertEqual(told["PLATFORM_STATUS null"], [14, none])
        self.assertEqual(told["PEK_GEN"], [0, none])
        self.assertEqual(told["PDH_GEN"], [0, none])
        self.assertEqual(told["PEK_CSR length 0"], [5, invalid_length, 2084])
        self.assertEqual(told["PEK_CSR"], [0, none, 2084])
        self.assertEqual(told["PEK_CSR length 16385"], [14, none, 16385])
        self.assertEqual(told["PDH_CERT_EXPORT lengths 0"], [5, invalid_length, 2084, 6252])
        self.assertEqual(told["PDH_CERT_EXPORT"], [0, none, 2084, 6252])
        self.assertEqual(told["GET_ID2 length 0"], [5, invalid_length, 64])
        self.assertEqual(told["GET_ID2"], [0, none, 64])
        self.assertEqual(told["GET_ID"], [0, none])
        self.assertEqual(told["PEK_CERT_IMPORT of zeros"], [5, 6])  # INVALID_CERTIFICATE
        self.assertEqual(told["FACTORY_RESET"], [0, none])
        self.assertEqual(told["command 9"], [22, none])
        self.assertEqual(told["another ioctl"], [22, none])
        self.assertEqual(told["PEK_GEN read-only"], [1, none])

    def test_08_every_status_at_every_command(self):
        """Whatever the firmware answers comes through the driver to who asked, by name and number, with exit status 2."""
        statuses = {number: json.loads(tool("sevctl", "explain", hex(number), "--json"))["name"] for number in (*range(1, 0x1E), 0x1F)}
        self.assertEqual((statuses[0x0B], statuses[0x1F]), ("BAD_MEASUREMENT (0x000B)", "RING_BUFFER_EXIT (0x001F)"))
        certificate, key = self.owner_files()
        commands = {"PDH_GEN": "rotate --yes", "PEK_GEN": "rotate --pek --yes", "PEK_CSR": "pek-csr --force /tmp/csr", "PDH_CERT_EXPORT": "export --unsigned --force /tmp/chain",
                    "GET_ID": "show identifier", "PEK_CERT_IMPORT": f"provision --yes {certificate} {key}", "PLATFORM_RESET": "reset --yes"}
        faults = {command: dict(statuses) for command in commands}
        del faults["GET_ID"][4]  # INVALID_LENGTH tells how much room it takes, and is answered by asking again
        self.restart_psp([f"{command}={number:#x}" for command, numbers in faults.items() for number in numbers])
        for command, words in commands.items():
            # each fault is for one command, in their order
            told = self.ran("sh", "-c", f"for i in $(seq {len(faults[command])}); do sevctl {words} 2>&1 >/dev/null; echo \"exit status $?\"; done").out
            answers = told.split("exit status ")
            with self.subTest(command=command):
                for (number, name), before, after in zip(faults[command].items(), answers, answers[1:]):
                    self.assertIn(name, before, f"{command} {number:#x}")
                    self.assertEqual(after.split()[0], "2", f"{command} {number:#x}")
                self.sevctl(*words.split())  # the faults are used up

    def test_09_the_kernel_is_well(self):
        self.assert_kernel_is_well()


if __name__ == "__main__":
    unittest.main()
