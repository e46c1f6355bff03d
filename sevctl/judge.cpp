// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/judge_bundle.hpp"
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
             .help = "All evidence in one file: as sevctl bundle collects it (a JWS; with --host-key), or as JSON (format xen-sev/bundle).",
             .limit_bytes = attest::SignedBundle::wire_limit_bytes},
    Argument{.name = "--host-key",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "With a signed bundle: the host's public key that you pinned (a JWK, as sevctl bundle --print-key prints it).",
             .limit_bytes = 16 << 10},
    Argument{.name = "--max-age",
             .kind = Kind::number,
             .metavar = "SECONDS",
             .help = "With a signed bundle: do not trust one that was collected longer ago. Default: any age."},
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

/// The bundle and who is known to have signed it.
struct Signed {
    attest::SignedBundle bundle;
    attest::HostKey host;
};

struct Evidence {
    std::optional<Signed> collected{}; // then the others are empty
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

/// Signed or not: a file that is not signed is never taken for one that is, nor the other way round.
Evidence from_bundle(const Arguments& given) {
    const Bytes bytes = input_bytes(given, "--bundle");
    const std::string file = shown(given.text("--bundle"));
    Evidence out;
    if (!attest::looks_signed(as_text(bytes))) {
        for (const std::string_view name : {"--host-key", "--max-age"})
            if (given.has(name))
                throw Error{Fault::usage, fmt::format("{}: is not signed, and {} is given", file, name), "sevctl bundle makes signed ones"};
        auto whole = attest::read_message<attest::Bundle>(as_text(bytes), file);
        out.platform = std::move(whole.platform);
        out.launch = std::move(whole.launch);
        out.offer = std::move(whole.offer);
        return out;
    }
    if (!given.has("--host-key"))
        throw Error{Fault::usage, fmt::format("{}: is signed by a host, and --host-key is missing", file),
                    "on the host: sevctl bundle --print-key; carry the key on a way that you trust"};
    const Bytes key_text = input_bytes(given, "--host-key");
    const std::string key_file = shown(given.text("--host-key"));
    const auto host = attest::HostKey::from_json(json::parse(as_text(key_text), key_file, {.bytes = 16 << 10, .depth = 4}), key_file);
    out.collected = Signed{.bundle = attest::open_signed_bundle(as_text(bytes), host, file), .host = host};
    return out;
}

Evidence evidence_of(const Arguments& given) {
    const bool bundle = given.has("--bundle"), messages = given.has("--platform") || given.has("--launch"), raw_files = given.has("--chain");
    if (bundle + messages + raw_files != 1)
        throw Error{Fault::usage, "want the evidence in one form: --bundle, or --platform and --launch, or --chain", "see: sevctl judge --help"};
    if (!raw_files)
        for (const std::string_view name : {"--build", "--guest-policy", "--measurement", "--report", "--nonce"})
            if (given.has(name)) throw Error{Fault::usage, fmt::format("{} is given without --chain", name)};
    if (!bundle)
        for (const std::string_view name : {"--host-key", "--max-age"})
            if (given.has(name)) throw Error{Fault::usage, fmt::format("{} is given without --bundle", name)};
    if (raw_files) return from_raw_files(given);
    if (bundle) return from_bundle(given);
    return {.platform = message_of<attest::PlatformEvidence>(given, "--platform"),
            .launch = message_of<attest::LaunchEvidence>(given, "--launch"),
            .offer = std::nullopt};
}

Digest pdh_of(const Arguments& given) {
    const std::string file = shown(given.text("--pdh"));
    const psp::Chain chain = psp::parse_chain(input_bytes(given, "--pdh"), file);
    if (!chain.pdh) throw Error{Fault::malformed, fmt::format("{}: has no PDH", file)};
    return chain.pdh->fingerprint();
}

/// What the guest owner knows of the session: its own copy of the offer where there is one.
attest::SessionFacts facts_of(const Arguments& given, const Evidence& evidence) {
    attest::SessionFacts facts;
    facts.pdh = pdh_of(given);
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

attest::Verdict verdict_of_collected(const Arguments& given, Console& console, const Signed& evidence, const attest::Standard& standard) {
    attest::BundleKnowledge known{.pdh = pdh_of(given)};
    if (given.has("--tik")) known.tik = key_argument<psp::Tik>(given, console, "--tik");
    if (given.has("--offer")) known.offer = message_of<attest::SessionOffer>(given, "--offer");
    if (const auto seconds = given.number_if("--max-age", 1, 4'000'000'000)) known.max_age = std::chrono::seconds{*seconds};
    return attest::judge_bundle(evidence.bundle, evidence.host, std::move(known), standard, time_of(given));
}

attest::Verdict verdict_of(const Arguments& given, Console& console, const Evidence& evidence, const attest::Standard& standard) {
    if (evidence.collected) return verdict_of_collected(given, console, *evidence.collected, standard);
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
        if (evidence.collected) {
            const attest::SignedBundle& bundle = evidence.collected->bundle;
            result["collected"] = {{"host", evidence.collected->host.thumbprint()},
                                   {"launch", bundle.launch},
                                   {"state", bundle.state},
                                   {"collector", bundle.collector},
                                   {"created_at", attest::text(bundle.created_at)},
                                   {"measured_at", attest::text(bundle.measured_at)},
                                   {"collected_at", attest::text(bundle.collected_at)}};
        }
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
        "A bundle that sevctl bundle collected on the host can be judged on a machine without network. Its signature is verified under the pinned "
        "--host-key; one that does not verify is trouble, exit status 2, and nothing of it is judged. The signature says who collected the bundle "
        "and attests nothing: a measurement is still trusted only with the session's TIK, and a report only with the owner's own --offer.\n\n"
        "No secret is released here.",
    .example = "sevctl judge owner.json --bundle bundle.json --pdh platform.chain --tik vm_tik.bin",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::cli
