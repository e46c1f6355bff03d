// SPDX-License-Identifier: Apache-2.0
#include "attest/judge_bundle.hpp"

#include <fmt/format.h>

namespace sev::attest {
namespace {

psp::Check check_times(const SignedBundle& bundle, const BundleKnowledge& known, Time now) {
    const auto said = [&](bool passed, std::string_view problem) {
        return psp::Check{"host.times", passed,
                          fmt::format("the host says: launched {}, measured {}, collected {}; it is {}{}", text(bundle.created_at),
                                      text(bundle.measured_at), text(bundle.collected_at), text(now), problem)};
    };
    if (bundle.measured_at < bundle.created_at || bundle.collected_at < bundle.measured_at) return said(false, ": these run backwards");
    if (bundle.collected_at > now + clock_patience) return said(false, fmt::format(": more than {} s ahead", clock_patience.count()));
    if (known.max_age && bundle.collected_at < now - *known.max_age) return said(false, fmt::format(": older than {} s", known.max_age->count()));
    return said(true, known.max_age ? fmt::format(", want at most {} s between", known.max_age->count()) : "; any age will do");
}

/// Whether the offer in the bundle is of the session whose TIK this is: its POLICY_MAC, which only the session's maker and the PSP can make.
bool made_under(const psp::Tik& tik, const SessionOffer& offer) {
    const auto blob = psp::SessionBlob::parse(wire::view(offer.session));
    return equal_in_constant_time(hmac_sha256(tik.reveal(), {wire::le32_bytes(offer.policy.value)}), blob.policy_mac);
}

psp::Check check_session(const SignedBundle& bundle, const BundleKnowledge& known) {
    const SessionOffer& shown = bundle.bundle.offer;
    const auto said = [](bool passed, std::string detail) { return psp::Check{"session.known", passed, std::move(detail)}; };
    if (known.offer && !(*known.offer == shown)) return said(false, "the offer in the bundle is not the one that the owner made");
    if (known.tik && !made_under(*known.tik, shown)) return said(false, "the session in the bundle is not the one whose TIK this is");
    if (known.offer) return said(true, "the offer in the bundle is the one that the owner made");
    if (bundle.bundle.launch.kind() == EvidenceKind::report)
        return said(false, "only the bundle says which nonce the report was asked with: the owner's own offer is not at hand");
    if (known.tik) return said(true, "the session in the bundle bears a POLICY_MAC under the owner's TIK");
    return said(false, "only the bundle speaks of this session: neither its TIK nor the owner's own offer is at hand");
}

} // namespace

Verdict judge_bundle(const SignedBundle& bundle, const HostKey& host, BundleKnowledge known, const Standard& standard, Time now) {
    std::vector<psp::Check> checks{
        {"host.signature", true, fmt::format("host {} signed the bundle of its launch {}; that attests nothing", host.thumbprint(), bundle.launch)},
        check_times(bundle, known, now), check_session(bundle, known)};
    const SessionOffer& offer = known.offer ? *known.offer : bundle.bundle.offer;
    SessionFacts facts{.id = offer.session_id,
                       .launch_name = offer.launch_name,
                       .policy = offer.policy,
                       .report_nonce = offer.report_nonce,
                       .pdh = known.pdh};
    const auto& [platform, unused, launch] = bundle.bundle;
    Verdict verdict;
    if (known.tik && launch.kind() == EvidenceKind::measurement) {
        // TEK only seals packets, and none is made here
        Session session{std::move(facts), psp::Tek::filled_by([](auto out) { random_bytes(out); }), *std::move(known.tik)};
        verdict = judge(std::move(session), platform, launch, standard, now).verdict;
    } else {
        verdict = judge_report(facts, platform, launch, standard, now);
    }
    verdict.checks.insert(verdict.checks.begin(), checks.begin(), checks.end());
    verdict.notes.push_back(fmt::format("{} collected this when the launch was {}", bundle.collector, bundle.state));
    return verdict;
}

} // namespace sev::attest
