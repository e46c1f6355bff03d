// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "ovmf-measure/xen/version.hpp"

namespace sev::measure {

/// A PT_LOAD of an ELF file: `filesz` bytes of the file, then zeros up to `memsz`.
struct XenElfSegment {
    std::uint64_t paddr, offset, filesz, memsz;
    friend bool operator==(const XenElfSegment&, const XenElfSegment&) = default;
};

/// What Xen's notes in a kernel say about its start. Of a note that occurs more than once, Xen takes the last.
struct XenNotes {
    unsigned count = 0; // of notes named "Xen"
    std::optional<std::uint32_t> phys32_entry;
    bool mod_start_pfn = false;
    std::string guest_os; // at most 15 bytes, as Xen keeps it
    std::uint32_t supported_features = 0;
    bool bsd_symtab = false, virt_base = false, paddr_offset = false;
    /// XENFEAT_linux_rsdp_unrestricted: the RSDP may be anywhere.
    bool rsdp_unrestricted() const noexcept { return guest_os != "linux" || (supported_features & 1U << 15) != 0; }
    friend bool operator==(const XenNotes&, const XenNotes&) = default;
};

/// An ELF file as Xen's domain builder reads it. Little-endian, i386 or x86-64.
struct XenElf {
    bool is_64 = false;
    std::uint64_t entry = 0;             // e_entry
    std::uint64_t start = 0, end = 0;    // from the lowest p_paddr to the highest p_paddr + p_memsz
    std::vector<XenElfSegment> segments; // loadable ones, ascending by paddr, without overlap
    XenNotes notes;

    /// Throws Error{Fault::malformed} with `what`, offset, got and want: for what Xen refuses, and for what it takes in a way that cannot be told
    /// from the file (segments that overlap or lie outside the file, notes cut off, no page-aligned start, more than 4 GiB).
    static XenElf parse(ByteView file, std::string_view what);
    friend bool operator==(const XenElf&, const XenElf&) = default;
};

/// Refuses what a PVH kernel cannot be: no PHYS32_ENTRY, an entry outside the image, a BSD symbol table (Xen appends it to the image), and until 4.17
/// a PADDR_OFFSET without VIRT_BASE. Throws Error{Fault::malformed}.
void check_pvh_kernel(const XenElf& elf, const XenRules& rules, std::string_view what);
/// Refuses what hvmloader cannot be: a 64-bit file, or one with Xen notes. Throws Error{Fault::malformed}.
void check_hvmloader(const XenElf& elf, std::string_view what);

} // namespace sev::measure
