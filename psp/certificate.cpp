// SPDX-License-Identifier: Apache-2.0
#include "psp/certificate.hpp"

#include "psp/p384_field.hpp"

namespace sev::psp {
namespace {

constexpr std::size_t key_at = 0x010;
constexpr std::uint32_t curve_p384 = 2;

Usage usage_at(std::uint32_t code, std::string_view field) {
    switch (Usage{code}) {
    case Usage::ark:
    case Usage::ask:
    case Usage::invalid:
    case Usage::oca:
    case Usage::pek:
    case Usage::pdh:
    case Usage::cek: return Usage{code};
    }
    throw Error{Fault::malformed,
                fmt::format("{} is 0x{:x}, want 0x0 (ARK), 0x13 (ASK), 0x1000 (none) or 0x1001..0x1004 (OCA, PEK, PDH, CEK)", field, code)};
}

Algorithm algorithm_at(std::uint32_t code, std::string_view field) {
    switch (Algorithm{code}) {
    case Algorithm::none:
    case Algorithm::rsa_sha256:
    case Algorithm::ecdsa_sha256:
    case Algorithm::ecdh_sha256:
    case Algorithm::rsa_sha384:
    case Algorithm::ecdsa_sha384:
    case Algorithm::ecdh_sha384: return Algorithm{code};
    }
    throw Error{Fault::malformed, fmt::format("{} is 0x{:x}, want 0x0..0x3 or 0x101..0x103", field, code)};
}

bool is_rsa(Algorithm algorithm) { return algorithm == Algorithm::rsa_sha256 || algorithm == Algorithm::rsa_sha384; }

ByteArray<48> coordinate(wire::View<p384_field_size> field, std::string_view where) {
    const auto value = from_p384_field(field);
    if (!value) throw Error{Fault::malformed, fmt::format("{} is wider than the 48 bytes of P-384", where)};
    return *value;
}

P384Point parse_point(wire::View<SevCertificate::wire_size> v) {
    if (const std::uint32_t curve = wire::le32<key_at>(v); curve != curve_p384) {
        throw Error{Fault::malformed, fmt::format("010h CURVE is {}, want 2 (P-384)", curve)};
    }
    return {.x = coordinate(wire::part<key_at + 0x004, p384_field_size>(v), "014h QX"),
            .y = coordinate(wire::part<key_at + 0x04C, p384_field_size>(v), "05Ch QY")};
}

RsaCertificateKey parse_rsa(wire::View<SevCertificate::wire_size> v) {
    const std::uint32_t bits = wire::le32<key_at>(v);
    if (bits != 2048 && bits != 4096) throw Error{Fault::malformed, fmt::format("010h MODULUS_SIZE is {} bits, want 2048 or 4096", bits)};
    return {.bits = bits, .exponent = wire::bytes<key_at + 0x004, 512>(v), .modulus = wire::bytes<key_at + 0x204, 512>(v)};
}

template <std::size_t At>
SignatureSlot parse_slot(wire::View<SevCertificate::wire_size> v, std::string_view usage_field, std::string_view algorithm_field) {
    return {.usage = usage_at(wire::le32<At>(v), usage_field),
            .algorithm = algorithm_at(wire::le32<At + 4>(v), algorithm_field),
            .bytes = wire::bytes<At + 8, 512>(v)};
}

template <std::size_t At>
void put_slot(wire::Span<SevCertificate::wire_size> v, const SignatureSlot& slot) {
    wire::put_le32<At>(v, raw(slot.usage));
    wire::put_le32<At + 4>(v, raw(slot.algorithm));
    wire::put_bytes<At + 8>(v, slot.bytes);
}

} // namespace

std::string_view name(Usage usage) {
    switch (usage) {
    case Usage::ark: return "ARK";
    case Usage::ask: return "ASK";
    case Usage::invalid: return "none";
    case Usage::oca: return "OCA";
    case Usage::pek: return "PEK";
    case Usage::pdh: return "PDH";
    case Usage::cek: return "CEK";
    }
    return "undefined";
}

std::string_view name(Algorithm algorithm) {
    switch (algorithm) {
    case Algorithm::none: return "none";
    case Algorithm::rsa_sha256: return "RSA-PSS SHA-256";
    case Algorithm::ecdsa_sha256: return "ECDSA SHA-256";
    case Algorithm::ecdh_sha256: return "ECDH SHA-256";
    case Algorithm::rsa_sha384: return "RSA-PSS SHA-384";
    case Algorithm::ecdsa_sha384: return "ECDSA SHA-384";
    case Algorithm::ecdh_sha384: return "ECDH SHA-384";
    }
    return "undefined";
}

SevCertificate SevCertificate::parse(wire::View<wire_size> v) {
    if (const std::uint32_t version = wire::le32<0x000>(v); version != 1) {
        throw Error{Fault::malformed, fmt::format("000h VERSION is {}, want 1", version)};
    }
    if (const std::uint16_t reserved = wire::le16<0x006>(v); reserved != 0) {
        throw Error{Fault::malformed, fmt::format("006h reserved is 0x{:x}, want 0", reserved)};
    }
    SevCertificate out;
    out.api = {.major = wire::u8<0x004>(v), .minor = wire::u8<0x005>(v)};
    out.usage = usage_at(wire::le32<0x008>(v), "008h PUBKEY_USAGE");
    out.algorithm = algorithm_at(wire::le32<0x00C>(v), "00Ch PUBKEY_ALGO");
    if (out.algorithm == Algorithm::none) throw Error{Fault::malformed, "00Ch PUBKEY_ALGO is 0x0 (none), want a key's algorithm"};
    if (is_rsa(out.algorithm)) {
        out.key = parse_rsa(v);
    } else {
        out.key = parse_point(v);
        out.after_key = wire::bytes<key_at + 0x094, 880>(v);
    }
    out.signatures = {parse_slot<0x414>(v, "414h SIG1_USAGE", "418h SIG1_ALGO"), parse_slot<0x61C>(v, "61Ch SIG2_USAGE", "620h SIG2_ALGO")};
    return out;
}

ByteArray<SevCertificate::wire_size> SevCertificate::serialize() const {
    ByteArray<wire_size> out{};
    const auto v = wire::span(out);
    wire::put_le32<0x000>(v, 1);
    wire::put_u8<0x004>(v, api.major);
    wire::put_u8<0x005>(v, api.minor);
    wire::put_le32<0x008>(v, raw(usage));
    wire::put_le32<0x00C>(v, raw(algorithm));
    if (const P384Point* ec = point()) {
        wire::put_le32<key_at>(v, curve_p384);
        put_p384_field<key_at + 0x004>(v, ec->x);
        put_p384_field<key_at + 0x04C>(v, ec->y);
        wire::put_bytes<key_at + 0x094>(v, after_key);
    } else {
        const auto& rsa = std::get<RsaCertificateKey>(key);
        wire::put_le32<key_at>(v, rsa.bits);
        wire::put_bytes<key_at + 0x004>(v, rsa.exponent);
        wire::put_bytes<key_at + 0x204>(v, rsa.modulus);
    }
    put_slot<0x414>(v, signatures[0]);
    put_slot<0x61C>(v, signatures[1]);
    return out;
}

ByteArray<SevCertificate::signed_size> SevCertificate::signed_bytes() const { return wire::bytes<0, signed_size>(wire::view(serialize())); }

Digest SevCertificate::fingerprint() const { return sha256(signed_bytes()); }

const SignatureSlot* SevCertificate::signature_by(Usage signer) const noexcept {
    const auto found = std::ranges::find(signatures, signer, &SignatureSlot::usage);
    return found == signatures.end() || found->empty() ? nullptr : &*found;
}

SevCertificate parse_sev_certificate(ByteView bytes, std::string_view what) {
    return within(what, [&] {
        if (bytes.size() != SevCertificate::wire_size) {
            throw Error{Fault::malformed, fmt::format("{} bytes, want {}", bytes.size(), SevCertificate::wire_size)};
        }
        return SevCertificate::parse(wire::View<SevCertificate::wire_size>{bytes.data(), SevCertificate::wire_size});
    });
}

SevCertificate unsigned_certificate(Usage usage, Algorithm algorithm, ApiVersion api, const P384Point& key) {
    require(algorithm != Algorithm::none && !is_rsa(algorithm), "a P-384 key's algorithm is ECDSA or ECDH");
    SevCertificate out;
    out.api = api;
    out.usage = usage;
    out.algorithm = algorithm;
    out.key = key;
    return out;
}

void sign(SevCertificate& certificate, std::size_t slot, Usage signer_usage, const P384Key& signer) {
    require(slot < certificate.signatures.size(), "a certificate has two signature slots");
    certificate.signatures[slot] = {.usage = signer_usage,
                                    .algorithm = Algorithm::ecdsa_sha256,
                                    .bytes = ecdsa_to_wire(signer.sign(sha256(certificate.signed_bytes())))};
}

std::optional<P384Signature> ecdsa_from_wire(const ByteArray<512>& slot_bytes) {
    const auto v = wire::view(slot_bytes);
    const auto r = from_p384_field(wire::part<0x00, p384_field_size>(v));
    const auto s = from_p384_field(wire::part<0x48, p384_field_size>(v));
    if (!r || !s || !wire::all_zero<0x90, 368>(v)) return std::nullopt;
    return P384Signature{.r = *r, .s = *s};
}

ByteArray<512> ecdsa_to_wire(const P384Signature& signature) {
    ByteArray<512> out{};
    put_p384_field<0x00>(wire::span(out), signature.r);
    put_p384_field<0x48>(wire::span(out), signature.s);
    return out;
}

} // namespace sev::psp
