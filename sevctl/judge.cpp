// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/judge.hpp"
#include "attest/protocol/bundle.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/time.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    policy_argument,
    Argument{.name = "--bundle",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "All evidence in one file (JSON, format xen-sev/bundle).",
             .limit_bytes = attest::Bundle::limit_bytes},
    Argument{.name = "--platform",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Platform evidence (JSON); with --launch.",
             .limit_bytes = attest::PlatformEvidence::limit_bytes},
    Argument{.name = "--launch",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Launch evidence (JSON); with --platform.",
             .limit_bytes = attest::LaunchEvidence::limit_bytes},
    Argument{.name = "--chain",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Certificate chain (binary, with ASK and ARK), as sevctl export --full writes it.",
             .limit_bytes = attest::PlatformEvidence::chain_limit_bytes},
    Argument{.name = "--build", .metavar = "M.N.B", .help = "With --chain: version of the launching firmware, such as 0.17.48."},
    Argument{.name = "--guest-policy", .kind = Kind::number, .metavar = "POLICY", .help = "With --chain: the policy of the session."},
    Argument{.name = "--measurement",
             .kind = Kind::input_or_text,
             .metavar = "BLOB",
             .help = "With --chain: output of LAUNCH_MEASURE, 48 bytes: a file or base64.",
             .limit_bytes = 48},
    Argument{.name = "--report",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "With --chain: attestation report (binary, 208 bytes).",
             .limit_bytes = 208},
    Argument{.name = "--nonce",
             .kind = Kind::input_or_text,
             .metavar = "NONCE",
             .help = "With --report: the nonce it was asked with, 16 bytes: a file or base64.",
             .limit_bytes = 16},
    Argument{.name = "--offer",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "The session offer as you made it (sevctl session --offer), rather than as the bundle repeats it.",
             .limit_bytes = attest::SessionOffer::limit_bytes},
    Argument{.name = "--pdh",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "The PDH (or chain) that your session was made for.",
             .required = true,
             .limit_bytes = 16 << 10},
    Argument{.name = "--tik",
             .kind = Kind::input_or_text,
             .metavar = "TIK",
             .help = "The session's TIK, 16 bytes: a file, or base64 (which others can see). Needed for a measurement.",
             .secret = true,
             .limit_bytes = 16},
    at_option,
    json_option,
};

struct Evidence {
    attest::PlatformEvidence platform;
    attest::LaunchEvidence launch;
    std::optional<attest::SessionOffer> offer;
};

template <class Message>
Message message_of(const Arguments& given, std::string_view name) {
    const Bytes bytes = input_bytes(given, name);
    return attest::read_message<Message>(as_text(bytes), shown(given.text(name)));
}

/// Files of other tools, put into the form of our messages.
Evidence from_raw_files(const Arguments& given) {
    Evidence out;
    const std::string file = shown(given.text("--chain"));
    out.platform.chain = input_bytes(given, "--chain");
    const psp::Chain chain = psp::parse_chain(out.platform.chain, file); // what cannot be read is trouble, not a "no"
    const bool emulated = chain.ark && chain.ark->key_id == psp::emulated_ark_key_id;
    out.platform.backend = emulated ? attest::Backend::emulated : attest::Backend::ccp;
    out.platform.status.build = psp::Build::parse(given.text("--build"), "--build");
    out.launch.launch_name = "offline";
    out.launch.build = out.platform.status.build;
    out.launch.policy = psp::Policy::parse(given.text("--guest-policy"), "--guest-policy");
    if (given.has("--measurement") == given.has("--report")) throw Error{Fault::usage, "want one of --measurement and --report with --chain"};
    if (given.has("--measurement")) {
        const Bytes blob = file_or_base64(given, "--measurement", {48});
        out.launch.proof = psp::LaunchMeasurement::parse(wire::exactly<48>(blob, "--measurement"));
    } else {
        const auto bytes = input_array<psp::AttestationReport::wire_size>(given, "--report");
        out.launch.proof = within(shown(given.text("--report")), [&] { return psp::AttestationReport::parse(wire::view(bytes)); });
    }
    return out;
}

Evidence evidence_of(const Arguments& given) {
    const bool bundle = given.has("--bundle"), messages = given.has("--platform") || given.has("--launch"), raw_files = given.has("--chain");
    if (bundle + messages + raw_files != 1)
        throw Error{Fault::usage, "want the evidence in one form: --bundle, or --platform and --launch, or --chain", "see: sevctl judge --help"};
    if (!raw_files)
        for (const std::string_view name : {"--build", "--guest-policy", "--measurement", "--report", "--nonce"})
            if (given.has(name)) throw Error{Fault::usage, fmt::format("{} is given without --chain", name)};
    if (raw_files) return from_raw_files(given);
    if (bundle) {
        auto whole = message_of<attest::Bundle>(given, "--bundle");
        return {std::move(whole.platform), std::move(whole.launch), std::move(whole.offer)};
    }
    return {message_of<attest::PlatformEvidence>(given, "--platform"), message_of<attest::LaunchEvidence>(given, "--launch"), std::nullopt};
}

/// What the guest owner knows of the session: its own copy of the offer where there is one.
attest::SessionFacts facts_of(const Arguments& given, const Evidence& evidence) {
    attest::SessionFacts facts;
    const std::string file = shown(given.text("--pdh"));
    const psp::Chain chain = psp::parse_chain(input_bytes(given, "--pdh"), file);
    if (!chain.pdh) throw Error{Fault::malformed, fmt::format("{}: has no PDH", file)};
    facts.pdh = chain.pdh->fingerprint();
    const auto offer = given.has("--offer") ? std::optional{message_of<attest::SessionOffer>(given, "--offer")} : evidence.offer;
    if (offer) {
        facts.id = offer->session_id;
        facts.launch_name = offer->launch_name;
        facts.policy = offer->policy;
        facts.report_nonce = offer->report_nonce;
    } else if (given.has("--chain")) {
        facts.launch_name = evidence.launch.launch_name;
        facts.policy = evidence.launch.policy;
    } else {
        throw Error{Fault::usage, "--offer is missing: only it says which session was made"};
    }
    if (given.has("--nonce")) facts.report_nonce = wire::bytes<0, 16>(wire::exactly<16>(file_or_base64(given, "--nonce", {16}), "--nonce"));
    else if (given.has("--report") && !offer) throw Error{Fault::usage, "--nonce is missing: without it the report may be an old one"};
    return facts;
}

attest::Verdict verdict_of(const Arguments& given, Console& console, const Evidence& evidence, const attest::Standard& standard) {
    attest::SessionFacts facts = facts_of(given, evidence);
    if (evidence.launch.kind() == attest::EvidenceKind::report) {
        if (given.has("--tik")) console.warn("--tik is not used: an attestation report is judged by its signature");
        return attest::judge_report(facts, evidence.platform, evidence.launch, standard, time_of(given));
    }
    // TEK only seals packets, and none is made here
    attest::Session session{std::move(facts), psp::Tek::filled_by([](auto out) { random_bytes(out); }),
                            key_argument<psp::Tik>(given, console, "--tik")};
    return attest::judge(std::move(session), evidence.platform, evidence.launch, standard, time_of(given)).verdict;
}

Answer run(const Arguments& given, Console& console) {
    const attest::OwnerPolicy policy = attest::OwnerPolicy::load(given.text("POLICY"));
    const Evidence evidence = evidence_of(given);
    const auto references = within(shown(given.text("POLICY")), [&] { return attest::resolve_references(policy); });
    const attest::Verdict verdict = verdict_of(given, console, evidence, {.policy = policy, .references = references});
    if (console.json()) {
        json::Value result = result_of(given);
        result["trusted"] = verdict.trusted();
        result["verdict"] = verdict.to_json();
        console.print(result);
    } else {
        console.print(attest::render(verdict));
    }
    return verdict.trusted() ? Answer::yes : Answer::no;
}

} // namespace

const Command judge_command{
    .name = "judge",
    .summary = "decide offline whether a launch is to be trusted",
    .text =
        "Holds the evidence of one launch against the guest owner's policy file and prints every check with its result: the chain to a root the "
        "policy trusts, "
        "the chip, the firmware's version, the guest policy, and the launch digest against reference values computed from the owner's own files. "
        "Trusted only when every check passed.\n\n"
        "The evidence comes as a bundle, as two messages, or as files of other tools: a chain with --chain, and a measurement or an attestation "
        "report. A "
        "measurement needs the session's TIK. The PDH that the session was made for is the owner's knowledge and never taken from the evidence.\n\n"
        "No secret is released here.",
    .example = "sevctl judge owner.json --bundle bundle.json --pdh platform.chain --tik vm_tik.bin",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::cli
