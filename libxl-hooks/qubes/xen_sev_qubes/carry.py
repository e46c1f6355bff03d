# SPDX-License-Identifier: Apache-2.0
"""One step of an exchange with a guest owner, from dom0 into the qube that is, or that reaches, the owner. sevd runs it as an owner's channel: request on standard input,
answer on standard output.

    {"channel": {"command": ["/usr/libexec/xen-sev/qubes-exchange", "sev-vault"]}}

The qube to call is the named one, unless the qube being launched has the feature sev.relay: the request names the launch, which is the qube's name. Neither the called qube
nor what it answers is trusted: sevd opens the answer with the owner's key. It can be slow, so it has a deadline, and large, so it has a bound.
"""
import argparse
import json
import os
import select
import subprocess
import sys
import time

from xen_sev_qubes import settings

REQUEST_LIMIT_BYTES = 8 << 20
ANSWER_LIMIT_BYTES = 12 << 20
COMPLAINT_LIMIT_BYTES = 4096
SERVICE = "sev.OwnerExchange"
# of qrexec-client: 127 no such service, 126 refused by policy, 125 any other trouble
EXPLAINED = {127: "it has no service sev.OwnerExchange: install xen-sev-qubes in its template", 126: "qrexec's policy refused", 125: "qrexec could not run the service"}


class Failed(Exception):
    """One printable sentence."""


def read_request(stream):
    raw = stream.read(REQUEST_LIMIT_BYTES + 1)
    if not raw:
        raise Failed("no request on standard input")
    if len(raw) > REQUEST_LIMIT_BYTES:
        raise Failed(f"the request has more than {REQUEST_LIMIT_BYTES} bytes")
    return raw


def launch_name(raw):
    """The qube that a request is about, or None. It says where to carry it to, no more."""
    try:
        request = json.loads(raw)
        name = request["launch_name"] if "launch_name" in request else request["launch"]["launch_name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) and settings.QUBE.fullmatch(name) else None


def target_of(app, name, otherwise):
    """The name of the qube to call."""
    if name is not None and name in app.domains:
        relay = app.domains[name].features.get("sev.relay", None)
        if relay is not None:
            settings.check_feature("sev.relay", relay)
            if relay == name:
                raise Failed(f"sev.relay of {name} is the qube itself")
            return relay
    return otherwise


def ready(app, target):
    """Starts the qube that is to be called, unless it runs."""
    if target not in app.domains:
        raise Failed(f"there is no qube {target}")
    vm = app.domains[target]
    if not vm.is_running():
        vm.start()


def carry(command, raw, deadline_s):
    """Runs `command` with `raw` as its input and returns its output. Throws Failed for another end than 0, too much output or a passed deadline; the process is gone then."""
    end = time.monotonic() + deadline_s
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        try:
            answer, complaint, rest = bytearray(), bytearray(), memoryview(raw)
            os.set_blocking(process.stdin.fileno(), False)
            reading = {process.stdout: (answer, ANSWER_LIMIT_BYTES), process.stderr: (complaint, COMPLAINT_LIMIT_BYTES)}
            while reading:
                left = end - time.monotonic()
                if left <= 0:
                    raise Failed(f"no answer within {deadline_s} seconds")
                readable, writable, _ = select.select(list(reading), [process.stdin] if rest is not None else [], [], left)
                for stream in readable:
                    chunk = stream.read(65536)
                    into, limit = reading[stream]
                    if not chunk:
                        del reading[stream]
                    elif len(into) + len(chunk) <= limit:
                        into += chunk
                    elif stream is process.stdout:
                        raise Failed(f"the answer has more than {limit} bytes")
                if writable:
                    try:
                        rest = rest[process.stdin.write(rest[:65536]) or 0:]
                    except BrokenPipeError:
                        rest = rest[:0]  # it has heard enough: its answer says why
                    if not rest:
                        process.stdin.close()
                        rest = None
            status = process.wait(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failed(f"no end within {deadline_s} seconds") from None
        finally:
            if process.poll() is None:
                process.kill()
    if status != 0:
        words = EXPLAINED.get(status) or settings.printable(complaint.decode("ascii", "replace").strip().replace("\n", " "), 300) or "it said nothing"
        raise Failed(f"exit status {status}: {words}")
    return bytes(answer)


def main(arguments=None, app=None, stdin=None, stdout=None):
    parser = argparse.ArgumentParser(prog="qubes-exchange", description="Carries one step of an exchange to a guest owner in a qube.")
    parser.add_argument("qube", help="the owner's vault, or the relay to it; sev.relay of the launched qube goes before")
    parser.add_argument("--deadline", type=int, default=60, metavar="SECONDS", help="for everything together (default 60)")
    given = parser.parse_args(arguments)
    stdin, stdout = stdin or sys.stdin.buffer, stdout or sys.stdout.buffer
    target = given.qube
    try:
        if not settings.QUBE.fullmatch(target):
            raise Failed(f"'{settings.printable(target, 40)}' is no name of a qube")
        if app is None:
            import qubesadmin  # pylint: disable=import-outside-toplevel

            app = qubesadmin.Qubes()
        raw = read_request(stdin)
        target = target_of(app, launch_name(raw), target)
        ready(app, target)
        command = ["qrexec-client", "-d", target, "-w", str(given.deadline), f"DEFAULT:QUBESRPC {SERVICE} dom0"]
        stdout.write(carry(command, raw, given.deadline))
        stdout.flush()
    except (Failed, settings.Refused, OSError) as error:
        print(f"qubes-exchange: {settings.printable(target, 40)}: {settings.printable(error)}", file=sys.stderr)
        return 2
    except Exception as error:  # pylint: disable=broad-except
        print(f"qubes-exchange: {settings.printable(target, 40)}: {type(error).__name__}: {settings.printable(error)}", file=sys.stderr)  # of qubesadmin
        return 2
    return 0
