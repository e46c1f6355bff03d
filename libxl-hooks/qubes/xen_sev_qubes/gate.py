# SPDX-License-Identifier: Apache-2.0
"""Asking sevd to attest a paused domain, and waiting for what comes of it; or having sevctl measure one. Decides nothing: "trusted" is sevd's word for the owner's verdict."""
import asyncio
import contextlib
import os
import signal

from xen_sev_qubes import sevd, settings

# sevd's states that are ends (launch/daemon/record.hpp). In all others but "running" it is at work.
ENDED = ("refused", "failed", "cancelled", "destroyed")
POLL_S = 0.2
CALL_S = 10.0
SEVCTL = "/usr/bin/sevctl"
MEASUREMENT_LIMIT_BYTES = 4 << 20
_cancelling = set()  # asyncio keeps no task alive by itself


class Failed(Exception):
    """No good answer. One printable sentence."""


def trusted(launch):
    """Whether sevd says that the owner trusted this launch, and that it still holds."""
    verdict = launch.get("verdict")
    return launch.get("state") == "running" and isinstance(verdict, dict) and verdict.get("trusted") is True


def failed_checks(launch):
    """The checks that a verdict failed on, as text."""
    verdict = launch.get("verdict")
    checks = verdict.get("checks", verdict.get("platform_checks")) if isinstance(verdict, dict) else None  # the latter when the platform itself was refused
    out = []
    for check in checks if isinstance(checks, list) else []:
        if isinstance(check, dict) and check.get("passed") is not True:
            out.append(f"{settings.printable(check.get('check', '?'), 60)}: {settings.printable(check.get('detail', ''), 200)}")
    return out


class Outcome:
    """What sevd says of a launch that has come to its end, or runs."""

    def __init__(self, launch):
        self.id = launch.get("id")
        self.state = settings.printable(launch.get("state", "unknown"), 40)
        self.reason = settings.printable(launch["reason"], 300) if isinstance(launch.get("reason"), str) else ""
        self.level = launch.get("level") if isinstance(launch.get("level"), int) and not isinstance(launch.get("level"), bool) else None
        self.emulated = launch.get("emulated") is not False  # not known is taken for the lesser
        self.trusted = trusted(launch)
        self.checks = failed_checks(launch)

    def __str__(self):
        said = "its owner trusts it" if self.trusted else (self.reason or f"its launch is {self.state}")
        if self.checks:
            said += f"; {self.checks[0]}" + (f" (and {len(self.checks) - 1} more failed checks)" if len(self.checks) > 1 else "")
        return f"{said} ({f'L{self.level}' if self.level is not None else 'level unknown'}{', emulated PSP' if self.emulated else ''})"


async def _ask(method, target, body=None, timeout_s=CALL_S):
    try:
        return await sevd.ask(method, target, body, timeout_s)
    except (sevd.Absent, sevd.Trouble) as error:
        raise Failed(settings.printable(error)) from None


def _object(answer, want, what):
    if answer.status not in want:
        raise Failed(f"sevd: {what}: {settings.printable(answer.problem())}")
    if not isinstance(answer.body, dict):
        raise Failed(f"sevd: {what}: its answer is no JSON object")
    return answer.body


async def present():
    """Throws Failed unless sevd answers."""
    _object(await _ask("GET", "/v1/status"), (200,), "status")


async def attest(name, uuid, xid, wanted):
    """Has the paused domain `xid` attested and, if trusted, given its secrets; returns the Outcome. sevd leaves it paused: qubesd resumes it. Throws Failed for everything
    else, a passed deadline included, and then the launch is called off, so that nothing is given to the domain later."""
    loop = asyncio.get_running_loop()
    end = loop.time() + wanted.timeout_s
    request = {"name": name, "owner": wanted.owner, "policy": wanted.policy, "guest": {"kind": "xen", "domid": xid, "uuid": str(uuid), "unpause": False}}
    launch = _object(await _ask("POST", "/v1/launches", request), (200, 201, 202), "launch")
    number = launch.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise Failed("sevd: launch: its answer names no launch")
    target = f"/v1/launches/{number}"
    try:
        while launch.get("state") != "running" and launch.get("state") not in ENDED:
            if loop.time() >= end:
                raise Failed(f"no verdict within {wanted.timeout_s} seconds (feature sev.timeout)")
            await asyncio.sleep(POLL_S)
            launch = _object(await _ask("GET", target), (200,), "launch")
        if launch.get("state") == "running" and "verdict" not in launch:  # POST and lists give less than GET
            launch = _object(await _ask("GET", target), (200,), "launch")
    except BaseException:
        task = asyncio.ensure_future(_call_off(target))
        _cancelling.add(task)
        task.add_done_callback(_cancelling.discard)
        raise
    return Outcome(launch)


async def _call_off(target):
    try:
        await _ask("DELETE", target)
    except Failed:
        pass  # the domain is killed, which ends its launch too


async def sevctl(*arguments, timeout_s):
    """Runs sevctl and returns its exit status and output, both bounded. Throws Failed. Its exit status 2 is trouble."""
    try:
        process = await asyncio.create_subprocess_exec(SEVCTL, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                                                       start_new_session=True)
    except OSError as error:
        raise Failed(f"{SEVCTL}: {error.strerror}") from None

    def kill():
        # the group, with whatever holds the pipes open: as long as they are open there is one
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    overflow = False

    async def read(stream):
        nonlocal overflow
        out = bytearray()
        while chunk := await stream.read(65536):
            if len(out) + len(chunk) <= MEASUREMENT_LIMIT_BYTES:
                out += chunk
            elif not overflow:
                overflow = True
                kill()
        return bytes(out)

    try:
        out, complaint, status = await asyncio.wait_for(asyncio.gather(read(process.stdout), read(process.stderr), process.wait()), timeout_s)
    except BaseException as error:
        kill()
        await process.communicate()
        if isinstance(error, asyncio.TimeoutError):
            raise Failed(f"sevctl {arguments[0]} was not done within {timeout_s} seconds") from None
        raise
    if overflow:
        raise Failed(f"sevctl {arguments[0]} says more than {MEASUREMENT_LIMIT_BYTES} bytes")
    if status not in (0, 1):
        lines = complaint.decode("ascii", "replace").splitlines()
        raise Failed("sevctl: " + settings.printable(lines[0].removeprefix("sevctl: error: ") if lines else f"exit status {status}"))
    return status, out


async def measure(uuid, xid, timeout_s):
    """Has the paused domain held against its configuration: sevctl's own account of it, and whether they agree. Throws Failed."""
    status, out = await sevctl("capture", "--domid", str(xid), "--json", timeout_s=timeout_s)
    try:
        value = sevd.parse_json(out)
    except sevd.Trouble:
        value = None
    if not isinstance(value, dict) or value.get("equal") is not (status == 0):
        raise Failed("sevctl capture: its answer is not understood")
    if str(value.get("uuid", "")).lower() != str(uuid):
        raise Failed(f"domain {xid} is another one by now")
    return value


async def keep_acpi(xid, timeout_s):
    """Keeps the ACPI pages of this paused domain as reference values, which predictions need: once for each number of vCPUs. Throws Failed."""
    await sevctl("reference", "capture", "--domid", str(xid), "--json", timeout_s=timeout_s)
