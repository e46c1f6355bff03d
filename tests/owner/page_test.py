# SPDX-License-Identifier: Apache-2.0
"""The owner's web page in a real headless Chromium: what it shows, that hostile names stay text, that no request leaves it and nothing is
complained of, and that it fits narrow and wide screens."""

import base64
import json
import os
import re
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
import time
import unittest
import urllib.request

import host
import support
from support import Case

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '<img src=x onerror=alert(1)>"\'><script>document.title="broken"</script>'
SHOTS = os.environ.get("SEV_SCREENSHOTS")


class Bridge(socketserver.ThreadingTCPServer):
    """The owner's Unix socket on a loopback port, for a browser; remembers the paths that were asked for."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, path):
        self.path, self.asked = str(path), []
        super().__init__(("127.0.0.1", 0), Pipe)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Pipe(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.socket(socket.AF_UNIX) as owner:
            owner.connect(self.server.path)

            def copy(source, sink, note=False):
                try:
                    while data := source.recv(65536):
                        if note:
                            self.server.asked += re.findall(rb"^(?:GET|HEAD|POST) (\S+)", data, re.M)
                        sink.sendall(data)
                except OSError:
                    pass
                for end in (source, sink):
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass

            back = threading.Thread(target=copy, args=(owner, self.request), daemon=True)
            back.start()
            copy(self.request, owner, True)
            back.join(10)


class DevTools:
    """A DevTools connection to one tab: WebSocket (RFC 6455), client side, as far as it is needed."""

    def __init__(self, url):
        rest = url.removeprefix("ws://")
        address, path = rest.split("/", 1)
        name, port = address.split(":")
        self.sock = socket.create_connection((name, int(port)), 30)
        self.sock.sendall(
            f"GET /{path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.sock.recv(4096)
        self.buffer = self.buffer.split(b"\r\n\r\n", 1)[1]
        self.number, self.events = 0, []

    def close(self):
        self.sock.close()

    def take(self, size):
        while len(self.buffer) < size:
            data = self.sock.recv(1 << 16)
            if not data:
                raise ConnectionError("the browser closed the connection")
            self.buffer += data
        out, self.buffer = self.buffer[:size], self.buffer[size:]
        return out

    def receive(self):
        whole = b""
        while True:
            first, size = self.take(2)
            size &= 0x7F
            if size == 126:
                size = struct.unpack(">H", self.take(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.take(8))[0]
            whole += self.take(size)
            if first & 0x80:
                return json.loads(whole)

    def send(self, method, **params):
        self.number += 1
        text = json.dumps({"id": self.number, "method": method, "params": params}).encode()
        mask = os.urandom(4)
        head = b"\x81" + (
            struct.pack("B", 0x80 | len(text))
            if len(text) < 126
            else struct.pack(">BH", 0x80 | 126, len(text)) if len(text) < 65536 else struct.pack(">BQ", 0x80 | 127, len(text))
        )
        self.sock.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text)))
        while True:
            message = self.receive()
            if message.get("id") == self.number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression):
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


@unittest.skipUnless(CHROMIUM, "SKIPPED: no Chromium (package chromium), the page was not seen by a browser")
class Page(Case):
    def setUp(self):
        super().setUp()
        self.one = self.owner(clients=[{"uid": os.getuid(), "policies": "any"}]).start()
        self.bridge = Bridge(self.one.socket)
        self.addCleanup(self.bridge.server_close)
        self.addCleanup(self.bridge.shutdown)
        self.browser = subprocess.Popen(
            [
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-default-apps",
                "--disable-extensions",
                "--hide-scrollbars",
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
                f"--user-data-dir={self.dir}/browser",
                "--remote-debugging-port=0",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "HOME": str(self.dir)},
        )
        self.addCleanup(self.end_browser)
        for line in self.browser.stderr:
            if found := re.search(rb"DevTools listening on ws://([\d.:]+)/", line):
                break
        else:
            self.fail("the browser does not start")
        threading.Thread(target=self.browser.stderr.read, daemon=True).start()
        self.tools = found.group(1).decode()
        request = urllib.request.Request(f"http://{self.tools}/json/new?about:blank", method="PUT")
        self.tab = DevTools(json.load(urllib.request.urlopen(request, timeout=30))["webSocketDebuggerUrl"])
        self.addCleanup(self.tab.close)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.tab.send(f"{domain}.enable")

    def end_browser(self):
        self.browser.terminate()
        try:
            self.browser.wait(15)
        except subprocess.TimeoutExpired:
            self.browser.kill()
            self.browser.wait()
        self.browser.stderr.close()

    def show(self, path, width=1280, dark=False):
        self.tab.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.tab.send("Page.navigate", url=self.bridge.url + path)
        for _ in range(200):
            if self.tab.evaluate("document.readyState") == "complete" and self.tab.evaluate("location.href").startswith(self.bridge.url):
                break
            time.sleep(0.02)
        return self.tab.evaluate("document.body.innerText")

    def shot(self, name):
        data = base64.b64decode(self.tab.send("Page.captureScreenshot", captureBeyondViewport=True, format="png")["data"])
        self.assertGreater(len(data), 5000)
        if SHOTS:
            with open(os.path.join(SHOTS, name + ".png"), "wb") as out:
                out.write(data)

    def complaints(self):
        out = []
        for event in self.tab.events:
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
                out.append(event["params"]["entry"]["text"])
            if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening"):
                out.append(event["method"])
        return out

    def fill(self):
        """One launch of every outcome; names as hostile as a name may be."""
        answer, session = self.launch(self.one.ask)
        self.expect_trusted(answer, session)
        bad = host.Session(self.one.ask(host.session_request(launch=HOSTILE[:120]))["offer"])
        refused = self.one.ask(host.judgement_request(bad.evidence(digest=bytes(32))))
        self.assertFalse(refused["judgement"]["verdict"]["trusted"])
        platform = json.loads(json.dumps(host.BUNDLE["platform"]))
        platform["level"] = 0
        self.assertIn("refusal", self.one.ask(host.session_request(launch="laptop " + HOSTILE[:100], platform=platform)))
        self.assertIn("offer", self.one.ask(host.session_request(launch="waiting for its evidence")))
        broken = self.one.folder / "policies/broken.json"
        broken.write_text('{"format": "' + HOSTILE.replace('"', "'") + '"}')

    def test_what_it_shows(self):
        self.fill()
        text = self.show("/")
        for word in ("vault", "trusted", "not trusted", "platform refused", "waiting", "emulated PSP", "fixture image", "cannot be used", "web"):
            self.assertIn(word, text)
        self.assertIn(HOSTILE[:120], text)  # as text
        self.shot("overview-1280")
        self.tab.evaluate("document.querySelector('a[href^=\"/sessions/\"]').click()")
        rows = json.loads(self.one.get("/v1/sessions?state=trusted").text)["sessions"]
        text = self.show("/sessions/" + rows[0]["id"])
        detail = json.loads(self.one.get("/v1/sessions/" + rows[0]["id"]).text)
        for check in detail["result"]["checks"]:
            self.assertIn(check["check"], text)
        for advisory in detail["result"]["advisories"]:
            self.assertIn(advisory["id"], text)
        self.assertEqual(self.tab.evaluate("document.querySelectorAll('.tag.bad').length"), 0)
        self.shot("session-1280")
        text = self.show("/policies/web")
        for word in ("fixture root", "fixture image", "1 named", "disk key", host.ANSWERS["launch"]["digest"]):
            self.assertIn(word, text)
        self.shot("policy-1280")
        text = self.show("/advisories")
        self.assertIn("EMULATED-PSP", text)
        self.shot("advisories-1280")
        self.assertEqual(self.complaints(), [])

    def test_hostile_names_do_nothing_and_no_request_leaves_the_page(self):
        self.fill()
        paths = ["/", "/policies/broken", "/advisories"] + ["/sessions/" + session["id"] for session in self.one.get("/v1/sessions").json["sessions"]]
        for path in paths:
            self.show(path)
            self.assertNotEqual(self.tab.evaluate("document.title"), "broken", path)
            self.assertEqual(
                self.tab.evaluate("document.querySelectorAll('script, img, iframe, object, embed, form, [onerror], [style]').length"), 0, path
            )
        asked = [event["params"]["request"]["url"] for event in self.tab.events if event["method"] == "Network.requestWillBeSent"]
        self.assertGreater(len(asked), len(paths))
        self.assertEqual([url for url in asked if not url.startswith(self.bridge.url + "/")], [])
        known = {path.encode() for path in paths} | {b"/style.css", b"/favicon.ico"}
        self.assertEqual(set(self.bridge.asked) - known, set())
        self.assertEqual([text for text in self.complaints() if "favicon" not in text and not ("404" in text)], [])
        # what the page's own policy would forbid is forbidden: a script that gets in does not run, a picture is not asked for
        self.show("/")
        self.tab.evaluate(
            "(() => { const s = document.createElement('script'); s.textContent = 'document.title = \"ran\"'; document.body.append(s);"
            " const i = new Image(); i.src = '/stolen'; document.body.append(i); })()"
        )
        time.sleep(0.3)
        self.assertNotEqual(self.tab.evaluate("document.title"), "ran")
        self.assertNotIn(b"/stolen", self.bridge.asked)

    def test_it_fits_narrow_and_wide_in_light_and_dark(self):
        self.fill()
        trusted = self.one.get("/v1/sessions?state=trusted").json["sessions"][0]["id"]
        refused = self.one.get("/v1/sessions?state=refused").json["sessions"][0]["id"]
        pages = {
            "overview": "/",
            "session": "/sessions/" + trusted,
            "refused": "/sessions/" + refused,
            "policy": "/policies/web",
            "advisories": "/advisories",
        }
        for width in (400, 768, 1280):
            for dark in (False, True):
                for name, path in pages.items():
                    self.show(path, width, dark)
                    self.assertLessEqual(self.tab.evaluate("document.documentElement.scrollWidth"), width, (name, width))
                    ground, ink = (self.tab.evaluate(f"getComputedStyle(document.body).{what}") for what in ("backgroundColor", "color"))
                    light = [sum(int(part) for part in re.findall(r"\d+", colour)[:3]) for colour in (ground, ink)]
                    self.assertEqual(light[0] < light[1], dark, (name, ground, ink))
                    if width != 768:
                        self.shot(f"{name}-{width}{'-dark' if dark else ''}")
        self.assertEqual(self.complaints(), [])


if __name__ == "__main__":
    support.main()
