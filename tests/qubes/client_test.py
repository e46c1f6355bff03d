#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The client of sevd against one that answers anything: in time, bounded, and with one kind of exception. Also what is read of answers and kept as reference values."""
import asyncio
import json
import pathlib
import random
import sys
import tempfile
import time
import unittest
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "libxl-hooks/qubes"))
from xen_sev_qubes import gate, reference, sevd, settings, status  # noqa: E402

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Hostile(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="xen-sev-client-")))
        self.socket = str(self.dir / "s")

    async def answered(self, pieces, pause_s=0.0, timeout_s=5.0, **options):
        """What ask() makes of a peer that says `pieces` and hangs up."""
        got = []

        async def serve(reader, writer):
            try:
                got.append(await reader.readuntil(b"\r\n\r\n"))
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    if pause_s:
                        await asyncio.sleep(pause_s)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_unix_server(serve, self.socket)
        try:
            return await sevd.ask("GET", "/v1/status", timeout_s=timeout_s, socket=self.socket, **options)
        finally:
            self.got = got
            server.close()
            await server.wait_closed()

    async def test_a_good_answer(self):
        answer = await self.answered([OK])
        self.assertEqual((answer.status, answer.body), (200, {}))
        self.assertIn(b"GET /v1/status HTTP/1.1\r\n", self.got[0])
        answer = await self.answered([b"HTTP/1.1 204 No Content\r\n\r\n"])
        self.assertEqual((answer.status, answer.body), (204, None))

    async def test_a_good_answer_in_any_pieces(self):
        for size in (1, 2, 7):
            pieces = [OK[at:at + size] for at in range(0, len(OK), size)]
            self.assertEqual((await self.answered(pieces)).body, {})

    async def test_every_truncation_is_trouble(self):
        for length in range(len(OK)):
            with self.subTest(length=length), self.assertRaises(sevd.Trouble):
                await self.answered([OK[:length]])

    async def test_bad_heads_are_trouble_and_say_which(self):
        for head, says in {
                b"SPDY/9 200 OK": "no HTTP", b"HTTP/1.1 2000 OK": "no HTTP", b"HTTP/1.1 abc OK": "no HTTP", b"": "no HTTP", b"HTTP/1.1": "no HTTP",
                b"HTTP/1.1 200 OK": "no Content-Length", b"HTTP/1.1 200 OK\r\nContent-Length: -1": "Content-Length that is none", b"HTTP/1.1 200 OK\r\nContent-Length: 0x2": "Content-Length that is none",
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2": "Content-Length that is none", b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999": "Content-Length that is none",
                b"HTTP/1.1 200 OK\r\nContent-Length: 99999999": "at most", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked": "chunks", b"HTTP/1.1 200 OK\r\nno colon": "header line",
                b"HTTP/1.1 200 OK\r\n Content-Length: 2": "header line", b"HTTP/1.1 200 OK\r\nX: \xff": "not ASCII", b"HTTP/1.1 200 OK" + b"\r\nX: y" * 65: "more than 64",
                b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000: "more than 8192 bytes"}.items():
            with self.subTest(head=head[:60]), self.assertRaises(sevd.Trouble) as caught:
                await self.answered([head + b"\r\n\r\n{}"])
            self.assertIn(says, str(caught.exception))
            self.assertRegex(str(caught.exception), r"^[ -~]+$")

    async def test_bad_bodies_are_trouble(self):
        for body in (b"", b"{", b"nothing", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1, "a": 2}', b"\xff\xfe", b"[" * 100000, b'{"a": "\xed\xa0\x80"}'):
            raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            if body:
                with self.subTest(body=body[:20]), self.assertRaises(sevd.Trouble):
                    await self.answered([raw])

    async def test_a_slow_peer_and_a_silent_one_meet_the_deadline(self):
        for pieces in ([OK[at:at + 1] for at in range(len(OK))], [b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n"] * 1000):
            began = time.monotonic()
            with self.assertRaises(sevd.Trouble) as caught:
                await self.answered(pieces, pause_s=0.1, timeout_s=0.5)
            self.assertIn("within 0.5 seconds", str(caught.exception))
            self.assertLess(time.monotonic() - began, 3)

    async def test_an_endless_peer_is_not_read_to_its_end(self):
        sent = 0

        async def serve(reader, writer):
            nonlocal sent
            try:
                await reader.readuntil(b"\r\n\r\n")
                while sent < 1 << 30:
                    writer.write(b"x" * 65536)
                    await writer.drain()
                    sent += 65536
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_unix_server(serve, self.socket)
        with self.assertRaises(sevd.Trouble):
            await sevd.ask("GET", "/", socket=self.socket)
        self.assertLess(sent, 16 << 20)
        server.close()

    async def test_nobody_there_is_absent(self):
        with self.assertRaises(sevd.Absent):
            await sevd.ask("GET", "/", socket=self.socket)
        (self.dir / "f").write_text("")
        with self.assertRaises(sevd.Absent):  # a socket that nobody listens on refuses; so does a file
            await sevd.ask("GET", "/", socket=str(self.dir / "f"))

    async def test_any_bytes_give_an_answer_or_trouble(self):
        chance = random.Random(20261122)
        for number in range(400):
            raw = bytearray(OK if number % 2 else b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\nX: y\r\n\r\n" + b'{"state": "ready", "level": 1}')
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(raw))
                if chance.random() < 0.5:
                    raw[at] = chance.randrange(256)
                else:
                    raw[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 5)))
            try:
                await self.answered([bytes(raw)], timeout_s=2)
            except sevd.Trouble as trouble:
                self.assertRegex(str(trouble), r"^[ -~]+$", raw)


class Outcomes(unittest.TestCase):
    good = {"id": 1, "name": "work", "state": "running", "verdict": {"trusted": True, "checks": []}}

    def test_only_a_plain_yes_of_a_running_launch_is_trusted(self):
        self.assertTrue(gate.Outcome(self.good).trusted)
        for change in ({"verdict": {"trusted": "true"}}, {"verdict": {"trusted": 1}}, {"verdict": None}, {"verdict": True}, {"verdict": [True]}, {"state": "judging"}, {"state": None},
                       {"state": "refused"}, {"state": ["running"]}):
            self.assertFalse(gate.Outcome(dict(self.good, **change)).trusted, change)
        self.assertFalse(gate.Outcome({}).trusted)

    def test_what_is_not_said_to_be_real_is_called_emulated(self):
        self.assertIn("emulated PSP", str(gate.Outcome(self.good)))
        self.assertNotIn("emulated", str(gate.Outcome(dict(self.good, emulated=False))))

    def test_what_a_guest_is_told_is_little_and_printable(self):
        told = status.told("work", dict(self.good, state="running\x1b", level=True, owner="vault" * 100, asid=3, guest={"xl_cfg": "/secret/path"}))
        self.assertEqual(set(told), {"format", "version", "qube", "attested", "state", "owner", "emulated"})
        self.assertFalse(told["attested"])  # that state is none
        self.assertLess(len(told["owner"]), 140)
        self.assertEqual(status.told("work", None), {"format": "xen-sev/qube-status", "version": 1, "qube": "work", "attested": False})

    def test_the_newest_launch_of_that_name_and_of_no_other(self):
        def answer(*launches):
            return sevd.Answer(200, {"launches": list(launches)})

        self.assertEqual(status.newest(answer({"id": 4, "name": "work"}), "work"), 4)
        self.assertIsNone(status.newest(answer(), "work"))
        for bad in (sevd.Answer(200, []), sevd.Answer(200, {"launches": {}}), sevd.Answer(500, {"launches": []}), answer({"id": 4, "name": "other"}), answer(7), answer({"name": "work"}),
                    answer({"id": True, "name": "work"}), answer({"id": -1, "name": "work"}), answer({"id": "4", "name": "work"}), answer({"id": 4, "name": "work"}, {"id": 1, "name": "work"})):
            with self.assertRaises(sevd.Trouble, msg=bad.body):
                status.newest(bad, "work")
        with self.assertRaises(sevd.Trouble):
            asyncio.run(status.latest("work&limit=1000"))  # no name of a qube, so not asked for

    def test_status_takes_no_argument_and_no_odd_name(self):
        with unittest.mock.patch("sys.stderr"):
            for environment, arguments in (({}, []), ({"QREXEC_REMOTE_DOMAIN": "work"}, ["x"]), ({"QREXEC_REMOTE_DOMAIN": "a&b"}, []), ({"QREXEC_REMOTE_DOMAIN": "-x"}, [])):
                self.assertEqual(status.main(environment, arguments), 1)


class References(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="xen-sev-reference-")))
        self.account = {"equal": True, "differences": [], "launch_digest": "ab" * 32, "regions": [{"label": "kernel", "gpa": "0x1", "length": 10, "sha256": "01" * 32},
                                                                                                  {"label": "cmdline", "gpa": "0x2", "length": 5, "sha256": "02" * 32}],
                        "build": "later", "other_build": {"build": "first", "launch_digest": "ef" * 32, "regions": [{"label": "kernel", "gpa": "0x1", "length": 10, "sha256": "01" * 32}]}}

    def test_a_value_goes_out_and_comes_back(self):
        value = reference.measured(self.account).value("work")
        store = reference.Store(self.dir / "references")
        self.assertIsNone(store.read("work"))
        store.write("work", value)
        self.assertEqual(store.read("work"), value)
        self.assertEqual([path.name for path in (self.dir / "references").iterdir()], ["work.json"])

    def test_it_is_what_an_owners_policy_takes(self):
        try:
            import jsonschema  # pylint: disable=import-outside-toplevel
        except ImportError:
            self.skipTest("python3-jsonschema is absent")
        schema = json.loads((ROOT / "docs/schemas/owner-policy.schema.json").read_text())
        listed = reference.for_policy(reference.measured(self.account).value("work"))
        self.assertEqual([(one["name"], one["digest"]) for one in listed], [("work", "ab" * 32), ("work-first", "ef" * 32)])
        jsonschema.validate(listed, dict(schema["properties"]["references"], **{"$defs": schema.get("$defs", {})}))

    def test_an_account_goes_out_and_comes_back_and_a_broken_one_is_refused(self):
        accounts = reference.Account(self.dir)
        self.assertIsNone(accounts.read("work"))
        accounts.write("work", 7, self.account)
        self.assertEqual(accounts.read("work"), (7, self.account))
        for text in ("[]", "{}", json.dumps({"qube": "other", "xid": 7, "capture": {}}), json.dumps({"qube": "work", "xid": "7", "capture": {}}), json.dumps({"qube": "work", "xid": 7, "capture": []})):
            (self.dir / "work.json").write_text(text)
            with self.assertRaises(reference.Malformed):
                accounts.read("work")

    def test_what_differs_from_its_configuration_is_no_reference_value(self):
        with self.assertRaises(reference.Malformed):
            reference.measured(dict(self.account, equal=False, differences=["kernel"])).value("work")
        for change in ({"equal": True, "differences": ["x"]}, {"equal": False}, {"equal": "yes"}, {"differences": None}, {"launch_digest": None}, {"launch_digest": "AB" * 32},
                       {"launch_digest": "ab" * 31}, {"regions": []}):
            with self.assertRaises(reference.Malformed):
                reference.measured(dict(self.account, **change))

    def test_it_is_the_same_whichever_guest_of_its_libvirtd_was_measured(self):
        other = {**self.account["other_build"], "other_build": {key: self.account[key] for key in ("build", "launch_digest", "regions")}, "equal": True, "differences": []}
        self.assertEqual(reference.measured(other).value("work"), reference.measured(self.account).value("work"))
        for bad in ({"build": "first"}, {"build": "third"}, {"build": None}, {"other_build": None}, {"other_build": []}, {"other_build": dict(self.account["other_build"], build="later")},
                    {"other_build": dict(self.account["other_build"], launch_digest="x")}, {"other_build": dict(self.account["other_build"], regions=[])}):
            with self.subTest(bad=bad), self.assertRaises(reference.Malformed):
                reference.measured(dict(self.account, **bad))

    def test_changes_name_what_changed(self):
        old = reference.measured(self.account).value("work")
        self.account["launch_digest"] = "cd" * 32
        self.account["regions"][0] = {"label": "kernel", "length": 12, "sha256": "03" * 32}
        self.account["regions"][1]["label"] = "ramdisk"
        lines = "\n".join(reference.changes(old, reference.measured(self.account).value("work")))
        for word in ("kernel: 10 -> 12 bytes", "cmdline: gone", "ramdisk: new"):
            self.assertIn(word, lines)
        self.assertEqual(reference.changes(old, old), [])

    def test_broken_files_and_answers_are_refused(self):
        store = reference.Store(self.dir)
        good = json.dumps(reference.measured(self.account).value("work"))
        for text in ("", "{}", good[:-5], good.replace('"work"', '"other"'), good.replace("ab", "zz"), good.replace('"regions"', '"regions_"'), good.replace('"first"', '"second"'), good.replace("ef" * 32, "ef"), "[" * 100000, good + " " * (reference.FILE_LIMIT_BYTES + 1)):
            store.path("work").write_text(text)
            with self.subTest(text=text[:40]), self.assertRaises(reference.Malformed):
                store.read("work")
        for regions in ("x", [1], [{"label": "a", "length": "1", "sha256": "01" * 32}], [{"label": "a", "length": 1, "sha256": "x"}], [{"label": "a", "length": True, "sha256": "01" * 32}]):
            with self.assertRaises(reference.Malformed):
                reference.measured(dict(self.account, regions=regions))

    def test_differences_are_bounded_and_printable(self):
        measured = reference.measured(dict(self.account, equal=False, differences=["\x1b[2J" * 1000] * 500))
        self.assertEqual(len(measured.differences), reference.DIFFERENCE_LIMIT + 1)
        self.assertRegex("".join(measured.differences), r"^[ -~]+$")


class Printable(unittest.TestCase):
    def test_nothing_but_printable_ascii_and_no_more_than_asked(self):
        text = settings.printable("".join(map(chr, range(0x2100))) * 2)
        self.assertRegex(text, r"^[ -~]+$")
        self.assertLessEqual(len(text), 403)


if __name__ == "__main__":
    unittest.main()
