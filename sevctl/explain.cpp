// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/advisories.hpp"
#include "psp/status.hpp"
#include "sevctl/check_texts.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "WORD", .metavar = "WORD", .help = "A status (BAD_MEASUREMENT, 0x0B), a check of a verdict (launch.digest), or an advisory (CVE-2019-9836).", .required = true},
    json_option,
};

struct Explanation {
    std::string kind, name, meaning, remedy;
};

std::optional<Explanation> explanation_of(const std::string& word) {
    if (const auto status = psp::status_named(word)) {
        const psp::StatusInfo& info = *psp::find_status(static_cast<std::uint16_t>(*status));
        return Explanation{"status", psp::text(*status), std::string{info.cause}, std::string{info.remedy}};
    }
    if (const CheckText* const text = find_check_text(word)) return Explanation{"check", std::string{text->check}, std::string{text->meaning}, std::string{text->remedy}};
    if (const attest::Advisory* const advisory = attest::builtin_advisories().find(word))
        return Explanation{"advisory", advisory->id, fmt::format("{}: {} (source: {})", advisory->title, advisory->text, advisory->source), advisory->remedy};
    return std::nullopt;
}

Answer run(const Arguments& given, Console& console) {
    const std::string& word = given.text("WORD");
    const auto found = explanation_of(word);
    if (!found)
        throw Error{Fault::usage, fmt::format("{} is neither a status of the SEV API nor a check nor an advisory", word.empty() ? "the empty word" : printable(word)),
                    "checks are named in the output of sevctl judge and sevctl verify"};
    if (console.json()) {
        json::Value result = result_of(given);
        result["kind"] = found->kind;
        result["name"] = found->name;
        result["meaning"] = found->meaning;
        result["remedy"] = found->remedy;
        console.print(result);
    } else {
        console.print(fmt::format("{} ({})\n  {}\n  what to do: {}\n", found->name, found->kind, found->meaning, found->remedy.empty() ? "nothing" : found->remedy));
    }
    return Answer::yes;
}

} // namespace

const Command explain_command{
    .name = "explain",
    .summary = "say what a status, a check or an advisory means",
    .text = "Explains a status code of the SEV API, a check of a verdict, or an advisory: what it means and what to do.",
    .example = "sevctl explain BAD_MEASUREMENT",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
