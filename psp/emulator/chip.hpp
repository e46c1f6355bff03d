// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/secret.hpp"
#include "psp/certificate.hpp"
#include "psp/emulator/personality.hpp"

namespace sev::psp::emulator {

/// Where the emulator's random bytes come from; `purpose` names the draw ("VEK", "MNONCE", "TEK" …).
using Random = std::function<void(std::span<std::uint8_t> out, std::string_view purpose)>;

using ChipSecret = Secret<struct ChipSecretTag, 32>;

/// What is burnt into one emulated chip when it is made, and what its maker knows of it. The private keys of ARK and ASK exist only while it is made.
struct Chip {
    const Personality* personality; // never null
    std::vector<ChipId> ids;        // one for each socket
    ChipSecret secret;
    CaCertificate ark, ask;
    SevCertificate cek;             // signed by the ASK

    /// Makes a chip with an emulated root of its own.
    static Chip make(const Personality& personality, const Random& random);
    /// The CEK, derived from the secret: the same each time.
    P384Key cek_key() const;
    /// The CEK certificate without the ASK's signature, as PDH_CERT_EXPORT gives it.
    SevCertificate unsigned_cek() const;
    /// What does not belong together. nullopt when all is well.
    std::optional<std::string> inconsistency() const;
};

} // namespace sev::psp::emulator
