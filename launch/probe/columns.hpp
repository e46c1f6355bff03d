// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace sev::probe {

inline constexpr std::size_t columns = 80;

/// Text from outside in printable ASCII, one column a character; everything else becomes '?'.
std::string plain(std::string_view text);

/// A paragraph of at most 80 columns: `label`, then `text` from column `indent` on, broken at blanks (or within a word that fits no line). Ends with
/// a line end.
std::string labelled(std::string_view label, std::string_view text, std::size_t indent);

} // namespace sev::probe
