// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "attest/protocol/platform_evidence.hpp"
#include "attest/protocol/verdict.hpp"

namespace sev::attest {
namespace {

/// Characters of valid UTF-8.
std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// Bytes that the first `columns` characters take.
std::size_t bytes_of(std::string_view text, std::size_t columns) {
    std::size_t at = 0;
    while (at < text.size() && columns > 0) {
        ++at;
        while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
        --columns;
    }
    return at;
}

/// `text` after `first`, broken at spaces (a longer word where the line ends), following lines indented.
void wrap(std::string& out, std::string line, std::string_view text, std::size_t indent, std::size_t columns) {
    const std::string margin(indent, ' ');
    bool fresh = width(line) <= indent; // nothing on this line but its beginning
    while (!text.empty()) {
        std::string_view word = text.substr(0, text.find(' '));
        const std::size_t gap = fresh ? 0 : 1;
        if (width(line) + gap + width(word) > columns && !fresh) {
            out += line + "\n";
            line = margin;
            fresh = true;
            continue;
        }
        if (width(line) + width(word) > columns)
            word = word.substr(0, bytes_of(word, std::max<std::size_t>(1, columns - std::min(columns - 1, width(line)))));
        if (!fresh) line += ' ';
        line += word;
        fresh = false;
        text.remove_prefix(word.size());
        const bool broken = !text.empty() && text.front() != ' ';
        if (!text.empty() && !broken) text.remove_prefix(1);
        if (broken) {
            out += line + "\n";
            line = margin;
            fresh = true;
        }
    }
    out += line + "\n";
}

} // namespace

std::string render(const Verdict& verdict, std::size_t columns, Detail detail) {
    columns = std::max<std::size_t>(columns, 40);
    const auto clean = [](const std::string& text) { return printable(text, 4096); };
    std::string out;
    std::string warnings;
    if (detail == Detail::failures)
        out += fmt::format("pass  {} of {} checks\n", std::ranges::count(verdict.checks, true, &psp::Check::passed), verdict.checks.size());
    for (const psp::Check& check : verdict.checks) {
        if (detail == Detail::failures && check.passed) continue;
        const std::string head = fmt::format("{}  {}", check.passed ? "pass" : "FAIL", clean(check.check));
        if (check.detail.empty()) out += head + "\n";
        else wrap(out, head + ":", clean(check.detail), 6, columns);
    }
    for (const AdvisoryFinding& finding : verdict.advisories) {
        const std::string_view kind = finding.severity == Severity::warn ? "warn" : finding.accepted ? "acpt" : "FAIL";
        if (detail == Detail::failures && kind == "warn") warnings += (warnings.empty() ? "" : ", ") + clean(finding.id);
        else wrap(out, fmt::format("{}  {}:", kind, clean(finding.id)), clean(finding.text), 6, columns);
    }
    if (!warnings.empty()) wrap(out, "warn ", fmt::format("known weaknesses that remain: {}", warnings), 6, columns);
    for (const std::string& note : verdict.notes) wrap(out, "note ", clean(note), 6, columns);
    wrap(out, "", fmt::format("level {}", level_text(std::min(verdict.level, highest_level))), 0, columns);
    if (verdict.root)
        wrap(out, "", fmt::format("root  {}{}", clean(*verdict.root), verdict.emulated ? " (EMULATED PSP: no hardware protects this guest)" : ""), 6,
             columns);
    if (verdict.reference) wrap(out, "", fmt::format("match {}", clean(*verdict.reference)), 6, columns);
    out += verdict.trusted() ? "TRUSTED\n" : "NOT TRUSTED\n";
    return out;
}

} // namespace sev::attest
