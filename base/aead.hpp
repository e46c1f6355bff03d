// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "base/bytes.hpp"
#include "base/secret.hpp"

/// AES-256-GCM for data at rest (NIST SP 800-38D). A box is NONCE (12, drawn anew for each) ‖ ciphertext ‖ TAG (16).
namespace sev {

using AeadKey = Secret<struct AeadKeyTag, 32>;
inline constexpr std::size_t aead_overhead_bytes = 12 + 16;

/// Seals `plain` under `key`, bound to `context` (additional authenticated data): the box opens with the same context alone.
/// Throws Error{Fault::system} when OpenSSL fails.
Bytes aead_seal(const AeadKey& key, ByteView context, ByteView plain);

/// Opens a box; nullopt when key, context or any bit of the box is another, or the box is too short to be one.
std::optional<SecretBytes> aead_open(const AeadKey& key, ByteView context, ByteView box);

} // namespace sev
