// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attest/advisories.hpp"
#include "attest/owner/policies.hpp"
#include "attest/owner/store.hpp"

/// The owner's web page, as text: HTML without script, written on the server. Whatever comes from outside is escaped on its way in; what cannot be
/// read is shown as such, and no page fails for it. Pure functions.
namespace sev::attest::owner {

/// Text fit for element content and quoted attributes.
std::string escaped(std::string_view text);

struct ShownPolicy {
    std::string name;
    std::shared_ptr<const PolicySnapshot> snapshot; // or
    std::string problem;
};
struct OverviewData {
    std::string owner; // thumbprint
    Time now{};
    StoreCounts counts;
    AuditHead head;
    std::vector<SessionSummary> sessions; // newest first; those in `state` alone when there is one, after the first `offset`
    std::optional<SessionState> state;
    std::size_t offset = 0;
    std::vector<SessionSummary> platforms; // sessions that stand for the platforms seen
    std::vector<ShownPolicy> policies;
};
/// Launches, platforms and policies at a glance.
std::string overview_page(const OverviewData& data);
/// One launch: its verdict with every check, its platform, its session.
std::string session_page(const SessionSummary& session);
/// A policy: what it asks for, and its reference values.
std::string policy_page(const PolicySnapshot& snapshot);
std::string advisories_page(const Advisories& advisories);
std::string missing_page(std::string_view why);
/// The one style sheet: light and dark, wide and narrow.
std::string_view style_sheet();

} // namespace sev::attest::owner
