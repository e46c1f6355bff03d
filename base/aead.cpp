// SPDX-License-Identifier: Apache-2.0
#include "base/aead.hpp"

#include <openssl/evp.h>

#include "base/openssl.hpp"

namespace sev {
namespace {

constexpr std::size_t nonce_size = 12, tag_size = 16;

int length_of(std::size_t size) {
    require(size <= (1U << 30), "AES-GCM works on at most 1 GiB here");
    return static_cast<int>(size);
}

} // namespace

Bytes aead_seal(const AeadKey& key, ByteView context, ByteView plain) {
    Bytes box(plain.size() + aead_overhead_bytes);
    const std::span<std::uint8_t> nonce{box.data(), nonce_size}, tag{box.data() + nonce_size + plain.size(), tag_size};
    random_bytes(nonce);
    const auto cipher = openssl::owned(EVP_CIPHER_CTX_new(), "EVP_CIPHER_CTX_new");
    int written = 0;
    openssl::must(EVP_EncryptInit_ex2(cipher.get(), EVP_aes_256_gcm(), key.reveal().data(), nonce.data(), nullptr), "EVP_EncryptInit_ex2");
    openssl::must(EVP_EncryptUpdate(cipher.get(), nullptr, &written, context.data(), length_of(context.size())), "EVP_EncryptUpdate");
    openssl::must(EVP_EncryptUpdate(cipher.get(), box.data() + nonce_size, &written, plain.data(), length_of(plain.size())), "EVP_EncryptUpdate");
    openssl::must(EVP_EncryptFinal_ex(cipher.get(), box.data() + nonce_size + plain.size(), &written), "EVP_EncryptFinal_ex");
    openssl::must(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_GET_TAG, tag_size, tag.data()), "EVP_CTRL_AEAD_GET_TAG");
    return box;
}

std::optional<SecretBytes> aead_open(const AeadKey& key, ByteView context, ByteView box) {
    if (box.size() < aead_overhead_bytes) return std::nullopt;
    const ByteView nonce = box.first(nonce_size), cipher_text = box.subspan(nonce_size, box.size() - aead_overhead_bytes);
    ByteArray<tag_size> tag{};
    std::copy_n(box.end() - tag_size, tag_size, tag.begin());
    SecretBytes plain{cipher_text.size()};
    const auto cipher = openssl::owned(EVP_CIPHER_CTX_new(), "EVP_CIPHER_CTX_new");
    int written = 0;
    openssl::must(EVP_DecryptInit_ex2(cipher.get(), EVP_aes_256_gcm(), key.reveal().data(), nonce.data(), nullptr), "EVP_DecryptInit_ex2");
    openssl::must(EVP_DecryptUpdate(cipher.get(), nullptr, &written, context.data(), length_of(context.size())), "EVP_DecryptUpdate");
    openssl::must(EVP_DecryptUpdate(cipher.get(), plain.writable().data(), &written, cipher_text.data(), length_of(cipher_text.size())),
                  "EVP_DecryptUpdate");
    openssl::must(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_SET_TAG, tag_size, tag.data()), "EVP_CTRL_AEAD_SET_TAG");
    ByteArray<tag_size> rest{};
    if (EVP_DecryptFinal_ex(cipher.get(), rest.data(), &written) != 1) return std::nullopt;
    return plain;
}

} // namespace sev
