// SPDX-License-Identifier: Apache-2.0
#include "base/cursor.hpp"
#include "psp/certificate.hpp"
#include "psp/roots.hpp"

namespace sev::psp {
namespace {

constexpr std::size_t fixed_size = 0x40; // VERSION … MODULUS_SIZE

Bytes reversed(ByteView bytes) { return {bytes.rbegin(), bytes.rend()}; }

Bytes to_bytes(ByteView bytes) { return {bytes.begin(), bytes.end()}; }

} // namespace

Bytes CaCertificate::signed_bytes() const {
    ByteArray<fixed_size> fixed{};
    const auto v = wire::span(fixed);
    wire::put_le32<0x00>(v, 1); // VERSION
    wire::put_bytes<0x04>(v, key_id);
    wire::put_bytes<0x14>(v, certifying_id);
    wire::put_le32<0x24>(v, raw(usage));
    wire::put_le32<0x38>(v, bits); // PUBEXP_SIZE
    wire::put_le32<0x3C>(v, bits); // MODULUS_SIZE
    Bytes out(fixed_size + exponent.size() + modulus.size());
    const auto after_fixed = std::ranges::copy(fixed, out.begin()).out;
    const auto after_exponent = std::ranges::copy(exponent, after_fixed).out;
    std::ranges::copy(modulus, after_exponent);
    return out;
}

Bytes CaCertificate::serialize() const {
    Bytes out = signed_bytes();
    if (signature) out.insert(out.end(), signature->begin(), signature->end());
    return out;
}

Digest CaCertificate::fingerprint() const { return sha256(signed_bytes()); }

RsaPublicKey CaCertificate::public_key() const { return {.modulus = reversed(modulus), .exponent = reversed(exponent)}; }

ParsedCa parse_ca_certificate_prefix(ByteView bytes, std::string_view what) {
    Cursor cursor{bytes, std::string{what}};
    // A refusal names the offset of the field it is about, which the cursor has just gone past.
    const auto refuse = [&](std::string_view problem) { return Error{Fault::malformed, fmt::format("{}: {}", what, problem)}; };

    if (const auto version = cursor.le32("VERSION"); version != 1) throw refuse(fmt::format("00h VERSION is {}, want 1", version));
    CaCertificate out;
    out.key_id = cursor.array<16>("KEY_ID");
    out.certifying_id = cursor.array<16>("CERTIFYING_ID");
    const std::uint32_t usage = cursor.le32("KEY_USAGE");
    if (usage != raw(Usage::ark) && usage != raw(Usage::ask)) {
        throw refuse(fmt::format("24h KEY_USAGE is 0x{:x}, want 0x0 (ARK) or 0x13 (ASK)", usage));
    }
    out.usage = Usage{usage};
    const auto reserved = cursor.array<16>("reserved");
    if (!std::ranges::all_of(reserved, [](std::uint8_t b) { return b == 0; })) throw refuse("28h reserved bytes are not zero");
    const std::uint32_t exponent_bits = cursor.le32("PUBEXP_SIZE");
    if (exponent_bits != 2048 && exponent_bits != 4096) throw refuse(fmt::format("38h PUBEXP_SIZE is {} bits, want 2048 or 4096", exponent_bits));
    out.bits = cursor.le32("MODULUS_SIZE");
    if (out.bits != exponent_bits) throw refuse(fmt::format("3Ch MODULUS_SIZE is {} bits, want {} as PUBEXP_SIZE", out.bits, exponent_bits));
    const std::size_t size_bytes = out.bits / 8;
    out.exponent = to_bytes(cursor.take(size_bytes, "PUBEXP"));
    out.modulus = to_bytes(cursor.take(size_bytes, "MODULUS"));
    const bool ends_as_published = cursor.remaining() == 0 && out.usage == Usage::ark && out.key_id == naples_ark_key_id && out.bits == 2048;
    if (!ends_as_published) out.signature = to_bytes(cursor.take(size_bytes, "SIGNATURE"));
    return {.certificate = std::move(out), .used_bytes = cursor.offset()};
}

CaCertificate parse_ca_certificate(ByteView bytes, std::string_view what) {
    ParsedCa parsed = parse_ca_certificate_prefix(bytes, what);
    if (parsed.used_bytes != bytes.size()) {
        throw Error{Fault::malformed,
                    fmt::format("{}: {} bytes, want {} for a key of {} bits", what, bytes.size(), parsed.used_bytes, parsed.certificate.bits)};
    }
    return std::move(parsed.certificate);
}

} // namespace sev::psp
