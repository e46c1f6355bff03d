// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "psp/types.hpp"

namespace sev::attest {

/// Bits 5:0 of a guest policy by their names in the SEV API.
inline constexpr std::array<std::pair<std::string_view, std::uint32_t>, 6> guest_policy_bits{{
    {"NODBG", psp::Policy::nodbg},
    {"NOKS", psp::Policy::noks},
    {"ES", psp::Policy::es},
    {"NOSEND", psp::Policy::nosend},
    {"DOMAIN", psp::Policy::domain},
    {"SEV", psp::Policy::sev},
}};

constexpr std::optional<std::uint32_t> guest_policy_bit(std::string_view name) {
    for (const auto& [known, bit] : guest_policy_bits)
        if (known == name) return bit;
    return std::nullopt;
}

/// Names of the bits that are set, lowest first.
inline std::vector<std::string> guest_policy_bit_names(std::uint32_t bits) {
    std::vector<std::string> out;
    for (const auto& [known, bit] : guest_policy_bits)
        if ((bits & bit) != 0) out.emplace_back(known);
    return out;
}

} // namespace sev::attest
