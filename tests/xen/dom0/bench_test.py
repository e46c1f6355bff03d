# SPDX-License-Identifier: Apache-2.0
# lab: group=life timeout=600
"""What attestation costs on a real Xen: prediction against its raw work, the rate of capture against a bare loop, and a whole launch against a plain xl create."""
import os
import statistics
import time
import unittest

from dom0 import KERNEL_CLOUD, PRODUCT, ROOT, Guest, run
from launching import STORE, LaunchCase, house

ROUNDS = 3


def said(*words):
    print("MEASURED", *words, flush=True)


def bench(case, name):
    program = PRODUCT / name
    if not program.exists():
        case.skipTest(f"{name} is not in the build folder: preset release builds the benchmarks")
    return program


class Predict(LaunchCase):
    def test_prediction_against_the_raw_work(self):
        """As natively: the program wants at most 1.25 times the raw work, and equal digests."""
        done = self.ran(bench(self, "bench_xen_predict"), KERNEL_CLOUD, ROOT / "tests/fixtures/xen/acpi-2-2.json", ROUNDS, timeout_s=300)
        for line in done.stdout.splitlines():
            said(line)
        self.assertRegex(done.stdout, r"median ratio [0-9.]+, want 1\.25 or less")


class Capture(LaunchCase):
    def test_capture_and_hash_against_a_bare_loop(self):
        """The program wants 0.8 of the bare loop's rate, and equal digests; both map the same paused domain, in turns."""
        program = bench(self, "bench_xen_capture")
        self.reference()
        ramdisk = self.dir / "ramdisk"
        ramdisk.write_bytes(b"\0" + os.urandom((24 << 20) - 1))
        domid = Guest(self, "captured", memory=256, ramdisk=ramdisk).create()
        done = self.ran(program, "--domid", domid, PRODUCT / "xen-sev-keeper", STORE, ROUNDS, timeout_s=300)
        for line in done.stdout.splitlines():
            said(line)
        self.assertRegex(done.stdout, r"median ratio [0-9.]+, want 0\.80 or more")


class Launch(LaunchCase):
    def test_an_attested_launch_against_a_plain_create(self):
        """Until the domain runs; measured and said, in turns. The owner answers from this dom0, so its work is in it."""
        self.open()
        guest = Guest(self, "timed", memory=128, ramdisk=self.slotted("timed", "sleep 1000\n"))
        self.house.trusts("web", guest.config, acpi_reference=str(self.reference()))
        self.house.start()
        plain, attested = [], []

        def timed(times, work):
            begun = time.monotonic()
            work()
            times.append(time.monotonic() - begun)
            self.assertNotIn("p", guest.state())  # it runs
            run("xl", "destroy", guest.name)
            house.until("the guest is gone", self.idle)
            house.until("its launch has ended", lambda: all(launch["state"] != "running" for launch in self.house.launches()))

        for number in range(ROUNDS):
            kinds = [(plain, lambda: self.xl("create", guest.config)),
                     (attested, lambda: self.told(self.house.launch_xen("--xl-cfg", guest.config, policy="web"), 0))]
            for times, work in kinds if number % 2 == 0 else reversed(kinds):
                timed(times, work)
        ratios = [one / other for one, other in zip(attested, plain)]
        medians = statistics.median(plain), statistics.median(attested), statistics.median(ratios)
        said("launch of a PVH guest, {} rounds: xl create median {:.2f} s; attested {:.2f} s; median ratio {:.2f}".format(ROUNDS, *medians))
        self.assertEqual(len(ratios), ROUNDS)


if __name__ == "__main__":
    unittest.main()
