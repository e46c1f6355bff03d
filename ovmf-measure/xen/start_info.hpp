// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "ovmf-measure/xen/guest_config.hpp"

namespace sev::measure {

/// One entry of start_info's memory map. Types: 1 RAM, 2 reserved, 3 ACPI, 4 NVS.
struct XenMemoryEntry {
    std::uint64_t gpa = 0, size_bytes = 0;
    std::uint32_t type = 0;
    friend bool operator==(const XenMemoryEntry&, const XenMemoryEntry&) = default;
};

/// A ramdisk or firmware in start_info's list.
struct XenModule {
    std::uint64_t gpa = 0, size_bytes = 0;
    std::string_view cmdline; // empty: none
};

/// hvm_start_info and what follows it in its segment: command line (PVH), two module entries, two module command lines of 1024 bytes, memory map. All
/// little-endian.
/// Source: Xen public/arch-x86/hvm/start_info.h, tools/libs/guest/xg_dom_x86.c.
struct XenStartInfo {
    static constexpr std::size_t header_bytes = 56, module_bytes = 32, module_slots = 2, module_cmdline_bytes = 1024, memory_entry_bytes = 24;
    static constexpr std::uint32_t magic = 0x336EC578;

    std::optional<std::string_view> cmdline; // PVH
    std::optional<XenModule> module;
    std::uint64_t rsdp_gpa = 0; // PVH
    std::vector<XenMemoryEntry> memory;

    std::size_t size_bytes() const;
    /// The segment as it stands at guest address `gpa`, `size_bytes()` long; the rest of its last page is zero.
    Bytes serialize(std::uint64_t gpa) const;
};

/// What a start_info in guest memory says, for people who compare two.
struct XenStartInfoView {
    std::optional<std::string> cmdline;
    std::vector<XenMemoryEntry> memory;
    std::vector<std::array<std::uint64_t, 2>> modules; // address, size
    std::uint64_t rsdp_gpa = 0;
    /// Reads the pages of a start_info segment whose first byte is at `gpa`. Throws Error{Fault::malformed} with the offset when an address points
    /// out of them.
    static XenStartInfoView parse(ByteView segment, std::uint64_t gpa);
};

/// hvm_info_table in its page (offset 800h). `low_end`, `high_end` in bytes; `high_end` 0: no memory above 4 GiB. Source: Xen
/// public/hvm/hvm_info_table.h.
Bytes hvm_info_page(const XenGuestConfig& config, std::uint64_t low_end, std::uint64_t high_end);

} // namespace sev::measure
