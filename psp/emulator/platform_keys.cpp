// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/platform_keys.hpp"

#include <fmt/format.h>

namespace sev::psp::emulator {
namespace {

using KeyHandle = std::shared_ptr<const P384Key>;

KeyHandle new_key() { return std::make_shared<const P384Key>(P384Key::generate()); }

SevCertificate pdh_certificate_of(const P384Key& pdh, const P384Key& pek, ApiVersion api) {
    SevCertificate certificate = unsigned_certificate(Usage::pdh, Algorithm::ecdh_sha256, api, pdh.public_point());
    sign(certificate, 0, Usage::pek, pek);
    return certificate;
}

KeyHandle read_key(Cursor& from, std::string_view field) {
    const auto scalar = from.take(48, field);
    return within(field, [&] { return std::make_shared<const P384Key>(P384Key::from_scalar(scalar.first<48>())); });
}

bool signed_by(const SevCertificate& child, const SevCertificate& parent) {
    const SignatureSlot* slot = child.signature_by(parent.usage);
    return slot && signature_valid(child, *slot, parent);
}

} // namespace

PlatformKeys PlatformKeys::generate(ApiVersion api, const P384Key& cek) {
    PlatformKeys keys{.oca = new_key(), .pek = new_key(), .pdh = new_key(), .oca_certificate = {}, .pek_certificate = {}, .pdh_certificate = {}};
    keys.oca_certificate = unsigned_certificate(Usage::oca, Algorithm::ecdsa_sha256, api, keys.oca->public_point());
    sign(keys.oca_certificate, 0, Usage::oca, *keys.oca);
    keys.pek_certificate = unsigned_certificate(Usage::pek, Algorithm::ecdsa_sha256, api, keys.pek->public_point());
    sign(keys.pek_certificate, 0, Usage::oca, *keys.oca);
    sign(keys.pek_certificate, 1, Usage::cek, cek);
    keys.pdh_certificate = pdh_certificate_of(*keys.pdh, *keys.pek, api);
    return keys;
}

PlatformKeys PlatformKeys::with_new_pdh(ApiVersion api) const {
    PlatformKeys keys = *this;
    keys.pdh = new_key();
    keys.pdh_certificate = pdh_certificate_of(*keys.pdh, *keys.pek, api);
    return keys;
}

PlatformKeys PlatformKeys::owned_by(const SevCertificate& owner, SevCertificate owned_pek, ApiVersion api, const P384Key& cek) const {
    PlatformKeys keys = with_new_pdh(api);
    keys.oca.reset();
    keys.oca_certificate = owner;
    sign(owned_pek, owned_pek.signatures[0].empty() ? 0 : 1, Usage::cek, cek);
    keys.pek_certificate = owned_pek;
    return keys;
}

PlatformKeys PlatformKeys::parse(Cursor& from) {
    const std::uint32_t flags = from.le32("flags");
    if (flags > 1) from.refuse(fmt::format("flags are 0x{:x}, want 0 (own) or 1 (externally owned)", flags));
    PlatformKeys keys;
    if (flags == 0) {
        keys.oca = read_key(from, "OCA key");
    } else if (!std::ranges::all_of(from.take(48, "OCA key"), [](std::uint8_t b) { return b == 0; })) {
        from.refuse("an externally owned platform has an OCA key");
    }
    keys.pek = read_key(from, "PEK");
    keys.pdh = read_key(from, "PDH");
    keys.oca_certificate = parse_sev_certificate(from.take(SevCertificate::wire_size, "OCA certificate"), "OCA certificate");
    keys.pek_certificate = parse_sev_certificate(from.take(SevCertificate::wire_size, "PEK certificate"), "PEK certificate");
    keys.pdh_certificate = parse_sev_certificate(from.take(SevCertificate::wire_size, "PDH certificate"), "PDH certificate");
    return keys;
}

void PlatformKeys::serialize(Writer& to) const {
    to.le32(externally_owned() ? 1 : 0);
    if (oca)
        to.bytes(oca->scalar().reveal());
    else
        to.bytes(ByteArray<48>{});
    to.bytes(pek->scalar().reveal()).bytes(pdh->scalar().reveal());
    to.bytes(oca_certificate.serialize()).bytes(pek_certificate.serialize()).bytes(pdh_certificate.serialize());
}

std::optional<std::string> PlatformKeys::inconsistency(const SevCertificate& cek) const {
    const auto bears = [](const SevCertificate& certificate, const P384Key& key) {
        return certificate.point() && *certificate.point() == key.public_point();
    };
    if (oca_certificate.usage != Usage::oca || pek_certificate.usage != Usage::pek || pdh_certificate.usage != Usage::pdh)
        return fmt::format("certificates are {}, {} and {}, want OCA, PEK and PDH", name(oca_certificate.usage), name(pek_certificate.usage),
                           name(pdh_certificate.usage));
    if (oca && !bears(oca_certificate, *oca)) return "OCA key is not the one in its certificate";
    if (!bears(pek_certificate, *pek)) return "PEK is not the one in its certificate";
    if (!bears(pdh_certificate, *pdh)) return "PDH key is not the one in its certificate";
    if (!signed_by(oca_certificate, oca_certificate)) return "OCA certificate is not signed by itself";
    if (!signed_by(pek_certificate, oca_certificate)) return "PEK certificate is not signed by the OCA";
    if (!signed_by(pek_certificate, cek)) return "PEK certificate is not signed by this chip's CEK";
    if (!signed_by(pdh_certificate, pek_certificate)) return "PDH certificate is not signed by the PEK";
    return std::nullopt;
}

} // namespace sev::psp::emulator
