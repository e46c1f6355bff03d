// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "base/wire.hpp"

/// The SEV API stores each number of a curve (coordinates, R, S) little-endian in 72 bytes; P-384 uses the first 48.
namespace sev::psp {

inline constexpr std::size_t p384_field_size = 72;

/// Big-endian value of a field; nullopt when a byte beyond the 48th is not zero.
constexpr std::optional<ByteArray<48>> from_p384_field(wire::View<p384_field_size> field) {
    if (!wire::all_zero<48, p384_field_size - 48>(field)) return std::nullopt;
    ByteArray<48> out{};
    std::ranges::reverse_copy(field.first<48>(), out.begin());
    return out;
}

template <std::size_t At, std::size_t Size>
    requires(At + p384_field_size <= Size)
constexpr void put_p384_field(wire::Span<Size> v, const ByteArray<48>& big_endian) {
    const auto field = v.template subspan<At, p384_field_size>();
    std::ranges::fill(field, std::uint8_t{0});
    std::ranges::reverse_copy(big_endian, field.begin());
}

} // namespace sev::psp
