// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "base/bytes.hpp"
#include "base/error.hpp"

/// Fixed-size little-endian structures. The length is checked once, at run time (`exactly`); offsets are template
/// arguments into a fixed-extent span, so a wrong one does not compile.
namespace sev::wire {

template <std::size_t Size>
using View = std::span<const std::uint8_t, Size>;
template <std::size_t Size>
using Span = std::span<std::uint8_t, Size>;

/// Checks the length of outside bytes. Throws Error{Fault::malformed}: "<what>: <got> bytes, want <Size>".
template <std::size_t Size>
View<Size> exactly(ByteView bytes, std::string_view what) {
    if (bytes.size() != Size) throw Error{Fault::malformed, fmt::format("{}: {} bytes, want {}", what, bytes.size(), Size)};
    return View<Size>{bytes.data(), Size};
}

template <std::size_t At, std::size_t Size>
    requires(At + 1 <= Size)
constexpr std::uint8_t u8(View<Size> v) {
    return v[At];
}
template <std::size_t At, std::size_t Size>
    requires(At + 2 <= Size)
constexpr std::uint16_t le16(View<Size> v) {
    return static_cast<std::uint16_t>(v[At] | v[At + 1] << 8);
}
template <std::size_t At, std::size_t Size>
    requires(At + 4 <= Size)
constexpr std::uint32_t le32(View<Size> v) {
    return std::uint32_t{v[At]} | std::uint32_t{v[At + 1]} << 8 | std::uint32_t{v[At + 2]} << 16 | std::uint32_t{v[At + 3]} << 24;
}
template <std::size_t At, std::size_t Size>
    requires(At + 8 <= Size)
constexpr std::uint64_t le64(View<Size> v) {
    return std::uint64_t{le32<At>(v)} | std::uint64_t{le32<At + 4>(v)} << 32;
}
template <std::size_t At, std::size_t Length, std::size_t Size>
    requires(At + Length <= Size)
constexpr ByteArray<Length> bytes(View<Size> v) {
    ByteArray<Length> out{};
    std::ranges::copy(v.template subspan<At, Length>(), out.begin());
    return out;
}
/// The sub-structure of Length bytes at At.
template <std::size_t At, std::size_t Length, std::size_t Size>
    requires(At + Length <= Size)
constexpr View<Length> part(View<Size> v) {
    return v.template subspan<At, Length>();
}
template <std::size_t At, std::size_t Length, std::size_t Size>
    requires(At + Length <= Size)
constexpr bool all_zero(View<Size> v) {
    return std::ranges::all_of(v.template subspan<At, Length>(), [](std::uint8_t b) { return b == 0; });
}

template <std::size_t At, std::size_t Size>
    requires(At + 1 <= Size)
constexpr void put_u8(Span<Size> v, std::uint8_t value) {
    v[At] = value;
}
template <std::size_t At, std::size_t Size>
    requires(At + 2 <= Size)
constexpr void put_le16(Span<Size> v, std::uint16_t value) {
    v[At] = static_cast<std::uint8_t>(value);
    v[At + 1] = static_cast<std::uint8_t>(value >> 8);
}
template <std::size_t At, std::size_t Size>
    requires(At + 4 <= Size)
constexpr void put_le32(Span<Size> v, std::uint32_t value) {
    for (std::size_t i = 0; i < 4; ++i) v[At + i] = static_cast<std::uint8_t>(value >> (8 * i));
}
template <std::size_t At, std::size_t Size>
    requires(At + 8 <= Size)
constexpr void put_le64(Span<Size> v, std::uint64_t value) {
    for (std::size_t i = 0; i < 8; ++i) v[At + i] = static_cast<std::uint8_t>(value >> (8 * i));
}
template <std::size_t At, std::size_t Size, std::size_t Length>
    requires(At + Length <= Size)
constexpr void put_bytes(Span<Size> v, const ByteArray<Length>& value) {
    std::ranges::copy(value, v.begin() + At);
}

/// A whole array as the Span/View that the functions above take.
template <std::size_t Size>
constexpr Span<Size> span(ByteArray<Size>& array) {
    return Span<Size>{array};
}
template <std::size_t Size>
constexpr View<Size> view(const ByteArray<Size>& array) {
    return View<Size>{array};
}

/// Little-endian integers as arrays, for what is hashed.
constexpr ByteArray<4> le32_bytes(std::uint32_t value) {
    ByteArray<4> out{};
    put_le32<0>(Span<4>{out}, value);
    return out;
}

} // namespace sev::wire
