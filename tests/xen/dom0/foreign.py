# SPDX-License-Identifier: Apache-2.0
"""What a hostile or careless dom0 can do to a paused guest: reading and writing its memory, giving it a page more, changing its registers."""
import ctypes
import ctypes.util
import os

PAGE = 4096
READ, WRITE = 1, 2

_memory = ctypes.CDLL("libxenforeignmemory.so.1", use_errno=True)
_memory.xenforeignmemory_open.restype = ctypes.c_void_p
_memory.xenforeignmemory_map.restype = ctypes.c_void_p
_memory.xenforeignmemory_map.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_size_t,
                                         ctypes.POINTER(ctypes.c_ulong), ctypes.POINTER(ctypes.c_int)]
_memory.xenforeignmemory_unmap.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_handle = _memory.xenforeignmemory_open(None, 0)
_control = ctypes.CDLL("libxenctrl.so.4.17", use_errno=True)
_control.xc_interface_open.restype = ctypes.c_void_p
_control.xc_interface_open.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
_control.xc_domain_setmaxmem.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64]
_control.xc_domain_populate_physmap_exact.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_ulong, ctypes.c_uint, ctypes.c_uint,
                                                      ctypes.POINTER(ctypes.c_ulong)]
_control.xc_domain_hvm_getcontext.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32]
_control.xc_domain_hvm_setcontext.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32]


def _with_page(domid, gfn, protection, work):
    frame, error = ctypes.c_ulong(gfn), ctypes.c_int(0)
    at = _memory.xenforeignmemory_map(_handle, domid, protection, 1, ctypes.byref(frame), ctypes.byref(error))
    if not at or error.value:
        raise OSError(error.value or ctypes.get_errno(), f"domain {domid} page {gfn:#x}: {os.strerror(abs(error.value) or ctypes.get_errno())}")
    try:
        return work((ctypes.c_ubyte * PAGE).from_address(at))
    finally:
        _memory.xenforeignmemory_unmap(_handle, at, 1)


def read(domid, gpa, size):
    out = b""
    while len(out) < size:
        gfn, offset = divmod(gpa + len(out), PAGE)
        out += _with_page(domid, gfn, READ, lambda page, o=offset, n=min(PAGE - offset, size - len(out)): bytes(page[o:o + n]))
    return out


def flip(domid, gpa):
    """Changes one byte; a second time changes it back."""
    gfn, offset = divmod(gpa, PAGE)

    def work(page):
        page[offset] ^= 0x40
    _with_page(domid, gfn, READ | WRITE, work)


def add_page(domid, gfn, memory_kib):
    """One page more than the domain was built with."""
    control = _control.xc_interface_open(None, None, 0)
    frame = ctypes.c_ulong(gfn)
    failed = _control.xc_domain_setmaxmem(control, domid, memory_kib + 4096)
    if failed or _control.xc_domain_populate_physmap_exact(control, domid, 1, 0, 0, ctypes.byref(frame)):
        raise OSError(ctypes.get_errno(), f"domain {domid}: page {gfn:#x}")


def set_rip(domid, rip):
    """Another entry point for vCPU 0. Returns the old one."""
    control = _control.xc_interface_open(None, None, 0)
    size = _control.xc_domain_hvm_getcontext(control, domid, None, 0)
    buffer = (ctypes.c_ubyte * size)()
    size = _control.xc_domain_hvm_getcontext(control, domid, buffer, size)
    at = 0
    while True:  # records: u16 type, u16 instance, u32 length
        kind, length = buffer[at] | buffer[at + 1] << 8, int.from_bytes(bytes(buffer[at + 4:at + 8]), "little")
        if kind == 2:
            break
        at += 8 + length
    field = slice(at + 8 + 0x280, at + 8 + 0x288)
    old = int.from_bytes(bytes(buffer[field]), "little")
    buffer[field] = list(rip.to_bytes(8, "little"))
    if _control.xc_domain_hvm_setcontext(control, domid, buffer, size):
        raise OSError(ctypes.get_errno(), f"domain {domid}: setting its context")
    return old
