#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the rooms against what each may use: includes, link lines, and the symbols of the built libraries. The wall stands between launch and attest."""
import argparse
import json
import pathlib
import re
import subprocess
import sys

# Longest prefix wins. What a room may include besides itself.
MAY_INCLUDE = {
    "base": [],
    "base/client": ["base"],  # the other end of base/service's Unix sockets
    "base/service": ["base"],  # what a daemon needs to live: HTTP, systemd, logs, metrics, hardening; knows nothing of SEV
    "console": ["base"],  # how every program talks to people: knows nothing of SEV
    "psp": ["base"],
    "psp/ccp": ["base", "psp"],
    "psp/xen": ["base", "psp"],
    "psp/emulator": ["base", "psp"],
    "psp/emulator/program": ["base", "console", "psp", "psp/emulator"],
    "ovmf-measure": ["base", "psp"],
    "attest/protocol": ["base", "psp"],
    "attest/endorsement": ["base", "psp"],  # certificates and a cache: no keys, so either side may read it
    "attest/relay": ["base", "psp", "attest/endorsement"],  # trusted with nothing, so it gets nothing
    "attest/relay/program": ["base", "console", "psp", "attest/endorsement", "attest/relay"],
    # what the owner decides stays without a socket; its program brings them together
    "attest/owner": ["base", "psp", "ovmf-measure", "attest", "attest/protocol"],
    "attest/owner/program": ["base", "base/service", "console", "psp", "ovmf-measure", "attest", "attest/owner", "attest/protocol"],
    "attest": ["base", "psp", "ovmf-measure", "attest/protocol"],
    "launch": ["base", "psp", "ovmf-measure", "attest/protocol"],
    "libxl-hooks": ["base", "base/client"],  # a guest in another house: it asks sevd, and decides nothing
    "launch/xen": ["base", "psp", "ovmf-measure", "attest/protocol", "launch"],
    "launch/xen/keeper": ["base"],  # alone with libxl, and with nothing else
    # the probe judges a host without launching anything, so it needs neither the launch nor its messages
    "launch/probe": ["base", "psp", "psp/xen"],
    # the daemon owns the PSP backends; it is of the host, so never of attest but for the protocol
    "launch/daemon": ["base", "base/service", "psp", "psp/ccp", "psp/emulator", "psp/xen", "ovmf-measure", "attest/protocol", "launch", "launch/xen"],
    "launch/daemon/program": ["base", "base/service", "psp", "attest/protocol", "launch", "launch/daemon"],
    "sevctl": ["base", "base/client", "console", "psp", "psp/ccp", "psp/emulator", "ovmf-measure", "attest", "attest/endorsement", "attest/protocol", "launch", "launch/probe", "launch/xen"],
}
# Headers of a room that only some other rooms may use: the session keys are for the two ends of a session.
ONLY = {"psp/keys.hpp": ["psp", "psp/emulator", "attest", "attest/owner", "sevctl"]}
MAY_LINK = {
    "sev_base": set(),
    "sev_client": {"sev_base"},
    "sev_service": {"sev_base"},
    "sev_console": {"sev_base"},
    "sev_psp": {"sev_base"},
    "sev_psp_ccp": {"sev_psp"},
    "sev_psp_xen": {"sev_psp"},
    "sev_psp_emulator": {"sev_psp"},
    "sev_measure": {"sev_psp"},
    "sev_attest_protocol": {"sev_psp"},
    "sev_endorsement": {"sev_psp"},
    "sev_relay": {"sev_endorsement"},
    "sev_attest": {"sev_psp", "sev_measure", "sev_attest_protocol"},
    "sev_owner": {"sev_attest"},
    "sev_probe": {"sev_psp", "sev_psp_xen"},
    "sev_daemon": {"sev_launch", "sev_launch_xen", "sev_service", "sev_psp_ccp", "sev_psp_emulator", "sev_psp_xen"},
    "sev_launch": {"sev_psp", "sev_measure", "sev_attest_protocol"},
    "sev_launch_xen": {"sev_launch"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)


def room_of(path, rooms):
    fitting = [room for room in rooms if path.startswith(room + "/")]
    return max(fitting, key=len) if fitting else None


def include_faults(source):
    """Includes that cross a wall, and how many files were read."""
    faults, files = [], 0
    for path in sorted({p for room in MAY_INCLUDE for p in (source / room).rglob("*") if p.suffix in (".hpp", ".cpp", ".h", ".c")}):
        name = path.relative_to(source).as_posix()
        room = room_of(name, MAY_INCLUDE)
        files += 1
        for included in INCLUDE.findall(path.read_text()):
            target = room_of(included, MAY_INCLUDE)
            if target and target != room and target not in MAY_INCLUDE[room]:
                faults.append(f"{name} includes {included}: {room} may use {', '.join(MAY_INCLUDE[room]) or 'nothing'}")
            if included in ONLY and room not in ONLY[included]:
                faults.append(f"{name} includes {included}, which is for {', '.join(ONLY[included])} alone")
            if included.startswith("curl/") and not name.startswith("attest/relay/"):
                faults.append(f"{name} includes {included}: libcurl is the relay's alone")
    return faults, files


def link_faults(links):
    faults = []
    for room, allowed in MAY_LINK.items():
        if room not in links:
            faults.append(f"{room} is not in the link graph")
            continue
        for target in links[room]:
            if target.startswith("sev_") and target != "sev_flags" and target not in allowed:
                faults.append(f"{room} links {target}: may link {', '.join(sorted(allowed)) or 'no room'}")
    return faults


def symbol_faults(library, forbidden):
    symbols = subprocess.run(["nm", "--demangle", library], check=True, capture_output=True, text=True).stdout.splitlines()
    if len(symbols) < 50:
        return [f"{library}: only {len(symbols)} symbols, so nothing was checked"]
    return [f"{library} refers to {line.strip()}" for line in symbols if re.search(forbidden, line)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--links", type=pathlib.Path, required=True)
    parser.add_argument("--launch-library")
    parser.add_argument("--attest-library")
    options = parser.parse_args()
    faults, files = include_faults(options.source)
    faults += link_faults(json.loads(options.links.read_text()))
    if options.launch_library:
        faults += symbol_faults(options.launch_library, r"TekTag|TikTag|KekTag|KikTag|sev::attest::(Session\b|judge|create_session|TrustedVerdict|OwnerPolicy)")
    if options.attest_library:
        faults += symbol_faults(options.attest_library, r"sev::launch::")
    for fault in faults:
        print(fault)
    print(f"{files} files, {len(MAY_LINK)} libraries, {len(faults)} faults")
    return 1 if faults or files < 50 else 0


if __name__ == "__main__":
    sys.exit(main())
