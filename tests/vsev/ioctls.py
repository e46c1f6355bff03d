#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs inside the virtual SEV machine: each ioctl of /dev/sev, from the layouts of <linux/psp-sev.h>. Prints {what: [errno, firmware status, lengths...]}."""
import ctypes
import fcntl
import json
import os
import struct

ISSUE_CMD = 0xC0105300
KEEP = []


def buffer(size, fill=0):
    made = ctypes.create_string_buffer(bytes([fill]) * size, size)
    KEEP.append(made)
    return made


def address(made):
    return ctypes.addressof(made) if made is not None else 0


def issue(fd, command, data, request=ISSUE_CMD):
    """errno and the firmware's status; `data` is the sub-structure or None."""
    raw = bytearray(struct.pack("<IQI", command, address(data), 0))
    try:
        fcntl.ioctl(fd, request, raw)
        error = 0
    except OSError as failed:
        error = failed.errno
    return [error, struct.unpack("<IQI", raw)[2]]


def with_lengths(fd, command, sub, at):
    made = buffer(len(sub))
    made.raw = sub
    result = issue(fd, command, made)
    return result + [struct.unpack_from("<I", made.raw, offset)[0] for offset in at]


def main():
    told = {}
    fd = os.open("/dev/sev", os.O_RDWR)
    told["PLATFORM_STATUS"] = issue(fd, 1, buffer(12))
    told["PLATFORM_STATUS null"] = issue(fd, 1, None)
    told["PEK_GEN"] = issue(fd, 2, None)
    told["PDH_GEN"] = issue(fd, 4, None)
    blob = buffer(16385)
    told["PEK_CSR length 0"] = with_lengths(fd, 3, struct.pack("<QI", 0, 0), [8])
    told["PEK_CSR"] = with_lengths(fd, 3, struct.pack("<QI", address(blob), 2084), [8])
    told["PEK_CSR length 16385"] = with_lengths(fd, 3, struct.pack("<QI", address(blob), 16385), [8])
    told["PDH_CERT_EXPORT lengths 0"] = with_lengths(fd, 5, struct.pack("<QIQI", 0, 0, 0, 0), [8, 20])
    told["PDH_CERT_EXPORT"] = with_lengths(fd, 5, struct.pack("<QIQI", address(blob), 2084, address(buffer(6252)), 6252), [8, 20])
    told["GET_ID2 length 0"] = with_lengths(fd, 8, struct.pack("<QI", 0, 0), [8])
    told["GET_ID2"] = with_lengths(fd, 8, struct.pack("<QI", address(blob), 64), [8])
    told["GET_ID"] = issue(fd, 7, buffer(128))
    told["PEK_CERT_IMPORT of zeros"] = issue(fd, 6, made_import())
    told["FACTORY_RESET"] = issue(fd, 0, None)
    told["command 9"] = issue(fd, 9, None)
    told["another ioctl"] = issue(fd, 1, buffer(12), request=0xC0105301)
    read_only = os.open("/dev/sev", os.O_RDONLY)
    told["PEK_GEN read-only"] = issue(read_only, 2, None)
    print(json.dumps(told))


def made_import():
    made = buffer(24)
    made.raw = struct.pack("<QIQI", address(buffer(2084)), 2084, address(buffer(2084)), 2084)
    return made


if __name__ == "__main__":
    main()
