// SPDX-License-Identifier: Apache-2.0
#include "psp/certificate.hpp"
#include "tests/fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    const ByteView input{data, size};
    try {
        const psp::SevCertificate certificate = psp::parse_sev_certificate(input, "input");
        fuzz::expect(std::ranges::equal(certificate.serialize(), input), "a SEV certificate serialises to the bytes it came from");
        for (const psp::SignatureSlot& slot : certificate.signatures) {
            if (const auto signature = psp::ecdsa_from_wire(slot.bytes)) {
                fuzz::expect(psp::ecdsa_to_wire(*signature) == slot.bytes, "an ECDSA slot serialises to the bytes it came from");
            }
        }
    } catch (const Error&) {
    }
    return 0;
}
