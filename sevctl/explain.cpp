// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/advisories.hpp"
#include "console/layout.hpp"
#include "console/near.hpp"
#include "psp/status.hpp"
#include "sevctl/check_pages.hpp"
#include "sevctl/check_texts.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{
        .name = "WORD",
        .metavar = "WORD",
        .help =
            "A status (BAD_MEASUREMENT, 0x0B), a check of sevctl status (bios-smee) or of a verdict (launch.digest), or an advisory (CVE-2019-9836).",
        .required = true},
    json_option,
};

struct Explanation {
    std::string kind, name, meaning, remedy; // paragraphs separated by an empty line
};

/// What stands in a page below a heading, up to the next one.
std::string section(const CheckPage& page, std::string_view heading) {
    const std::string mark = fmt::format("\n## {}\n\n", heading);
    const auto at = page.text.find(mark);
    require(at != std::string_view::npos, "a page of docs/checks lacks a section");
    std::string_view text = page.text.substr(at + mark.size());
    text = text.substr(0, text.find("\n## "));
    while (text.ends_with('\n')) text.remove_suffix(1);
    return std::string{text};
}

Explanation explain(const CheckPage& page) {
    const std::string_view heading = page.text.substr(2 + page.id.size() + 2); // "# ID: "
    return {"host-check", std::string{page.id},
            fmt::format("Passes when {}.\n\nWhat is looked at: {}\n\nWhy it fails: {}", heading.substr(0, heading.find('\n')),
                        section(page, "What is looked at"), section(page, "Why it fails")),
            section(page, "What to do")};
}

std::optional<Explanation> explanation_of(const std::string& word) {
    if (const auto status = psp::status_named(word)) {
        const psp::StatusInfo& info = *psp::find_status(static_cast<std::uint16_t>(*status));
        return Explanation{"status", psp::text(*status), std::string{info.cause}, std::string{info.remedy}};
    }
    const auto page = std::ranges::find(check_pages(), std::string_view{word}, &CheckPage::id);
    if (page != check_pages().end()) return explain(*page);
    if (const CheckText* const text = find_check_text(word))
        return Explanation{"check", std::string{text->check}, std::string{text->meaning}, std::string{text->remedy}};
    if (const attest::Advisory* const advisory = attest::builtin_advisories().find(word))
        return Explanation{"advisory", advisory->id, fmt::format("{}: {} (source: {})", advisory->title, advisory->text, advisory->source),
                           advisory->remedy};
    return std::nullopt;
}

[[noreturn]] void not_known(const std::string& word) {
    std::vector<std::string> known;
    for (const psp::StatusInfo& info : psp::all_statuses()) known.emplace_back(info.name);
    for (const CheckPage& page : check_pages()) known.emplace_back(page.id);
    for (const CheckText& text : all_check_texts()) {
        const auto star = text.check.find('*');
        if (star == std::string_view::npos) known.emplace_back(text.check);
        else
            for (const std::string_view link : {"ark", "ask", "cek", "oca", "pek", "pdh"})
                known.push_back(fmt::format("{}{}{}", text.check.substr(0, star), link, text.check.substr(star + 1)));
    }
    for (const attest::Advisory& advisory : attest::builtin_advisories().list) known.push_back(advisory.id);
    const auto near = near_matches(word, known);
    throw Error{Fault::usage,
                fmt::format("{} is neither a status of the SEV API nor a check nor an advisory", word.empty() ? "the empty word" : printable(word)),
                near.empty() ? "checks are named in the output of sevctl status, sevctl verify and sevctl judge"
                             : fmt::format("did you mean {}?", fmt::join(near, ", "))};
}

std::string indented(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const auto end = text.find("\n\n");
        out += fmt::format("{}  {}\n", out.empty() ? "" : "\n", wrap(text.substr(0, end), 2, 2));
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 2);
    }
    return out;
}

Answer run(const Arguments& given, Console& console) {
    const auto found = explanation_of(given.text("WORD"));
    if (!found) not_known(given.text("WORD"));
    if (console.json()) {
        json::Value result = result_of(given);
        result["kind"] = found->kind;
        result["name"] = found->name;
        result["meaning"] = found->meaning;
        result["remedy"] = found->remedy;
        console.print(result);
    } else {
        const bool long_text = found->meaning.find("\n\n") != std::string::npos;
        console.print(fmt::format("{} ({})\n{}{}{}", found->name, found->kind == "host-check" ? "check of sevctl status" : found->kind,
                                  indented(found->meaning), long_text ? "\n" : "",
                                  indented(fmt::format("what to do: {}", found->remedy.empty() ? "nothing" : found->remedy))));
    }
    return Answer::yes;
}

} // namespace

const Command explain_command{
    .name = "explain",
    .summary = "say what a status, a check or an advisory means",
    .text = "Explains a status code of the SEV API, a check of sevctl status or of a verdict, or an advisory: what it means and what to do.",
    .example = "sevctl explain BAD_MEASUREMENT",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
