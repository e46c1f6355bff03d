// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/slot.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "base/wire.hpp"

namespace sev::measure {
namespace {

constexpr std::size_t unit_bytes = 16; // LAUNCH_SECRET takes multiples of it
constexpr std::uint8_t type_oem_strings = 11, formatted_bytes = 5;
constexpr std::uint16_t handle = 0xE00; // hvmloader's own for OEM strings; it sets it in any case
constexpr std::string_view placeholder = "xen-sev-slot:";
constexpr char filler = '.';

} // namespace

std::uint64_t ramdisk_slot_pages(ByteView ramdisk) {
    const auto first = std::ranges::find_if(ramdisk, [](std::uint8_t byte) { return byte != 0; });
    if (first == ramdisk.end()) return 0;
    return static_cast<std::uint64_t>(first - ramdisk.begin()) / slot_page_bytes;
}

Bytes add_ramdisk_slot(ByteView ramdisk, std::uint64_t pages, std::string_view what) {
    if (pages == 0 || pages > ramdisk_slot_page_limit)
        throw Error{Fault::usage, fmt::format("{}: a slot of {} pages, want 1 to {}", what, pages, ramdisk_slot_page_limit)};
    if (ramdisk.empty()) throw Error{Fault::usage, fmt::format("{}: 0 bytes, want a ramdisk", what)};
    if (const auto there = ramdisk_slot_pages(ramdisk))
        throw Error{Fault::usage, fmt::format("{}: begins with {} zero pages already, want a ramdisk without a slot", what, there),
                    "give the ramdisk that the slot was added to"};
    Bytes out(pages * slot_page_bytes + ramdisk.size());
    std::ranges::copy(ramdisk, out.begin() + static_cast<std::ptrdiff_t>(pages * slot_page_bytes));
    return out;
}

Bytes make_smbios_slot(std::uint64_t string_bytes) {
    const std::uint64_t file_bytes =
        (std::min<std::uint64_t>(string_bytes, SmbiosSlot::limit_bytes) + SmbiosSlot::overhead_bytes + unit_bytes - 1) / unit_bytes * unit_bytes;
    if (file_bytes < SmbiosSlot::least_bytes || file_bytes > SmbiosSlot::limit_bytes)
        throw Error{Fault::usage, fmt::format("SMBIOS slot for {} bytes: want {} to {}", string_bytes,
                                              SmbiosSlot::least_bytes - SmbiosSlot::overhead_bytes - unit_bytes + 1,
                                              SmbiosSlot::limit_bytes - SmbiosSlot::overhead_bytes)};
    Bytes out(file_bytes, static_cast<std::uint8_t>(filler));
    const wire::Span<SmbiosSlot::header_bytes> header{out.data(), SmbiosSlot::header_bytes};
    wire::put_le32<0>(header, static_cast<std::uint32_t>(file_bytes - sizeof(std::uint32_t)));
    wire::put_u8<4>(header, type_oem_strings);
    wire::put_u8<5>(header, formatted_bytes);
    wire::put_le16<6>(header, handle);
    wire::put_u8<8>(header, 1);
    std::ranges::copy(placeholder, out.begin() + SmbiosSlot::header_bytes);
    out[out.size() - 1] = out[out.size() - 2] = 0;
    return out;
}

std::optional<SmbiosSlot> smbios_slot(ByteView file) {
    if (file.size() < SmbiosSlot::least_bytes || file.size() > SmbiosSlot::limit_bytes || file.size() % unit_bytes != 0) return std::nullopt;
    if (!std::ranges::equal(file, make_smbios_slot(file.size() - SmbiosSlot::overhead_bytes))) return std::nullopt;
    return SmbiosSlot{.file_bytes = file.size()};
}

} // namespace sev::measure
