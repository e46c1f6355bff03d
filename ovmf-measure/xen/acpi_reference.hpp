// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/json.hpp"
#include "ovmf-measure/xen/guest_config.hpp"

namespace sev::measure {

/// A libxenlight process builds its first PVH guest's ACPI tables otherwise than all later ones: acpi_build_tables changes its own FADT template
/// after it copied it.
/// `xl create` is a new process each time, so `first` is what a guest of xl has; libvirtd and a guest that xl itself restarts give `later`.
enum class XenBuild { first, later };
std::string_view name(XenBuild build); // "first", "later"

/// ACPI pages that libxenlight makes for PVH guests: reference values, taken from a paused guest. They depend on the build of libxenlight (its DSDT),
/// the number of vCPUs and the online set, and on nothing else. Kept in the form of the process's first build; `tables_of` gives the other one.
struct AcpiReference {
    static constexpr std::string_view format = "xen-sev/xen-acpi-reference";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 256 * 1024; // of the JSON
    static constexpr std::size_t rsdp_bytes = 64;          // written by the builder; the rest of its page is undefined
    static constexpr std::size_t table_page_limit = 16;

    std::string libxenlight; // package version of the library, as the host's package manager has it: "4.17.7+13-g2445b30a44-0+deb12u1"
    XenVersion xen_version;  // the release it begins with
    unsigned vcpus = 1;
    XenVcpuSet online{1};
    Bytes info;   // 4096 bytes, at 0xFC000000
    Bytes tables; // 1 to 16 pages, from 0xFC001000
    Bytes rsdp;   // 64 bytes

    /// Makes a reference from the pages of a guest. `rsdp` is the 64 bytes at the address that start_info gives. Tables in the later form are turned
    /// into the first.
    /// Throws Error{Fault::malformed} as `check` does.
    static AcpiReference from_pages(std::string libxenlight, unsigned vcpus, const XenVcpuSet& online, ByteView info, ByteView tables, ByteView rsdp);
    /// JSON: docs/schemas/xen-acpi-reference.schema.json. Throws Error{Fault::malformed}.
    static AcpiReference from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    /// Whether the pages are whole and are those of these vCPUs: signatures and checksums from the RSDP down, addresses inside the pages, one LAPIC
    /// entry a vCPU with its online bit, the info page's count, a FADT of the first build. Throws Error{Fault::malformed} that says what is not so.
    void check() const;
    /// What a folder of references calls it: "xen-acpi-4.17.7+13-g2445b30a44-0+deb12u1-2-0-1.json" (library, vCPUs, online set).
    std::string file_name() const;
    /// The table pages of a process's first or of a later build.
    Bytes tables_of(XenBuild build) const;
    friend bool operator==(const AcpiReference&, const AcpiReference&) = default;
};

/// Which build table pages are of; nullopt when their FADT is neither.
std::optional<XenBuild> build_of_tables(ByteView tables);

/// Name of the ACPI table ("FACS", "DSDT", "FADT 1", "FADT 5", "MADT" …, "XSDT", "RSDT") that holds this byte of the table pages; empty between
/// tables.
std::string acpi_table_at(ByteView tables, std::size_t offset);

} // namespace sev::measure
