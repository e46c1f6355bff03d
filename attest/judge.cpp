// SPDX-License-Identifier: Apache-2.0
#include "attest/judge.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "attest/guest_policy_bits.hpp"
#include "attest/opinion.hpp"
#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t note_limit = 64;

std::string names(std::uint32_t bits) { return bits == 0 ? "nothing" : fmt::format("{}", fmt::join(guest_policy_bit_names(bits), " ")); }

/// One judgement under way. `tik` is null when the session's keys are not at hand.
struct Case {
    const SessionFacts& facts;
    const psp::Tik* tik;
    const PlatformEvidence& platform;
    const LaunchEvidence& launch;
    const Standard& standard;
    CheckList checks{};
    std::vector<std::string> notes{};
    const Reference* matched = nullptr;

    void note(std::string text) {
        if (notes.size() < note_limit) notes.push_back(std::move(text));
    }
};

void check_session(Case& c, const psp::Chain& chain) {
    c.checks.add("session.id", c.launch.session_id == c.facts.id,
                 fmt::format("the evidence is for session {}, want {}", hex(c.launch.session_id), hex(c.facts.id)));
    c.checks.add("session.launch_name", c.launch.launch_name == c.facts.launch_name,
                 fmt::format("the evidence is for launch \"{}\", want \"{}\"", printable(c.launch.launch_name), printable(c.facts.launch_name)));
    c.checks.add("session.policy", c.launch.policy == c.facts.policy,
                 fmt::format("the guest policy is {}, want {}", c.launch.policy.text(), c.facts.policy.text()));
    const bool same = chain.pdh && chain.pdh->fingerprint() == c.facts.pdh;
    c.checks.add("session.pdh", same,
                 same ? "the platform's PDH is the one the session was made for"
                      : fmt::format("the platform's PDH is {}, the session was made for {}",
                                    chain.pdh ? hex(chain.pdh->fingerprint()) : std::string{"missing"}, hex(c.facts.pdh)));
    c.checks.add("launch.build", c.launch.build == c.platform.build(),
                 fmt::format("SEV firmware {} launched the guest, the platform said {}", c.launch.build.text(), c.platform.build().text()));
}

void check_guest_policy(Case& c) {
    const OwnerPolicy& policy = c.standard.policy;
    const psp::Policy guest = c.facts.policy;
    const std::uint32_t missing = policy.required_bits & ~guest.value, surplus = policy.forbidden_bits & guest.value;
    c.checks.add("policy.required_bits", missing == 0,
                 missing == 0 ? fmt::format("the guest policy has {}", names(policy.required_bits))
                              : fmt::format("the guest policy lacks {}", names(missing)));
    c.checks.add("policy.forbidden_bits", surplus == 0,
                 surplus == 0 ? fmt::format("the guest policy is free of {}", names(policy.forbidden_bits))
                              : fmt::format("the guest policy has {}", names(surplus)));
    c.checks.add(
        "policy.minimum_api", c.launch.build.api() >= guest.minimum_api(),
        fmt::format("the guest policy asks for API {} or newer, the firmware has {}", guest.minimum_api().text(), c.launch.build.api().text()));
    const std::uint32_t reserved = guest.value & psp::Policy::reserved;
    c.checks.add("policy.reserved_bits", reserved == 0, fmt::format("reserved bits of the guest policy are 0x{:04x}, want 0", reserved));
}

void check_evidence(Case& c) {
    const OwnerPolicy& policy = c.standard.policy;
    const EvidenceKind kind = c.launch.kind();
    const bool accepted = std::ranges::find(policy.evidence, kind) != policy.evidence.end();
    const bool judgeable = kind == EvidenceKind::report || c.tik != nullptr;
    c.checks.add("evidence.kind", accepted && judgeable,
                 !accepted
                     ? fmt::format("the evidence is a {}, which the policy does not accept", name(kind))
                     : fmt::format("the evidence is a {}{}", name(kind), judgeable ? "" : ", and the session's TIK is not at hand to check it"));
    constexpr psp::ApiVersion covers_build_since{.major = 0, .minor = 17};
    const bool proven = kind == EvidenceKind::measurement && c.launch.build.api() >= covers_build_since;
    c.checks.add("evidence.build_proven", proven || policy.accept_unproven_build,
                 proven ? fmt::format("the MEASURE covers build {}", c.launch.build.text())
                        : fmt::format("build {} is the host's word: {} it; the policy {} that", c.launch.build.text(),
                                      kind == EvidenceKind::report ? "an attestation report does not cover" : "MEASURE below API 0.17 does not cover",
                                      policy.accept_unproven_build ? "accepts" : "does not accept"));
}

void check_report(Case& c, const psp::AttestationReport& report, const psp::Chain& chain) {
    const bool is_signed = chain.pek && report.signed_by(*chain.pek);
    c.checks.add("report.signature", is_signed,
                 is_signed   ? "the platform's PEK signed the report"
                 : chain.pek ? "the report is not signed by the platform's PEK"
                             : "there is no PEK");
    c.checks.add("report.nonce", report.mnonce == c.facts.report_nonce,
                 fmt::format("the report bears nonce {}, want {}", hex(report.mnonce), hex(c.facts.report_nonce)));
    c.checks.add("report.policy", report.policy == c.facts.policy,
                 fmt::format("the report is of policy {}, want {}", report.policy.text(), c.facts.policy.text()));
}

/// Whether this evidence proves this digest. The expected MEASURE stays here: it is as good as the evidence itself.
bool proves(const Case& c, const Digest& digest) {
    if (const auto* report = std::get_if<psp::AttestationReport>(&c.launch.proof)) return equal_in_constant_time(report->launch_digest, digest);
    const auto& measurement = std::get<psp::LaunchMeasurement>(c.launch.proof);
    if (!c.tik) return false;
    const Digest expected = psp::expected_measurement(*c.tik, c.launch.build, c.facts.policy, digest, measurement.mnonce);
    return equal_in_constant_time(expected, measurement.measure);
}

void explain_mismatch(Case& c) {
    if (!c.launch.descriptor) return c.note("the host sent no descriptor of what it loaded");
    for (const Reference& reference : c.standard.references) {
        const auto differences = explain_difference(reference, *c.launch.descriptor);
        for (const std::string& difference : differences) c.note(fmt::format("reference \"{}\": {}", reference.name, difference));
        if (differences.empty() && !reference.regions.empty())
            c.note(fmt::format("reference \"{}\": the host says it loaded exactly this, and the evidence does not bear that out", reference.name));
        if (reference.regions.empty())
            c.note(fmt::format("reference \"{}\": only its digest is known, so nothing can be said of regions", reference.name));
    }
}

void check_digest(Case& c) {
    if (!c.tik && c.launch.kind() == EvidenceKind::measurement) // nothing was compared, so nothing can be said to differ either
        return c.checks.add("launch.digest", false, "without the session's TIK a measurement says nothing of what was loaded");
    const auto found = std::ranges::find_if(c.standard.references, [&](const Reference& reference) { return proves(c, reference.digest); });
    if (found == c.standard.references.end()) {
        c.checks.add("launch.digest", false,
                     c.standard.references.empty() ? std::string{"the policy has no reference to compare with"}
                                                   : fmt::format("the evidence proves none of the {} references", c.standard.references.size()));
        for (const Reference& reference : c.standard.references)
            for (const KnownOther& other : reference.others)
                if (proves(c, other.digest))
                    c.note(
                        fmt::format("reference \"{}\": the evidence proves launch digest {}: {}", reference.name, hex(other.digest), other.meaning));
        return explain_mismatch(c);
    }
    c.matched = &*found;
    c.checks.add("launch.digest", true, fmt::format("the evidence proves launch digest {}, reference \"{}\"", hex(found->digest), found->name));
    if (c.launch.descriptor)
        for (const std::string& difference : explain_difference(*found, *c.launch.descriptor))
            c.note(fmt::format("the host's descriptor does not fit what the evidence proves: {}", difference));
    for (const std::string& uncovered : found->uncovered) c.note("not covered by the digest: " + uncovered);
}

Verdict decide(Case& c, Time now) {
    const PlatformOpinion platform = form_platform_opinion(c.checks, c.standard.policy, c.platform, c.facts.policy, now);
    check_session(c, platform.chain);
    check_guest_policy(c);
    check_evidence(c);
    if (const auto* report = std::get_if<psp::AttestationReport>(&c.launch.proof)) check_report(c, *report, platform.chain);
    check_digest(c);
    Verdict verdict;
    verdict.session_id = c.facts.id;
    verdict.launch_name = c.facts.launch_name;
    verdict.evidence = c.launch.kind();
    verdict.judged_at = now;
    const auto product = platform.root ? std::optional{platform.root->product} : std::nullopt;
    verdict.advisories = check_advisories(c.checks, c.standard.advisories,
                                          {.product = product, .build = c.launch.build, .policy = c.facts.policy, .emulated = platform.emulated},
                                          c.standard.policy.accepted_advisories);
    verdict.checks = c.checks.take();
    verdict.level = platform.level;
    verdict.emulated = platform.emulated;
    if (platform.root) verdict.root = platform.root->label;
    if (c.matched) verdict.reference = c.matched->name;
    verdict.notes = std::move(c.notes);
    return verdict;
}

} // namespace

TrustedVerdict::TrustedVerdict(Verdict verdict, SessionFacts facts, psp::TransportKeys keys, psp::ApiVersion api, const Digest& measure,
                               std::optional<measure::Area> secret_block)
    : verdict_{std::move(verdict)}, facts_{std::move(facts)}, keys_{std::make_unique<psp::TransportKeys>(std::move(keys))}, api_{api},
      measure_{measure}, secret_block_{secret_block} {}

Judgement judge(Session session, const PlatformEvidence& platform, const LaunchEvidence& launch, const Standard& standard, Time now) {
    SessionFacts facts = session.facts();
    psp::TransportKeys keys = session.spend();
    Case c{.facts = facts, .tik = &keys.tik, .platform = platform, .launch = launch, .standard = standard};
    Judgement out{.verdict = decide(c, now), .trusted = std::nullopt};
    const auto* measurement = std::get_if<psp::LaunchMeasurement>(&launch.proof);
    if (!out.verdict.trusted() || !measurement) return out;
    require(c.matched != nullptr, "a trusted launch matched a reference");
    const auto secret_block = c.matched->secret_block;
    out.trusted = TrustedVerdict{out.verdict, std::move(facts), std::move(keys), launch.build.api(), measurement->measure, secret_block};
    return out;
}

Verdict judge_report(const SessionFacts& facts, const PlatformEvidence& platform, const LaunchEvidence& launch, const Standard& standard, Time now) {
    Case c{.facts = facts, .tik = nullptr, .platform = platform, .launch = launch, .standard = standard};
    return decide(c, now);
}

} // namespace sev::attest
