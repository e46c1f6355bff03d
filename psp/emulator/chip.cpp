// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/chip.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "psp/chain.hpp"
#include "psp/emulator/choices.hpp"

namespace sev::psp::emulator {
namespace {

Bytes little_endian(ByteView big_endian, std::size_t size_bytes) {
    require(big_endian.size() <= size_bytes, "number fits its field");
    Bytes out{big_endian.rbegin(), big_endian.rend()};
    out.resize(size_bytes);
    return out;
}

CaCertificate ca_certificate(Usage usage, const ByteArray<16>& key_id, const RsaKey& key, unsigned bits, const RsaKey& signer) {
    const RsaPublicKey public_key = key.public_key();
    CaCertificate certificate{.key_id = key_id,
                              .certifying_id = emulated_ark_key_id,
                              .usage = usage,
                              .bits = bits,
                              .exponent = little_endian(public_key.exponent, bits / 8),
                              .modulus = little_endian(public_key.modulus, bits / 8),
                              .signature = std::nullopt};
    const Bytes signature = signer.sign_pss(certificate.hash(), hash(certificate.hash(), certificate.signed_bytes()));
    certificate.signature = little_endian(signature, bits / 8);
    return certificate;
}

/// Order of the group of P-384, big-endian. Source: FIPS 186-4 D.1.2.4.
constexpr ByteArray<48> group_order{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                    0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xC7, 0x63, 0x4D, 0x81, 0xF4, 0x37, 0x2D, 0xDF,
                                    0x58, 0x1A, 0x0D, 0xB2, 0x48, 0xB0, 0xA7, 0x7A, 0xEC, 0xEC, 0x19, 0x6A, 0xCC, 0xC5, 0x29, 0x73};

/// KDF block `counter` (from 1) of the CEK: see choices::cek_label.
void cek_block(const ChipSecret& secret, std::uint32_t counter, std::uint8_t attempt, std::span<std::uint8_t, 32> out) {
    const ByteArray<1> separator{0x00}, context{attempt};
    Digest block = hmac_sha256(secret.reveal(), {wire::le32_bytes(counter), as_bytes(choices::cek_label), separator,
                                                 attempt == 0 ? ByteView{} : ByteView{context}, wire::le32_bytes(384)});
    std::ranges::copy(block, out.begin());
    OPENSSL_cleanse(block.data(), block.size());
}

} // namespace

Chip Chip::make(const Personality& personality, const Random& random) {
    Chip chip{.personality = &personality,
              .ids = std::vector<ChipId>(personality.sockets),
              .secret = ChipSecret::filled_by([&](std::span<std::uint8_t> out) { random(out, "chip secret"); }),
              .ark = {},
              .ask = {},
              .cek = {}};
    for (ChipId& id : chip.ids) random(id, "chip id");
    const RsaKey ark = RsaKey::generate(personality.rsa_bits), ask = RsaKey::generate(personality.rsa_bits);
    chip.ark = ca_certificate(Usage::ark, emulated_ark_key_id, ark, personality.rsa_bits, ark);
    chip.ask = ca_certificate(Usage::ask, emulated_ask_key_id, ask, personality.rsa_bits, ark);
    chip.cek = unsigned_certificate(Usage::cek, Algorithm::ecdsa_sha256, choices::cek_api, chip.cek_key().public_point());
    const Bytes signature = ask.sign_pss(chip.ask.hash(), hash(chip.ask.hash(), chip.cek.signed_bytes()));
    SignatureSlot& slot = chip.cek.signatures[0];
    slot.usage = Usage::ask;
    slot.algorithm = chip.ask.algorithm();
    std::ranges::copy(little_endian(signature, personality.rsa_bits / 8), slot.bytes.begin());
    return chip;
}

P384Key Chip::cek_key() const {
    // rejection sampling: an attempt falls outside 1 … n-1 with a probability of 2^-190
    for (std::uint8_t attempt = 0; attempt < 255; ++attempt) {
        const auto scalar = Secret<struct CekScalarTag, 64>::filled_by([&](std::span<std::uint8_t, 64> out) {
            cek_block(secret, 1, attempt, out.first<32>());
            cek_block(secret, 2, attempt, out.last<32>());
        });
        const auto candidate = scalar.reveal().first<48>();
        const bool zero = std::ranges::all_of(candidate, [](std::uint8_t b) { return b == 0; });
        if (!zero && std::ranges::lexicographical_compare(candidate, group_order)) return P384Key::from_scalar(candidate);
    }
    throw Error{sev::Fault::bug, "broken invariant: a CEK can be derived from every chip secret"};
}

SevCertificate Chip::unsigned_cek() const {
    SevCertificate certificate = cek;
    certificate.signatures = {};
    return certificate;
}

std::optional<std::string> Chip::inconsistency() const {
    if (ark.bits != personality->rsa_bits || ask.bits != personality->rsa_bits)
        return fmt::format("ARK has {} bits and ASK {}, want {} for {}", ark.bits, ask.bits, personality->rsa_bits, personality->name);
    if (ark.key_id != emulated_ark_key_id || ark.usage != Usage::ark || ask.usage != Usage::ask)
        return "ARK and ASK are not those of an emulated PSP";
    if (!signature_valid(ark, ark)) return "ARK is not signed by itself";
    if (!signature_valid(ask, ark)) return "ASK is not signed by the ARK";
    if (!cek.point() || *cek.point() != cek_key().public_point()) return "CEK certificate is not of this chip's secret";
    const SignatureSlot* slot = cek.signature_by(Usage::ask);
    if (!slot || !signature_valid(cek, *slot, ask)) return "CEK certificate is not signed by the ASK";
    return std::nullopt;
}

} // namespace sev::psp::emulator
