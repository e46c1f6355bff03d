#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The C library by its example in C, against a sevd that answers anything; xl-sev and libvirt's hook against programs that note how they were
called."""
import asyncio
import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/qubes"))
from fake_sevd import FakeSevd  # noqa: E402

EXAMPLE, LIBRARY = pathlib.Path(os.environ["SEV_LAUNCH_DOMAIN"]), pathlib.Path(os.environ["SEV_HOOKS_LIBRARY"])
RUNNING = {"state": "running", "level": 1, "emulated": True, "reason": "attested"}
REFUSED = {"state": "refused", "level": 1, "emulated": True, "reason": "not trusted: 1 of 20 checks failed"}


class Folder(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="xen-sev-hooks-"))
        self.addCleanup(shutil.rmtree, self.dir)


class Moody(FakeSevd):
    """`moods` maps "METHOD" to what comes of the next questions of this kind, one each: a status and a body, DROPPED, or ANSWERED as FakeSevd would.
    DONE_AND_DROPPED does what was asked, and its answer is lost. What is left of the list when it is down to one goes on for ever."""
    ANSWERED, DROPPED, DONE_AND_DROPPED = "answered", "dropped", "done and dropped"
    FULL = (503, {"detail": "too many connections at once"})

    def __init__(self, path, moods=None, held=False, kinds=(("image", 0), ("xen", 1))):
        super().__init__(path)
        self.kinds = kinds
        self.moods = {method: list(list_) for method, list_ in (moods or {}).items()}
        if held:
            self.hold = asyncio.Event()

    def _answer(self, method, target, body):
        if target == "/v1/status":
            return 200, {"level": 0, "emulated": True, "guests": [{"kind": kind, "level": level} for kind, level in self.kinds]}
        moods = self.moods.get(method, [])
        mood = (moods.pop(0) if len(moods) > 1 else moods[0]) if moods else self.ANSWERED
        if mood == self.DROPPED:
            raise ConnectionError
        status, answer = super()._answer(method, target, body) if mood in (self.ANSWERED, self.DONE_AND_DROPPED) else mood
        if method == "POST" and status == 201:
            self.launches[answer["id"]]["guest"] = body["guest"]
        if mood == self.DONE_AND_DROPPED:
            raise ConnectionError
        if "launches" in answer:
            answer = {"launches": [{**one, "guest": self.launches[one["id"]].get("guest")} for one in answer["launches"]]}
        if answer.get("state") == "judging":
            answer = {**answer, "level": 1, "emulated": True}
        if method == "DELETE" and self.hold is not None:
            self.hold.set()
        return status, answer


class Request(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_char_p) for name in ("socket", "name", "owner", "policy", "xl_cfg", "uuid")),
                ("domid", ctypes.c_uint32), ("timeout_s", ctypes.c_uint32), ("leave_paused", ctypes.c_int)]


class Result(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint64), ("level", ctypes.c_uint32), ("emulated", ctypes.c_int), ("unsettled", ctypes.c_int),
                ("state", ctypes.c_char_p), ("reason", ctypes.c_char_p)]


LEVEL = "sevd: level L1, emulated PSP\n"
MAY_RUN = "sevd may let domain 7 run: destroy it\n"
UUID = "0c2f5b8e-0000-4000-8000-000000000007"
NOT_LOADED = "SKIPPED: a sanitized library wants its run-time library in the program that loads it"


class Library(Folder):
    def example(self, verdict, domid="7", more=(), **sevd_is):
        """Exit status, what it says, and the questions after sev_check's."""
        async def work():
            async with Moody(self.dir / "sock", **sevd_is) as sevd:
                if verdict is not None:
                    sevd.verdicts["example"] = verdict
                child = await asyncio.create_subprocess_exec(EXAMPLE, self.dir / "sock", domid, "vault", "web", *more,
                                                             stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
                out, err = await asyncio.wait_for(child.communicate(), 60)
                self.assertEqual(err, b"")
                return child.returncode, out.decode(), sevd.requests[1:]
        return asyncio.run(work())

    def methods(self, requests):
        """One word for each question, those that come again and again once."""
        words = [method for method, _, _ in requests]
        return [word for number, word in enumerate(words) if number == 0 or words[number - 1] != word]

    def test_yes_and_no_and_trouble(self):
        status, out, requests = self.example(RUNNING)
        self.assertEqual((status, out), (0, "sevd: level L1, emulated PSP\nattested: running: attested\n"))
        asked = {"name": "example", "owner": "vault", "policy": "web", "guest": {"kind": "xen", "domid": 7}, "evidence": "measurement"}
        self.assertEqual(requests[1], ("POST", "/v1/launches", asked))
        self.assertEqual(self.methods(requests), ["GET", "POST", "GET"])
        self.assertEqual(self.example(REFUSED)[:2], (1, "sevd: level L1, emulated PSP\nnot trusted: refused: not trusted: 1 of 20 checks failed\n"))
        for state in ("failed", "cancelled", "destroyed"):
            self.assertEqual(self.example({**REFUSED, "state": state})[0], 2)
        status, out, _ = self.example(None)
        self.assertEqual(status, 2)
        self.assertEqual(out, "sevd: level L1, emulated PSP\nsevd failed or did not answer: -: sevd: status 422\n")
        self.assertEqual(self.example({**RUNNING, "reason": "a\x1b[31mred\nline"})[1].count("\n"), 2)
        self.assertEqual(self.example(RUNNING, domid="0")[0], 2)

    def test_what_sevd_cannot_answer_now_it_is_asked_again(self):
        for moods in ([Moody.FULL, Moody.FULL], [Moody.DROPPED], [(500, {})], [(429, {})], [Moody.DROPPED, Moody.FULL, Moody.DROPPED]):
            status, out, requests = self.example(RUNNING, moods={"GET": [Moody.ANSWERED, *moods, Moody.ANSWERED]})
            self.assertEqual((status, out, self.methods(requests)), (0, LEVEL + "attested: running: attested\n", ["GET", "POST", "GET"]), moods)
            self.assertEqual(len(requests), 2 + len(moods) + 1)

    def test_what_is_not_decided_in_time_is_called_off(self):
        status, out, requests = self.example(RUNNING, more=(UUID, "1"), held=True)
        self.assertEqual((status, out), (2, LEVEL + "not decided in time: cancelled: judging after 1 s; called off (cancelled)\n"))
        self.assertEqual((self.methods(requests), requests[1][2]["guest"]["uuid"]), (["GET", "POST", "GET", "DELETE", "GET"], UUID))
        # sevd has no place for the question, and then has
        status, out, requests = self.example(RUNNING, more=(UUID, "1"), held=True, moods={"DELETE": [Moody.FULL, Moody.DROPPED, Moody.ANSWERED]})
        self.assertEqual((status, out), (2, LEVEL + "not decided in time: cancelled: judging after 1 s; called off (cancelled)\n"))
        self.assertEqual([method for method, _, _ in requests].count("DELETE"), 3)
        # the owner's no came in between
        status, out, _ = self.example(REFUSED, more=(UUID, "1"), held=True, moods={"DELETE": [(409, {"detail": "has ended: refused"})]})
        self.assertEqual((status, out), (1, LEVEL + "not trusted: refused: not trusted: 1 of 20 checks failed\n"))

    def test_what_cannot_be_called_off_is_said(self):
        for moods, says in (({"DELETE": [Moody.FULL]}, "judging after 1 s; cannot be called off (sevd: status 503), and may run later"),
                            ({"DELETE": [(403, {"detail": "uid 7 may not change anything"})]},
                             "judging after 1 s; cannot be called off (sevd: status 403), and may run later")):
            status, out, _ = self.example(RUNNING, more=(UUID, "1"), held=True, moods=moods)
            self.assertEqual((status, out), (2, f"{LEVEL}not decided in time: judging: {says}\n{MAY_RUN}"))

    def test_what_cannot_be_understood_is_called_off(self):
        for verdict, moods, says in (({"state": "running"}, {}, "sevd's answer: level is missing, want a number; called off"),
                                     (RUNNING, {"GET": [Moody.ANSWERED, (404, {"detail": "there is no launch 1"})]},
                                      "sevd: status 404; called off (not known to sevd)")):
            status, out, requests = self.example(verdict, moods=moods)
            self.assertEqual((status, "DELETE" in self.methods(requests)), (2, True), out)
            self.assertIn(f"sevd failed or did not answer: -: {says}", out)
            self.assertNotIn(MAY_RUN, out)

    def test_an_answer_to_the_request_that_is_lost(self):
        status, out, requests = self.example(RUNNING, moods={"POST": [Moody.DONE_AND_DROPPED]})
        self.assertEqual((status, out, self.methods(requests)), (0, LEVEL + "attested: running: attested\n", ["GET", "POST", "GET"]))
        self.assertEqual([target for _, target, _ in requests][3:], ["/v1/launches/1"])
        status, out, requests = self.example(RUNNING, moods={"POST": [Moody.DROPPED]})
        self.assertEqual((status, self.methods(requests)), (2, ["GET", "POST", "GET"]))
        self.assertRegex(out, f"^{LEVEL}sevd failed or did not answer: -: .*; whether it has admitted the launch is not known\n{MAY_RUN}$")
        # what is refused with an answer was never begun
        self.assertNotIn(MAY_RUN, self.example(RUNNING, moods={"POST": [Moody.FULL]})[1])

    def test_a_sevd_that_launches_no_domains(self):
        for kinds in ((), (("image", 0),)):
            status, out, requests = self.example(RUNNING, kinds=kinds)
            self.assertEqual((status, requests), (2, []))
            self.assertIn("sevd failed or did not answer: -: sevd launches no Xen domains", out)

    def test_nobody_there(self):
        done = subprocess.run([EXAMPLE, self.dir / "none", "7", "vault", "web"], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("sevd failed or did not answer", done.stdout)

    @unittest.skipIf(os.environ.get("SEV_SANITIZED") == "1", NOT_LOADED)
    def test_uuid_and_leave_paused(self):
        library = ctypes.CDLL(str(LIBRARY))

        async def work(**more):
            async with Moody(self.dir / "sock") as sevd:
                sevd.verdicts["n"] = RUNNING
                request = Request(socket=str(self.dir / "sock").encode(), name=b"n", owner=b"o", policy=b"p", timeout_s=5, **more)
                code = await asyncio.to_thread(library.sev_launch, ctypes.byref(request), ctypes.byref(Result()))
                return code, sevd.requests[1][2]["guest"]

        self.assertEqual(asyncio.run(work(domid=7, uuid=UUID.encode(), leave_paused=1)), (0, {"kind": "xen", "domid": 7, "uuid": UUID, "unpause": False}))
        self.assertEqual(asyncio.run(work(domid=7)), (0, {"kind": "xen", "domid": 7}))
        self.assertEqual(asyncio.run(work(xl_cfg=b"/x.cfg")), (0, {"kind": "xen", "xl_cfg": "/x.cfg"}))

    @unittest.skipIf(os.environ.get("SEV_SANITIZED") == "1", NOT_LOADED)
    def test_bad_requests_are_refused_without_a_question(self):
        library = ctypes.CDLL(str(LIBRARY))
        library.sev_code_text.restype = ctypes.c_char_p
        good = {"socket": b"/nowhere/sock", "name": b"n", "owner": b"o", "policy": b"p", "domid": 7, "timeout_s": 5}
        for change in ({"name": None}, {"owner": b""}, {"policy": None}, {"domid": 0}, {"xl_cfg": b"/x.cfg"}, {"domid": 0, "xl_cfg": b"x.cfg"},
                       {"domid": 0x7FF0}, {"timeout_s": 0}, {"timeout_s": 10**6}, {"domid": 0, "xl_cfg": b"/x.cfg", "uuid": UUID.encode()},
                       {"domid": 0, "xl_cfg": b"/x.cfg", "leave_paused": 1}):
            request, result = Request(**{**good, **change}), Result()
            self.assertEqual(library.sev_launch(ctypes.byref(request), ctypes.byref(result)), -1, change)
            self.assertTrue(result.reason.startswith(b"request: "), change)
            library.sev_result_dispose(ctypes.byref(result))
        self.assertEqual(library.sev_launch(None, None), -1)
        self.assertEqual(library.sev_launch(ctypes.byref(Request(**good)), ctypes.byref(Result())), -2)
        self.assertEqual(library.sev_code_text(99), b"no code of sev_hooks")

    def test_the_header_and_what_is_exported(self):
        lines = [line for name in ("sev_hooks.h", "examples/launch_domain.c") for line in (ROOT / "libxl-hooks" / name).read_text().splitlines()]
        self.assertLessEqual(max(map(len, lines)), 75)
        symbols = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
        exported = {line.split()[-1] for line in symbols.splitlines() if " T " in line}
        self.assertEqual(exported, {"sev_request_init", "sev_request_dispose", "sev_result_init", "sev_result_dispose",
                                    "sev_launch", "sev_check", "sev_code_text"})


class Programs(Folder):
    def setUp(self):
        super().setUp()
        self.calls, self.bin = self.dir / "calls", self.dir / "bin"
        self.bin.mkdir()
        self.fake("sevctl", 0)
        self.fake("xl", 0, "echo 12")
        self.config = self.dir / "libvirt.json"
        self.config.write_text(json.dumps({"web": {"owner": "vault", "policy": "shop"}}))

    def fake(self, name, status, more=""):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\necho {name} \"$@\" >>{self.calls}\n{more}\necho '{name}: error: no' >&2\nexit {status}\n")
        path.chmod(0o755)

    def run_it(self, program, *words, **options):
        self.calls.write_text("")
        done = subprocess.run([ROOT / "libxl-hooks" / program, *words], env={"PATH": f"{self.bin}:/usr/bin:/bin"}, capture_output=True, text=True, timeout=60, check=False,
                              **options)
        return done.returncode, self.calls.read_text().splitlines(), done.stderr

    def test_xl_sev(self):
        self.assertEqual(self.run_it("xl/xl-sev", "create", "g.cfg", "--owner", "v")[1], ["sevctl launch --xl-cfg g.cfg --owner v"])
        self.assertEqual(self.run_it("xl/xl-sev", "unpause", "7", "--owner", "v")[1], ["sevctl launch --domid 7 --owner v"])
        self.fake("xl", 0, f"echo UUID ID name; echo {UUID} 12 web; echo {UUID[:-1]}8 13 web2; echo {UUID[:-1]}9 14 2web")
        self.assertEqual(self.run_it("xl/xl-sev", "unpause", "web", "--owner", "v")[1], ["xl vm-list", f"sevctl launch --domid 12 --uuid {UUID} --owner v"])
        self.assertEqual(self.run_it("xl/xl-sev", "unpause", "w.b"), (2, ["xl vm-list"], "xl-sev: w.b: there is no such domain\n"))
        self.fake("xl", 1)
        self.assertEqual(self.run_it("xl/xl-sev", "unpause", "web"), (2, ["xl vm-list"], "xl-sev: xl vm-list: xl: error: no\n"))
        self.fake("xl", 0)
        self.assertEqual(self.run_it("xl/xl-sev", "list", "-l")[1], ["xl list -l"])
        for words in ((), ("create",), ("create", "--owner"), ("unpause",), ("unpause", "-x")):
            self.assertEqual(self.run_it("xl/xl-sev", *words)[:2], (2, []), words)
        self.fake("sevctl", 1)
        self.assertEqual(self.run_it("xl/xl-sev", "create", "g.cfg")[0], 1)

    GOOD = (f"<domain type='xen' id='7'><name>web</name><uuid>{UUID.upper()}</uuid><memory unit='KiB'>131072</memory><currentMemory unit='KiB'>131072"
            "</currentMemory><os><type arch='x86_64' machine='xenpvh'>xenpvh</type></os><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>"
            "<devices><interface type='bridge'/><hostdev mode='subsystem' type='usb'/></devices></domain>")

    def hook(self, *words, xml=GOOD):
        return self.run_it("libvirt/xen-sev", "--configuration", self.config, *words, input=xml)

    def there(self, *lines):
        """What xl vm-list says."""
        self.fake("xl", 0, "\n".join(f"echo {line}" for line in ("UUID ID name", *lines)))

    def test_libvirt_hook_where_it_is_not_asked(self):
        for words in (("web", "reconnect", "begin", "-"), ("web", "start", "begin", "-"), ("web", "stopped", "end", "-"), ("web", "started", "end", "-"),
                      ("web", "release", "end", "-"), ("web", "migrate", "begin", "-"), ("web", "", "", ""),
                      ("other", "started", "begin", "-"), ("other", "prepare", "begin", "-")):
            self.assertEqual(self.hook(*words)[:2], (0, []), words)
        self.assertEqual(self.run_it("libvirt/xen-sev", input=self.GOOD)[:2], (0, []))
        self.config.unlink()
        self.assertEqual(self.hook("web", "started", "begin", "-")[:2], (0, []))
        # the four words of libvirt never name a file, whatever a domain is called
        self.config.write_text("[]")
        self.assertEqual(self.run_it("libvirt/xen-sev", "--configuration", self.config, "started", "begin", input=self.GOOD)[:2], (0, []))

    LAUNCH = f"sevctl launch --domid 7 --uuid {UUID} --leave-paused --owner vault --policy shop --name web --timeout 290"

    def test_libvirt_hook(self):
        self.assertEqual(self.hook("web", "prepare", "begin", "-")[:2], (0, ["sevctl launches list --limit 1 --json"]))
        launch = self.LAUNCH
        self.assertEqual(self.hook("web", "started", "begin", "-")[:2], (0, [launch]))
        self.fake("sevctl", 1)
        self.assertEqual(self.hook("web", "prepare", "begin", "-")[0], 1)
        # sevd has destroyed it: no domain has its UUID any more, whatever has its number
        self.there("0c2f5b8e-0000-4000-8000-000000000008 7 other")
        self.assertEqual(self.hook("web", "started", "begin", "-"), (1, [launch, "xl vm-list"], "xen-sev: web: sevctl: error: no\n"))
        # sevd was not there, or would not have it
        self.there(f"{UUID} 9 web")
        self.assertEqual(self.hook("web", "started", "begin", "-"), (1, [launch, "xl vm-list", "xl destroy 9"], "xen-sev: web: sevctl: error: no\n"))
        self.fake("xl", 1)
        status, _, said = self.hook("web", "started", "begin", "-")
        self.assertEqual((status, said), (1, "xen-sev: web: sevctl: error: no; the domain may still be there: xl vm-list: xl: error: no\n"))
        (self.bin / "xl").unlink()
        status, _, said = self.hook("web", "started", "begin", "-")
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        (self.bin / "sevctl").unlink()
        self.assertEqual(self.hook("web", "prepare", "begin", "-")[0], 1)

    def test_libvirt_hook_destroys_whatever_it_refuses(self):
        """By its UUID, or, where the XML names none, by its name; never another one, and never dom0."""
        others = ("0c2f5b8e-0000-4000-8000-000000000008 7 other", "00000000-0000-0000-0000-000000000000 0 Domain-0")
        uuid = f"<uuid>{UUID}</uuid></domain>"
        good = self.config.read_text()
        for xml in ("", "<domain", "<domain type='xen'/>", f"<domain id='0'>{uuid}", f"<domain id='-1'>{uuid}", f"<domain id='7;reboot'>{uuid}",
                    f"<!DOCTYPE d [<!ENTITY e 'x'>]><domain id='7'>{uuid}", " " * (5 << 20), "<domain id='7'/>", "<domain id='7'><uuid/></domain>",
                    "<domain id='7'><uuid>--fail</uuid></domain>", "<?xml version='1.0' encoding='nonsense'?><domain/>"):
            self.there(*others, f"{UUID} 9 web")
            status, calls, said = self.hook("web", "started", "begin", "-", xml=xml)
            self.assertEqual((status, calls, said.count("\n")), (1, ["xl vm-list", "xl destroy 9"], 1), xml[:40])
            self.there(*others)
            self.assertEqual(self.hook("web", "started", "begin", "-", xml=xml)[:2], (1, ["xl vm-list"]), xml[:40])
        self.there(*others, f"{UUID} 9 web")
        for text in ("[]", "{", '{"web": 1}', '{"web": {"owner": "v"}}', '{"web": {"owner": "--fail", "policy": "p"}}',
                     '{"web": {"owner": "v", "policy": "p", "more": 1}}', " " * (2 << 20)):
            self.config.write_text(text)
            self.assertEqual(self.hook("web", "started", "begin", "-")[:2], (1, ["xl vm-list", "xl destroy 9"]), text[:40])
            self.assertEqual(self.hook("web", "prepare", "begin", "-")[:2], (1, []), text[:40])
        self.config.unlink()
        self.config.mkdir()
        says = f"xen-sev: web: {self.config}: Is a directory\n"
        self.assertEqual(self.hook("web", "started", "begin", "-"), (1, ["xl vm-list", "xl destroy 9"], says))
        self.assertEqual(self.hook("web", "prepare", "begin", "-"), (1, [], says))
        self.config.rmdir()
        self.config.write_text(good)
        self.assertEqual(self.hook("Domain-0", "started", "begin", "-")[:2], (0, []))
        self.config.write_text(json.dumps({"Domain-0": {"owner": "v", "policy": "p"}}))
        self.assertEqual(self.hook("Domain-0", "started", "begin", "-", xml="")[:2], (1, ["xl vm-list"]))

    def test_libvirt_hook_builds_nothing_that_cannot_be_attested(self):
        for old, new, says in (("xenpvh</type>", "linux</type>", "os type is linux, want xenpvh or hvm"), ("<os>", "<os/><was>", None),
                               ("131072</currentMemory>", "65536</currentMemory>", "currentMemory is 65536 and memory 131072"),
                               ("type='usb'", "type='pci'", "hostdev is passed through"), ("type='bridge'", "type='hostdev'", "interface is passed through"),
                               ("<on_reboot>destroy<", "<on_reboot>restart<", "on_reboot is restart, want destroy"),
                               ("<on_reboot>destroy</on_reboot>", "", "on_reboot is restart, want destroy"),
                               ("<on_crash>destroy<", "<on_crash>coredump-restart<", "on_crash is coredump-restart, want destroy")):
            self.assertIn(old, self.GOOD)
            status, calls, said = self.hook("web", "prepare", "begin", "-", xml=self.GOOD.replace(old, new))
            self.assertEqual((status, calls, said.count("\n")), (1, [], 1), said)
            self.assertIn(says or "libvirt's XML: ", said)
        for xml in ("", " " * (5 << 20)):
            self.assertEqual(self.hook("web", "prepare", "begin", "-", xml=xml)[:2], (1, []))
        for old, new in (("xenpvh</type>", "hvm</type>"), ("<on_reboot>destroy<", "<on_reboot>preserve<"), ("<on_crash>destroy</on_crash>", "")):
            self.assertEqual(self.hook("web", "prepare", "begin", "-", xml=self.GOOD.replace(old, new))[0], 0, new)


if __name__ == "__main__":
    unittest.main()
