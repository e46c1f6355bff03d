# SPDX-License-Identifier: Apache-2.0
"""A transcript of the PSP's commands with what may vary taken out by rule, so that it can be held against a golden file.

- addresses are not shown; the value of handles and ASIDs is the number of their first appearance
- a row of LAUNCH_UPDATE_DATA for one guest, however KVM split it, is one line with the sum of its lengths
"""
import re

NUMBERED = ("handle", "asid")


def normalised(lines):
    known = {name: {} for name in NUMBERED}

    def number(match):
        name, *values = match.group(1), *match.group(2).split("->")
        shown = ["0" if value == "0" else str(known[name].setdefault(value, len(known[name]) + 1)) for value in values]
        return f"{name}={'->'.join(shown)}"

    out, total, of = [], 0, None
    for line in [*lines, ""]:
        line = re.sub(r" \w*address=(?!0x0\b)\S+", "", line)
        line = re.sub(r" \w*address=0x0\b", "", line)
        line = re.sub(r"\b(handle|asid)=(\S+)", number, line)
        split = re.fullmatch(r"LAUNCH_UPDATE_DATA handle=(\S+) length=(\d+) SUCCESS", line)
        if of is not None and (not split or split.group(1) != of):
            out.append(f"LAUNCH_UPDATE_DATA... handle={of} length={total} SUCCESS")
            total, of = 0, None
        if split:
            of, total = split.group(1), total + int(split.group(2))
        elif line:
            out.append(line)
    return out
