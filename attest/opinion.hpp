// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "attest/judge.hpp"

/// Inside of judge_platform and judge: what they share.
namespace sev::attest {

/// The checks of one judgement, in the order they are made.
class CheckList {
public:
    void add(std::string check, bool passed, std::string detail) { checks_.push_back({std::move(check), passed, std::move(detail)}); }
    void add(const std::vector<psp::Check>& more) { checks_.insert(checks_.end(), more.begin(), more.end()); }
    std::vector<psp::Check> take() { return std::move(checks_); }

private:
    std::vector<psp::Check> checks_;
};

struct PlatformOpinion {
    psp::Chain chain;
    std::optional<psp::Root> root;
    bool emulated = false;
    unsigned level = 0; // what root and guest policy support, at most what the host claims
};
/// Adds policy.validity, chain.*, platform.* and level.required.
PlatformOpinion form_platform_opinion(CheckList& checks, const OwnerPolicy& policy, const PlatformEvidence& platform, psp::Policy guest_policy,
                                      Time now);

/// Adds "advisories", and "advisory.ID" for each that applies with severity fail.
std::vector<AdvisoryFinding> check_advisories(CheckList& checks, const Advisories& advisories, const AdvisorySubject& subject,
                                              const std::vector<std::string>& accepted);

} // namespace sev::attest
