// SPDX-License-Identifier: Apache-2.0
#include "psp/signature.hpp"

namespace sev::psp {
namespace {

/// Hash of a signing key's algorithm; nullopt when keys of this algorithm do not sign.
std::optional<Hash> signing_hash(Algorithm algorithm) {
    switch (algorithm) {
    case Algorithm::rsa_sha256:
    case Algorithm::ecdsa_sha256: return Hash::sha256;
    case Algorithm::rsa_sha384:
    case Algorithm::ecdsa_sha384: return Hash::sha384;
    case Algorithm::none:
    case Algorithm::ecdh_sha256:
    case Algorithm::ecdh_sha384: return std::nullopt;
    }
    return std::nullopt;
}

bool is_rsa(Algorithm algorithm) { return algorithm == Algorithm::rsa_sha256 || algorithm == Algorithm::rsa_sha384; }

bool is_zero(ByteView bytes) {
    return std::ranges::all_of(bytes, [](std::uint8_t b) { return b == 0; });
}

Bytes reversed(ByteView bytes) { return {bytes.rbegin(), bytes.rend()}; }

/// A slot's RSA signature: as many little-endian bytes as the modulus has, and zeros after them.
bool rsa_slot_valid(const SevCertificate& child, const SignatureSlot& slot, const RsaPublicKey& parent, Hash which) {
    const ByteView bytes{slot.bytes};
    const std::size_t size_bytes = parent.modulus.size();
    if (size_bytes > bytes.size() || !is_zero(bytes.subspan(size_bytes))) return false;
    return rsa_pss_verify(parent, which, hash(which, child.signed_bytes()), reversed(bytes.first(size_bytes)));
}

} // namespace

bool signature_valid(const CaCertificate& child, const CaCertificate& parent) {
    if (!child.signature || child.signature->size() != parent.modulus.size()) return false;
    return rsa_pss_verify(parent.public_key(), parent.hash(), hash(parent.hash(), child.signed_bytes()), reversed(*child.signature));
}

bool signed_with_key_of(const SevCertificate& child, const SignatureSlot& slot, const CaCertificate& parent) {
    return slot.algorithm == parent.algorithm() && rsa_slot_valid(child, slot, parent.public_key(), parent.hash());
}

bool signed_with_key_of(const SevCertificate& child, const SignatureSlot& slot, const SevCertificate& parent) {
    const auto which = signing_hash(parent.algorithm);
    if (!which || slot.algorithm != parent.algorithm || is_rsa(parent.algorithm) == (parent.point() != nullptr)) return false;
    if (const P384Point* point = parent.point()) {
        const auto signature = ecdsa_from_wire(slot.bytes);
        return signature && ecdsa_verify(*point, hash(*which, child.signed_bytes()), *signature);
    }
    const auto& rsa = std::get<RsaCertificateKey>(parent.key);
    const std::size_t size_bytes = rsa.bits / 8;
    if (size_bytes > rsa.modulus.size()) return false;
    return rsa_slot_valid(child, slot, {.modulus = reversed(ByteView{rsa.modulus}.first(size_bytes)), .exponent = reversed(rsa.exponent)}, *which);
}

bool signature_valid(const SevCertificate& child, const SignatureSlot& slot, const CaCertificate& parent) {
    return slot.usage == parent.usage && signed_with_key_of(child, slot, parent);
}

bool signature_valid(const SevCertificate& child, const SignatureSlot& slot, const SevCertificate& parent) {
    return !slot.empty() && slot.usage == parent.usage && signed_with_key_of(child, slot, parent);
}

} // namespace sev::psp
