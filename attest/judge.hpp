// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <vector>

#include "attest/advisories.hpp"
#include "attest/owner_policy.hpp"
#include "attest/protocol/launch_evidence.hpp"
#include "attest/protocol/platform_evidence.hpp"
#include "attest/protocol/secret_packet_message.hpp"
#include "attest/protocol/verdict.hpp"
#include "attest/reference.hpp"
#include "attest/session.hpp"

namespace sev::attest {

/// What the guest owner holds a platform or a launch against. All referred-to things outlive the call.
struct Standard {
    const OwnerPolicy& policy;
    const std::vector<Reference>& references; // resolve_references(policy)
    const Advisories& advisories = builtin_advisories();
};

/// The owner's opinion of a platform before there is a session: chain, root, chip, build, level and advisories for the policy's session_policy().
struct PlatformVerdict {
    std::vector<psp::Check> checks;
    std::optional<psp::Root> root;
    bool emulated = false;
    unsigned level = 0;
    std::vector<AdvisoryFinding> advisories;
    std::optional<psp::SevCertificate> pdh; // for create_session; set only when accepted
    bool accepted() const { return psp::all_passed(checks); }
};
/// judge_platform says whether the owner would make a session for this platform. Never throws for what the evidence contains.
PlatformVerdict judge_platform(const OwnerPolicy& policy, const PlatformEvidence& platform, Time now,
                               const Advisories& advisories = builtin_advisories());

struct Judgement;
struct SecretPlace;

/// The right to make secret packets for one launch: exists only as part of the judgement of a MEASURE that was trusted, with that session's keys.
/// Move-only; no public constructor. An attestation report gives none: a report does not say which session its guest was
/// launched with, so a host could show the report of one guest and inject into another.
class TrustedVerdict {
public:
    TrustedVerdict(TrustedVerdict&&) noexcept = default;
    TrustedVerdict& operator=(TrustedVerdict&&) noexcept = default;
    const Verdict& verdict() const noexcept { return verdict_; }
    const SessionFacts& session() const noexcept { return facts_; }
    const std::optional<measure::Area>& secret_block() const noexcept { return secret_block_; } // of the matched reference

private:
    friend Judgement judge(Session, const PlatformEvidence&, const LaunchEvidence&, const Standard&, Time); // alone makes one
    friend SecretPacketMessage seal(const TrustedVerdict&, const SecretPlace&, ByteView);                    // alone uses the keys
    TrustedVerdict(Verdict verdict, SessionFacts facts, psp::TransportKeys keys, psp::ApiVersion api, const Digest& measure,
                   std::optional<measure::Area> secret_block);
    Verdict verdict_;
    SessionFacts facts_;
    std::unique_ptr<psp::TransportKeys> keys_; // null once moved from
    psp::ApiVersion api_;
    Digest measure_;
    std::optional<measure::Area> secret_block_;
};

struct Judgement {
    Verdict verdict;
    std::optional<TrustedVerdict> trusted; // set when, and only when, verdict.trusted() and the evidence is a MEASURE
};

/// judge decides one launch and spends its session. The digest comes from the owner's references, never from the descriptor, which only explains
/// a mismatch. Every check is made and reported, in this order (all are always there, except where noted):
///   policy.validity; chain.* (psp/chain.hpp); platform.root_kind; platform.backend; platform.chip; platform.build_minimum; level.required;
///   session.id; session.launch_name; session.policy; session.pdh; launch.build; policy.required_bits; policy.forbidden_bits;
///   policy.minimum_api; policy.reserved_bits; evidence.kind; evidence.build_proven; report.signature and report.nonce and report.policy (reports
///   only); launch.digest; advisories; advisory.ID for each that applies with severity fail.
/// Never throws for what the evidence contains; Error{Fault::bug} for a spent session, Error{Fault::system} when OpenSSL fails.
/// `now` is the time of judging. Source: SEV API (AMD 55766) LAUNCH_MEASURE, ATTESTATION.
Judgement judge(Session session, const PlatformEvidence& platform, const LaunchEvidence& launch, const Standard& standard, Time now);

/// Judges an attestation report without a session's keys. Measurement evidence fails "evidence.kind".
Verdict judge_report(const SessionFacts& facts, const PlatformEvidence& platform, const LaunchEvidence& launch, const Standard& standard, Time now);

} // namespace sev::attest
