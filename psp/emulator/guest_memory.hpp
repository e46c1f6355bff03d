// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/crypto.hpp"
#include "psp/emulator/memory_cipher.hpp"

/// The PSP's ways into a guest's memory, all in chunks that stay in the cache. Each chunk is first copied into private memory, so that what is
/// hashed is what is encrypted even when somebody writes to the guest's memory meanwhile; that copy is wiped. `cipher` is nullptr where memory is
/// not encrypted. Addresses and lengths are multiples of 16.
namespace sev::psp::emulator {

/// Hashes the plaintext in `memory`, found at `at`, and encrypts it where it is.
void measure_and_encrypt(Sha256& digest, MemoryCipher* cipher, SystemAddress at, std::span<std::uint8_t> memory);
/// Encrypts `plain` into `memory` at `at`. They may overlap.
void write_encrypted(MemoryCipher* cipher, SystemAddress at, ByteView plain, std::span<std::uint8_t> memory);
/// Decrypts `memory`, found at `at`, into `plain`. They may overlap.
void read_decrypted(MemoryCipher* cipher, SystemAddress at, ByteView memory, std::span<std::uint8_t> plain);
/// Moves encrypted memory from one address to another. They may overlap.
void move_encrypted(MemoryCipher* cipher, SystemAddress from_at, ByteView from, SystemAddress to_at, std::span<std::uint8_t> to);

} // namespace sev::psp::emulator
