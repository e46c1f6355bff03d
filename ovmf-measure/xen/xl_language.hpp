// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sev::measure {

/// A value in xl's configuration language: an atom (a text or a number, which is kept as text) or a list.
struct XlValue {
    unsigned line = 0;
    std::variant<std::string, std::vector<XlValue>> value; // an atom or a list
    bool is_list() const { return std::holds_alternative<std::vector<XlValue>>(value); }
    const std::string& text() const { return std::get<std::string>(value); }
    const std::vector<XlValue>& list() const { return std::get<std::vector<XlValue>>(value); }
    bool empty() const { return is_list() ? list().empty() : text().empty() || text() == "0"; }
};
using XlSettings = std::map<std::string, XlValue, std::less<>>;

/// Reads the settings of a configuration file of xl. Statements end at a line's end or a semicolon; lists may be nested, 16 deep, and go over lines;
/// '#' begins a comment; += adds. Throws Error{Fault::malformed} "<what>: line N: …", also for a setting that stands twice. Source: Xen 4.17.7,
/// tools/libs/util/libxlu_cfg_l.l and _y.y.
XlSettings parse_xl_settings(std::string_view text, std::string_view what);
/// Throws Error{Fault::malformed} "<what>: line N: <problem>".
[[noreturn]] void refuse_xl_line(std::string_view what, unsigned line, std::string_view problem);

} // namespace sev::measure
