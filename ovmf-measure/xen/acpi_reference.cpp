// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/acpi_reference.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/wire.hpp"
#include "ovmf-measure/xen/layout.hpp"

namespace sev::measure {
namespace {

constexpr std::uint64_t tables_gpa = xen_layout::acpi_info_gpa + xen_layout::page_bytes;
constexpr std::size_t header_bytes = 36, fadt1_bytes = 116, madt_lapics_at = 44, lapic_bytes = 8;

/// Fields of the revision 1 FADT in which a process's first build differs from later ones.
constexpr std::size_t fadt_checksum = 9, fadt_pm_tmr_blk = 76, fadt_pm_tmr_len = 91, fadt_flags = 112;
constexpr std::uint32_t pm_tmr_port = 0xB008, button_flags = 0x30;

std::uint32_t le32(ByteView bytes, std::size_t at) { return wire::le32<0>(wire::View<4>{bytes.subspan(at, 4)}); }
std::uint64_t le64(ByteView bytes, std::size_t at) { return wire::le64<0>(wire::View<8>{bytes.subspan(at, 8)}); }
void put_le32(Bytes& bytes, std::size_t at, std::uint32_t value) { wire::put_le32<0>(wire::Span<4>{std::span{bytes}.subspan(at, 4)}, value); }

std::uint8_t sum(ByteView bytes) {
    unsigned total = 0;
    for (const std::uint8_t byte : bytes) total += byte;
    return static_cast<std::uint8_t>(total);
}

/// One table: where it is in the table pages, and its name.
struct Found {
    std::size_t at, length_bytes;
    std::string name;
};

/// The tables in the order in which they lie, found by their signatures at multiples of 16 bytes. A broken one is passed over.
std::vector<Found> tables_in(ByteView tables) {
    static constexpr std::array<std::string_view, 8> signatures{"FACS", "DSDT", "FACP", "APIC", "SRAT", "SLIT", "XSDT", "RSDT"};
    std::vector<Found> out;
    for (std::size_t at = 0; at + header_bytes <= tables.size();) {
        const std::string_view signature = as_text(tables.subspan(at, 4));
        const std::uint32_t length = le32(tables, at + 4);
        const bool known = std::ranges::find(signatures, signature) != signatures.end() && length >= header_bytes && length <= tables.size() - at;
        if (!known || (signature != "FACS" && sum(tables.subspan(at, length)) != 0)) {
            at += 16;
            continue;
        }
        std::string name{signature == "APIC" ? "MADT" : signature};
        if (signature == "FACP") name = fmt::format("FADT {}", tables[at + 8]);
        out.push_back({.at = at, .length_bytes = length, .name = std::move(name)});
        at += std::max<std::size_t>(16, length / 16 * 16); // the builder may begin the next one at the last byte of this one
    }
    return out;
}

/// The revision 1 FADT in the table pages, whether or not its checksum is right.
std::optional<std::size_t> find_fadt1(ByteView tables) {
    for (const Found& table : tables_in(tables))
        if (table.name == "FADT 1" && table.length_bytes == fadt1_bytes) return table.at;
    return std::nullopt;
}

/// Writes the FADT of a first or of a later build over the one that is there.
void put_build(Bytes& tables, std::size_t fadt, XenBuild build) {
    const bool first = build == XenBuild::first;
    put_le32(tables, fadt + fadt_pm_tmr_blk, first ? pm_tmr_port : 0);
    tables[fadt + fadt_pm_tmr_len] = first ? 4 : 0;
    const std::uint32_t flags = le32(tables, fadt + fadt_flags);
    put_le32(tables, fadt + fadt_flags, first ? flags & ~button_flags : flags | button_flags);
    tables[fadt + fadt_checksum] = 0;
    tables[fadt + fadt_checksum] = static_cast<std::uint8_t>(0U - sum(ByteView{tables}.subspan(fadt, fadt1_bytes)));
}

/// The pages under examination.
class Examination {
public:
    Examination(const AcpiReference& reference) : reference_{reference}, tables_{reference.tables} {}

    void run() const {
        if (reference_.info.size() != xen_layout::page_bytes)
            refuse(fmt::format("the info page has {} bytes, want {}", reference_.info.size(), xen_layout::page_bytes));
        const std::size_t size = tables_.size();
        if (size == 0 || size % xen_layout::page_bytes != 0 || size / xen_layout::page_bytes > AcpiReference::table_page_limit)
            refuse(fmt::format("the tables have {} bytes, want 1 to {} pages", size, AcpiReference::table_page_limit));
        rsdp();
        const ByteView rsdt = table(le32(reference_.rsdp, 16), "RSDT"), xsdt = table(le64(reference_.rsdp, 24), "XSDT");
        const auto short_entries = entries(rsdt, 4, "RSDT"), long_entries = entries(xsdt, 8, "XSDT");
        if (!std::equal(short_entries.begin() + 1, short_entries.end(), long_entries.begin() + 1, long_entries.end()))
            refuse("RSDT and XSDT name different tables");
        fadt(short_entries.front(), 1);
        fadt(long_entries.front(), 5);
        std::size_t madts = 0;
        for (std::size_t i = 1; i < long_entries.size(); ++i) {
            const ByteView one = any_table(long_entries[i]);
            if (as_text(one.first(4)) != "APIC")
                refuse(fmt::format("has a table {}, want MADT alone beside FADT: NUMA and others are not known", printable(as_text(one.first(4)))));
            madt(one, long_entries[i]);
            ++madts;
        }
        if (madts != 1) refuse(fmt::format("has {} MADTs, want 1", madts));
        if (build_of_tables(tables_) != XenBuild::first) refuse("the FADT is not of a process's first build");
    }

private:
    [[noreturn]] void refuse(std::string_view problem) const {
        throw Error{Fault::malformed, fmt::format("Xen ACPI reference for {} vCPUs: {}", reference_.vcpus, problem)};
    }

    void rsdp() const {
        const ByteView page = reference_.rsdp;
        if (page.size() != AcpiReference::rsdp_bytes) refuse(fmt::format("the RSDP has {} bytes, want {}", page.size(), AcpiReference::rsdp_bytes));
        if (as_text(page.first(8)) != "RSD PTR ") refuse("the RSDP does not begin with its signature");
        if (le32(page, 20) != 36 || page[15] != 2)
            refuse(fmt::format("the RSDP has revision {} and length {}, want 2 and 36", page[15], le32(page, 20)));
        if (sum(page.first(20)) != 0 || sum(page.first(36)) != 0) refuse("a checksum of the RSDP is wrong");
        if (!std::ranges::all_of(page.subspan(36), [](std::uint8_t byte) { return byte == 0; })) refuse("the bytes after the RSDP are not zero");
    }
    ByteView any_table(std::uint64_t gpa) const {
        const std::uint64_t at = gpa - tables_gpa;
        if (gpa < tables_gpa || at >= tables_.size() || tables_.size() - at < header_bytes)
            refuse(fmt::format("a table is at {:#x}, outside the pages from {:#x}", gpa, tables_gpa));
        const std::uint32_t length = le32(tables_, static_cast<std::size_t>(at) + 4);
        if (length < header_bytes || length > tables_.size() - at)
            refuse(fmt::format("the table at {:#x} has {} bytes, which are not inside the pages", gpa, length));
        return tables_.subspan(static_cast<std::size_t>(at), length);
    }
    ByteView table(std::uint64_t gpa, std::string_view signature) const {
        const ByteView out = any_table(gpa);
        if (as_text(out.first(4)) != signature)
            refuse(fmt::format("the table at {:#x} is {}, want {}", gpa, printable(as_text(out.first(4))), signature));
        if (sum(out) != 0) refuse(fmt::format("the checksum of the {} at {:#x} is wrong", signature, gpa));
        return out;
    }
    std::vector<std::uint64_t> entries(ByteView list, std::size_t entry_bytes, std::string_view name) const {
        std::vector<std::uint64_t> out;
        if ((list.size() - header_bytes) % entry_bytes != 0 || list.size() == header_bytes)
            refuse(fmt::format("{} has {} bytes, want a header and entries of {}", name, list.size(), entry_bytes));
        for (std::size_t at = header_bytes; at < list.size(); at += entry_bytes) out.push_back(entry_bytes == 4 ? le32(list, at) : le64(list, at));
        return out;
    }
    void fadt(std::uint64_t gpa, unsigned revision) const {
        const ByteView one = table(gpa, "FACP");
        if (one[8] != revision || one.size() < fadt1_bytes)
            refuse(fmt::format("the FADT at {:#x} has revision {} and {} bytes, want revision {}", gpa, one[8], one.size(), revision));
        table(le32(one, 40), "DSDT");
        if (as_text(any_table(le32(one, 36)).first(4)) != "FACS") refuse(fmt::format("the FADT at {:#x} names no FACS", gpa));
    }
    void madt(ByteView one, std::uint64_t gpa) const {
        if (sum(one) != 0) refuse("the checksum of the MADT is wrong");
        if (one.size() != madt_lapics_at + lapic_bytes * reference_.vcpus)
            refuse(fmt::format("the MADT has {} bytes, want {} for these vCPUs", one.size(), madt_lapics_at + lapic_bytes * reference_.vcpus));
        for (unsigned i = 0; i < reference_.vcpus; ++i) {
            const ByteView lapic = one.subspan(madt_lapics_at + lapic_bytes * i, lapic_bytes);
            if (lapic[0] != 0 || lapic[1] != lapic_bytes || lapic[2] != i)
                refuse(fmt::format("MADT entry {} is {}, want a local APIC of vCPU {}", i, hex(lapic), i));
            if (le32(lapic, 4) != (reference_.online.test(i) ? 1U : 0U))
                refuse(fmt::format("vCPU {} is {} in the MADT, and the reference is for online vCPUs {}", i,
                                   le32(lapic, 4) != 0 ? "online" : "offline", text(reference_.online)));
        }
        const ByteView info = reference_.info;
        const std::uint16_t cpus = wire::le16<0>(wire::View<2>{info.subspan(2, 2)});
        if (cpus != reference_.vcpus) refuse(fmt::format("the info page has {} vCPUs", cpus));
        if (le32(info, 12) != gpa + fadt_checksum || le32(info, 16) != gpa + madt_lapics_at) refuse("the info page does not point to the MADT");
    }

    const AcpiReference& reference_;
    ByteView tables_;
};

} // namespace

std::string_view name(XenBuild build) { return build == XenBuild::first ? "first" : "later"; }

std::optional<XenBuild> build_of_tables(ByteView tables) {
    const auto fadt = find_fadt1(tables);
    if (!fadt) return std::nullopt;
    const std::uint32_t port = le32(tables, *fadt + fadt_pm_tmr_blk), flags = le32(tables, *fadt + fadt_flags) & button_flags;
    const std::uint8_t length = tables[*fadt + fadt_pm_tmr_len];
    if (port == pm_tmr_port && length == 4 && flags == 0) return XenBuild::first;
    if (port == 0 && length == 0 && flags == button_flags) return XenBuild::later;
    return std::nullopt;
}

std::string acpi_table_at(ByteView tables, std::size_t offset) {
    std::string out;
    for (const Found& table : tables_in(tables))
        if (offset >= table.at && offset < table.at + table.length_bytes) out = table.name;
    return out;
}

AcpiReference AcpiReference::from_pages(std::string libxenlight, unsigned vcpus, const XenVcpuSet& online, ByteView info, ByteView tables,
                                        ByteView rsdp) {
    AcpiReference out;
    out.xen_version = XenVersion::parse(libxenlight, "libxenlight");
    out.libxenlight = std::move(libxenlight);
    out.vcpus = vcpus;
    out.online = online;
    out.info.assign(info.begin(), info.end());
    out.tables.assign(tables.begin(), tables.end());
    out.rsdp.assign(rsdp.begin(), rsdp.end());
    if (build_of_tables(tables) == XenBuild::later) put_build(out.tables, *find_fadt1(tables), XenBuild::first);
    out.check();
    return out;
}

AcpiReference AcpiReference::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    if (const std::string got = object.string("format", 64); got != format)
        object.refuse("format", fmt::format("is \"{}\", want \"{}\"", printable(got), format));
    if (const std::uint64_t got = object.number("version", UINT32_MAX); got != version)
        object.refuse("version", fmt::format("is {}, want {}", got, version));
    AcpiReference out;
    return within(what, [&] {
        std::string library = object.string("libxenlight", 128);
        if (printable(library) != library) object.refuse("libxenlight", "has characters that are not printable");
        const auto cpus = static_cast<unsigned>(object.number("vcpus", xen_max_vcpus));
        const XenVcpuSet set = parse_vcpu_set(object.string("online", 1024), "online");
        const Bytes info_page = object.base64("info", xen_layout::page_bytes),
                    table_pages = object.base64("tables", table_page_limit * xen_layout::page_bytes), rsdp_part = object.base64("rsdp", rsdp_bytes);
        object.done();
        return from_pages(std::move(library), cpus, set, info_page, table_pages, rsdp_part);
    });
}

json::Value AcpiReference::to_json() const {
    return {{"format", format}, {"version", version},        {"libxenlight", libxenlight},  {"vcpus", vcpus},
            {"online", text(online)}, {"info", base64(info)}, {"tables", base64(tables)}, {"rsdp", base64(rsdp)}};
}

std::string AcpiReference::file_name() const {
    std::string library = libxenlight;
    for (char& c : library)
        if (!std::isalnum(static_cast<unsigned char>(c)) && std::string_view{".+-~:"}.find(c) == std::string_view::npos) c = '_';
    return fmt::format("xen-acpi-{}-{}-{}.json", library, vcpus, text(online));
}

void AcpiReference::check() const {
    if (vcpus == 0 || vcpus > xen_max_vcpus)
        throw Error{Fault::malformed, fmt::format("Xen ACPI reference: vcpus is {}, want 1 to {}", vcpus, xen_max_vcpus)};
    if (!online.test(0) || (online & ~first_vcpus(vcpus)).any())
        throw Error{Fault::malformed, fmt::format("Xen ACPI reference: online vCPUs are {} of {}, want vCPU 0 and none beyond", text(online), vcpus)};
    Examination{*this}.run();
}

Bytes AcpiReference::tables_of(XenBuild build) const {
    Bytes out = tables;
    if (build == XenBuild::later) {
        const auto fadt = find_fadt1(tables);
        require(fadt.has_value(), "an ACPI reference has a revision 1 FADT");
        put_build(out, *fadt, build);
    }
    return out;
}

} // namespace sev::measure
