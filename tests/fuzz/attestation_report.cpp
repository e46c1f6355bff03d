// SPDX-License-Identifier: Apache-2.0
#include "psp/structures.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    const ByteView input{data, size};
    psp::AttestationReport report;
    try {
        report = psp::AttestationReport::parse(wire::exactly<psp::AttestationReport::wire_size>(input, "input"));
    } catch (const Error&) {
        return 0;
    }
    fuzz::expect(std::ranges::equal(report.serialize(), input), "a report serialises to the bytes it came from");
    static const psp::SevCertificate stranger =
        psp::unsigned_certificate(psp::Usage::pek, psp::Algorithm::ecdsa_sha256, {}, P384Key::generate().public_point());
    fuzz::expect(!report.signed_by(stranger), "a report of another key is not signed");
    return 0;
}
