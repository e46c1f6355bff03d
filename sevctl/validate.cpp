// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "CHAIN",
             .kind = Kind::input,
             .metavar = "CHAIN",
             .help = "The platform's chain, as sevctl export writes it.",
             .required = true,
             .limit_bytes = 16 << 10},
    Argument{.name = "REPORT",
             .kind = Kind::input,
             .metavar = "REPORT",
             .help = "Attestation report (binary, 208 bytes).",
             .required = true,
             .limit_bytes = 208},
    Argument{.name = "--ca", .kind = Kind::input, .metavar = "FILE", .help = "ASK and ARK: verify the chain as well.", .limit_bytes = 16 << 10},
    root_option,
    pin_option,
    json_option,
};

std::vector<psp::Check> check_report(const psp::Chain& chain, const psp::AttestationReport& report) {
    const bool good = report.signed_by(*chain.pek);
    return {{.check = "report.signature", .passed = good,
             .detail = good ? "the chain's PEK signed the report" : "the report's signature is not one of the chain's PEK"}};
}

Answer run(const Arguments& given, Console& console) {
    const std::string file = shown(given.text("CHAIN"));
    psp::Chain chain = psp::parse_chain(input_bytes(given, "CHAIN"), file);
    if (!chain.pek) throw Error{Fault::malformed, fmt::format("{}: has no PEK, want PDH, PEK, OCA and CEK", file)};
    const auto bytes = input_array<psp::AttestationReport::wire_size>(given, "REPORT");
    const auto report = within(shown(given.text("REPORT")), [&] { return psp::AttestationReport::parse(wire::view(bytes)); });

    std::vector<psp::Check> checks = check_report(chain, report);
    const bool whole = given.has("--ca") || given.has(root_option.name) || given.has(pin_option.name);
    if (given.has("--ca")) add_ca(chain, given, "--ca");
    bool trusted = true, pinned = false;
    if (whole) {
        const psp::ChainVerdict verdict = psp::verify_chain(chain, trusted_roots(given));
        trusted = verdict.trusted();
        pinned = verdict.root && verdict.root->pinned_cek;
        checks.insert(checks.end(), verdict.checks.begin(), verdict.checks.end());
    }
    const bool valid = psp::all_passed(checks) && trusted;
    if (console.json()) {
        json::Value result = result_of(given);
        result["valid"] = valid;
        result["chain_verified"] = whole;
        result["pinned"] = pinned;
        result["report"] = {{"mnonce", hex(report.mnonce)}, {"launch_digest", hex(report.launch_digest)}, {"policy", report.policy.value}};
        result["checks"] = checks_as_json(checks);
        console.print(result);
        return valid ? Answer::yes : Answer::no;
    }
    std::string text =
        fmt::format("launch digest {}\nmnonce        {}\npolicy        {}\n", hex(report.launch_digest), hex(report.mnonce), report.policy.text());
    for (const psp::Check& check : checks)
        if (!check.passed || check.check.starts_with("report."))
            text += fmt::format("{}: {}: {}\n", check.passed ? "pass" : "FAIL", check.check, check.detail);
    console.print(text);
    if (pinned) console.note("endorsement missing: the chip is pinned by your word, and not endorsed by AMD");
    if (!whole) console.note("the chain above the PEK was not verified here: add --ca, or see sevctl verify");
    return valid ? Answer::yes : Answer::no;
}

} // namespace

const Command validate_command{
    .name = "validate",
    .summary = "check who signed an attestation report",
    .text = "Checks that the PEK of CHAIN signed REPORT. With --ca, --root or --pin-cek the chain up to its root must be valid as well. It does not "
            "say whether the "
            "launch digest is the one that was wanted, nor whether the report is fresh: sevctl judge does.",
    .example = "sevctl validate platform.chain report.bin --ca ask_ark_naples.cert",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
