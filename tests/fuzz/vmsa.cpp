// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ovmf-measure/vmsa.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::measure;

/// A page: the named values and the stray bytes are together the page again, and the differences to an empty page name them all.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const Vmsa page = parse_vmsa({data, size}, "VMSA");
        Vmsa rebuilt{};
        std::size_t differing = 0;
        for (const VmsaValue& value : describe(page)) {
            std::ranges::copy(value.bytes, rebuilt.begin() + static_cast<std::ptrdiff_t>(value.field.offset));
            if (!value.field.is_array) {
                Vmsa other{};
                set(other, value.field.name, value.number);
                fuzz::expect(get(other, value.field.name) == value.number, "a number that was set is got");
            }
            if (std::ranges::any_of(value.bytes, [](std::uint8_t byte) { return byte != 0; })) ++differing;
        }
        const std::vector<StrayByte> stray = stray_bytes(page);
        for (const StrayByte& byte : stray) rebuilt[byte.offset] = byte.value;
        fuzz::expect(rebuilt == page, "fields and stray bytes are the page");
        fuzz::expect(diff(page, Vmsa{}).size() == differing + stray.size(), "every difference has one name");
        fuzz::expect(diff(page, page).empty(), "a page equals itself");
        static_cast<void>(describe(page, vmsa_sevctl_fields()));
    } catch (const Error&) {
        fuzz::expect(size != 4096, "every page of 4096 bytes is read");
    }
    return 0;
}
