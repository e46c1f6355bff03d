// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <vector>

#include "attest/protocol/launch_evidence.hpp"
#include "attest/protocol/message.hpp"
#include "psp/check.hpp"

namespace sev::attest {

enum class Severity { fail, warn };
std::string_view name(Severity severity); // "fail", "warn"
std::optional<Severity> severity_named(std::string_view name);

/// A known weakness that applies to the judged launch.
struct AdvisoryFinding {
    std::string id;
    Severity severity = Severity::fail;
    bool accepted = false; // the owner's policy accepts it by id
    std::string text, source;
    friend bool operator==(const AdvisoryFinding&, const AdvisoryFinding&) = default;
};

/// The guest owner's answer: every check made, in order, passed or failed with the reason. Trusted only if at least one was made and all passed.
/// A value that anybody can write: it lets no packet be made (only `judge` makes the `TrustedVerdict` that does).
/// JSON: format "xen-sev/verdict", docs/schemas/verdict.schema.json; a "trusted" that contradicts the checks is refused. No key, secret or MAC is in
/// it.
struct Verdict {
    static constexpr std::string_view format = "xen-sev/verdict";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 256 * 1024;
    static constexpr std::size_t check_limit = 256, advisory_limit = 256, note_limit = 256;

    SessionId session_id{};
    std::string launch_name;
    EvidenceKind evidence = EvidenceKind::measurement;
    Time judged_at{};
    std::vector<psp::Check> checks;
    unsigned level = 0;                   // what the evidence supports, never more than the host claims
    bool emulated = false;                // the chain ends at an emulated root
    std::optional<std::string> root;      // label of the root the chain ends at
    std::optional<std::string> reference; // name of the reference that matched
    std::vector<AdvisoryFinding> advisories;
    std::vector<std::string> notes;       // for people: which regions differ, what is not covered

    bool trusted() const { return psp::all_passed(checks); }
    static Verdict from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const Verdict&, const Verdict&) = default;
};

/// How much of a verdict people want to see: every check, or what failed and how many passed, with known weaknesses by id.
enum class Detail { all, failures };
/// Text of a verdict for people: one line a check ("pass"/"FAIL"), advisories and notes, the answer last; lines of at most `columns`.
std::string render(const Verdict& verdict, std::size_t columns = 80, Detail detail = Detail::all);

} // namespace sev::attest
