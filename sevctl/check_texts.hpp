// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string_view>

namespace sev::cli {

/// What a check of a chain's or a launch's verdict is about, for `sevctl explain`.
struct CheckText {
    std::string_view check; // "launch.digest"; "chain.*.curve" for the same check of any certificate
    std::string_view meaning, remedy;
};
/// Finds "launch.digest", and "chain.pek.curve" through its pattern; nullptr for a check that does not exist.
const CheckText* find_check_text(std::string_view check);
/// All of them, patterns as they are.
std::span<const CheckText> all_check_texts();

} // namespace sev::cli
