// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/firmware_table.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/cursor.hpp"
#include "base/error.hpp"
#include "ovmf-measure/kernel_hashes.hpp"

namespace sev::measure {

namespace guid {
const Guid table_footer{{0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d}};
const Guid sev_es_reset_block{{0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e}};
const Guid sev_secret_block{{0x61, 0xb3, 0x2e, 0x4c, 0x9b, 0x7d, 0xc3, 0x4c, 0x80, 0x81, 0x12, 0x7c, 0x90, 0xd3, 0xd2, 0x94}};
const Guid sev_hash_table_block{{0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54}};
const Guid snp_metadata_offset{{0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc}};
const Guid tdx_metadata_offset{{0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2}};
const Guid igvm_parameter_offset{{0x0e, 0xa7, 0x4f, 0x78, 0x76, 0x31, 0x77, 0x46, 0x8a, 0x20, 0x04, 0xb6, 0x86, 0x99, 0xe3, 0x74}};
} // namespace guid

namespace {

constexpr std::size_t after_table = 0x20; // the reset vector and what else stands in the last 32 bytes of an image
constexpr std::size_t guid_bytes = 16;
constexpr std::size_t entry_overhead = 2 + guid_bytes; // u16 length, GUID

/// Positions of the hex digits' bytes in the text, in the order in which EFI stores them.
constexpr std::array<std::size_t, 16> text_positions{6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34};

std::uint16_t le16_at(ByteView bytes, std::size_t at) { return static_cast<std::uint16_t>(bytes[at] | bytes[at + 1] << 8); }

[[noreturn]] void refuse(std::size_t file_offset, std::string_view problem) {
    throw Error{Fault::malformed, fmt::format("firmware GUID table: {:x}h {}", file_offset, problem)};
}

Guid guid_at(ByteView bytes, std::size_t at) {
    Guid guid;
    std::ranges::copy(bytes.subspan(at, guid_bytes), guid.bytes.begin());
    return guid;
}

std::string title(const Guid& guid) {
    const std::string_view known = name(guid);
    return known.empty() ? guid.text() : fmt::format("{} ({})", known, guid.text());
}

/// A cursor over an entry's data; its errors name the entry and where in the file its data begins.
Cursor cursor(const TableEntry& entry) {
    return Cursor{entry.data, fmt::format("firmware GUID table: {} with data at {:x}h", title(entry.guid), entry.file_offset)};
}

Area area(const TableEntry& entry) {
    Cursor from = cursor(entry);
    Area area;
    area.base = from.le32("base");
    area.size_bytes = from.le32("size");
    return area;
}

std::uint32_t number(const TableEntry& entry, std::string_view field) { return cursor(entry).le32(field); }

/// Decodes what we know of one entry; what we do not know stays in `entries` alone.
void take(FirmwareTable& table, const TableEntry& entry) {
    if (entry.guid == guid::sev_es_reset_block) table.ap_reset_address = number(entry, "AP reset address");
    if (entry.guid == guid::sev_secret_block) table.secret_block = area(entry);
    if (entry.guid == guid::sev_hash_table_block) table.hash_block = area(entry);
    if (entry.guid == guid::snp_metadata_offset) table.snp_metadata_offset = number(entry, "offset");
    if (entry.guid == guid::tdx_metadata_offset) table.tdx_metadata_offset = number(entry, "offset");
    if (entry.guid == guid::igvm_parameter_offset) table.igvm_parameter_offset = number(entry, "offset");
}

/// One entry that ends at `end`: data, u16 length of the whole, GUID. `begin` is as far as it may reach back.
TableEntry entry_before(ByteView image, std::size_t begin, std::size_t end) {
    const Guid guid = guid_at(image, end - guid_bytes);
    const std::size_t length_at = end - entry_overhead;
    const std::size_t length = le16_at(image, length_at);
    if (length < entry_overhead) refuse(length_at, fmt::format("length of {} is {}, want {} or more", title(guid), length, entry_overhead));
    if (length > end - begin) refuse(length_at, fmt::format("length of {} is {}, more than the {} bytes left", title(guid), length, end - begin));
    const ByteView data = image.subspan(end - length, length - entry_overhead);
    return {.guid = guid, .file_offset = end - length, .data = {data.begin(), data.end()}};
}

[[noreturn]] void missing(const FirmwareTable& table, const Guid& wanted, std::string_view needed_for) {
    std::string found;
    for (const TableEntry& entry : table.entries) {
        found += fmt::format("{}{}", found.empty() ? "" : ", ", name(entry.guid).empty() ? entry.guid.text() : std::string{name(entry.guid)});
    }
    const std::string has = !found.empty()    ? fmt::format("it has {}", found)
                            : !table.present ? std::string{"it has no GUID table at its end"}
                                             : std::string{"its GUID table is empty"};
    throw Error{Fault::malformed, fmt::format("firmware: {} is missing, needed for {}; {}", title(wanted), needed_for, has),
                "use an OVMF image built for SEV: the whole first flash (CODE, not VARS), not compressed"};
}

Area need_area(const FirmwareTable& table, const std::optional<Area>& area, const Guid& guid, std::string_view needed_for, std::uint32_t at_least) {
    if (!area) missing(table, guid, needed_for);
    if (area->base == 0) {
        throw Error{Fault::malformed, fmt::format("firmware: {} has base 0: this build does not support {}", title(guid), needed_for),
                    "OVMF builds of the platform file OvmfPkg/AmdSev support it"};
    }
    if (area->size_bytes < at_least) {
        throw Error{Fault::malformed, fmt::format("firmware: {} has {} bytes at {:#x}, want {} or more for {}", title(guid), area->size_bytes,
                                                  area->base, at_least, needed_for)};
    }
    if (std::uint64_t{area->base} + area->size_bytes > std::uint64_t{1} << 32) {
        throw Error{Fault::malformed,
                    fmt::format("firmware: {} has {} bytes at {:#x}, which reach beyond 4 GiB", title(guid), area->size_bytes, area->base)};
    }
    return *area;
}

} // namespace

std::optional<Guid> Guid::parse(std::string_view text) {
    if (text.size() != 36) return std::nullopt;
    for (const std::size_t dash : {8U, 13U, 18U, 23U}) {
        if (text[dash] != '-') return std::nullopt;
    }
    Guid guid;
    for (std::size_t i = 0; i < guid_bytes; ++i) {
        const std::optional<Bytes> byte = try_unhex(text.substr(text_positions[i], 2));
        if (!byte) return std::nullopt;
        guid.bytes[i] = byte->front();
    }
    return guid;
}

std::string Guid::text() const {
    std::string text(36, '-');
    for (std::size_t i = 0; i < guid_bytes; ++i) {
        const std::string digits = hex(ByteView{bytes}.subspan(i, 1));
        text.replace(text_positions[i], 2, digits);
    }
    return text;
}

std::string_view name(const Guid& guid) {
    static const std::array<std::pair<Guid, std::string_view>, 7> names{{
        {guid::table_footer, "table footer"},
        {guid::sev_es_reset_block, "SEV-ES reset block"},
        {guid::sev_secret_block, "SEV secret block"},
        {guid::sev_hash_table_block, "SEV hash table block"},
        {guid::snp_metadata_offset, "SNP metadata offset"},
        {guid::tdx_metadata_offset, "TDX metadata offset"},
        {guid::igvm_parameter_offset, "IGVM parameter offset"},
    }};
    const auto found = std::ranges::find(names, guid, &std::pair<Guid, std::string_view>::first);
    return found == names.end() ? std::string_view{} : found->second;
}

FirmwareTable FirmwareTable::parse(ByteView image) {
    FirmwareTable table;
    if (image.size() < after_table + entry_overhead) return table;
    const std::size_t end = image.size() - after_table;
    const Guid footer = guid_at(image, end - guid_bytes);
    if (footer == guid::sev_es_reset_block) { // images from before the table (edk2 of 2020)
        table.bare_reset_block = true;
        table.entries.push_back(entry_before(image, 0, end));
        take(table, table.entries.back());
        return table;
    }
    if (footer != guid::table_footer) return table;

    table.present = true;
    const std::size_t length_at = end - entry_overhead;
    const std::size_t length = le16_at(image, length_at); // of the whole table, with this u16 and the footer GUID
    if (length < entry_overhead) refuse(length_at, fmt::format("length of the table is {}, want {} or more", length, entry_overhead));
    if (length > end) refuse(length_at, fmt::format("length of the table is {}, more than the {} bytes of the image before its end", length, end));
    const std::size_t begin = end - length;
    for (std::size_t at = length_at; at != begin;) {
        if (at - begin < entry_overhead) {
            refuse(begin, fmt::format("{} bytes before the first entry, fewer than the {} that an entry has", at - begin, entry_overhead));
        }
        TableEntry entry = entry_before(image, begin, at);
        at = entry.file_offset;
        if (std::ranges::find(table.entries, entry.guid, &TableEntry::guid) != table.entries.end()) {
            refuse(entry.file_offset, fmt::format("{} occurs twice", title(entry.guid)));
        }
        take(table, entry);
        table.entries.push_back(std::move(entry));
    }
    return table;
}

Bytes FirmwareTable::serialize() const {
    Bytes out;
    const auto end_entry = [&out](std::size_t length, const Guid& guid) {
        if (length > 0xFFFF) throw Error{Fault::usage, fmt::format("firmware GUID table: {} has {} bytes, want 65535 or fewer", title(guid), length)};
        out.push_back(static_cast<std::uint8_t>(length));
        out.push_back(static_cast<std::uint8_t>(length >> 8));
        out.insert(out.end(), guid.bytes.begin(), guid.bytes.end());
    };
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
        out.insert(out.end(), entry->data.begin(), entry->data.end());
        end_entry(entry->data.size() + entry_overhead, entry->guid);
    }
    if (!bare_reset_block) end_entry(out.size() + entry_overhead, guid::table_footer);
    return out;
}

std::uint32_t FirmwareTable::need_ap_reset_address() const {
    if (!ap_reset_address) missing(*this, guid::sev_es_reset_block, "vCPUs other than the first (SEV-ES)");
    if (*ap_reset_address == 0) {
        throw Error{Fault::malformed, fmt::format("firmware: {} has AP reset address 0, want the address where vCPUs other than the first start",
                                                  title(guid::sev_es_reset_block))};
    }
    return *ap_reset_address;
}

Area FirmwareTable::need_hash_block() const {
    return need_area(*this, hash_block, guid::sev_hash_table_block, "kernel hashes", KernelHashes::wire_size);
}

Area FirmwareTable::need_secret_block() const { return need_area(*this, secret_block, guid::sev_secret_block, "launch secrets", 1); }

} // namespace sev::measure
