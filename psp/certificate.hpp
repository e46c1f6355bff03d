// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <optional>
#include <string>
#include <variant>

#include "base/crypto.hpp"
#include "base/wire.hpp"
#include "psp/types.hpp"

namespace sev::psp {

/// PUBKEY_USAGE and SIG*_USAGE codes. Source: SEV API appendix C.
enum class Usage : std::uint32_t { ark = 0x0000, ask = 0x0013, invalid = 0x1000, oca = 0x1001, pek = 0x1002, pdh = 0x1003, cek = 0x1004 };
/// PUBKEY_ALGO and SIG*_ALGO codes.
enum class Algorithm : std::uint32_t {
    none = 0x0000,
    rsa_sha256 = 0x0001,
    ecdsa_sha256 = 0x0002,
    ecdh_sha256 = 0x0003,
    rsa_sha384 = 0x0101,
    ecdsa_sha384 = 0x0102,
    ecdh_sha384 = 0x0103,
};
std::string_view name(Usage usage);         // "PEK" …
std::string_view name(Algorithm algorithm); // "ECDSA SHA-256" …

/// One signature slot of a SEV certificate, or its absence (usage 0x1000, algorithm 0, zero bytes).
struct SignatureSlot {
    Usage usage = Usage::invalid;
    Algorithm algorithm = Algorithm::none;
    ByteArray<512> bytes{}; // as on the wire, little-endian
    bool empty() const noexcept { return usage == Usage::invalid; }
    friend bool operator==(const SignatureSlot&, const SignatureSlot&) = default;
};

/// RSA public key of a SEV certificate (the format allows it for an OCA): modulus size in bits, then both numbers little-endian.
struct RsaCertificateKey {
    std::uint32_t bits = 0;
    ByteArray<512> exponent{}, modulus{};
    friend bool operator==(const RsaCertificateKey&, const RsaCertificateKey&) = default;
};

/// SEV certificate, version 1: OCA, CEK, PEK, PDH, GODH. 0x824 bytes, little-endian. Source: SEV API (AMD 55766) appendix C.
/// What parses serialises to the same bytes: undefined usages, algorithms and curves, a version other than 1, and non-zero
/// reserved bytes at 006h are refused with the offset and the field's name. The reserved bytes after an EC key are kept as they are: signatures cover
/// them, and virtee's sevctl (0.6.2) leaves in them what its memory held, in every OCA and GODH that it makes. Whether the point is on its curve, and
/// whether usage and algorithm fit the place in a chain, is not judged here but by `verify_chain`.
struct SevCertificate {
    static constexpr std::size_t wire_size = 0x824;
    static constexpr std::size_t signed_size = 0x414; // version … end of PUBKEY
    ApiVersion api;
    Usage usage = Usage::invalid;
    Algorithm algorithm = Algorithm::none;
    std::variant<P384Point, RsaCertificateKey> key;
    std::array<SignatureSlot, 2> signatures;
    ByteArray<880> after_key{}; // 0A4h … 413h, reserved; of an EC key only

    static SevCertificate parse(wire::View<wire_size> v);
    ByteArray<wire_size> serialize() const;
    /// The bytes that a signature covers.
    ByteArray<signed_size> signed_bytes() const;
    /// SHA-256 of `signed_bytes`: names the key whatever its signatures are.
    Digest fingerprint() const;
    /// The P-384 point, or nullptr when the key is RSA.
    const P384Point* point() const noexcept { return std::get_if<P384Point>(&key); }
    /// The slot signed by a key of that usage, in either order; nullptr when there is none.
    const SignatureSlot* signature_by(Usage signer) const noexcept;
    friend bool operator==(const SevCertificate&, const SevCertificate&) = default;
};

/// Parses bytes of any origin; errors start with `what` ("PDH certificate: 2000 bytes, want 2084").
SevCertificate parse_sev_certificate(ByteView bytes, std::string_view what);

/// A certificate for an EC key with both slots empty: version 1, curve P-384.
SevCertificate unsigned_certificate(Usage usage, Algorithm algorithm, ApiVersion api, const P384Point& key);

/// Signs `certificate` with an EC key: writes usage, ECDSA SHA-256 and the signature into the slot (0 or 1).
void sign(SevCertificate& certificate, std::size_t slot, Usage signer_usage, const P384Key& signer);

/// 72-byte little-endian R and S of a SIG field, as big-endian 48-byte values; nullopt when a byte beyond the 48th, or beyond R and S, is not zero.
std::optional<P384Signature> ecdsa_from_wire(const ByteArray<512>& slot_bytes);
ByteArray<512> ecdsa_to_wire(const P384Signature& signature);

/// CA certificate: ARK or ASK, 0x40 + E + 2N bytes with E = N = 256 (832 bytes, SHA-256) or 512 (1600 bytes, SHA-384). Source: SEV API appendix B.
struct CaCertificate {
    ByteArray<16> key_id{}, certifying_id{};
    Usage usage = Usage::ark;
    std::uint32_t bits = 0;      // of modulus and exponent field: 2048 or 4096
    Bytes exponent, modulus;     // little-endian, bits/8 bytes
    std::optional<Bytes> signature; // little-endian; absent only in AMD's published Naples ARK, which ends after the modulus

    std::size_t size_bytes() const noexcept { return 0x40 + 2 * modulus.size() + (signature ? signature->size() : 0); }
    Hash hash() const noexcept { return bits == 2048 ? Hash::sha256 : Hash::sha384; }
    Algorithm algorithm() const noexcept { return bits == 2048 ? Algorithm::rsa_sha256 : Algorithm::rsa_sha384; }
    Bytes serialize() const;
    /// The bytes that the signature covers: [0, 0x40 + E + N).
    Bytes signed_bytes() const;
    /// SHA-256 of `signed_bytes`: the same for AMD's truncated Naples ARK and for the whole one.
    Digest fingerprint() const;
    RsaPublicKey public_key() const; // big-endian
    friend bool operator==(const CaCertificate&, const CaCertificate&) = default;
};

/// Parses one CA certificate at the front of `bytes` and says how many bytes it took. End of input after the modulus is
/// accepted for the Naples ARK's KEY_ID alone (and the missing public signature is then filled in by `completed`).
struct ParsedCa {
    CaCertificate certificate;
    std::size_t used_bytes;
};
ParsedCa parse_ca_certificate_prefix(ByteView bytes, std::string_view what);
/// Same, and refuses left-over bytes.
CaCertificate parse_ca_certificate(ByteView bytes, std::string_view what);
/// The Naples ARK with its published signature put back; any other certificate unchanged.
CaCertificate completed(CaCertificate certificate);

/// Whether `parent` (an ARK) signed `child` (an ASK or itself): RSA-PSS with the hash of the parent's key size.
bool signature_valid(const CaCertificate& child, const CaCertificate& parent);
/// Whether `parent` (an ASK) signed `child` (a CEK) in this slot; false when the slot names another usage or algorithm than the parent's.
bool signature_valid(const SevCertificate& child, const SignatureSlot& slot, const CaCertificate& parent);
/// Same for an EC or RSA parent; the hash is the one of the parent's algorithm.
bool signature_valid(const SevCertificate& child, const SignatureSlot& slot, const SevCertificate& parent);

} // namespace sev::psp
