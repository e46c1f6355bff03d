// SPDX-License-Identifier: Apache-2.0
#include "base/crypto.hpp"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/openssl.hpp"

namespace sev {

using openssl::must;
using openssl::owned;

void OpensslFree::operator()(EVP_MD_CTX* p) const noexcept { EVP_MD_CTX_free(p); }
void OpensslFree::operator()(EVP_CIPHER_CTX* p) const noexcept { EVP_CIPHER_CTX_free(p); }
void OpensslFree::operator()(EVP_MAC_CTX* p) const noexcept { EVP_MAC_CTX_free(p); }
void OpensslFree::operator()(EVP_PKEY* p) const noexcept { EVP_PKEY_free(p); }
void OpensslFree::operator()(EVP_PKEY_CTX* p) const noexcept { EVP_PKEY_CTX_free(p); }
void OpensslFree::operator()(BIGNUM* p) const noexcept { BN_clear_free(p); }

Sha256::Sha256() : context_{owned(EVP_MD_CTX_new(), "EVP_MD_CTX_new")} {
    must(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr), "EVP_DigestInit_ex");
}

Sha256& Sha256::update(ByteView bytes) {
    must(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()), "EVP_DigestUpdate");
    return *this;
}

Digest Sha256::finish() {
    Digest out{};
    must(EVP_DigestFinal_ex(context_.get(), out.data(), nullptr), "EVP_DigestFinal_ex");
    return out;
}

Digest sha256(ByteView bytes) {
    Digest out{};
    must(EVP_Digest(bytes.data(), bytes.size(), out.data(), nullptr, EVP_sha256(), nullptr), "EVP_Digest");
    return out;
}

ByteArray<48> sha384(ByteView bytes) {
    ByteArray<48> out{};
    must(EVP_Digest(bytes.data(), bytes.size(), out.data(), nullptr, EVP_sha384(), nullptr), "EVP_Digest");
    return out;
}

Bytes hash(Hash which, ByteView bytes) {
    if (which == Hash::sha256) {
        const Digest digest = sha256(bytes);
        return {digest.begin(), digest.end()};
    }
    const auto digest = sha384(bytes);
    return {digest.begin(), digest.end()};
}

Digest hmac_sha256(ByteView key, std::initializer_list<ByteView> parts) {
    static EVP_MAC* const hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr); // fetched once for the life of the process
    if (!hmac) openssl::failed("EVP_MAC_fetch");
    const auto context = owned(EVP_MAC_CTX_new(hmac), "EVP_MAC_CTX_new");
    std::string digest_name = "SHA256";
    const std::array<OSSL_PARAM, 2> params{OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name.data(), 0),
                                           OSSL_PARAM_construct_end()};
    must(EVP_MAC_init(context.get(), key.data(), key.size(), params.data()), "EVP_MAC_init");
    for (const ByteView part : parts) must(EVP_MAC_update(context.get(), part.data(), part.size()), "EVP_MAC_update");
    Digest out{};
    std::size_t length = 0;
    must(EVP_MAC_final(context.get(), out.data(), &length, out.size()), "EVP_MAC_final");
    require(length == out.size(), "HMAC output length");
    return out;
}

void aes128_ctr(std::span<const std::uint8_t, 16> key, std::span<const std::uint8_t, 16> iv, ByteView in, std::span<std::uint8_t> out) {
    require(in.size() == out.size() && in.size() <= 1U << 30, "aes128_ctr sizes");
    const auto context = owned(EVP_CIPHER_CTX_new(), "EVP_CIPHER_CTX_new");
    must(EVP_EncryptInit_ex2(context.get(), EVP_aes_128_ctr(), key.data(), iv.data(), nullptr), "EVP_EncryptInit_ex2");
    int written = 0;
    must(EVP_EncryptUpdate(context.get(), out.data(), &written, in.data(), static_cast<int>(in.size())), "EVP_EncryptUpdate");
    require(static_cast<std::size_t>(written) == in.size(), "aes128_ctr output length");
}

void random_bytes(std::span<std::uint8_t> out) {
    require(out.size() <= 1U << 30, "random_bytes size");
    must(RAND_bytes(out.data(), static_cast<int>(out.size())), "RAND_bytes");
}

bool equal_in_constant_time(ByteView a, ByteView b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

} // namespace sev
