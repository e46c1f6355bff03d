// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/certificate_input.hpp"
#include "psp/emulator/machine.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::uint32_t certificate_bytes = SevCertificate::wire_size;

bool may_sign(Algorithm algorithm) {
    return algorithm == Algorithm::ecdsa_sha256 || algorithm == Algorithm::ecdsa_sha384 || algorithm == Algorithm::rsa_sha256 ||
           algorithm == Algorithm::rsa_sha384;
}

/// The slot that an OCA signed, when the other one is empty; nullptr otherwise.
const SignatureSlot* only_owner_slot(const SevCertificate& certificate) {
    const auto& [first, second] = certificate.signatures;
    if (first.usage == Usage::oca && second.empty()) return &first;
    if (second.usage == Usage::oca && first.empty()) return &second;
    return nullptr;
}

/// An owner's CA as PEK_CERT_IMPORT takes it, signatures aside.
bool well_formed_owner(const SevCertificate& oca) {
    const P384Point* point = oca.point();
    return oca.usage == Usage::oca && may_sign(oca.algorithm) && (!point || on_curve(*point)) && only_owner_slot(oca) &&
           only_owner_slot(oca)->algorithm == oca.algorithm;
}

} // namespace

Status Machine::pek_gen(Invocation& in) { return store_and_use(PlatformKeys::generate(api(), cek_), in); }

Status Machine::pdh_gen(Invocation& in) { return store_and_use(keys()->with_new_pdh(api()), in); }

Status Machine::pek_csr(Invocation& in) {
    if (in.u32(0x08) < certificate_bytes) {
        in.put_u32(0x08, certificate_bytes);
        return Status::invalid_length;
    }
    const auto out = in.target(0x00, certificate_bytes);
    if (out.empty()) return Status::invalid_address;
    SevCertificate request = keys()->pek_certificate;
    request.signatures = {};
    std::ranges::copy(request.serialize(), out.begin());
    in.put_u32(0x08, certificate_bytes);
    return Status::success;
}

Status Machine::pek_cert_import(Invocation& in) {
    const auto current = keys();
    if (current->externally_owned()) return Status::already_owned;
    if (in.u32(0x08) != certificate_bytes || in.u32(0x18) != certificate_bytes) return Status::invalid_length;
    const auto pek_bytes = in.target(0x00, certificate_bytes), oca_bytes = in.target(0x10, certificate_bytes);
    if (pek_bytes.empty() || oca_bytes.empty()) return Status::invalid_address;
    const auto pek = certificate_input(pek_bytes), oca = certificate_input(oca_bytes);
    if (!pek || !oca || !well_formed_owner(*oca)) return Status::invalid_certificate;
    if (pek->signed_bytes() != current->pek_certificate.signed_bytes()) return Status::invalid_certificate;
    const SignatureSlot* by_owner = only_owner_slot(*pek);
    if (!by_owner || by_owner->algorithm != oca->algorithm) return Status::invalid_certificate;
    if (!signature_valid(*oca, *only_owner_slot(*oca), *oca) || !signature_valid(*pek, *by_owner, *oca)) return Status::bad_signature;
    return store_and_use(current->owned_by(*oca, *pek, api(), cek_), in);
}

Status Machine::pdh_cert_export(Invocation& in) {
    constexpr std::uint32_t chain_bytes = 3 * certificate_bytes;
    if (in.u32(0x08) < certificate_bytes || in.u32(0x18) < chain_bytes) {
        in.put_u32(0x08, certificate_bytes);
        in.put_u32(0x18, chain_bytes);
        return Status::invalid_length;
    }
    const auto pdh = in.target(0x00, certificate_bytes), chain = in.target(0x10, chain_bytes);
    if (pdh.empty() || chain.empty()) return Status::invalid_address;
    const auto current = keys();
    std::ranges::copy(current->pdh_certificate.serialize(), pdh.begin());
    Writer{chain}
        .bytes(current->pek_certificate.serialize())
        .bytes(current->oca_certificate.serialize())
        .bytes(chip_.unsigned_cek().serialize())
        .done();
    in.put_u32(0x08, certificate_bytes);
    in.put_u32(0x18, chain_bytes);
    return Status::success;
}

} // namespace sev::psp::emulator
