// SPDX-License-Identifier: Apache-2.0
#include "psp/certificate.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    const ByteView input{data, size};
    try {
        const psp::ParsedCa parsed = psp::parse_ca_certificate_prefix(input, "input");
        const Bytes again = parsed.certificate.serialize();
        fuzz::expect(std::ranges::equal(again, input.first(parsed.used_bytes)), "a CA certificate serialises to the bytes it came from");
        fuzz::expect(parsed.certificate.size_bytes() == parsed.used_bytes, "a CA certificate knows its size");
        const psp::CaCertificate whole = psp::completed(parsed.certificate);
        fuzz::expect(whole.fingerprint() == parsed.certificate.fingerprint(), "completion leaves the signed bytes alone");
    } catch (const Error&) {
    }
    return 0;
}
