# SPDX-License-Identifier: Apache-2.0
"""What sev.Status tells a qube of itself, as JSON on standard output (docs/schemas/qube-status.schema.json). qrexec says who asks; nothing is read."""
import asyncio
import json
import os
import sys

from xen_sev_qubes import gate, sevd, settings


def newest(answer, name):
    """The id of the one launch in sevd's list of the newest of `name`, or None. Throws sevd.Trouble."""
    launches = answer.body.get("launches") if answer.status == 200 and isinstance(answer.body, dict) else None
    if not isinstance(launches, list) or len(launches) > 1:
        raise sevd.Trouble("sevd's list of launches is none" if answer.status == 200 else f"sevd: {answer.problem()}")
    if not launches:
        return None
    launch = launches[0] if isinstance(launches[0], dict) else {}
    if launch.get("name") != name or not isinstance(launch.get("id"), int) or isinstance(launch["id"], bool) or launch["id"] < 0:
        raise sevd.Trouble("sevd's list of launches has another one than was asked for")
    return launch["id"]


async def latest(name):
    """The newest launch of a qube, whole, or None. Throws sevd.Absent, sevd.Trouble."""
    if not settings.QUBE.fullmatch(name):
        raise sevd.Trouble("is no name of a qube")
    number = newest(await sevd.ask("GET", f"/v1/launches?name={name}&limit=1"), name)
    if number is None:
        return None
    answer = await sevd.ask("GET", f"/v1/launches/{number}")
    if answer.status == 404:
        return None  # forgotten meanwhile
    if answer.status != 200 or not isinstance(answer.body, dict):
        raise sevd.Trouble(f"sevd: {answer.problem()}")
    return answer.body


def told(name, launch):
    """Of a launch, what its own guest may know: no path, no host detail, nothing of another qube."""
    out = {"format": "xen-sev/qube-status", "version": 1, "qube": name, "attested": False}
    if launch is None:
        return out
    out["attested"] = gate.trusted(launch)
    for key in ("state", "owner", "policy"):
        if isinstance(launch.get(key), str):
            out[key] = settings.printable(launch[key], 128)
    if isinstance(launch.get("level"), int) and not isinstance(launch["level"], bool):
        out["level"] = launch["level"]
    out["emulated"] = launch.get("emulated") is not False
    return out


def main(environment=None, arguments=None, out=None):
    environment = os.environ if environment is None else environment
    arguments = sys.argv[1:] if arguments is None else arguments
    out = sys.stdout if out is None else out
    name = environment.get("QREXEC_REMOTE_DOMAIN", "")
    if arguments or not settings.QUBE.fullmatch(name):
        print("sev.Status: takes no argument, and is called by qrexec alone", file=sys.stderr)
        return 1
    try:
        launch = asyncio.run(latest(name))
    except (sevd.Absent, sevd.Trouble):
        print("sev.Status: not to be had now", file=sys.stderr)  # why is dom0's business
        return 1
    json.dump(told(name, launch), out)
    out.write("\n")
    return 0
