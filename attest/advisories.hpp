// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "attest/protocol/verdict.hpp"
#include "psp/types.hpp"

namespace sev::attest {

/// When an advisory applies: every part that is present must hold.
struct AdvisoryPredicate {
    std::optional<std::vector<psp::Product>> products;
    std::optional<psp::Build> build_below;            // fixed in this build
    std::optional<std::uint32_t> policy_has, policy_lacks; // bits of the guest policy: all set; none set
    std::optional<bool> emulated;
    friend bool operator==(const AdvisoryPredicate&, const AdvisoryPredicate&) = default;
};
/// A known weakness of SEV: data, from attest/data/advisories.json.
struct Advisory {
    std::string id, title;
    Severity severity = Severity::fail; // fail: not trusted unless the policy accepts it by id
    AdvisoryPredicate applies;
    std::string text;   // what it means for the guest owner
    std::string remedy; // what to do; may say that there is nothing
    std::string source;
    friend bool operator==(const Advisory&, const Advisory&) = default;
};

/// JSON, format "xen-sev/advisories"; docs/schemas/advisories.schema.json. Unknown keys, double ids and an empty list are refused.
struct Advisories {
    static constexpr std::string_view format = "xen-sev/advisories";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 1024 * 1024;
    std::string revised; // date of the list, "2026-01-02"
    std::vector<Advisory> list;
    static Advisories from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    const Advisory* find(std::string_view id) const noexcept;
    friend bool operator==(const Advisories&, const Advisories&) = default;
};
/// The list that was built in (attest/data/advisories.json).
const Advisories& builtin_advisories();

struct AdvisorySubject {
    std::optional<psp::Product> product; // unknown: an advisory about products applies
    psp::Build build;
    psp::Policy policy;
    bool emulated = false;
};
bool applies(const Advisory& advisory, const AdvisorySubject& subject);
/// Those that apply, in the list's order.
std::vector<AdvisoryFinding> evaluate(const Advisories& advisories, const AdvisorySubject& subject, const std::vector<std::string>& accepted);

} // namespace sev::attest
