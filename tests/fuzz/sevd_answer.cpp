// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/owner_channel.hpp"
#include "tests/fuzz/fuzz.hpp"

/// What an owner's socket sends back, up to the JWS, which has a target of its own.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    try {
        fuzz::expect(daemon::read_http_answer(as_text({data, size})).size() <= size, "a body is part of its answer");
    } catch (const Error&) {
        return 0;
    }
    return 0;
}
