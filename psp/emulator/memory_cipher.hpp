// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/crypto.hpp"
#include "base/secret.hpp"
#include "psp/types.hpp"

namespace sev::psp::emulator {

using Vek = Secret<struct VekTag, 16>;           // memory encryption key
using VekTweak = Secret<struct VekTweakTag, 16>; // key of the address tweak

/// What a memory controller holds for one guest.
struct MemoryKey {
    Vek vek;
    VekTweak tweak;
    /// The same key for a guest that shares it.
    MemoryKey shared() const { return {Vek{vek.reveal()}, VekTweak{tweak.reveal()}}; }
};

/// Memory encryption as the emulated memory controller does it: C = E(VEK; P xor T(a)) xor T(a) for each 16-byte block at address a, with AES-128 and
/// T(a) = the xor of t_i over the set bits i ≥ 4 of a, t_i = E(tweak key; LE64(i) ‖ 0). T is xor-universal, so this is the construction of Liskov,
/// Rivest and Wagner: every block can be had by itself, and equal plaintexts at two addresses or of two guests differ. There is no integrity, as on
/// SEV. Not thread-safe; wiped when it dies. Addresses and lengths are multiples of 16.
class MemoryCipher {
public:
    static constexpr std::size_t block_bytes = 16;
    explicit MemoryCipher(const MemoryKey& key);
    MemoryCipher(const MemoryCipher&) = delete;
    MemoryCipher& operator=(const MemoryCipher&) = delete;
    ~MemoryCipher();

    /// Encrypts what `work` holds for address `at` into `out`, of the same size. `work` is used up: it is left neither plain nor encrypted.
    void encrypt(SystemAddress at, std::span<std::uint8_t> work, std::span<std::uint8_t> out);
    /// Decrypts `in`, found at address `at`, into `out`, of the same size; they may not overlap.
    void decrypt(SystemAddress at, ByteView in, std::span<std::uint8_t> out);

private:
    struct Tweak {
        std::uint64_t low, high;
    };
    void apply_tweak(SystemAddress at, const std::uint8_t* in, std::uint8_t* out, std::size_t length_bytes) const;
    Openssl<EVP_CIPHER_CTX> encryption_, decryption_;
    std::array<Tweak, 256> in_page_{}; // T of the 256 blocks of a page
    std::array<Tweak, 52> pages_{};    // t_12 … t_63
};

} // namespace sev::psp::emulator
