// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/verdict.hpp"

#include <fmt/format.h>

#include "attest/protocol/platform_evidence.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t text_limit_bytes = 4096;

psp::Check check_from_json(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    psp::Check out{.check = checked_name(object.string("check"), what + ": check"), .passed = object.boolean("passed"),
                   .detail = checked_text(object, "detail", text_limit_bytes)};
    object.done();
    return out;
}

AdvisoryFinding finding_from_json(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    AdvisoryFinding out;
    out.id = checked_name(object.string("id"), what + ": id");
    const std::string severity = object.string("severity", 16);
    const auto known = severity_named(severity);
    if (!known) object.refuse("severity", fmt::format("is \"{}\", want fail or warn", printable(severity)));
    out.severity = *known;
    out.accepted = object.boolean("accepted");
    out.text = checked_text(object, "text", text_limit_bytes);
    out.source = checked_text(object, "source", text_limit_bytes);
    object.done();
    return out;
}

} // namespace

std::string_view name(Severity severity) {
    switch (severity) {
    case Severity::fail: return "fail";
    case Severity::warn: return "warn";
    }
    return "undefined";
}

std::optional<Severity> severity_named(std::string_view wanted) {
    for (const auto severity : {Severity::fail, Severity::warn})
        if (name(severity) == wanted) return severity;
    return std::nullopt;
}

Verdict Verdict::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    Verdict out;
    const bool trusted = object.boolean("trusted");
    out.session_id = object.hex<16>("session_id");
    out.launch_name = checked_name(object.string("launch_name"), object.what() + ": launch_name");
    const std::string evidence = object.string("evidence", 32);
    const auto kind = evidence_kind_named(evidence);
    if (!kind) object.refuse("evidence", fmt::format("is \"{}\", want measurement or report", printable(evidence)));
    out.evidence = *kind;
    out.judged_at = parse_time(object.string("judged_at", 64), object.what() + ": judged_at");
    out.level = static_cast<unsigned>(object.number("level", highest_level));
    out.emulated = object.boolean("emulated");
    if (object.has("root")) out.root = checked_name(object.string("root"), object.what() + ": root");
    if (object.has("reference")) out.reference = checked_name(object.string("reference"), object.what() + ": reference");
    const json::Value& checks = object.array("checks", check_limit);
    for (std::size_t i = 0; i < checks.size(); ++i) out.checks.push_back(check_from_json(checks[i], fmt::format("{}: checks[{}]", what, i)));
    const json::Value& advisories = object.array("advisories", advisory_limit);
    for (std::size_t i = 0; i < advisories.size(); ++i)
        out.advisories.push_back(finding_from_json(advisories[i], fmt::format("{}: advisories[{}]", what, i)));
    const json::Value& notes = object.array("notes", note_limit);
    for (std::size_t i = 0; i < notes.size(); ++i) {
        const json::Value wrapped{{"note", notes[i]}};
        json::Object note{wrapped, fmt::format("{}: notes[{}]", what, i)};
        out.notes.push_back(checked_text(note, "note", text_limit_bytes));
    }
    object.done();
    if (trusted != out.trusted()) object.refuse("trusted", fmt::format("is {}, but the checks say {}", trusted, out.trusted()));
    return out;
}

json::Value Verdict::to_json() const {
    json::Value out = with_format(format, version);
    out["trusted"] = trusted();
    out["session_id"] = hex(session_id);
    out["launch_name"] = launch_name;
    out["evidence"] = name(evidence);
    out["judged_at"] = text(judged_at);
    out["level"] = level;
    out["emulated"] = emulated;
    if (root) out["root"] = *root;
    if (reference) out["reference"] = *reference;
    json::Value& list = out["checks"] = json::Value::array();
    for (const psp::Check& check : checks) list.push_back({{"check", check.check}, {"passed", check.passed}, {"detail", check.detail}});
    json::Value& found = out["advisories"] = json::Value::array();
    for (const AdvisoryFinding& finding : advisories)
        found.push_back({{"id", finding.id},
                         {"severity", name(finding.severity)},
                         {"accepted", finding.accepted},
                         {"text", finding.text},
                         {"source", finding.source}});
    out["notes"] = notes;
    return out;
}

} // namespace sev::attest
