// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace sev::cli {

/// The candidates that somebody who wrote `word` may have meant, at most three, nearest first: those that differ by few letters, whatever their case,
/// or contain the word. None for a word of less than two letters.
std::vector<std::string> near_matches(std::string_view word, const std::vector<std::string>& candidates);

} // namespace sev::cli
