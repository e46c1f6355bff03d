// SPDX-License-Identifier: Apache-2.0
#include "psp/chain.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    const ByteView input{data, size};
    psp::Chain chain;
    try {
        chain = psp::parse_chain(input, "input");
    } catch (const Error&) {
        return 0;
    }
    fuzz::expect(chain.serialize() == Bytes(input.begin(), input.end()), "a chain serialises to the bytes it came from");
    // Outside the try: whatever a chain contains, verify_chain gives a verdict. No input is signed by AMD, and the seeds' root is not pinned.
    const psp::ChainVerdict verdict = psp::verify_chain(chain, psp::amd_roots());
    fuzz::expect(!verdict.checks.empty() && !verdict.trusted(), "a chain of no pinned root is not trusted");
    return 0;
}
