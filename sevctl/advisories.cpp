// SPDX-License-Identifier: Apache-2.0
#include "attest/advisories.hpp"

#include <array>

#include <fmt/format.h>

#include "attest/guest_policy_bits.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::size_t columns = 80;
constexpr std::array arguments{
    Argument{.name = "--product",
             .kind = Kind::choice,
             .metavar = "PRODUCT",
             .help = "The platform's product. Unknown: whatever depends on it applies.",
             .choices = "naples|rome|milan|genoa|turin"},
    Argument{.name = "--build", .metavar = "VERSION", .help = "The platform's firmware, such as 0.17.48 (sevctl show version)."},
    Argument{.name = "--policy", .kind = Kind::number, .metavar = "POLICY", .help = "The guest policy, decimal or 0x-hexadecimal."},
    Argument{.name = "--emulated", .kind = Kind::flag, .help = "The platform is an emulated PSP."},
    json_option,
};

/// What the list is held against; nullopt when it is only to be listed.
std::optional<attest::AdvisorySubject> subject_of(const Arguments& given) {
    if (!given.has("--product") && !given.has("--build") && !given.has("--policy") && !given.has("--emulated")) return std::nullopt;
    for (const std::string_view needed : {"--build", "--policy"})
        if (!given.has(needed))
            throw Error{Fault::usage, fmt::format("{} is missing: which advisories apply depends on it", needed),
                        "sevctl show version prints the build"};
    attest::AdvisorySubject subject;
    if (const auto product = given.text_if("--product")) subject.product = psp::product_named(*product);
    subject.build = psp::Build::parse(given.text("--build"), "--build");
    subject.policy = psp::Policy{static_cast<std::uint32_t>(given.number("--policy", 0, 0xFFFF'FFFF))};
    subject.emulated = given.has("--emulated");
    return subject;
}

/// "  what: text", broken at spaces, following lines indented.
std::string paragraph(std::string_view label, std::string_view text) {
    constexpr std::size_t indent = 12;
    std::string out, line = fmt::format("  {:<{}}", label, indent - 2);
    bool fresh = true;
    while (!text.empty()) {
        const std::string_view word = text.substr(0, text.find(' '));
        text.remove_prefix(std::min(word.size() + 1, text.size()));
        if (!fresh && line.size() + 1 + word.size() > columns) {
            out += line + "\n";
            line = std::string(indent, ' ');
            fresh = true;
        }
        if (!fresh) line += ' ';
        line += word;
        fresh = false;
    }
    return out + line + "\n";
}

/// The predicate in words.
std::string condition(const attest::AdvisoryPredicate& predicate) {
    std::string out;
    const auto add = [&](const std::string& part) { out += (out.empty() ? "" : "; ") + part; };
    if (predicate.products) {
        std::string list;
        for (const psp::Product product : *predicate.products) list += fmt::format("{}{}", list.empty() ? "" : ", ", psp::name(product));
        add(list);
    }
    if (predicate.build_below) add(fmt::format("firmware before {}", predicate.build_below->text()));
    if (predicate.policy_has) add(fmt::format("policy with {}", fmt::join(attest::guest_policy_bit_names(*predicate.policy_has), " ")));
    if (predicate.policy_lacks) add(fmt::format("policy without {}", fmt::join(attest::guest_policy_bit_names(*predicate.policy_lacks), " ")));
    if (predicate.emulated) add(*predicate.emulated ? "an emulated PSP" : "real hardware");
    return out.empty() ? "every platform" : out;
}

Answer run(const Arguments& given, Console& console) {
    const attest::Advisories& all = attest::builtin_advisories();
    const auto subject = subject_of(given);
    const json::Value as_json = all.to_json();
    json::Value list = json::Value::array();
    std::string text;
    std::size_t failing = 0, applying = 0;
    for (std::size_t i = 0; i < all.list.size(); ++i) {
        const attest::Advisory& one = all.list[i];
        if (subject && !attest::applies(one, *subject)) continue;
        ++applying;
        if (one.severity == attest::Severity::fail) ++failing;
        list.push_back(as_json.at("advisories").at(i));
        text += fmt::format("{} ({})\n", one.id, attest::name(one.severity));
        text += paragraph("", one.title) + paragraph("applies to", condition(one.applies)) + paragraph("meaning", one.text);
        text += paragraph("what to do", one.remedy.empty() ? "nothing" : one.remedy) + paragraph("source", one.source) + "\n";
    }
    if (console.json()) {
        json::Value result = result_of(given);
        result["revised"] = all.revised;
        result["evaluated"] = subject.has_value();
        result["known"] = all.list.size();
        result["failing"] = failing;
        result["advisories"] = std::move(list);
        console.print(result);
    } else if (subject) {
        console.print(text + fmt::format("{} of {} known advisories apply, {} of them deny trust (list of {})\n", applying, all.list.size(), failing,
                                         all.revised));
    } else {
        console.print(text + fmt::format("{} advisories, list of {}\n", all.list.size(), all.revised));
    }
    return subject && failing > 0 ? Answer::no : Answer::yes;
}

} // namespace

const Command advisories_command{
    .name = "advisories",
    .summary = "list the known weaknesses of SEV, or those of one platform and policy",
    .text = "Lists the advisories that are built in, which a guest owner's verdict is held against. With --build and --policy, and --product where "
            "it is known, only those that "
            "apply; each \"fail\" among them makes a launch untrusted unless the owner's policy accepts it by its id, a \"warn\" is reported.\n\n"
            "Exit status 1: at least one \"fail\" applies. That none applies does not say that none exists: the list is as old as its date.",
    .example = "sevctl advisories --product naples --build 0.17.48 --policy 0x5",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
