// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <optional>

#include "base/crypto.hpp"
#include "base/secret.hpp"
#include "base/wire.hpp"
#include "psp/certificate.hpp"
#include "psp/types.hpp"

/// The session cryptography of the SEV API, used by its two ends only: the guest owner (attest/) and the firmware (psp/emulator/).
/// The host (launch/) never includes this header; a test holds it to that.
namespace sev::psp {

using Tek = Secret<struct TekTag, 16>; // transport encryption key; a Tek is not a Tik
using Tik = Secret<struct TikTag, 16>; // transport integrity key
using MasterSecret = Secret<struct MasterSecretTag, 16>;
using Kek = Secret<struct KekTag, 16>;
using Kik = Secret<struct KikTag, 16>;

/// NIST SP 800-108 counter mode with HMAC-SHA-256, one block: first 16 bytes of HMAC(key; LE32(1) ‖ label ‖ 00 ‖ context ‖ LE32(128)).
/// Counter and length are little-endian, unlike OpenSSL's KBKDF. Source: SEV API, and AMD sev-tool's vectors.
template <class Key>
    requires std::same_as<Key, MasterSecret> || std::same_as<Key, Kek> || std::same_as<Key, Kik>
Key kdf(ByteView key_in, std::string_view label, ByteView context);

struct SessionKeys {
    MasterSecret master;
    Kek kek;
    Kik kik;
};
/// `z` is the shared x-coordinate, 48 bytes big-endian; `nonce` the session blob's NONCE.
SessionKeys derive_session_keys(ByteView z, std::span<const std::uint8_t, 16> nonce);

/// Session blob of LAUNCH_START, SEND_START and RECEIVE_START, 0x80 bytes.
struct SessionBlob {
    static constexpr std::size_t wire_size = 0x80;
    ByteArray<16> nonce{};
    ByteArray<32> wrap_tk{};
    ByteArray<16> wrap_iv{};
    ByteArray<32> wrap_mac{};
    ByteArray<32> policy_mac{};
    static SessionBlob parse(wire::View<wire_size> v);
    ByteArray<wire_size> serialize() const;
    friend bool operator==(const SessionBlob&, const SessionBlob&) = default;
};
/// Wraps TEK‖TIK under KEK (AES-128-CTR) and makes both MACs.
SessionBlob wrap_session(const SessionKeys& keys, std::span<const std::uint8_t, 16> nonce, std::span<const std::uint8_t, 16> wrap_iv,
                         const Tek& tek, const Tik& tik, Policy policy);
struct TransportKeys {
    Tek tek;
    Tik tik;
};
/// Firmware's order: WRAP_MAC, unwrap, POLICY_MAC. nullopt when either MAC is wrong.
std::optional<TransportKeys> unwrap_session(const SessionKeys& keys, const SessionBlob& blob, Policy policy);

/// MEASURE: HMAC-SHA-256 under `tik` of 56 bytes: 0x04 ‖ API_MAJOR ‖ API_MINOR ‖ BUILD ‖ LE32(POLICY) ‖ `digest` ‖ `mnonce`. Firmware of
/// API below 0.17 leaves out the first four bytes. `build` is the version of the firmware that launched the guest.
/// Source: SEV API (AMD 55766), LAUNCH_MEASURE.
Digest expected_measurement(const Tik& tik, Build build, Policy policy, const Digest& digest, const Mnonce& mnonce);

/// Header of a LAUNCH_SECRET packet, 0x34 bytes: FLAGS, IV, MAC. Reserved flag bits are refused; bit 0 (compressed) is kept.
struct PacketHeader {
    static constexpr std::size_t wire_size = 0x34;
    std::uint32_t flags = 0;
    ByteArray<16> iv{};
    ByteArray<32> mac{};
    static PacketHeader parse(wire::View<wire_size> v);
    ByteArray<wire_size> serialize() const;
    friend bool operator==(const PacketHeader&, const PacketHeader&) = default;
};
/// MAC of a LAUNCH_SECRET packet: HMAC(TIK; 01 ‖ FLAGS ‖ IV ‖ LE32(GUEST_LENGTH) ‖ LE32(TRANS_LENGTH) ‖ DATA ‖ MEASURE); MEASURE is
/// left out below API 0.17. `data` is the ciphertext; both lengths are its size (no compression).
Digest secret_packet_mac(const Tik& tik, ApiVersion api, std::uint32_t flags, std::span<const std::uint8_t, 16> iv, ByteView data,
                         const Digest& measure);

} // namespace sev::psp
