#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dom0 has no network, and its programs no HTTP library: holds what the dynamic linker would load against that. sev-relay must show libcurl, so that the
test is known to see it."""
import argparse
import re
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--with", dest="users", nargs="+", required=True)
parser.add_argument("--without", nargs="+", required=True)
options = parser.parse_args()
NETWORK = r"lib(curl|nghttp2|ssh2|ssl)\b"
faults = []
for program in options.users + options.without:
    loaded = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    found = re.findall(NETWORK, loaded)
    if program in options.users and "curl" not in found:
        faults.append(f"{program} does not link libcurl")
    if program in options.without and (found or "libc.so" not in loaded):
        faults.append(f"{program} links {', '.join(sorted(set(found))) or 'nothing that ldd sees'}")
print("\n".join(faults) or f"{len(options.without)} programs without a network library")
sys.exit(1 if faults else 0)
