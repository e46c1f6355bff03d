// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "attest/secret_table.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    const ByteView input{data, size};
    std::vector<attest::SecretEntry> entries;
    try {
        entries = attest::parse_secret_table(input);
    } catch (const Error&) {
        return 0;
    }
    const SecretBytes again = attest::build_secret_table(entries);
    fuzz::expect(std::ranges::equal(again.reveal(), input), "a secret table that parses is built to the same bytes");
    return 0;
}
