// SPDX-License-Identifier: Apache-2.0
#include "console/layout.hpp"

#include <algorithm>

namespace sev::cli {
namespace {

/// Columns of UTF-8 text, each character one.
std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// Where the text of a line begins: behind its last gap of two blanks or more, if that leaves room, else at its first word.
std::size_t text_start(std::string_view line) {
    const std::size_t first = std::min(line.find_first_not_of(' '), line.size());
    const std::size_t gap = line.rfind("  ");
    return gap == std::string_view::npos || gap < first || gap + 2 > columns / 2 ? first : gap + 2;
}

} // namespace

std::string wrap(std::string_view text, std::size_t indent, std::size_t at) {
    std::string out;
    bool first_in_line = true;
    while (!text.empty()) {
        const auto blank = std::min(text.find_first_of(" \n"), text.size());
        const std::string_view word = text.substr(0, blank);
        text.remove_prefix(std::min(blank + 1, text.size()));
        if (word.empty()) continue;
        if (!first_in_line && at + 1 + width(word) > columns) {
            out += "\n" + std::string(indent, ' ');
            at = indent;
            first_in_line = true;
        }
        if (!first_in_line) {
            out += ' ';
            ++at;
        }
        out += word;
        at += width(word);
        first_in_line = false;
    }
    return out;
}

std::string fit(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        if (width(line) <= columns) {
            out += line;
        } else {
            const std::size_t start = text_start(line), first = std::min(line.find_first_not_of(' '), line.size());
            const std::size_t at = width(line.substr(0, start));
            out += line.substr(0, start);
            out += wrap(line.substr(start), start == first ? at + 4 : at, at);
        }
        if (end < text.size()) out += '\n';
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

} // namespace sev::cli
