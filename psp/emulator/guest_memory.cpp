// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/guest_memory.hpp"

#include <algorithm>
#include <functional>

#include "base/error.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::size_t chunk_bytes = std::size_t{16} << 10; // two of them fit into the first-level data cache

/// Calls `each(offset, length)` chunk by chunk, from the end where a forward walk would overwrite what is yet to be read.
template <class Each>
void in_chunks(std::size_t length_bytes, bool backwards, Each&& each) {
    const std::size_t count = (length_bytes + chunk_bytes - 1) / chunk_bytes;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t offset = (backwards ? count - 1 - i : i) * chunk_bytes;
        each(offset, std::min(chunk_bytes, length_bytes - offset));
    }
}

bool starts_after(ByteView a, ByteView b) { return std::greater<>{}(a.data(), b.data()); }

SecretBytes work_space(std::size_t length_bytes) { return SecretBytes{std::min(chunk_bytes, length_bytes)}; }

} // namespace

void measure_and_encrypt(Sha256& digest, MemoryCipher* cipher, SystemAddress at, std::span<std::uint8_t> memory) {
    SecretBytes work = work_space(memory.size());
    in_chunks(memory.size(), false, [&](std::size_t offset, std::size_t length) {
        const auto chunk = work.writable().first(length);
        const auto target = memory.subspan(offset, length);
        std::ranges::copy(target, chunk.begin());
        digest.update(chunk);
        if (cipher) cipher->encrypt(at + offset, chunk, target);
    });
}

void write_encrypted(MemoryCipher* cipher, SystemAddress at, ByteView plain, std::span<std::uint8_t> memory) {
    require(plain.size() == memory.size(), "write_encrypted sizes");
    SecretBytes work = work_space(plain.size());
    in_chunks(plain.size(), starts_after(memory, plain), [&](std::size_t offset, std::size_t length) {
        const auto chunk = work.writable().first(length);
        const auto target = memory.subspan(offset, length);
        std::ranges::copy(plain.subspan(offset, length), chunk.begin());
        if (cipher)
            cipher->encrypt(at + offset, chunk, target);
        else
            std::ranges::copy(chunk, target.begin());
    });
}

void read_decrypted(MemoryCipher* cipher, SystemAddress at, ByteView memory, std::span<std::uint8_t> plain) {
    require(plain.size() == memory.size(), "read_decrypted sizes");
    SecretBytes work = work_space(plain.size());
    in_chunks(plain.size(), starts_after(plain, memory), [&](std::size_t offset, std::size_t length) {
        const auto chunk = work.writable().first(length);
        if (cipher)
            cipher->decrypt(at + offset, memory.subspan(offset, length), chunk);
        else
            std::ranges::copy(memory.subspan(offset, length), chunk.begin());
        std::ranges::copy(chunk, plain.subspan(offset, length).begin());
    });
}

void move_encrypted(MemoryCipher* cipher, SystemAddress from_at, ByteView from, SystemAddress to_at, std::span<std::uint8_t> to) {
    require(from.size() == to.size(), "move_encrypted sizes");
    SecretBytes work = work_space(from.size());
    in_chunks(from.size(), starts_after(to, from), [&](std::size_t offset, std::size_t length) {
        const auto chunk = work.writable().first(length);
        const auto target = to.subspan(offset, length);
        if (!cipher) {
            std::ranges::copy(from.subspan(offset, length), chunk.begin());
            std::ranges::copy(chunk, target.begin());
            return;
        }
        cipher->decrypt(from_at + offset, from.subspan(offset, length), chunk);
        cipher->encrypt(to_at + offset, chunk, target);
    });
}

} // namespace sev::psp::emulator
