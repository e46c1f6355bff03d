// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>

#include "attest/owner_policy.hpp"
#include "console/command.hpp"

namespace sev::cli {

inline constexpr Argument policy_argument{.name = "POLICY",
                                          .kind = Kind::input,
                                          .metavar = "POLICY",
                                          .help = "The guest owner's policy file (JSON, docs/schemas/owner-policy.schema.json).",
                                          .required = true,
                                          .limit_bytes = attest::OwnerPolicy::limit_bytes};
inline constexpr Argument at_option{.name = "--at", .metavar = "TIME", .help = "Judge as of this time, 2026-01-02T03:04:05Z, instead of now."};

/// --at, or the clock.
inline attest::Time time_of(const Arguments& given) {
    if (given.has(at_option.name)) return attest::parse_time(given.text(at_option.name), at_option.name);
    return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

} // namespace sev::cli
