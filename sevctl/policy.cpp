// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/reference.hpp"
#include "console/layout.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/time.hpp"

namespace sev::cli {
namespace {

constexpr std::array lint_arguments{
    policy_argument,
    Argument{.name = "--references", .kind = Kind::flag, .help = "Also compute every reference value from its files."},
    at_option,
    json_option,
};
constexpr std::array show_arguments{policy_argument, json_option};
constexpr std::array diff_arguments{
    Argument{.name = "LEFT",
             .kind = Kind::input,
             .metavar = "LEFT",
             .help = "One policy file (JSON).",
             .required = true,
             .limit_bytes = attest::OwnerPolicy::limit_bytes},
    Argument{.name = "RIGHT",
             .kind = Kind::input,
             .metavar = "RIGHT",
             .help = "The other.",
             .required = true,
             .limit_bytes = attest::OwnerPolicy::limit_bytes},
    json_option,
};

Answer lint(const Arguments& given, Console& console) {
    const attest::OwnerPolicy policy = attest::OwnerPolicy::load(given.text("POLICY"));
    const auto findings = attest::lint(policy, time_of(given));
    const bool fatal = std::ranges::any_of(findings, &attest::LintFinding::fatal);
    std::vector<attest::Reference> references;
    if (given.has("--references")) references = within(shown(given.text("POLICY")), [&] { return attest::resolve_references(policy); });

    if (console.json()) {
        json::Value result = result_of(given);
        result["usable"] = !fatal;
        result["findings"] = json::Value::array();
        for (const auto& one : findings)
            result["findings"].push_back({{"id", one.id}, {"fatal", one.fatal}, {"text", one.text}, {"remedy", one.remedy}});
        result["references"] = json::Value::array();
        for (const auto& one : references)
            result["references"].push_back({{"name", one.name}, {"launch_digest", hex(one.digest)}, {"uncovered", one.uncovered}});
        console.print(result);
        return fatal ? Answer::no : Answer::yes;
    }
    std::string text;
    for (const auto& one : references) text += fmt::format("reference {}:\n    {}\n", one.name, hex(one.digest));
    for (const auto& one : findings)
        text += fmt::format("{}: {}: {}{}{}\n", one.fatal ? "FATAL" : "note", one.id, one.text, one.remedy.empty() ? "" : " -> ", one.remedy);
    text += fatal ? "this policy can never trust anything\n" : "this policy can be met\n";
    console.print(fit(text));
    return fatal ? Answer::no : Answer::yes;
}

Answer show(const Arguments& given, Console& console) {
    const attest::OwnerPolicy policy = attest::OwnerPolicy::load(given.text("POLICY"));
    if (!console.json()) {
        console.print(fit(attest::show(policy)));
        return Answer::yes;
    }
    json::Value result = result_of(given);
    result["session_policy"] = policy.session_policy().value;
    result["policy"] = policy.to_json();
    console.print(result);
    return Answer::yes;
}

Answer diff(const Arguments& given, Console& console) {
    const auto differences = attest::diff(attest::OwnerPolicy::load(given.text("LEFT")), attest::OwnerPolicy::load(given.text("RIGHT")));
    const auto text_or = [](const std::optional<std::string>& value) { return value ? *value : std::string{"(absent)"}; };
    if (console.json()) {
        json::Value result = result_of(given);
        result["equal"] = differences.empty();
        result["differences"] = json::Value::array();
        for (const auto& one : differences) {
            json::Value entry{{"path", one.path}};
            if (one.left) entry["left"] = *one.left;
            if (one.right) entry["right"] = *one.right;
            result["differences"].push_back(std::move(entry));
        }
        console.print(result);
    } else {
        for (const auto& one : differences) console.print(fit(fmt::format("{}: {} -> {}\n", one.path, text_or(one.left), text_or(one.right))));
    }
    return differences.empty() ? Answer::yes : Answer::no;
}

} // namespace

const Command policy_lint_command{
    .name = "policy lint",
    .summary = "look for mistakes in a guest owner's policy",
    .text = "Reads a policy as sevctl judge and sev-owner do, and says what in it denies everything and what is weaker than it may seem. With "
            "--references the "
            "reference values are computed as well, so that a missing file shows now. Exit status 1: the policy can never trust anything.",
    .example = "sevctl policy lint owner.json --references",
    .arguments = lint_arguments,
    .run = lint,
};
const Command policy_show_command{
    .name = "policy show",
    .summary = "show a guest owner's policy in words",
    .text = "Shows what a policy file allows.",
    .example = "sevctl policy show owner.json",
    .arguments = show_arguments,
    .run = show,
};
const Command policy_diff_command{
    .name = "policy diff",
    .summary = "compare two policies",
    .text = "Lists what differs between two policy files, by JSON pointer. Exit status 0: nothing; 1: something.",
    .example = "sevctl policy diff old.json new.json",
    .arguments = diff_arguments,
    .run = diff,
};

} // namespace sev::cli
