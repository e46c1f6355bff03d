// SPDX-License-Identifier: Apache-2.0
#include "attest/secret_table.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/cursor.hpp"
#include "base/error.hpp"
#include "base/wire.hpp"

namespace sev::attest {
namespace {

// 1e74f542-71dd-4d66-963e-ef4287ff173b in EFI order
constexpr ByteArray<16> table_guid{0x42, 0xf5, 0x74, 0x1e, 0xdd, 0x71, 0x66, 0x4d, 0x96, 0x3e, 0xef, 0x42, 0x87, 0xff, 0x17, 0x3b};
constexpr std::size_t header_size = 20; // GUID and u32 length, of the table as of an entry
constexpr std::size_t limit_bytes = 0x4000;
constexpr std::size_t alignment = 16;

constexpr std::size_t aligned(std::size_t size) { return (size + alignment - 1) / alignment * alignment; }

/// Writes a GUID and a length; returns what is left of `out`.
std::span<std::uint8_t> put_header(std::span<std::uint8_t> out, const ByteArray<16>& guid, std::size_t length_bytes) {
    std::ranges::copy(guid, out.begin());
    std::ranges::copy(wire::le32_bytes(static_cast<std::uint32_t>(length_bytes)), out.begin() + 16);
    return out.subspan(header_size);
}

} // namespace

SecretBytes build_secret_table(std::span<const SecretEntry> entries) {
    if (entries.empty()) throw Error{Fault::usage, "secret table: no entry, want at least one"};
    std::size_t length = header_size;
    for (const SecretEntry& entry : entries) {
        // held against the limit each time, so that the sum cannot overflow
        if (entry.data.size() > limit_bytes || (length += header_size + entry.data.size()) > limit_bytes)
            throw Error{Fault::usage, fmt::format("secret table: more than the limit of {} bytes", limit_bytes)};
    }
    SecretBytes table{aligned(length)};
    auto rest = put_header(table.writable(), table_guid, length);
    for (const SecretEntry& entry : entries) {
        rest = put_header(rest, entry.guid.bytes, header_size + entry.data.size());
        std::ranges::copy(entry.data.reveal(), rest.begin());
        rest = rest.subspan(entry.data.size());
    }
    return table;
}

std::vector<SecretEntry> parse_secret_table(ByteView table) {
    Cursor cursor{table, "secret table"};
    if (table.size() > limit_bytes) cursor.refuse(fmt::format("has {} bytes, more than the limit of {}", table.size(), limit_bytes));
    if (cursor.array<16>("GUID") != table_guid) cursor.refuse("GUID is not that of a secret table, want 1e74f542-71dd-4d66-963e-ef4287ff173b");
    const std::size_t length = cursor.le32("length");
    if (length < header_size || length > table.size())
        cursor.refuse(fmt::format("length is {}, want {} to {} (what is there)", length, header_size, table.size()));
    if (aligned(length) != table.size())
        cursor.refuse(fmt::format("table of length {} takes {} bytes, got {}", length, aligned(length), table.size()));
    std::vector<SecretEntry> entries;
    while (cursor.offset() < length) {
        const std::size_t left = length - cursor.offset();
        if (left < header_size) cursor.refuse(fmt::format("entry has {} bytes left, want at least {}", left, header_size));
        const measure::Guid guid{cursor.array<16>("entry GUID")};
        const std::size_t entry_length = cursor.le32("entry length");
        if (entry_length < header_size || entry_length > left)
            cursor.refuse(fmt::format("entry length is {}, want {} to {}", entry_length, header_size, left));
        entries.push_back({.guid = guid, .data = SecretBytes{cursor.take(entry_length - header_size, "entry data")}});
    }
    if (entries.empty()) cursor.refuse("table without entries, want at least one");
    if (!std::ranges::all_of(cursor.take(cursor.remaining(), "padding"), [](std::uint8_t b) { return b == 0; })) cursor.refuse("padding is not zero");
    return entries;
}

} // namespace sev::attest
