# SPDX-License-Identifier: Apache-2.0
"""Asking sevd to attest a paused domain, and waiting for what comes of it. Decides nothing: "trusted" is sevd's word for the owner's verdict."""
import asyncio
import urllib.parse

from xen_sev_qubes import sevd, settings

SETTLED = ("running", "ready", "refused", "failed", "cancelled")
POLL_S = 0.2
CALL_S = 10.0


class Failed(Exception):
    """No good answer. One printable sentence."""


class Outcome:
    """What sevd says of a launch that has come to its end."""

    def __init__(self, launch):
        text = lambda key: settings.printable(launch[key], 300) if isinstance(launch.get(key), str) else ""  # noqa: E731
        self.id, self.state, self.reason, self.digest = text("id"), text("state"), text("reason"), text("digest")
        self.level = launch.get("level") if isinstance(launch.get("level"), int) else None
        self.emulated = launch.get("emulated") is not False  # not known is taken for the lesser
        self.trusted = launch.get("trusted") is True and self.state in ("running", "ready")

    def __str__(self):
        said = "its owner trusts it" if self.trusted else (self.reason or f"its launch is {self.state}")
        level = f"L{self.level}" if self.level is not None else "level unknown"
        return f"{said} ({level}{', emulated PSP' if self.emulated else ''}{', digest ' + self.digest if self.digest else ''})"


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
    """Has the paused domain `xid` attested and, if trusted, given its secrets; returns the Outcome. Throws Failed for everything else, a passed deadline included, and then the
    launch is cancelled, so that nothing is given to the domain later."""
    # pylint: disable=unused-argument
    loop = asyncio.get_running_loop()
    end = loop.time() + wanted.timeout_s
    request = {"name": name, "domid": xid, "mode": "required" if wanted.mode == "required" else "measure", "unpause": False, "deadline_s": wanted.timeout_s}
    request.update({key: getattr(wanted, key) for key in ("owner", "policy", "profile", "relay") if getattr(wanted, key) is not None})
    launch = _object(await _ask("POST", "/v1/launches", request), (200, 201, 202), "launch")
    if not isinstance(launch.get("id"), str) or not settings.NAME.fullmatch(launch["id"]):
        raise Failed("sevd: launch: its answer names no launch")
    target = "/v1/launches/" + urllib.parse.quote(launch["id"], safe="")
    try:
        while launch.get("state") not in SETTLED:
            if loop.time() >= end:
                raise Failed(f"no verdict within {wanted.timeout_s} seconds (feature sev.timeout)")
            await asyncio.sleep(POLL_S)
            launch = _object(await _ask("GET", target), (200,), "launch")
    except BaseException:
        asyncio.ensure_future(_cancel(target))
        raise
    return Outcome(launch)


async def _cancel(target):
    try:
        await _ask("DELETE", target)
    except Failed:
        pass  # sevd's own deadline for the launch is the same
