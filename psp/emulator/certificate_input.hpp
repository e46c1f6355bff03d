// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "psp/certificate.hpp"

namespace sev::psp::emulator {

/// Parses a certificate that a command names, of exactly its size, out of memory that others may write to (so it is copied first).
/// nullopt, for INVALID_CERTIFICATE, when it does not parse: here that is an answer, not an error.
inline std::optional<SevCertificate> certificate_input(ByteView memory) {
    ByteArray<SevCertificate::wire_size> copy{};
    require(memory.size() == copy.size(), "a certificate's size was checked");
    std::ranges::copy(memory, copy.begin());
    try {
        return SevCertificate::parse(wire::view(copy));
    } catch (const Error& error) {
        if (error.fault() != sev::Fault::malformed) throw;
        return std::nullopt;
    }
}

} // namespace sev::psp::emulator
