// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/wire.hpp"
#include "psp/certificate.hpp"
#include "psp/types.hpp"

namespace sev::psp {

/// PLATFORM_STATUS output, 12 bytes, little-endian. Source: SEV API (AMD 55766), PLATFORM_STATUS. Reserved bits are ignored (newer firmware).
struct PlatformStatus {
    static constexpr std::size_t wire_size = 0x0C;
    Build build;
    PlatformState state = PlatformState::uninit;
    bool externally_owned = false, es_configured = false;
    std::uint32_t guest_count = 0;
    static PlatformStatus parse(wire::View<wire_size> v);
    ByteArray<wire_size> serialize() const;
    friend bool operator==(const PlatformStatus&, const PlatformStatus&) = default;
};

/// GUEST_STATUS, 0x0D bytes.
struct GuestStatus {
    static constexpr std::size_t wire_size = 0x0D;
    GuestHandle handle{};
    Policy policy;
    Asid asid{};
    GuestState state = GuestState::invalid;
    static GuestStatus parse(wire::View<wire_size> v);
    friend bool operator==(const GuestStatus&, const GuestStatus&) = default;
};

/// LAUNCH_MEASURE output, 48 bytes: MEASURE ‖ MNONCE.
struct LaunchMeasurement {
    static constexpr std::size_t wire_size = 0x30;
    Digest measure{};
    Mnonce mnonce{};
    static LaunchMeasurement parse(wire::View<wire_size> v);
    ByteArray<wire_size> serialize() const;
    friend bool operator==(const LaunchMeasurement&, const LaunchMeasurement&) = default;
};

/// ATTESTATION report, 208 bytes. Source: SEV API (AMD 55766), ATTESTATION; layout as AMD sev-tool and virtee have it.
/// Refused: SIG_USAGE other than PEK, SIG_ALGO other than ECDSA SHA-256, non-zero reserved bytes, R or S wider than 48 bytes.
struct AttestationReport {
    static constexpr std::size_t wire_size = 0xD0;
    static constexpr std::size_t signed_size = 0x34; // MNONCE … POLICY
    Mnonce mnonce{};
    Digest launch_digest{};
    Policy policy;
    P384Signature signature;
    static AttestationReport parse(wire::View<wire_size> v);
    ByteArray<wire_size> serialize() const;
    ByteArray<signed_size> signed_bytes() const;
    /// Whether the PEK signed it. False for an RSA or off-curve PEK.
    bool signed_by(const SevCertificate& pek) const;
    friend bool operator==(const AttestationReport&, const AttestationReport&) = default;
};

} // namespace sev::psp
