// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/cursor.hpp"
#include "psp/certificate.hpp"
#include "psp/emulator/writer.hpp"

namespace sev::psp::emulator {

/// What the firmware keeps in its flash: the platform's own keys and their certificates, whole or not at all. A value: never changed, only replaced.
struct PlatformKeys {
    std::shared_ptr<const P384Key> oca; // none when the platform is externally owned
    std::shared_ptr<const P384Key> pek, pdh;
    SevCertificate oca_certificate, pek_certificate, pdh_certificate;

    bool externally_owned() const noexcept { return !oca; }

    /// New OCA (self-signed), PEK (signed by OCA in slot 0 and CEK in slot 1) and PDH (signed by PEK).
    static PlatformKeys generate(ApiVersion api, const P384Key& cek);
    /// The same platform with a new PDH.
    PlatformKeys with_new_pdh(ApiVersion api) const;
    /// The same platform under an external owner: `owned_pek` is its PEK's certificate with the owner's signature in one slot; the CEK signs the
    /// other one. The own OCA key is forgotten, the PDH is new.
    PlatformKeys owned_by(const SevCertificate& owner, SevCertificate owned_pek, ApiVersion api, const P384Key& cek) const;

    /// Flags (bit 0: externally owned), private scalars of OCA (zero if external), PEK and PDH, 48 bytes big-endian each, certificates of OCA, PEK
    /// and PDH.
    static constexpr std::size_t wire_size = 4 + 3 * 48 + 3 * SevCertificate::wire_size;
    static PlatformKeys parse(Cursor& from);
    void serialize(Writer& to) const;
    /// What does not belong together: a key that is not its certificate's, a wrong usage, a signature that is missing or wrong. nullopt when all is
    /// well.
    std::optional<std::string> inconsistency(const SevCertificate& cek) const;
};

} // namespace sev::psp::emulator
