// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev {
namespace {

constexpr std::string_view hex_digits = "0123456789abcdef";
constexpr std::string_view base64_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

constexpr std::array<std::int8_t, 256> base64_values = [] {
    std::array<std::int8_t, 256> out{};
    out.fill(-1);
    for (std::size_t i = 0; i < base64_digits.size(); ++i) out[static_cast<unsigned char>(base64_digits[i])] = static_cast<std::int8_t>(i);
    return out;
}();

constexpr bool white(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/// Length of the valid UTF-8 sequence at the front of `text` (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF); 0 when there is none.
std::size_t utf8_sequence(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((byte(i) & 0xC0) != 0x80) return 0;
    const bool overlong = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
    const bool outside = (first == 0xED && byte(1) > 0x9F) || (first == 0xF4 && byte(1) > 0x8F);
    return overlong || outside ? 0 : length;
}

} // namespace

std::string hex(ByteView bytes) {
    std::string out;
    out.reserve(2 * bytes.size());
    for (const std::uint8_t b : bytes) {
        out += hex_digits[b >> 4];
        out += hex_digits[b & 0xF];
    }
    return out;
}

std::optional<Bytes> try_unhex(std::string_view text) {
    if (text.size() % 2 != 0) return std::nullopt;
    Bytes out;
    out.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const int high = hex_value(text[i]), low = hex_value(text[i + 1]);
        if (high < 0 || low < 0) return std::nullopt;
        out.push_back(static_cast<std::uint8_t>(high << 4 | low));
    }
    return out;
}

Bytes unhex_exactly(std::string_view text, std::size_t size_bytes, std::string_view what) {
    if (text.size() != 2 * size_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} characters, want {} hex digits", what, text.size(), 2 * size_bytes)};
    auto out = try_unhex(text);
    if (!out) throw Error{Fault::malformed, fmt::format("{}: not hexadecimal", what)};
    return *std::move(out);
}

std::string base64(ByteView bytes) {
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t left = bytes.size() - i;
        const std::uint32_t group = std::uint32_t{bytes[i]} << 16 | (left > 1 ? std::uint32_t{bytes[i + 1]} << 8 : 0U) |
                                    (left > 2 ? std::uint32_t{bytes[i + 2]} : 0U);
        out += base64_digits[group >> 18];
        out += base64_digits[group >> 12 & 0x3F];
        out += left > 1 ? base64_digits[group >> 6 & 0x3F] : '=';
        out += left > 2 ? base64_digits[group & 0x3F] : '=';
    }
    return out;
}

std::optional<Bytes> try_unbase64(std::string_view text) {
    Bytes out;
    out.reserve(text.size() / 4 * 3);
    std::uint32_t group = 0;
    unsigned digits = 0, padding = 0;
    for (const char c : text) {
        if (white(c)) continue;
        if (c == '=') {
            ++padding;
            continue;
        }
        const int value = base64_values[static_cast<unsigned char>(c)];
        if (value < 0 || padding != 0) return std::nullopt;
        group = group << 6 | static_cast<std::uint32_t>(value);
        if (++digits == 4) {
            for (const unsigned shift : {16U, 8U, 0U}) out.push_back(static_cast<std::uint8_t>(group >> shift));
            group = 0;
            digits = 0;
        }
    }
    if (digits == 0) return padding == 0 ? std::optional{std::move(out)} : std::nullopt;
    if (digits == 1 || digits + padding != 4) return std::nullopt;
    const unsigned spare_bits = digits == 2 ? 4 : 2;
    if ((group & ((1U << spare_bits) - 1)) != 0) return std::nullopt;
    group >>= spare_bits;
    if (digits == 3) out.push_back(static_cast<std::uint8_t>(group >> 8));
    out.push_back(static_cast<std::uint8_t>(group));
    return out;
}

std::string base64url(ByteView bytes) {
    std::string out = base64(bytes);
    while (out.ends_with('=')) out.pop_back();
    for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
    return out;
}

std::optional<Bytes> try_unbase64url(std::string_view text) {
    std::string standard;
    standard.reserve(text.size() + 3);
    for (const char c : text) {
        if (c == '+' || c == '/' || c == '=' || white(c)) return std::nullopt;
        standard += c == '-' ? '+' : c == '_' ? '/' : c;
    }
    while (standard.size() % 4 != 0) standard += '=';
    return try_unbase64(standard);
}

Bytes unbase64(std::string_view text, std::string_view what) {
    auto out = try_unbase64(text);
    if (!out) throw Error{Fault::malformed, fmt::format("{}: not base64", what)};
    return *std::move(out);
}

std::string printable(std::string_view text, std::size_t limit) {
    std::string out;
    std::size_t characters = 0;
    while (!text.empty()) {
        if (characters++ == limit) return out + "…";
        const std::size_t length = utf8_sequence(text);
        const unsigned char first = static_cast<unsigned char>(text[0]);
        // U+0080 … U+009F are control characters too, and terminals obey some of them
        const bool control = first < 0x20 || first == 0x7F || (length == 2 && first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0);
        if (length == 0 || control) {
            const std::size_t escaped = length == 0 ? 1 : length;
            for (std::size_t i = 0; i < escaped; ++i) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[i]));
            text.remove_prefix(escaped);
        } else {
            out += text.substr(0, length);
            text.remove_prefix(length);
        }
    }
    return out;
}

} // namespace sev
