#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs inside the virtual SEV machine: does what the tests outside ask for by files in /lab/asked, and answers in /lab/done. Several requests can be at work at once."""
import json
import os
import pathlib
import socket
import subprocess
import threading
import time

ASKED, DONE = pathlib.Path("/lab/asked"), pathlib.Path("/lab/done")
PAUSE_S = 0.02


def run(request):
    """A command to its end."""
    done = subprocess.run(request["words"], capture_output=True, stdin=subprocess.DEVNULL, timeout=request["timeout_s"], check=False)
    return {"status": done.returncode, "out": done.stdout.decode(errors="replace"), "err": done.stderr.decode(errors="replace")}


def start(request):
    """A command in the background; its output goes to a file."""
    with open(request["log"], "wb") as log:
        process = subprocess.Popen(request["words"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    threading.Thread(target=process.wait, daemon=True).start()
    return {"pid": process.pid}


class Qmp:
    """QMP of one QEMU over its Unix socket; events are kept in order."""

    def __init__(self, path, timeout_s):
        until = time.monotonic() + timeout_s
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.settimeout(timeout_s)
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self.socket.close()
                if time.monotonic() > until:
                    raise
                time.sleep(PAUSE_S)
        self.lines = self.socket.makefile("r")
        self.events = []
        json.loads(self.lines.readline())
        self.execute("qmp_capabilities", {})

    def execute(self, command, arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self.lines.readline()
            if not line:
                raise ConnectionError("QEMU closed its QMP socket")
            message = json.loads(line)
            if "event" in message:
                self.events.append(message["event"])
            else:
                return message


CONNECTIONS = {}


def qmp(request):
    path = request["socket"]
    if path not in CONNECTIONS:
        CONNECTIONS[path] = Qmp(path, request["timeout_s"])
    connection = CONNECTIONS[path]
    try:
        return {"answer": connection.execute(request["execute"], request["arguments"]), "events": connection.events}
    except OSError:
        CONNECTIONS.pop(path, None)
        raise


def answer(path):
    request = json.loads(path.read_text())
    path.unlink()
    try:
        reply = {"run": run, "start": start, "qmp": qmp}[request["do"]](request)
    except Exception as error:  # pylint: disable=broad-except
        reply = {"error": f"{type(error).__name__}: {error}"}
    staged = DONE / path.name
    staged.write_text(json.dumps(reply))
    os.rename(staged, DONE / path.name[1:])


def main():
    ASKED.mkdir(exist_ok=True)
    DONE.mkdir(exist_ok=True)
    (DONE / "ready").touch()
    while not (ASKED / "end").exists():
        for name in os.listdir(ASKED):
            if name.endswith(".json") and name[0] != ".":
                path = ASKED / name
                os.rename(path, ASKED / f".{name}")
                threading.Thread(target=answer, args=(ASKED / f".{name}",), daemon=True).start()
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
