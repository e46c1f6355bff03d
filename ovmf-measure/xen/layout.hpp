// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

/// Addresses that the toolstack of Xen 4.17 to 4.22 gives every HVM and PVH guest. Source: xen.git, tools/libs/guest/xg_dom_x86.c,
/// tools/libs/light/libxl_dom.c.
namespace sev::measure::xen_layout {

inline constexpr std::uint64_t page_bytes = 4096;
inline constexpr std::uint64_t four_gib = std::uint64_t{1} << 32;
inline constexpr std::uint64_t low_ram_hvm = 0x100000;       // the memory map of an HVM guest begins here; hvmloader makes the rest
inline constexpr std::uint64_t hole_hvm = 0xF0000000, hole_pvh = 0xFC000000;
inline constexpr std::uint64_t acpi_info_gpa = 0xFC000000;   // PVH: one page; the tables follow, then the RSDP
inline constexpr std::uint64_t rsdp_low_gpa = 0x100000 - 64; // PVH: for a Linux that does not take it elsewhere
inline constexpr std::uint64_t special_gfn = 0xFEFF8, special_pages = 8;
inline constexpr std::uint64_t ioreq_gfn = 0xFEFF0, ioreq_pages = 8; // HVM
inline constexpr std::uint64_t hvm_info_gfn = 0x9F, hvm_info_offset = 0x800;
inline constexpr std::uint64_t vga_hole_gfn = 0xA0, vga_hole_end_gfn = 0xC0; // HVM: nothing there
inline constexpr std::uint64_t option_rom_pages = 16;        // HVM with a VGA: QEMU's, after the video RAM

constexpr std::uint64_t pages_of(std::uint64_t size_bytes) { return (size_bytes + page_bytes - 1) / page_bytes; }

} // namespace sev::measure::xen_layout
