# SPDX-License-Identifier: Apache-2.0
"""A sevd for tests of those who ask it: real HTTP on a real Unix socket, and any answer one wants."""
import asyncio
import json
import re


class FakeSevd:
    """`verdicts` maps a domain's name to what its launch ends as: a dictionary of fields, or a function of the request that returns one. `requests` are all that came."""

    def __init__(self, path):
        self.path, self.verdicts, self.requests, self.launches = str(path), {}, [], {}
        self.hold = None  # an asyncio.Event: until it is set, launches stay undecided
        self.server = None

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
            body = json.loads(await reader.readexactly(length)) if length else None
            method, target, _ = head.split("\r\n")[0].split(" ")
            self.requests.append((method, target, body))
            status, answer = self._answer(method, target, body)
            raw = json.dumps(answer).encode()
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n".encode() + raw)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, method, target, body):
        if (method, target) == ("GET", "/v1/status"):
            return 200, {"level": 1, "emulated": True}
        if (method, target) == ("POST", "/v1/launches"):
            verdict = self.verdicts.get(body["name"])
            if verdict is None:
                return 422, {"title": "no", "detail": f"nobody told me about {body['name']}"}
            key = len(self.launches) + 1
            self.launches[key] = dict(verdict(body) if callable(verdict) else verdict, id=key, name=body["name"])
            return 201, {"id": key, "name": body["name"], "state": "accepted"}
        if method == "GET" and (asked := re.fullmatch(r"/v1/launches\?name=([A-Za-z0-9_-]+)&limit=1", target)):
            return 200, {"launches": [{"id": key, "name": launch["name"]} for key, launch in sorted(self.launches.items(), reverse=True) if launch["name"] == asked[1]][:1]}
        if method == "GET" and target.startswith("/v1/launches/"):
            launch = self.launches[int(target.rsplit("/", 1)[1])]
            if self.hold is not None and not self.hold.is_set():
                return 200, {"id": launch["id"], "name": launch["name"], "state": "judging"}
            return 200, launch
        if method == "DELETE" and target.startswith("/v1/launches/"):
            self.launches[int(target.rsplit("/", 1)[1])].update(state="cancelled")
            return 200, {}
        return 404, {"title": "no such thing"}

    def asked(self, method):
        return [request for request in self.requests if request[0] == method and request[1] != "/v1/status"]
