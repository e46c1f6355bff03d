// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/acpi_reference.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::measure;

/// ACPI pages of a guest, as a capture hands them over: 64 bytes of RSDP, the info page, the tables. What passes serialises to itself, in either
/// build.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ByteView all{data, size};
    if (size < 64 + 4096 + 1) return 0;
    const unsigned vcpus = all[0];
    const ByteView rsdp = all.subspan(1, 64), info = all.subspan(65, 4096), tables = all.subspan(65 + 4096);
    static_cast<void>(acpi_table_at(tables, tables.size() / 2));
    try {
        const AcpiReference reference = AcpiReference::from_pages("4.17.7", vcpus, first_vcpus(vcpus), info, tables, rsdp);
        fuzz::expect(AcpiReference::from_json(reference.to_json(), "again") == reference, "a reference is the same after writing and reading");
        const Bytes later = reference.tables_of(XenBuild::later);
        fuzz::expect(build_of_tables(later) == XenBuild::later, "the other build is recognised");
        fuzz::expect(AcpiReference::from_pages("4.17.7", vcpus, first_vcpus(vcpus), info, later, rsdp) == reference, "and turned back");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::malformed, "bad pages are their sender's fault");
    }
    return 0;
}
