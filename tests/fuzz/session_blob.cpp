// SPDX-License-Identifier: Apache-2.0
#include "psp/keys.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    const ByteView input{data, size};
    psp::SessionBlob blob;
    try {
        blob = psp::SessionBlob::parse(wire::exactly<psp::SessionBlob::wire_size>(input, "input"));
    } catch (const Error&) {
        return 0;
    }
    fuzz::expect(std::ranges::equal(blob.serialize(), input), "a session blob serialises to the bytes it came from");
    static const auto secret = random_array<48>();
    const psp::SessionKeys keys = psp::derive_session_keys(secret, blob.nonce);
    fuzz::expect(!psp::unwrap_session(keys, blob, psp::Policy{}).has_value(), "a session of another secret gives no keys");
    return 0;
}
