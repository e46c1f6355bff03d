// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "attest/opinion.hpp"
#include "base/error.hpp"

namespace sev::attest {
namespace {

void check_validity(CheckList& checks, const OwnerPolicy& policy, Time now) {
    const bool valid = policy.not_before <= now && now <= policy.not_after;
    checks.add("policy.validity", valid,
               fmt::format("the policy is valid from {} to {}, and it is {}", text(policy.not_before), text(policy.not_after), text(now)));
}

psp::Chain parsed_chain(CheckList& checks, const PlatformEvidence& platform) {
    try {
        psp::Chain chain = psp::parse_chain(platform.chain, "certificate chain");
        checks.add("chain.format", true, fmt::format("{} bytes of certificates", platform.chain.size()));
        return chain;
    } catch (const Error& error) {
        // what the host sent is judged: bytes that are no chain are a failed check like any other
        checks.add("chain.format", false, error.what());
        return {};
    }
}

const OtherRoot* other_root(const OwnerPolicy& policy, const std::optional<psp::Root>& root) {
    if (!root || root->amd || root->pinned_cek) return nullptr;
    const auto found = std::ranges::find(policy.other_roots, root->fingerprint, &OtherRoot::fingerprint);
    return found == policy.other_roots.end() ? nullptr : &*found;
}

const PinnedChip* pinned_chip(const OwnerPolicy& policy, const std::optional<psp::Root>& root) {
    if (!root || !root->pinned_cek) return nullptr;
    const auto found = std::ranges::find(policy.pinned_chips, root->fingerprint, &PinnedChip::cek);
    return found == policy.pinned_chips.end() ? nullptr : &*found;
}

void check_root_kind(CheckList& checks, const PlatformOpinion& opinion, bool bears_mark, const OtherRoot* other, const PinnedChip* pinned) {
    const std::string_view mark = bears_mark ? "bears the mark of an emulated PSP" : "does not bear the mark of an emulated PSP";
    if (!opinion.root) checks.add("platform.root_kind", false, fmt::format("no root matched, and the chain {}", mark));
    else if (opinion.root->amd)
        checks.add("platform.root_kind", !bears_mark, fmt::format("\"{}\" is AMD's, and the chain {}", opinion.root->label, mark));
    else if (opinion.root->pinned_cek)
        checks.add("platform.root_kind", pinned != nullptr,
                   fmt::format("endorsement: pinned by the owner, not AMD: \"{}\" is {} by the owner's word", opinion.root->label,
                               pinned && pinned->emulated ? "an emulated PSP" : "AMD hardware"));
    else {
        const bool says_emulated = other && other->emulated;
        checks.add("platform.root_kind", other && says_emulated == bears_mark,
                   fmt::format("the policy names \"{}\" as {} root, and the chain {}", opinion.root->label, says_emulated ? "an emulated" : "another",
                               mark));
    }
}

void check_chip(CheckList& checks, const OwnerPolicy& policy, const PlatformEvidence& platform, const psp::Chain& chain) {
    if (!policy.chips) return checks.add("platform.chip", true, "the policy allows any chip below its roots");
    if (!chain.cek) return checks.add("platform.chip", false, "there is no CEK to name the chip");
    const Digest cek = chain.cek->fingerprint();
    const auto found = std::ranges::find(*policy.chips, cek, &AllowedChip::cek);
    if (found == policy.chips->end())
        return checks.add("platform.chip", false, fmt::format("CEK {} is none of the {} allowed chips", hex(cek), policy.chips->size()));
    const bool id_fits = !found->id || found->id == platform.chip_id;
    checks.add("platform.chip", id_fits,
               id_fits ? fmt::format("CEK {} is chip \"{}\"", hex(cek), found->label)
                       : fmt::format("CEK {} is chip \"{}\", but its id is {}, want {}", hex(cek), found->label,
                                     platform.chip_id ? hex(*platform.chip_id) : std::string{"missing"}, hex(*found->id)));
}

/// Only AMD's hardware, by AMD's word or the owner's, supports more than L1; SEV-ES makes the difference between L4 and L5.
unsigned ceiling(const std::optional<psp::Root>& root, const PinnedChip* pinned, psp::Policy guest_policy) {
    const bool hardware = root && (root->amd || (pinned && !pinned->emulated));
    if (!hardware) return 1;
    return guest_policy.wants_es() ? 5 : 4;
}

} // namespace

PlatformOpinion form_platform_opinion(CheckList& checks, const OwnerPolicy& policy, const PlatformEvidence& platform, psp::Policy guest_policy,
                                      Time now) {
    PlatformOpinion opinion;
    check_validity(checks, policy, now);
    opinion.chain = parsed_chain(checks, platform);
    const psp::ChainVerdict chain = psp::verify_chain(opinion.chain, policy.roots());
    checks.add(chain.checks);
    opinion.root = chain.root;
    const OtherRoot* other = other_root(policy, chain.root);
    const PinnedChip* pinned = pinned_chip(policy, chain.root);
    opinion.emulated = chain.emulated || (other && other->emulated) || (pinned && pinned->emulated);
    check_root_kind(checks, opinion, chain.emulated, other, pinned);
    checks.add("platform.backend", platform.backend != Backend::emulated || opinion.emulated,
               fmt::format("the PSP is reached by backend \"{}\", and the root is {}", name(platform.backend),
                           opinion.emulated ? "emulated" : "not emulated"));
    check_chip(checks, policy, platform, opinion.chain);
    checks.add("platform.build_minimum", platform.build() >= policy.minimum_build,
               fmt::format("SEV firmware {}, want {} or newer", platform.build().text(), policy.minimum_build.text()));
    const unsigned supported = ceiling(opinion.root, pinned, guest_policy);
    opinion.level = std::min(platform.level, supported);
    checks.add(
        "level.required", opinion.level >= policy.level,
        fmt::format("the host claims level {}, its root and the guest policy support {}; want at least {}", platform.level, supported, policy.level));
    return opinion;
}

std::vector<AdvisoryFinding> check_advisories(CheckList& checks, const Advisories& advisories, const AdvisorySubject& subject,
                                              const std::vector<std::string>& accepted) {
    std::vector<AdvisoryFinding> findings = evaluate(advisories, subject, accepted);
    checks.add("advisories", !advisories.list.empty(),
               fmt::format("{} known weaknesses (list of {}), {} apply", advisories.list.size(), advisories.revised, findings.size()));
    for (const AdvisoryFinding& finding : findings)
        if (finding.severity == Severity::fail)
            checks.add("advisory." + finding.id, finding.accepted, finding.accepted ? "accepted by the policy: " + finding.text : finding.text);
    return findings;
}

PlatformVerdict judge_platform(const OwnerPolicy& policy, const PlatformEvidence& platform, Time now, const Advisories& advisories) {
    CheckList checks;
    const psp::Policy guest_policy = policy.session_policy();
    PlatformOpinion opinion = form_platform_opinion(checks, policy, platform, guest_policy, now);
    const std::optional<psp::Product> product = opinion.root ? std::optional{opinion.root->product} : std::nullopt;
    PlatformVerdict out;
    out.advisories =
        check_advisories(checks, advisories, {.product = product, .build = platform.build(), .policy = guest_policy, .emulated = opinion.emulated},
                         policy.accepted_advisories);
    out.checks = checks.take();
    out.root = std::move(opinion.root);
    out.emulated = opinion.emulated;
    out.level = opinion.level;
    if (out.accepted()) out.pdh = opinion.chain.pdh;
    return out;
}

} // namespace sev::attest
