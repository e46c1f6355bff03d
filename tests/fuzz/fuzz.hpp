// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdio>
#include <cstdlib>

#include "base/bytes.hpp"
#include "base/error.hpp"

/// One input. A fuzz target catches Error alone; anything else that leaves it is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace sev::fuzz {
/// Ends the run with a message: what parses must serialise to the same bytes, and the like.
inline void expect(bool truth, const char* what) {
    if (truth) return;
    std::fprintf(stderr, "fuzz: not so: %s\n", what);
    std::abort();
}
/// `read` either reads or says that what others wrote is malformed.
template <class Read>
void refuses_or_reads(Read&& read) {
    try {
        read();
    } catch (const Error& error) {
        expect(error.fault() == Fault::malformed, "what others wrote is malformed, nothing else");
    }
}
} // namespace sev::fuzz
