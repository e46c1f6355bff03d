// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace sev::cli {

inline constexpr std::size_t columns = 80;

/// Words of `text` in lines of at most `columns`, each after `indent` blanks; the first line starts at column `at`. A word that is longer than that
/// stays whole.
std::string wrap(std::string_view text, std::size_t indent, std::size_t at);

/// Each line of `text` that is wider than `columns`, broken between words: what follows stands under the line's text, which begins behind the last
/// gap of two blanks or more (a table's last column), else four blanks further in than the line. Other lines stay as they are.
std::string fit(std::string_view text);

} // namespace sev::cli
