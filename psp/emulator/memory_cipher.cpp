// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/memory_cipher.hpp"

#include <cstring>

#include <openssl/evp.h>

#include "base/error.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::uint64_t page_bytes = 4096;

Openssl<EVP_CIPHER_CTX> block_cipher(std::span<const std::uint8_t, 16> key, bool encrypt) {
    Openssl<EVP_CIPHER_CTX> context{EVP_CIPHER_CTX_new()};
    if (!context || EVP_CipherInit_ex2(context.get(), EVP_aes_128_ecb(), key.data(), nullptr, encrypt ? 1 : 0, nullptr) != 1 ||
        EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1)
        throw Error{sev::Fault::system, "OpenSSL: EVP_CipherInit_ex2 failed for AES-128-ECB"};
    return context;
}

void run_blocks(EVP_CIPHER_CTX* context, const std::uint8_t* in, std::uint8_t* out, std::size_t length_bytes) {
    int written = 0;
    if (EVP_CipherUpdate(context, out, &written, in, static_cast<int>(length_bytes)) != 1 || static_cast<std::size_t>(written) != length_bytes)
        throw Error{sev::Fault::system, "OpenSSL: EVP_CipherUpdate failed for AES-128-ECB"};
}

} // namespace

MemoryCipher::MemoryCipher(const MemoryKey& key)
    : encryption_{block_cipher(key.vek.reveal(), true)}, decryption_{block_cipher(key.vek.reveal(), false)} {
    const auto tweak_cipher = block_cipher(key.tweak.reveal(), true);
    const auto of_bit = [&](std::uint8_t bit) {
        ByteArray<16> block{bit};
        run_blocks(tweak_cipher.get(), block.data(), block.data(), block.size());
        Tweak tweak{};
        std::memcpy(&tweak, block.data(), sizeof tweak);
        OPENSSL_cleanse(block.data(), block.size());
        return tweak;
    };
    for (std::uint8_t bit = 4; bit < 12; ++bit) {
        const Tweak tweak = of_bit(bit);
        const std::size_t half = std::size_t{1} << (bit - 4);
        for (std::size_t i = 0; i < half; ++i) in_page_[half + i] = {in_page_[i].low ^ tweak.low, in_page_[i].high ^ tweak.high};
    }
    for (std::uint8_t bit = 12; bit < 64; ++bit) pages_[bit - 12] = of_bit(bit);
}

MemoryCipher::~MemoryCipher() {
    OPENSSL_cleanse(in_page_.data(), sizeof in_page_);
    OPENSSL_cleanse(pages_.data(), sizeof pages_);
}

void MemoryCipher::apply_tweak(SystemAddress at, const std::uint8_t* in, std::uint8_t* out, std::size_t length_bytes) const {
    std::uint64_t address = raw(at);
    for (std::size_t done = 0; done < length_bytes;) {
        Tweak page{};
        for (std::uint64_t bits = address / page_bytes, bit = 0; bits != 0; bits >>= 1, ++bit) {
            const std::uint64_t mask = 0 - (bits & 1);
            page.low ^= pages_[bit].low & mask;
            page.high ^= pages_[bit].high & mask;
        }
        const Tweak* tweak = &in_page_[address % page_bytes / block_bytes];
        const std::size_t here = std::min<std::size_t>(length_bytes - done, page_bytes - address % page_bytes);
        for (std::size_t i = 0; i < here; i += block_bytes, ++tweak) {
            Tweak block{};
            std::memcpy(&block, in + done + i, block_bytes);
            block.low ^= page.low ^ tweak->low;
            block.high ^= page.high ^ tweak->high;
            std::memcpy(out + done + i, &block, block_bytes);
        }
        done += here;
        address += here;
    }
}

void MemoryCipher::encrypt(SystemAddress at, std::span<std::uint8_t> work, std::span<std::uint8_t> out) {
    require(work.size() == out.size() && work.size() % block_bytes == 0 && raw(at) % block_bytes == 0, "memory cipher sizes");
    apply_tweak(at, work.data(), work.data(), work.size());
    run_blocks(encryption_.get(), work.data(), work.data(), work.size());
    apply_tweak(at, work.data(), out.data(), work.size());
}

void MemoryCipher::decrypt(SystemAddress at, ByteView in, std::span<std::uint8_t> out) {
    require(in.size() == out.size() && in.size() % block_bytes == 0 && raw(at) % block_bytes == 0, "memory cipher sizes");
    apply_tweak(at, in.data(), out.data(), in.size());
    run_blocks(decryption_.get(), out.data(), out.data(), out.size());
    apply_tweak(at, out.data(), out.data(), out.size());
}

} // namespace sev::psp::emulator
