#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sandbox.py UNIT COMMAND…: runs a command as root under what a systemd unit takes from its service, without a systemd: its SystemCallFilter (the groups as systemd-analyze has
them), RestrictAddressFamilies, CapabilityBoundingSet, NoNewPrivileges, RestrictNamespaces, LockPersonality and RestrictRealtime, by the kernel's own means. The file system
(ProtectSystem and the like) is the caller's business."""
import configparser
import ctypes
import ctypes.util
import errno
import os
import subprocess
import sys

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
COMPARE_EQUAL, COMPARE_MASKED = 4, 7
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 38, 47


class Argument(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def service(unit):
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str
    lines, out = [line.rstrip("\n") for line in open(unit, encoding="utf-8") if not line.startswith("#")], {}
    for line in lines[lines.index("[Service]") + 1:]:
        if line.startswith("["):
            break
        key, equals, value = line.partition("=")
        if equals:
            out.setdefault(key, []).append(value)  # several lines of one key add up
    return out


def calls_of(word, seen=()):
    """The system calls of a name or a group, by systemd's own lists."""
    if not word.startswith("@"):
        return {word}
    out = set()
    listed = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True, env={**os.environ, "SYSTEMD_COLORS": "0"}).stdout
    for line in listed.splitlines()[1:]:
        name = line.strip()
        if name and not name.startswith("#") and name not in seen:
            out |= calls_of(name, (*seen, word))
    return out


def filtered(lines):
    """Names of the allowed calls: the first line's are, with those that systemd itself always allows, but for those that a later line takes back."""
    allowed = set(calls_of("@default"))
    if not lines or lines[0].startswith("~"):
        raise SystemExit("sandbox: SystemCallFilter does not begin with what is allowed")
    for line in lines:
        names = set().union(*(calls_of(word) for word in line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed | set(calls_of("@default"))


def load(unit):
    said = service(unit)
    seccomp = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Argument)]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    seccomp.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    refuse = ERRNO | getattr(errno, said["SystemCallErrorNumber"][0])
    number = lambda name: seccomp.seccomp_syscall_resolve_name(name.encode())

    def rule(context, action, name, *arguments):
        done = seccomp.seccomp_rule_add_array(context, action, number(name), len(arguments), (Argument * len(arguments))(*arguments))
        if done:
            raise SystemExit(f"sandbox: {name}: {os.strerror(-done)}")

    names = filtered(said["SystemCallFilter"])
    calls = seccomp.seccomp_init(refuse)
    for name in sorted(names):
        if number(name) >= 0:
            rule(calls, ALLOW, name)
    more = seccomp.seccomp_init(ALLOW)
    if "RestrictAddressFamilies" in said:
        import socket  # pylint: disable=import-outside-toplevel
        families = {int(getattr(socket, word)) for word in said["RestrictAddressFamilies"][0].split()}
        for family in set(range(50)) - families:
            rule(more, ERRNO | errno.EAFNOSUPPORT, "socket", Argument(0, COMPARE_EQUAL, family, 0))
    if said.get("RestrictNamespaces") == ["yes"]:
        rule(more, ERRNO | errno.EPERM, "unshare")
        rule(more, ERRNO | errno.EPERM, "setns")
        for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):  # CLONE_NEW…
            rule(more, ERRNO | errno.EPERM, "clone", Argument(0, COMPARE_MASKED, flag, flag))
        rule(more, ERRNO | errno.ENOSYS, "clone3")  # its flags cannot be looked at
    if said.get("LockPersonality") == ["yes"]:
        rule(more, ERRNO | errno.EPERM, "personality")
    if said.get("RestrictRealtime") == ["yes"]:
        for policy in (1, 2, 6):  # SCHED_FIFO, _RR, _DEADLINE
            rule(more, ERRNO | errno.EPERM, "sched_setscheduler", Argument(1, COMPARE_EQUAL, policy, 0))
    return seccomp, (calls, more), said


def drop_capabilities(said):
    """All but the unit's, from the bounding set and from this process's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    listed = subprocess.run(["systemd-analyze", "capability"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    numbers = {words[0].upper(): int(words[1]) for words in map(str.split, listed) if len(words) == 2}
    keep = {numbers[name] for name in said["CapabilityBoundingSet"][0].split()}
    last = int(open("/proc/sys/kernel/cap_last_cap", encoding="ascii").read())
    for capability in set(range(last + 1)) - keep:
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise SystemExit(f"sandbox: capability {capability}: {os.strerror(ctypes.get_errno())}")
    mask = sum(1 << number for number in keep)
    now = [int(line.split()[1], 16) for line in open("/proc/self/status", encoding="ascii") if line.startswith("CapPrm:")][0]
    mask &= now
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(mask & 0xFFFFFFFF, mask & 0xFFFFFFFF, 0, mask >> 32, mask >> 32, 0)
    if libc.capset(header, data):
        raise SystemExit(f"sandbox: capset: {os.strerror(ctypes.get_errno())}")
    return libc


def main():
    seccomp, filters, said = load(sys.argv[1])
    libc = drop_capabilities(said)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise SystemExit("sandbox: no_new_privs")
    os.umask(int(said["UMask"][0], 8))
    for one in reversed(filters):
        if seccomp.seccomp_load(one):
            raise SystemExit("sandbox: the filter cannot be loaded")
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
