// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/columns.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace sev::probe {

std::string plain(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        if ((c & 0xC0) == 0x80) continue; // the rest of a UTF-8 sequence
        out += c >= 0x20 && c < 0x7F ? text[i] : '?';
    }
    return out;
}

std::string labelled(std::string_view label, std::string_view text, std::size_t indent) {
    const std::string ascii = plain(text);
    const std::size_t width = columns - indent;
    std::string_view rest = ascii;
    std::string out;
    do {
        std::size_t cut = rest.size() <= width ? rest.size() : rest.rfind(' ', width);
        if (cut == std::string_view::npos || cut == 0) cut = std::min(width, rest.size());
        out += fmt::format("{:<{}}{}\n", label, indent, rest.substr(0, cut));
        label = {};
        rest.remove_prefix(cut);
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    } while (!rest.empty());
    return out;
}

} // namespace sev::probe
