# SPDX-License-Identifier: Apache-2.0
"""One request to sevd's Unix socket: HTTP/1.1 with JSON, a deadline over everything, and bounds on all that is read.

sevd is dom0's own daemon, but its answers hold text that began outside (an owner's reasons, a guest's names), so callers show it by `printable` alone.
"""
import asyncio
import json

SOCKET = "/run/xen-sev/sevd.sock"
HEAD_LIMIT_BYTES = 8 * 1024
HEADER_LIMIT = 64
BODY_LIMIT_BYTES = 4 * 1024 * 1024


class Absent(Exception):
    """Nobody listens on the socket."""


class Trouble(Exception):
    """There is no answer that can be used. One printable sentence."""


class Answer:
    """`status` of HTTP, and `body`: a JSON value."""

    def __init__(self, status, body):
        self.status, self.body = status, body

    def problem(self):
        """What sevd says went wrong (RFC 9457), as text from outside."""
        if isinstance(self.body, dict):
            for key in ("detail", "title", "error"):
                if isinstance(self.body.get(key), str):
                    return self.body[key]
        return f"HTTP status {self.status}"


def _no_constant(name):
    raise ValueError(f"{name} is no JSON")


def _no_doubles(pairs):
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key comes twice")
    return out


def parse_json(raw):
    """Strict: UTF-8, no doubled keys, no NaN. Throws Trouble."""
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError) as error:
        raise Trouble(f"sevd's answer is no JSON: {type(error).__name__}") from None


def parse_head(head):
    """(status, length of the body) of an answer's head, without the empty line. Throws Trouble."""
    try:
        lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise Trouble("sevd's answer has a head that is not ASCII") from None
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or parts[0] not in ("HTTP/1.1", "HTTP/1.0") or len(parts[1]) != 3 or not parts[1].isdigit():
        raise Trouble("sevd's answer is no HTTP/1.1")
    if len(lines) > HEADER_LIMIT + 1:
        raise Trouble(f"sevd's answer has more than {HEADER_LIMIT} header lines")
    length = None
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Trouble("sevd's answer has a header line that is none")
        if name.lower() == "transfer-encoding":
            raise Trouble("sevd's answer comes in chunks, want Content-Length")
        if name.lower() == "content-length":
            value = value.strip()
            if length is not None or not value.isdigit() or len(value) > 9:
                raise Trouble("sevd's answer has a Content-Length that is none")
            length = int(value)
    status = int(parts[1])
    if length is None:
        if status != 204:
            raise Trouble("sevd's answer has no Content-Length")
        length = 0
    if length > BODY_LIMIT_BYTES:
        raise Trouble(f"sevd's answer has {length} bytes, at most {BODY_LIMIT_BYTES} are read")
    return status, length


async def _ask(socket, method, target, body):
    try:
        reader, writer = await asyncio.open_unix_connection(socket, limit=HEAD_LIMIT_BYTES)
    except (FileNotFoundError, ConnectionRefusedError):
        raise Absent(f"sevd does not run: nobody listens on {socket}") from None
    except OSError as error:
        raise Trouble(f"{socket}: {error.strerror}") from None
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nHost: sevd\r\nConnection: close\r\nAccept: application/json\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        writer.write(head.encode("ascii") + b"\r\n" + payload)
        await writer.drain()
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise Trouble(f"sevd's answer has a head of more than {HEAD_LIMIT_BYTES} bytes") from None
        status, length = parse_head(raw[:-4])
        content = await reader.readexactly(length)
        return Answer(status, parse_json(content) if length else None)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Trouble("sevd ended the connection before it had answered") from None
    finally:
        writer.close()


async def ask(method, target, body=None, timeout_s=10.0, socket=SOCKET):
    """One request, one answer, within `timeout_s` seconds. Throws Absent or Trouble; never anything else for what a peer does."""
    try:
        return await asyncio.wait_for(_ask(socket, method, target, body), timeout_s)
    except asyncio.TimeoutError:
        raise Trouble(f"sevd has not answered within {timeout_s:g} seconds") from None
