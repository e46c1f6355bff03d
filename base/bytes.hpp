// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sev {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;
template <std::size_t Size>
using ByteArray = std::array<std::uint8_t, Size>;

/// SHA-256 value, in the order the hash function prints it.
using Digest = ByteArray<32>;

/// Lower-case hex, two digits a byte.
std::string hex(ByteView bytes);

/// Decodes hex of either case; nullopt on an odd length or a character that is not a hex digit.
std::optional<Bytes> try_unhex(std::string_view text);

/// Decodes exactly Size bytes of hex. Throws Error{Fault::malformed} that names `what` and the length or character found.
Bytes unhex_exactly(std::string_view text, std::size_t size_bytes, std::string_view what);

template <std::size_t Size>
ByteArray<Size> unhex(std::string_view text, std::string_view what = "hex value") {
    const Bytes bytes = unhex_exactly(text, Size, what);
    ByteArray<Size> out{};
    for (std::size_t i = 0; i < Size; ++i) out[i] = bytes[i];
    return out;
}

/// Standard base64 (RFC 4648 section 4) with padding, no line breaks.
std::string base64(ByteView bytes);

/// Decodes standard base64. White space anywhere is skipped; anything else outside the alphabet, missing or misplaced
/// padding and non-zero left-over bits give nullopt, so that one value has one spelling.
std::optional<Bytes> try_unbase64(std::string_view text);

/// Decodes base64. Throws Error{Fault::malformed} that names `what`.
Bytes unbase64(std::string_view text, std::string_view what);

/// base64url without padding (RFC 4648 section 5), as JWS and JWT have it.
std::string base64url(ByteView bytes);

/// Decodes it strictly: no padding, no white space, no non-zero left-over bits; nullopt otherwise.
std::optional<Bytes> try_unbase64url(std::string_view text);

/// Text from outside made fit for one line of a terminal or log: control characters, DEL and bytes of no valid UTF-8
/// sequence become \xNN, the result is cut after `limit` characters with "…".
std::string printable(std::string_view text, std::size_t limit = 120);

inline ByteView as_bytes(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace sev
