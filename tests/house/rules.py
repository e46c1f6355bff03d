#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small rules of the house that a reviewer would otherwise have to look for: licence lines, no unfinished marks, no printf to users from libraries,
reveal() only where keys are used, every fuzz target with a corpus, every document that the README names, lines and files of a size that can be read."""
import argparse
import pathlib
import re
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--source", type=pathlib.Path, required=True)
root = parser.parse_args().source
faults = []
ROOMS = ["base", "console", "psp", "ovmf-measure", "attest", "launch", "sevctl", "tests"]
sources = [p for room in ROOMS for p in (root / room).rglob("*") if p.suffix in (".hpp", ".cpp", ".py")]

# C interfaces whose types are other than what they mean: socket addresses, and the databases' texts.
CASTS = {"attest/owner/sqlite.cpp", "attest/owner/postgresql.cpp", "launch/daemon/owner_channel.cpp"}
# The service manager speaks through the environment: that is its protocol.
ENVIRONMENT = {"base/service/systemd.cpp"}

for path in sources:
    text, name = path.read_text(), path.relative_to(root).as_posix()
    if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text.splitlines()[:3]):
        faults.append(f"{name}: no SPDX line on top")
    if path.suffix == ".hpp" and "#pragma once" not in text:
        faults.append(f"{name}: no #pragma once")
    unfinished = "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"])
    for match in re.finditer(rf"\b({unfinished})\b", text):
        faults.append(f"{name}: unfinished mark {match.group()}")
    if name.split("/")[0] in ("base", "psp", "ovmf-measure", "attest", "launch") and "/program/" not in name:
        for match in re.finditer(r"\b(std::cout|std::cerr|fmt::print|printf)\b", text):
            faults.append(f"{name}: a library talks by {match.group()}")
        if re.search(r"\b(getenv|secure_getenv)\b", text) and name not in ENVIRONMENT:
            faults.append(f"{name}: reads the environment")
    if "reinterpret_cast" in text and not re.search(r"^(base|tests)/", name) and name not in CASTS:
        faults.append(f"{name}: reinterpret_cast outside base")

COLUMNS, LINES = 150, 400
# Files that are longer, and why they are not cut in two.
LONG_FILES = {
    "base/service/conversation.cpp": "one connection's life, in the order in which it is lived",
    "psp/emulator/program/preload.cpp": "a library in other people's programs: one file, so that nothing but what it intercepts is seen from outside",
    "tests/cli/compat_test.py": "each command of virtee's sevctl against formulas written once more",
    "tests/cli/device_test.py": "what every command and program makes of one faulty device, which takes long to set up",
    "tests/emulator/mailbox_test.cpp": "each register and frame of the mailbox, and hostile machines",
    "tests/owner/owner_test.py": "the owner's service as its clients meet it, with the set-up they share",
    "tests/probe/assess_test.cpp": "a case for each fact of a host, turned alone",
    "tests/qubes/core_admin_run.py": "a stand-in for Qubes' core-admin, whose one class it is",
    "tests/relay/relay_test.py": "every wrong answer of a key server, with the set-up they share",
    "tests/service/server_test.cpp": "slow, silent, greedy and wrong clients of one server",
}


def blanked(raw):
    """A raw string without its text, which is somebody else's language."""
    return "\n" * raw.group().count("\n")


long_files = set()
for path in sources:
    text, name = path.read_text(), path.relative_to(root).as_posix()
    if text.count("\n") > LINES:
        long_files.add(name)
    if path.suffix != ".py":
        for at, line in enumerate(re.sub(r'R"(\w*)\(.*?\)\1"', blanked, text, flags=re.S).split("\n"), 1):
            if len(line) > COLUMNS:
                faults.append(f"{name}:{at}: {len(line)} columns, want at most {COLUMNS} (scripts/break-lines {name})")
for name in sorted(long_files - set(LONG_FILES)):
    faults.append(f"{name}: more than {LINES} lines; cut it, or give the reason in {pathlib.Path(__file__).name}")
for name in sorted(set(LONG_FILES) - long_files):
    faults.append(f"{name}: is no longer longer than {LINES} lines, or is gone: take it out of {pathlib.Path(__file__).name}")

for path in sorted((root / "psp/emulator/machine/patches").rglob("*.patch")):
    head = path.read_text().split("\n--- a/")[0]
    if not re.match(r"SPDX-License-Identifier: L?GPL-2\.[01]-or-later[^\n]*\n\n[\w/]+: [^\n]+\n\n\S[^\n]{40,}\n", head):
        faults.append(f"{path.relative_to(root)}: no header with licence, title and purpose")
for target in sorted((root / "tests/fuzz").glob("*.cpp")):
    if target.stem != "corpus_main" and not list((root / "tests/fuzz/corpus" / target.stem).glob("*")):
        faults.append(f"{target.name}: no corpus")

readme = (root / "README.md").read_text()
for link in re.findall(r"\]\(([^)#]+)\)", readme):
    if "://" not in link and not (root / link).exists():
        faults.append(f"README.md names {link}, which is not there")

for fault in faults:
    print(fault)
print(f"{len(sources)} files, {len(faults)} faults")
sys.exit(1 if faults or len(sources) < 80 else 0)
