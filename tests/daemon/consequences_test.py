# SPDX-License-Identifier: Apache-2.0
"""What an owner, a file or a reader may do to sevd, and what of it stays without consequence for others: channel commands, long answers, lists, memory."""
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import re
import signal
import sqlite3
import sys
import threading
import time
import unittest

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import host


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Consequences(host.Host):
    def said(self, text):
        """How often the log says this."""
        return (self.dir / "log").read_text(errors="replace").count(text)

    def channel(self, *argv):
        self.configure(owners={"alice": {"key": self.owner.key, "channel": {"command": list(argv)}, "deadline_s": 3}})

    def reload(self, said):
        """SIGHUP, until the log says it once more."""
        before = self.said(said)
        self.daemon.send_signal(signal.SIGHUP)
        until = time.monotonic() + 15
        while self.said(said) == before and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(self.said(said), before + 1)

    def test_a_bad_file_changes_no_command(self):
        self.owner = host.Owner(self.dir)
        carrier = self.carrier()
        self.channel(carrier)
        self.start()
        good = self.configuration.read_text()
        self.configuration.write_text("{")
        record = self.settle(self.launch("before"), "running")  # nobody has said that the file is to be read
        self.assertEqual(record["state"], "running", record["reason"])
        self.reload("the new configuration is not taken")
        record = self.settle(self.launch("after"), "running")
        self.assertEqual(record["state"], "running", record["reason"])
        self.channel("/bin/false")
        record = self.settle(self.launch("unread"), "running")
        self.assertEqual(record["state"], "running", record["reason"])
        self.reload("configuration reloaded")
        self.assertEqual(self.settle(self.launch("read"))["state"], "failed")  # /bin/false answers nothing
        self.configuration.write_text(good)
        self.reload("configuration reloaded")
        record = self.settle(self.launch("again"), "running")
        self.assertEqual(record["state"], "running", record["reason"])
        self.stop()

    def test_an_answer_of_more_than_is_kept(self):
        """An owner whose refusal is within each check's limit, and in all more than sevd would read again of its journal."""
        key = ec.generate_private_key(ec.SECP384R1())
        numbers = key.public_key().public_numbers()
        x, y = (base64url(number.to_bytes(48, "big")) for number in (numbers.x, numbers.y))
        kid = base64url(hashlib.sha256(f'{{"crv":"P-384","kty":"EC","x":"{x}","y":"{y}"}}'.encode()).digest())
        (self.dir / "kid").write_text(kid)
        (self.dir / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        verbose = self.dir / "verbose"
        verbose.write_text(f"""#!{sys.executable} -B
import base64, hashlib, json, pathlib, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
here = pathlib.Path({str(self.dir)!r})
text = sys.stdin.buffer.read()
def base64url(data): return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
checks = [{{"check": "c%03d" % i, "passed": False, "detail": "d" * 4096}} for i in range(256)]
answer = {{"format": "xen-sev/exchange-answer", "version": 1, "request": hashlib.sha256(text).hexdigest(), "answered_at": "2026-01-02T03:04:05Z",
          "refusal": {{"launch_name": json.loads(text)["launch_name"], "checks": checks}}}}
head = {{"alg": "ES384", "kid": (here / "kid").read_text(), "typ": "xen-sev-answer+jwt"}}
signed = base64url(json.dumps(head).encode()) + "." + base64url(json.dumps(answer).encode())
key = serialization.load_pem_private_key((here / "key.pem").read_bytes(), None)
r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA384())))
print(signed + "." + base64url(r.to_bytes(48, "big") + s.to_bytes(48, "big")))
""")
        verbose.chmod(0o755)
        self.owner = host.Owner(self.dir)
        self.configure(owners={"alice": {"key": {"kty": "EC", "crv": "P-384", "x": x, "y": y}, "channel": {"command": [str(verbose)]}, "deadline_s": 20}})
        self.start()
        record = self.settle(self.launch("verbose"))
        self.assertEqual(record["state"], "failed")
        self.assertIn("bytes, want at most 262144", record["reason"])
        self.assertEqual(self.get("/v1/status")[1]["journal"]["state"], "ok")
        self.daemon.kill()
        self.daemon.wait()
        self.start()
        self.assertEqual([each["state"] for each in self.get("/v1/launches")[1]["launches"]], ["failed"])
        self.stop()

    def test_a_launch_that_cannot_be_read_hides_no_other(self):
        """As an earlier version left it: its end is in the journal, and its verdict is too long."""
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        ids = [self.launch(name) for name in ("first", "second")]
        for each in ids:
            self.settle(each, "running")
            self.ask("DELETE", f"/v1/launches/{each}")
            self.settle(each)
        self.daemon.kill()
        self.daemon.wait()
        with contextlib.closing(sqlite3.connect(self.state / "journal.sqlite")) as database:
            database.execute("UPDATE launches SET verdict=? WHERE id=?", (json.dumps("x" * 1_100_000), ids[0]))
            database.commit()
        self.start()
        status, body, _ = self.get(f"/v1/launches/{ids[0]}")
        self.assertEqual(status, 500)
        self.assertIn("want at most 1048576", body["detail"])
        self.assertEqual(len(self.get("/v1/launches")[1]["launches"]), 2)
        self.stop()
        with contextlib.closing(sqlite3.connect(self.state / "journal.sqlite")) as database:
            database.execute("UPDATE launches SET guest='' WHERE id=?", (ids[0],))
            database.commit()
        self.start()
        for _ in range(2):
            status, body, _ = self.get("/v1/launches")
            self.assertEqual((status, [each["id"] for each in body["launches"]]), (200, [ids[1]]))
        self.assertEqual(self.said("left out of lists"), 1)
        self.stop()

    def test_readers_do_not_hold_up_a_launch(self):
        """A thousand ended launches are kept; many who only look list them all, again and again."""
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        first = self.launch("first")
        self.settle(first, "running")
        self.ask("DELETE", f"/v1/launches/{first}")
        self.settle(first)
        self.stop()
        columns = ("name,owner,policy,evidence,guest,identity,state,reversal,reason,created,updated,es,asid,handle,session,verdict,steps,level,emulated,"
                   "ended")
        with contextlib.closing(sqlite3.connect(self.state / "journal.sqlite")) as database:
            database.executemany(f"INSERT INTO launches({columns}) SELECT {columns} FROM launches WHERE id=?", [(first,)] * 999)
            database.commit()
        self.start()
        enough, listed = threading.Event(), []

        def look():
            while not enough.is_set():
                with contextlib.suppress(OSError):
                    listed.append(len(self.get("/v1/launches?limit=1000")[1]["launches"]))

        readers = [threading.Thread(target=look) for _ in range(24)]
        for reader in readers:
            reader.start()
        try:
            until = time.monotonic() + 20
            while len(listed) < 24 and time.monotonic() < until:
                time.sleep(0.05)
            before = len(listed)
            record = self.launch("among-many")
            waited = len(listed) - before
            self.assertEqual(self.settle(record, "running", seconds=60)["state"], "running")
        finally:
            enough.set()
            for reader in readers:
                reader.join()
        self.assertEqual(set(listed), {1000})
# counted in answers, not in seconds: a launch that stood in line with the readers would have waited for most of them
        self.assertLess(waited, 12)
        self.stop()

    @unittest.skipIf(os.environ.get("SEV_SANITIZED", "0") == "1", "a sanitizer's library does not lock memory")
    def test_memory_is_locked_but_a_guests_is_not(self):
        size = 64 << 20
        with open(self.dir / "one", "r+b") as image:
            image.truncate(size)
        self.owner = host.Owner(self.dir)
        self.configure()
        self.start()
        self.assertEqual(self.settle(self.launch(), "running")["state"], "running")
        if self.said("memory is not locked"):
            self.stop()
            self.skipTest("this process may not lock memory without limit")
        guest = slots = locked = others = 0
        for mapping in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", pathlib.Path(f"/proc/{self.daemon.pid}/smaps").read_text())[1:]:
            lines = mapping.splitlines()
            if " rw-p " not in lines[0]:
                continue
            kib = {name: int(value) for name, value in re.findall(r"(?m)^(Size|Rss): +(\d+) kB", mapping)}
            flags = lines[-1].split()[1:]
            if "dd" in flags:  # in no core file: what is a guest's
                slots += kib["Size"] * ("lo" in flags)
                guest += kib["Size"] * ("lo" not in flags)
            elif "lo" in flags:
                locked += kib["Rss"]
            else:
                others += kib["Rss"]
        self.assertGreaterEqual(guest, size >> 10)
        self.assertEqual(slots, 4)
        self.assertGreater(locked, 1024)
        self.assertEqual(others, 0)
        self.stop()


if __name__ == "__main__":
    unittest.main()
