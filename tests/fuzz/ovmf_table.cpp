// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ovmf-measure/launch_digest.hpp"
#include "ovmf-measure/variable_store.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::measure;

/// A firmware image: what parses serialises to the bytes it came from; whatever the table says, coverage and digest answer or refuse.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ByteView image{data, size};
    try {
        const FirmwareTable table = FirmwareTable::parse(image);
        if (table.present || table.bare_reset_block) {
            const Bytes bytes = table.serialize();
            fuzz::expect(bytes.size() + 32 <= size, "the table lies inside the image");
            fuzz::expect(std::ranges::equal(bytes, image.last(bytes.size() + 32).first(bytes.size())), "the table serialises to the same bytes");
        } else {
            fuzz::expect(table.entries.empty(), "no table, no entries");
        }
        for (const TableEntry& entry : table.entries) {
            const auto there = image.subspan(entry.file_offset, entry.data.size());
            fuzz::expect(std::ranges::equal(entry.data, there), "an entry's offset is where its data is");
        }
        fuzz::expect(!coverage({.firmware = image, .kernel = KernelHashes{}, .vmsas = {}}, true).empty(), "coverage is never empty");
        for (const VariableStore& store : variable_stores(image)) fuzz::expect(store.file_offset < size, "a variable store begins inside the image");
        static_cast<void>(qemu_vmsas(vmsa_profile("kvm-legacy"), 2, {}, image));
        const std::vector<MeasuredRegion> all = regions({.firmware = image, .kernel = KernelHashes{}, .vmsas = {}});
        fuzz::expect(all.size() == 2, "firmware and hash table are measured");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::malformed, "bad firmware is the firmware's fault");
    }
    return 0;
}
