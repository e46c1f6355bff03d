# SPDX-License-Identifier: Apache-2.0
"""sevd under systemd's watchdog, with a PSP that hangs."""
import os
import signal
import socket
import subprocess
import time
import unittest

import host

DEADLINE_S = 8


class Watchdog(host.Host):
    def test_a_psp_that_hangs_is_no_reason_to_be_killed(self):
        """Whoever waits for the PSP is not whoever feeds the watchdog, nor whoever hears signals."""
        self.owner = host.Owner(self.dir)
        self.configure(psp={"backend": "emulated", "state": str(self.dir / "psp"), "faults": ["PLATFORM_STATUS=hang,count=0"], "deadline_ms": DEADLINE_S * 1000})
        notify = self.dir / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            heard.bind(str(notify))
            heard.settimeout(60)
            environment = {**os.environ, "NOTIFY_SOCKET": str(notify), "WATCHDOG_USEC": str(DEADLINE_S * 1_000_000)}
            self.daemon = subprocess.Popen([host.SEVD, "--config", str(self.configuration)], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment)
            while b"READY=1" not in heard.recv(4096):
                pass
            end, last, longest, hung = time.monotonic() + 3 * DEADLINE_S, time.monotonic(), 0.0, 0
            while time.monotonic() < end:
                if heard.recv(4096) == b"WATCHDOG=1":
                    longest, last = max(longest, time.monotonic() - last), time.monotonic()
                    hung += self.get("/v1/status")[1]["psp"]["state"] == "silent"
            self.assertLess(longest, DEADLINE_S / 2)
            self.assertGreater(hung, 0)
            self.daemon.send_signal(signal.SIGTERM)
            told = time.monotonic()
            while b"STOPPING=1" not in heard.recv(4096):
                pass
            self.assertLess(time.monotonic() - told, DEADLINE_S / 2)
            self.assertEqual(self.daemon.wait(4 * DEADLINE_S), 0)


if __name__ == "__main__":
    unittest.main()
