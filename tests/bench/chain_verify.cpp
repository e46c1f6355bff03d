// SPDX-License-Identifier: Apache-2.0
// verify_chain of a parsed chain against its seven signature checks done with OpenSSL alone, in turns in one run. OpenSSL's side starts from what
// is ready: public keys as EVP_PKEY, signed bytes, signatures in OpenSSL's own form; per check it makes a context and calls EVP_DigestVerify, which
// hashes and verifies. Ours starts from the certificates and does everything else as well: it makes the keys (which checks the points), turns the
// numbers round, compares roots, ids, usages and slots, and writes the verdict's sentences. Runs in the source root.
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include "base/file.hpp"
#include "psp/chain.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using namespace sev::psp;

constexpr unsigned rounds = 500;
constexpr double want_ratio = 1.3;

template <class Handle>
Handle* must(Handle* handle) {
    if (!handle) std::abort();
    return handle;
}
void must(int result) {
    if (result != 1) std::abort();
}

/// One signature check with everything at hand.
struct RawCheck {
    Openssl<EVP_PKEY> key;
    const EVP_MD* hash;
    bool pss;
    Bytes signed_bytes, signature;

    void verify() const {
        const Openssl<EVP_MD_CTX> context{must(EVP_MD_CTX_new())};
        EVP_PKEY_CTX* options = nullptr;
        must(EVP_DigestVerifyInit(context.get(), &options, hash, nullptr, key.get()));
        if (pss) {
            must(EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING));
            must(EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST));
        }
        must(EVP_DigestVerify(context.get(), signature.data(), signature.size(), signed_bytes.data(), signed_bytes.size()));
    }
};

Openssl<EVP_PKEY> from_params(const char* type, OSSL_PARAM_BLD* builder) {
    OSSL_PARAM* params = must(OSSL_PARAM_BLD_to_param(builder));
    EVP_PKEY_CTX* context = must(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
    EVP_PKEY* key = nullptr;
    must(EVP_PKEY_fromdata_init(context));
    must(EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params));
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    return Openssl<EVP_PKEY>{key};
}

Openssl<EVP_PKEY> key_of(const CaCertificate& certificate) {
    const RsaPublicKey numbers = certificate.public_key();
    BIGNUM* modulus = must(BN_bin2bn(numbers.modulus.data(), static_cast<int>(numbers.modulus.size()), nullptr));
    BIGNUM* exponent = must(BN_bin2bn(numbers.exponent.data(), static_cast<int>(numbers.exponent.size()), nullptr));
    OSSL_PARAM_BLD* builder = must(OSSL_PARAM_BLD_new());
    must(OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus));
    must(OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent));
    auto key = from_params("RSA", builder);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

Openssl<EVP_PKEY> key_of(const SevCertificate& certificate) {
    Bytes point{0x04};
    point.insert(point.end(), certificate.point()->x.begin(), certificate.point()->x.end());
    point.insert(point.end(), certificate.point()->y.begin(), certificate.point()->y.end());
    OSSL_PARAM_BLD* builder = must(OSSL_PARAM_BLD_new());
    must(OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "P-384", 0));
    must(OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()));
    return from_params("EC", builder);
}

RawCheck by_ca(const CaCertificate& signer, Bytes signed_bytes, ByteView little_endian) {
    return {.key = key_of(signer),
            .hash = signer.bits == 2048 ? EVP_sha256() : EVP_sha384(),
            .pss = true,
            .signed_bytes = std::move(signed_bytes),
            .signature = {little_endian.rbegin(), little_endian.rend()}};
}

RawCheck by_ec(const SevCertificate& signer, const SevCertificate& child) {
    const auto numbers = ecdsa_from_wire(child.signature_by(signer.usage)->bytes).value();
    ECDSA_SIG* pair = must(ECDSA_SIG_new());
    must(ECDSA_SIG_set0(pair, must(BN_bin2bn(numbers.r.data(), 48, nullptr)), must(BN_bin2bn(numbers.s.data(), 48, nullptr))));
    unsigned char* der = nullptr;
    const int length = i2d_ECDSA_SIG(pair, &der);
    Bytes signature(der, der + length);
    OPENSSL_free(der);
    ECDSA_SIG_free(pair);
    const auto body = child.signed_bytes();
    return {.key = key_of(signer),
            .hash = signer.algorithm == Algorithm::ecdsa_sha384 ? EVP_sha384() : EVP_sha256(),
            .pss = false,
            .signed_bytes = {body.begin(), body.end()},
            .signature = std::move(signature)};
}

std::vector<RawCheck> raw_checks(const Chain& chain) {
    std::vector<RawCheck> out;
    out.push_back(by_ca(*chain.ark, chain.ark->signed_bytes(), *chain.ark->signature));
    out.push_back(by_ca(*chain.ark, chain.ask->signed_bytes(), *chain.ask->signature));
    const auto body = chain.cek->signed_bytes();
    out.push_back(by_ca(*chain.ask, {body.begin(), body.end()}, ByteView{chain.cek->signature_by(Usage::ask)->bytes}.first(chain.ask->bits / 8)));
    out.push_back(by_ec(*chain.oca, *chain.oca));
    out.push_back(by_ec(*chain.oca, *chain.pek));
    out.push_back(by_ec(*chain.cek, *chain.pek));
    out.push_back(by_ec(*chain.pek, *chain.pdh));
    return out;
}

/// Whether the chain of that fixture is verified within the bound.
bool measure(const char* name) {
    const Chain chain = parse_chain(read_file(Path{"tests/fixtures/psp"} / fmt::format("chain_{}.bin", name), 20'000), name);
    const std::vector<Root> roots{{.label = "fixture", .product = Product::naples, .fingerprint = chain.ark->fingerprint()}};
    const std::vector<RawCheck> raw_side = raw_checks(chain);
    bench::Samples raw_times, our_times;
    for (unsigned round = 0; round < rounds; ++round) {
        raw_times.time_computing([&] {
            for (const RawCheck& check : raw_side) check.verify();
        });
        our_times.time_computing([&] { must(verify_chain(chain, roots).trusted() ? 1 : 0); });
    }
    const double ours = 1000 * our_times.median_seconds(), raw_ms = 1000 * raw_times.median_seconds();
    fmt::print("chain verification, {}, {} rounds: median {:.3f} ms; OpenSSL's {} signature checks {:.3f} ms; ratio {:.3f}, want {:.2f} or less\n",
               name, rounds, ours, raw_side.size(), raw_ms, ours / raw_ms, want_ratio);
    return ours / raw_ms <= want_ratio;
}

} // namespace

int main() {
    bench::print_machine();
    const bool small = measure("rsa2048"), large = measure("rsa4096");
    return small && large ? 0 : 1;
}
