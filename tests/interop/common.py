# SPDX-License-Identifier: Apache-2.0
"""What the differential tests share: a working folder, random inputs from a seed, running sevctl, a report for the count test.

Firmware images, hash tables and VMSA pages come from tests/fixtures/measure/make.py, which knows neither our code nor the peers'.
"""
import argparse
import hashlib
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "measure"))
import make  # noqa: E402

SKIP = 77  # ctest's SKIP_RETURN_CODE
OVMF = pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.fd")


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sevctl", required=True, help="the program under test")
    parser.add_argument("--report", required=True, help="JSON file that says how many cases ran")
    parser.add_argument("--seed", type=int, default=55766, help="another seed makes other cases")
    parser.add_argument("--cases", type=int, help="how many cases to generate")
    return parser


def begin(parser):
    """The parsed arguments; a report of an earlier run is gone."""
    args = parser.parse_args()
    pathlib.Path(args.report).unlink(missing_ok=True)
    return args


def write_report(path, **values):
    pathlib.Path(path).write_text(json.dumps(values) + "\n", encoding="utf-8")


def skip(args, why):
    print(f"SKIPPED: {why}")
    write_report(args.report, skipped=why, cases=0)
    sys.exit(SKIP)


class Workspace:
    """Files of one run, gone with it; random content from one seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.folder = tempfile.TemporaryDirectory(prefix="xen-sev-interop-")
        self.count = 0
        self.paths = {}

    def file(self, content, suffix="bin"):
        """A file with this content; the same content is the same file."""
        key = (hashlib.sha256(content).digest(), suffix)
        if key not in self.paths:
            self.paths[key] = self.name(suffix)
            with open(self.paths[key], "wb") as out:
                out.write(content)
        return self.paths[key]

    def name(self, suffix):
        self.count += 1
        return os.path.join(self.folder.name, f"{self.count}.{suffix}")

    def firmware(self, hashes=True, reset=None):
        """A synthetic image: 1 to 16 flash blocks, entries of the table in random order, perhaps one of an unknown kind."""
        rng = self.random
        if reset is None:
            reset = rng.choice([0x0080B004, 0x00809004, rng.randrange(1, 1 << 32)])
        entries = [(make.RESET, struct.pack("<I", reset)),
                   (make.SECRET, struct.pack("<II", 0x810000, 0xC00)),
                   (make.HASHES, struct.pack("<II", 0x810C00 if hashes else 0, 0x400 if hashes else 0))]
        if rng.random() < 0.5:
            entries.append((make.UNKNOWN, rng.randbytes(rng.randrange(40))))
        rng.shuffle(entries)
        return make.image(4096 * rng.randrange(1, 17), rng.randrange(1 << 32), entries), reset

    def cmdline(self):
        rng = self.random
        first = ["root=/dev/vda1", "quiet", "-x", "größe=1", "\\"]  # "--" alone would be lost in Python's argparse
        words = first + ["ro", "console=ttyS0,115200", "init=/bin/sh", "a=\"b c\"", "--", "'", "\t"]
        return " ".join([rng.choice(first)] + [rng.choice(words) for _ in range(rng.randrange(8))])


def table_entry(image, guid):
    """What an image's GUID table has for this GUID, without its length and the GUID."""
    end = len(image) - 0x32
    left = struct.unpack_from("<H", image, end)[0] - 18
    while left >= 18:
        length = struct.unpack_from("<H", image, end - 18)[0]
        if image[end - 16:end] == make.guid(guid):
            return image[end - length:end - 18]
        end -= length
        left -= length
    raise ValueError(f"the table has no {guid}")


def reset_address(image):
    """AP reset address of an image with a GUID table."""
    return struct.unpack("<I", table_entry(image, make.RESET))[0]


def sevctl(program, *words):
    """Exit status, stdout, stderr."""
    done = subprocess.run([program, *map(str, words)], capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout.decode(), done.stderr.decode()
