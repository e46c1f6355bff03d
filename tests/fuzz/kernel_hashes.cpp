// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ovmf-measure/kernel_hashes.hpp"
#include "ovmf-measure/vmsa.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::measure;

/// A kernel hashes table: what parses serialises to the same bytes. The same bytes as text: a number of vCPUs and a GUID.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ByteView bytes{data, size};
    try {
        const auto table = wire::exactly<KernelHashes::wire_size>(bytes, "kernel hashes table");
        fuzz::expect(std::ranges::equal(KernelHashes::parse(table).serialize(), bytes), "the table serialises to the same bytes");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::malformed, "a bad table is malformed");
    }
    try {
        const unsigned vcpus = parse_vcpus(as_text(bytes));
        fuzz::expect(vcpus >= 1 && vcpus <= max_vcpus, "vCPUs are within bounds");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::usage, "a bad number is the caller's fault");
    }
    return 0;
}
