// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/compare.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "ovmf-measure/xen/acpi_reference.hpp"
#include "ovmf-measure/xen/start_info.hpp"

namespace sev::launch::xen {
namespace {

constexpr std::size_t page_bytes = measure::xen_page_bytes;
constexpr std::size_t text_limit = 200;

/// Whether a byte of the range is one that the builder leaves as it was.
bool unwritten(const measure::XenRange& range, std::uint64_t at) {
    return std::ranges::any_of(range.unwritten,
                               [&](const measure::XenUnwritten& one) { return at >= one.offset_bytes && at - one.offset_bytes < one.length_bytes; });
}

/// First written byte of a page that differs, from the range's byte `from` on.
std::optional<std::size_t> first_in_page(const measure::XenRange& range, std::uint64_t page, ByteView is, ByteView want, std::uint64_t from) {
    for (std::size_t i = 0; i < page_bytes; ++i)
        if (is[i] != want[i] && page * page_bytes + i >= from && !unwritten(range, page * page_bytes + i)) return i;
    return std::nullopt;
}

std::string shown(const std::optional<std::string>& cmdline) {
    return cmdline ? fmt::format("\"{}\"", printable(*cmdline, text_limit)) : std::string{"absent"};
}

std::string shown(const measure::XenMemoryEntry& entry) { return fmt::format("{:#x} + {:#x} type {}", entry.gpa, entry.size_bytes, entry.type); }

/// What two start_info segments say otherwise, for people; empty when they say the same.
std::string start_info_words(const measure::XenStartInfoView& is, const measure::XenStartInfoView& want) {
    std::string out;
    const auto add = [&](std::string text) { out += (out.empty() ? "" : "; ") + std::move(text); };
    if (is.cmdline != want.cmdline) add(fmt::format("command line is {}, want {}", shown(is.cmdline), shown(want.cmdline)));
    for (std::size_t i = 0; i < std::max(is.memory.size(), want.memory.size()); ++i) {
        if (i >= is.memory.size()) add(fmt::format("memory map entry {} is missing, want {}", i, shown(want.memory[i])));
        else if (i >= want.memory.size()) add(fmt::format("memory map entry {} is {}, want none", i, shown(is.memory[i])));
        else if (is.memory[i] != want.memory[i])
            add(fmt::format("memory map entry {} is {}, want {}", i, shown(is.memory[i]), shown(want.memory[i])));
    }
    const auto module = [](const measure::XenStartInfoView& of) {
        return of.modules.empty() ? std::string{"none"} : fmt::format("{:#x} + {} bytes", of.modules[0][0], of.modules[0][1]);
    };
    if (is.modules != want.modules) add(fmt::format("module is {}, want {}", module(is), module(want)));
    if (is.rsdp_gpa != want.rsdp_gpa) add(fmt::format("RSDP is at {:#x}, want {:#x}", is.rsdp_gpa, want.rsdp_gpa));
    return out;
}

Bytes whole(const measure::XenRange& range) {
    Bytes out;
    out.reserve(range.length_bytes());
    range.visit([&](ByteView piece) { out.insert(out.end(), piece.begin(), piece.end()); });
    return out;
}

std::string words(const measure::XenRange& range, ByteView captured, std::uint64_t at, std::uint8_t is, std::uint8_t want) {
    const std::string bytes = fmt::format("{:#04x}, want {:#04x}", is, want);
    if (range.label == "start_info") {
        std::optional<measure::XenStartInfoView> there;
        try {
            there = measure::XenStartInfoView::parse(captured, range.gpa());
        } catch (const Error& error) {
            return fmt::format("{} ({})", bytes, error.what());
        }
        const std::string said = start_info_words(*there, measure::XenStartInfoView::parse(whole(range), range.gpa()));
        return said.empty() ? bytes : said;
    }
    if (range.label == "acpi_tables") {
        const std::string table = measure::acpi_table_at(whole(range), static_cast<std::size_t>(at));
        return fmt::format("{}{}", table.empty() ? "" : "table " + table + ": ", bytes);
    }
    if (range.label == "hvm_info" && at % page_bytes >= 0x810 && at % page_bytes < 0x814) return fmt::format("number of vCPUs: {}", bytes);
    if (want == 0 && (range.label == "ramdisk" || range.label == "smbios_module")) return bytes + ": not empty where a slot or padding is";
    return bytes;
}

} // namespace

std::string Difference::text() const {
    return fmt::format("{}: page {} (gfn {:#x}), offset {:#x}: {}{}", range, page, gfn, offset, what,
                       pages > 1 ? fmt::format(" (and {} more pages differ)", pages - 1) : "");
}

std::optional<Difference> difference(const measure::XenRange& range, ByteView captured, std::uint64_t skip_bytes) {
    require(captured.size() == range.length_bytes(), "a capture has the range's size");
    // the common case in one pass over big pieces; only what differs is looked at page by page
    if (skip_bytes == 0) {
        std::size_t at = 0;
        bool equal = true;
        range.visit([&](ByteView piece) {
            equal = equal && std::memcmp(captured.data() + at, piece.data(), piece.size()) == 0;
            at += piece.size();
        });
        if (equal) return std::nullopt;
    }
    std::optional<Difference> out;
    measure::XenPage scratch;
    for (std::uint64_t page = skip_bytes / page_bytes; page < range.pages; ++page) {
        const ByteView is = captured.subspan(page * page_bytes, page_bytes), want = range.page(page, scratch);
        if (std::memcmp(is.data(), want.data(), page_bytes) == 0) continue;
        const auto first = first_in_page(range, page, is, want, skip_bytes);
        if (!first) continue;
        if (!out) {
            out = Difference{.range = range.label,
                             .page = page,
                             .gfn = range.gfn + page,
                             .offset = *first,
                             .pages = 0,
                             .what = words(range, captured, page * page_bytes + *first, is[*first], want[*first])};
        }
        ++out->pages;
    }
    return out;
}

} // namespace sev::launch::xen
