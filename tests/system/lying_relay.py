#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A relay that lies: sevd's channel to the owner, as a command. It has all that a real relay has, the owner's service and everything that passes, and does with it what
FOLDER/mode says. Whatever it does, it may only delay or deny."""
import base64
import json
import os
import pathlib
import subprocess
import sys
import time

folder, programs = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
request = sys.stdin.buffer.read()
mode, _, argument = (folder / "mode").read_text().partition(" ")
asked = json.loads(request)
step = "offer" if asked["format"] == "xen-sev/session-request" else "judgement"


def owner(text, config=folder / "owner" / "owner.json"):
    done = subprocess.run([programs / "sev-owner", "exchange", "--config", config, "--channel", "relay"], input=text, capture_output=True, timeout=30)
    if done.returncode != 0:
        sys.exit(3)
    return done.stdout.strip()


def note(name, data):
    temporary = folder / f".{name}.{os.getpid()}"
    temporary.write_bytes(data)
    temporary.rename(folder / name)


def other_launchs_answer(mine):
    """Two launches at once: each is given the other's answer."""
    name = asked["launch_name"] if step == "offer" else asked["launch"]["launch_name"]
    note(f"mixed-{step}-{name}", mine)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for path in folder.glob(f"mixed-{step}-*"):
            if path.name != f"mixed-{step}-{name}":
                return path.read_bytes()
        time.sleep(0.01)
    sys.exit(4)


def with_header(answer, **changes):
    head, payload, signature = answer.split(b".")
    header = json.loads(base64.urlsafe_b64decode(head + b"=="))
    header.update(changes)
    return base64.urlsafe_b64encode(json.dumps(header, separators=(",", ":")).encode()).rstrip(b"=") + b"." + payload + b"." + signature


if mode.endswith(":judgement"):  # honest until then
    mode = mode.removesuffix(":judgement") if step == "judgement" else "honest"
answer = b""
if mode == "honest":
    answer = owner(request)
elif mode == "record":
    answer = owner(request)
    note(f"recorded-{step}", answer)
elif mode == "replay":
    answer = (folder / f"recorded-{step}").read_bytes()
elif mode == "swap-steps":
    answer = (folder / ("recorded-judgement" if step == "offer" else "recorded-offer")).read_bytes()
elif mode == "truncate":
    answer = owner(request)
    answer = answer[: len(answer) * int(argument) // 100]
elif mode == "flip":
    answer = bytearray(owner(request))
    at = len(answer) * int(argument) // 100
    answer[at] ^= 1
    answer = bytes(answer)
elif mode == "garbage":
    answer = b"\xff\x00\x1b[2J" * 1000
elif mode == "empty":
    pass
elif mode == "flood":
    try:
        while True:
            sys.stdout.buffer.write(b"A" * 65536)
    except BrokenPipeError:
        sys.exit(0)
elif mode == "sleep":
    time.sleep(120)
elif mode == "exit":
    sys.exit(int(argument))
elif mode == "mix":
    answer = other_launchs_answer(owner(request))
elif mode == "unsigned":
    head, payload, _ = with_header(owner(request), alg="none").split(b".")
    answer = head + b"." + payload + b"."
elif mode == "other-owner":
    answer = owner(request, folder / "other-owner" / "owner.json")
elif mode == "other-owner-named-ours":  # signs with its own key, and says that it is the owner's
    kid = json.loads((folder / "owner-key.json").read_text())["kid"]
    answer = with_header(owner(request, folder / "other-owner" / "owner.json"), kid=kid)
elif mode == "rename":  # asks for something else than it was given
    changed = dict(asked)
    if step == "offer":
        changed["launch_name"] = "another"
    else:
        changed["nonce"] = "00" * 16
    answer = owner(json.dumps(changed).encode())
elif mode == "downgrade":
    changed = dict(asked)
    if step == "offer":
        changed["policy"] = "lax"
    answer = owner(json.dumps(changed).encode())
elif mode == "twice":  # the owner hears each step twice; the host hears the second answer
    owner(request)
    answer = owner(request)
elif mode == "spoil-evidence":  # a host's evidence changed on the way
    changed = json.loads(request)
    if step == "judgement":
        raw = bytearray(base64.b64decode(changed["launch"]["measurement"]))
        raw[0] ^= 1
        changed["launch"]["measurement"] = base64.b64encode(raw).decode()
    answer = owner(json.dumps(changed).encode())
else:
    sys.exit(5)
sys.stdout.buffer.write(answer)
