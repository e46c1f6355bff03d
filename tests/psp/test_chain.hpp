// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/chain.hpp"

namespace sev::test {

/// Names of the checks that failed, in order.
inline std::vector<std::string> failed(const std::vector<psp::Check>& checks) {
    std::vector<std::string> out;
    for (const psp::Check& check : checks) {
        if (!check.passed) out.push_back(check.check);
    }
    return out;
}
using Names = std::vector<std::string>;

/// A chain under construction: the test changes fields of `chain`, then `sign` makes every signature again over what is there.
class TestChain {
public:
    TestChain() {
        using namespace psp;
        const ApiVersion api{.major = 0, .minor = 24};
        chain.ark = ca(Usage::ark, emulated_ark_key_id, ark);
        chain.ask = ca(Usage::ask, emulated_ask_key_id, ask);
        chain.cek = unsigned_certificate(Usage::cek, Algorithm::ecdsa_sha256, api, cek.public_point());
        chain.oca = unsigned_certificate(Usage::oca, Algorithm::ecdsa_sha256, api, oca.public_point());
        chain.pek = unsigned_certificate(Usage::pek, Algorithm::ecdsa_sha256, api, pek.public_point());
        chain.pdh = unsigned_certificate(Usage::pdh, Algorithm::ecdh_sha256, api, pdh.public_point());
    }

    psp::Chain& sign() {
        using namespace psp;
        sign_ca(*chain.ark);
        sign_ca(*chain.ask);
        sign_by_ask(*chain.cek, 0);
        sign_ec(*chain.oca, 0, Usage::oca, chain.oca->algorithm, oca);
        sign_ec(*chain.pek, 0, Usage::oca, chain.oca->algorithm, oca);
        sign_ec(*chain.pek, 1, Usage::cek, chain.cek->algorithm, cek);
        sign_ec(*chain.pdh, 0, Usage::pek, chain.pek->algorithm, pek);
        return chain;
    }

    /// The chain's own ARK as the only root.
    std::vector<psp::Root> roots(bool amd = false) const {
        return {{.label = "test root", .product = psp::Product::naples, .fingerprint = chain.ark->fingerprint(), .amd = amd}};
    }

    static void sign_ca(psp::CaCertificate& certificate) {
        const Bytes big_endian = ark.sign_pss(Hash::sha256, sha256(certificate.signed_bytes()));
        certificate.signature = Bytes{big_endian.rbegin(), big_endian.rend()};
    }
    static void sign_by_ask(psp::SevCertificate& certificate, std::size_t slot) {
        const Bytes big_endian = ask.sign_pss(Hash::sha256, sha256(certificate.signed_bytes()));
        psp::SignatureSlot& out = certificate.signatures.at(slot);
        out = {.usage = psp::Usage::ask, .algorithm = psp::Algorithm::rsa_sha256, .bytes = {}};
        std::ranges::reverse_copy(big_endian, out.bytes.begin());
    }
    static void sign_ec(psp::SevCertificate& certificate, std::size_t slot, psp::Usage usage, psp::Algorithm algorithm, const P384Key& signer) {
        const Hash which = algorithm == psp::Algorithm::ecdsa_sha384 ? Hash::sha384 : Hash::sha256;
        certificate.signatures.at(slot) = {
            .usage = usage, .algorithm = algorithm, .bytes = psp::ecdsa_to_wire(signer.sign(hash(which, certificate.signed_bytes())))};
    }

    psp::Chain chain;
    P384Key cek = P384Key::generate(), oca = P384Key::generate(), pek = P384Key::generate(), pdh = P384Key::generate();
    inline static const RsaKey ark = RsaKey::generate(2048), ask = RsaKey::generate(2048); // slow to make: once a program

private:
    static psp::CaCertificate ca(psp::Usage usage, const ByteArray<16>& key_id, const RsaKey& key) {
        const RsaPublicKey numbers = key.public_key();
        return {.key_id = key_id,
                .certifying_id = psp::emulated_ark_key_id,
                .usage = usage,
                .bits = 2048,
                .exponent = {numbers.exponent.rbegin(), numbers.exponent.rend()},
                .modulus = {numbers.modulus.rbegin(), numbers.modulus.rend()},
                .signature = std::nullopt};
    }
};

} // namespace sev::test
