// SPDX-License-Identifier: Apache-2.0
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <fmt/format.h>

#include "base/openssl.hpp"

namespace sev {

using openssl::failed;
using openssl::must;
using openssl::owned;

namespace {

const EVP_MD* digest_of(Hash which) { return which == Hash::sha256 ? EVP_sha256() : EVP_sha384(); }
int size_of(Hash which) { return which == Hash::sha256 ? 32 : 48; }

/// nullptr when OpenSSL takes the numbers for no RSA key.
Openssl<EVP_PKEY> try_public_key(const RsaPublicKey& key) {
    const auto number = [](ByteView big_endian) {
        return owned(BN_bin2bn(big_endian.data(), static_cast<int>(big_endian.size()), nullptr), "BN_bin2bn");
    };
    const auto modulus = number(key.modulus), exponent = number(key.exponent);
    if (BN_is_zero(modulus.get()) || !BN_is_odd(modulus.get()) || !BN_is_odd(exponent.get()) || BN_is_one(exponent.get())) return nullptr;
    OSSL_PARAM_BLD* const builder = OSSL_PARAM_BLD_new();
    const bool pushed = builder && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus.get()) == 1 &&
                        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent.get()) == 1;
    OSSL_PARAM* const params = pushed ? OSSL_PARAM_BLD_to_param(builder) : nullptr;
    OSSL_PARAM_BLD_free(builder);
    if (!params) failed("OSSL_PARAM_BLD_to_param");
    EVP_PKEY_CTX* const context = EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr);
    EVP_PKEY* made = nullptr;
    const bool ok = context && EVP_PKEY_fromdata_init(context) == 1 && EVP_PKEY_fromdata(context, &made, EVP_PKEY_PUBLIC_KEY, params) == 1;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    ERR_clear_error();
    return Openssl<EVP_PKEY>{ok ? made : nullptr};
}

void use_pss(EVP_PKEY_CTX* context, Hash which) {
    must(EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING), "EVP_PKEY_CTX_set_rsa_padding");
    must(EVP_PKEY_CTX_set_signature_md(context, digest_of(which)), "EVP_PKEY_CTX_set_signature_md");
    must(EVP_PKEY_CTX_set_rsa_mgf1_md(context, digest_of(which)), "EVP_PKEY_CTX_set_rsa_mgf1_md");
    must(EVP_PKEY_CTX_set_rsa_pss_saltlen(context, size_of(which)), "EVP_PKEY_CTX_set_rsa_pss_saltlen");
}

Bytes big_endian(const EVP_PKEY* key, const char* name, std::size_t size_bytes) {
    BIGNUM* number = nullptr;
    must(EVP_PKEY_get_bn_param(key, name, &number), "EVP_PKEY_get_bn_param");
    const Openssl<BIGNUM> owned_number{number};
    Bytes out(size_bytes);
    if (BN_bn2binpad(number, out.data(), static_cast<int>(size_bytes)) < 0) failed("BN_bn2binpad");
    return out;
}

} // namespace

bool rsa_pss_verify(const RsaPublicKey& signer, Hash which, ByteView digest, ByteView signature) {
    const auto key = try_public_key(signer);
    if (!key) return false;
    const auto context = owned(EVP_PKEY_CTX_new(key.get(), nullptr), "EVP_PKEY_CTX_new");
    if (EVP_PKEY_verify_init(context.get()) != 1) failed("EVP_PKEY_verify_init");
    use_pss(context.get(), which);
    const int result = EVP_PKEY_verify(context.get(), signature.data(), signature.size(), digest.data(), digest.size());
    ERR_clear_error();
    return result == 1;
}

RsaKey::RsaKey(Openssl<EVP_PKEY> key) : key_{std::move(key)} {}

RsaKey RsaKey::generate(unsigned bits) { return RsaKey{owned(EVP_RSA_gen(bits), "EVP_RSA_gen")}; }

RsaKey RsaKey::from_der(ByteView der, std::string_view what) {
    const unsigned char* at = der.data();
    Openssl<EVP_PKEY> key{d2i_PrivateKey(EVP_PKEY_RSA, nullptr, &at, static_cast<long>(der.size()))};
    ERR_clear_error();
    if (!key || at != der.data() + der.size()) throw Error{Fault::malformed, fmt::format("{}: no RSA private key in DER form", what)};
    return RsaKey{std::move(key)};
}

RsaPublicKey RsaKey::public_key() const {
    const auto size_bytes = static_cast<std::size_t>(EVP_PKEY_get_size(key_.get()));
    return {.modulus = big_endian(key_.get(), OSSL_PKEY_PARAM_RSA_N, size_bytes),
            .exponent = big_endian(key_.get(), OSSL_PKEY_PARAM_RSA_E, size_bytes)};
}

Bytes RsaKey::sign_pss(Hash which, ByteView digest) const {
    const auto context = owned(EVP_PKEY_CTX_new(key_.get(), nullptr), "EVP_PKEY_CTX_new");
    must(EVP_PKEY_sign_init(context.get()), "EVP_PKEY_sign_init");
    use_pss(context.get(), which);
    Bytes out(static_cast<std::size_t>(EVP_PKEY_get_size(key_.get())));
    std::size_t length = out.size();
    must(EVP_PKEY_sign(context.get(), out.data(), &length, digest.data(), digest.size()), "EVP_PKEY_sign");
    require(length == out.size(), "RSA signature length");
    return out;
}

SecretBytes RsaKey::to_der() const {
    unsigned char* der = nullptr;
    const int length = i2d_PrivateKey(key_.get(), &der);
    if (length <= 0) failed("i2d_PrivateKey");
    SecretBytes out{ByteView{der, static_cast<std::size_t>(length)}};
    OPENSSL_clear_free(der, static_cast<std::size_t>(length));
    return out;
}

} // namespace sev
