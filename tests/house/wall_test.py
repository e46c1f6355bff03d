#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows that wall.py fails when a forbidden include or link appears, each alone, and passes without."""
import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import wall

parser = argparse.ArgumentParser()
parser.add_argument("--source", type=pathlib.Path, required=True)
parser.add_argument("--links", type=pathlib.Path, required=True)
options = parser.parse_args()

FORBIDDEN = [
    ("launch/steps.cpp", "attest/judge.hpp"),
    ("launch/steps.cpp", "attest/session.hpp"),
    ("launch/steps.cpp", "psp/keys.hpp"),
    ("launch/steps.cpp", "psp/emulator/emulator.hpp"),
    ("attest/session.cpp", "launch/steps.hpp"),
    ("attest/protocol/launch_evidence.cpp", "attest/session.hpp"),
    ("ovmf-measure/vmsa.cpp", "launch/steps.hpp"),
    ("psp/chain.cpp", "psp/emulator/emulator.hpp"),
    ("base/bytes.cpp", "psp/types.hpp"),
    ("sevctl/main.cpp", "curl/curl.h"),
    ("attest/endorsement/store.cpp", "curl/curl.h"),
    ("attest/endorsement/store.cpp", "attest/session.hpp"),
    ("attest/relay/fetch.cpp", "attest/session.hpp"),
    ("attest/relay/program/main.cpp", "psp/keys.hpp"),
]
LINKS = [("sev_launch", "sev_attest"), ("sev_attest", "sev_launch"), ("sev_attest_protocol", "sev_attest"), ("sev_psp", "sev_psp_emulator"), ("sev_base", "sev_psp"), ("sev_relay", "sev_attest"), ("sev_endorsement", "sev_relay")]

wrong = 0
with tempfile.TemporaryDirectory() as folder:
    tree = pathlib.Path(folder)
    for room in {name.split("/")[0] for name in wall.MAY_INCLUDE}:
        shutil.copytree(options.source / room, tree / room)
    if wall.include_faults(tree)[0]:
        print("the tree as it is has faults already")
        wrong += 1
    for name, included in FORBIDDEN:
        path = tree / name
        text = path.read_text()
        path.write_text(f'#include "{included}"\n{text}')
        if len(wall.include_faults(tree)[0]) != 1:
            print(f"not caught: {name} includes {included}")
            wrong += 1
        path.write_text(text)
links = json.loads(options.links.read_text())
for room, target in LINKS:
    if len(wall.link_faults({**links, room: links[room] + [target]})) != 1:
        print(f"not caught: {room} links {target}")
        wrong += 1
print(f"{len(FORBIDDEN) + len(LINKS)} faults planted, {wrong} missed")
sys.exit(1 if wrong else 0)
