#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looks for TEK, TIK, VEK and the secret in the memory and core of a process that launched a guest, and in what sevctl prints, logs and leaves in files.

scan.py SECRETS_PROBE SEVCTL SEV_EMULATOR
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

PROBE, SEVCTL, EMULATOR = sys.argv[1:4]
MASK = 0x5A
SECRET = b"a-secret-nobody-else-has-" + os.urandom(8).hex().encode()
faults = []


def table():
    """OVMF's table with the SEV-ES reset block at 0080B004h, and the 32 bytes after it."""
    entry = struct.pack("<I", 0x0080B004) + struct.pack("<H", 22) + bytes.fromhex("de71f7007e1acb4f890e68c77e2fb44e")
    footer = struct.pack("<H", 40) + bytes.fromhex("de82b596b21ff745baeaa366c55a082d")
    return entry + footer + bytes(32)


def prepare(folder):
    psp = json.loads(subprocess.run([EMULATOR, "create", "--state", folder / "psp", "--json"], check=True, capture_output=True, text=True).stdout)
    (folder / "firmware").write_bytes(os.urandom(1 << 20) + bytes(4096 - len(table())) + table())
    (folder / "initrd").write_bytes(bytes(4096) + b"ramdisk")
    (folder / "secret").write_bytes(SECRET)
    os.chmod(folder / "secret", 0o600)
    firmware = {"label": "firmware", "file": "firmware"}
    initrd = {"label": "initrd", "gpa": "0x10000000", "file": "initrd"}
    cpus = {"vcpus": 2, "vmsa_profile": "kvm-legacy", "cpu": "EPYC"}
    (folder / "guest.json").write_text(json.dumps({
        "format": "xen-sev/image-layout", "version": 1, "parts": [initrd, {**firmware, "gpa": "0xffeff000"}],
        "slots": [{"name": "initrd", "gpa": "0x10000000", "length": 4096}], **cpus}))
    (folder / "owner.json").write_text(json.dumps({
        "format": "xen-sev/owner-policy", "version": 1, "owner": "scan", "validity": {"not_before": "2020-01-01T00:00:00Z", "not_after": "2099-01-01T00:00:00Z"},
        "roots": {"amd": [], "other": [{"label": "scan", "product": "naples", "emulated": True, "fingerprint": psp["root_fingerprint"]}]},
        "chips": [{"label": "chip", "cek": psp["cek_fingerprint"]}], "minimum_build": "0.17.22", "accept_unproven_build": False,
        "guest_policy": {"required": ["NODBG", "NOKS", "ES", "NOSEND"], "forbidden": []}, "level": 0, "evidence": ["measurement"],
        "references": [{"name": "guest", "image": {"parts": [initrd, firmware], **cpus}}],
        "secrets": [{"name": "s", "file_name": "key", "path": "secret", "when": {"es": True}}], "accepted_advisories": []}))


def memory_of(pid):
    """Every readable byte of the process."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            if "r" not in mode or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            try:
                yield memory.read(end - start)
            except OSError:
                continue


def places(values, pieces):
    """How often each value stands in the pieces."""
    found = {name: 0 for name in values}
    for piece in pieces:
        for name, value in values.items():
            found[name] += piece.count(value)
    return found


def expect(point, where, found, limits):
    for name, count in sorted(found.items()):
        low, high = limits.get(name, (0, 0))
        print(f"{point:<10} {where:<7} {name:<10} {count} (want {low} to {high})")
        if not low <= count <= high:
            faults.append(f"{point}, {where}: {name} stands in {count} places, want {low} to {high}")


def core_of(pid, folder):
    result = subprocess.run(["gcore", "-o", folder / "core", str(pid)], capture_output=True, text=True)
    files = list(folder.glob("core.*"))
    if result.returncode != 0 or not files:
        faults.append(f"gcore failed: {result.stderr.strip()[-200:]}")
        return b""
    data = files[0].read_bytes()
    files[0].unlink()
    return data


def scan_probe(folder):
    # The keys of a launch that is going on must be somewhere: TEK and TIK once in the owner's session and, until LAUNCH_FINISH, once in the PSP's guest context; the VEK, as
    # long as the guest lives, three times in its context: the key itself, which another guest may come to share, and the first (encrypting) and last (decrypting) round
    # key of its two AES schedules. Nowhere else, and at the end nowhere at all.
    canary = {"canary": (1, 8)}
    live = {"owner-TEK": (1, 2), "owner-TIK": (1, 2), "psp-VEK": (3, 3)}
    limits = {"measured": {**canary, **live}, "running": {**canary, "psp-VEK": (3, 3)}, "destroyed": canary}
    process = subprocess.Popen([PROBE, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    values, seen = {"secret": SECRET}, []
    for line in process.stdout:
        words = line.split()
        if words[0] == "value":
            values[words[1]] = bytes(b ^ MASK for b in bytes.fromhex(words[2]))
        elif words[0] == "at":
            point = words[1]
            seen.append(point)
            expect(point, "memory", places(values, memory_of(process.pid)), limits[point])
            if shutil.which("gcore"):
                expect(point, "core", places(values, [core_of(process.pid, folder)]), limits[point])
            else:
                print("SKIPPED: cores, because gcore (package gdb) is not installed")
            process.stdin.write("on\n")
            process.stdin.flush()
    if process.wait() != 0 or seen != list(limits) or len(values) < 5:
        faults.append(f"the probe ended with {process.returncode} after {seen} with {len(values)} values")


def scan_sevctl(folder):
    """What sevctl prints, and every file it leaves, hold no secret and no key."""
    before = {path for path in folder.rglob("*")}
    for extra in ([], ["--json"], ["--bundle", folder / "bundle.json"]):
        result = subprocess.run([SEVCTL, "launch", "--psp", "emulated", "--state", folder / "psp", "--image", folder / "guest.json", "--owner", folder / "owner.json", *extra], capture_output=True)
        if result.returncode != 0:
            faults.append(f"sevctl launch {extra}: exit {result.returncode}: {result.stderr.decode()[-300:]}")
        for stream in (result.stdout, result.stderr):
            if SECRET in stream or SECRET.hex().encode() in stream:
                faults.append(f"sevctl launch {extra} prints the secret")
    new = [path for path in folder.rglob("*") if path not in before and path.is_file()]
    if [path.name for path in new] != ["bundle.json"]:
        faults.append(f"sevctl launch left {[path.name for path in new]}, want bundle.json alone")
    for path in new:
        if SECRET in path.read_bytes():
            faults.append(f"{path.name} holds the secret")


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    prepare(folder)
    scan_probe(folder)
    scan_sevctl(folder)
for fault in faults:
    print(fault)
print(f"{len(faults)} faults")
sys.exit(1 if faults else 0)
