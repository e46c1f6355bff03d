// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "base/bytes.hpp"

/// Slots: places in a Xen guest's files that are measured as they are, and receive the secrets after the verdict.
namespace sev::measure {

inline constexpr std::size_t slot_page_bytes = 4096;

/// Channel "initrd": whole zero pages in front of a ramdisk. Linux skips zeros before a cpio archive, and every release of Xen copies a ramdisk
/// unchanged that does not begin with gzip's magic.
inline constexpr std::uint64_t ramdisk_slot_page_limit = 256; // 1 MiB, as much as a secret archive may have
/// How many whole zero pages a ramdisk begins with; 0: no slot. A ramdisk of zeros alone has none either.
std::uint64_t ramdisk_slot_pages(ByteView ramdisk);
/// The ramdisk behind `pages` zero pages. Throws Error{Fault::usage} for 0 or more than the limit, for an empty ramdisk, and for one that has a slot
/// already; errors name `what`.
Bytes add_ramdisk_slot(ByteView ramdisk, std::uint64_t pages, std::string_view what);

/// Channel "smbios": a file for xl's smbios_firmware with one SMBIOS structure: u32 length of the structure, then type 11 (OEM strings), its length
/// 5, handle, count of strings, and strings: each ends with a NUL, the last with two. hvmloader hands it to the guest as it is. Source: DMTF
/// DSP0134 6.1.3 and 7.12; Xen 4.17.7 docs/man/xl.cfg.5, tools/firmware/hvmloader/smbios.c.
struct SmbiosSlot {
    static constexpr std::size_t header_bytes = 9;     // length, type, length, handle, count
    static constexpr std::size_t count_at = 8;
    static constexpr std::size_t overhead_bytes = 11;  // and the two NULs
    static constexpr std::size_t least_bytes = 64, limit_bytes = 0x8000;
    std::size_t file_bytes = 0; // multiple of 16, since secrets go to memory in such pieces
    /// Bytes of text that fit, when it is one string.
    std::size_t string_bytes() const noexcept { return file_bytes - overhead_bytes; }
    friend bool operator==(const SmbiosSlot&, const SmbiosSlot&) = default;
};
/// The slot file for a string of at least `string_bytes`: rounded up so that the file is a multiple of 16 bytes. Its string is a placeholder.
/// Throws Error{Fault::usage} when the file would have less than SmbiosSlot::least_bytes or more than SmbiosSlot::limit_bytes.
Bytes make_smbios_slot(std::uint64_t string_bytes);
/// What a slot file says of itself; nullopt when `file` is anything but what `make_smbios_slot` makes.
std::optional<SmbiosSlot> smbios_slot(ByteView file);

} // namespace sev::measure
