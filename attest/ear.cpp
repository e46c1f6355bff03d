// SPDX-License-Identifier: Apache-2.0
#include "attest/ear.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "attest/sign_jws.hpp"
#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t list_limit = 256, name_limit_bytes = 256;

bool passed(const Verdict& verdict, std::string_view check) {
    const auto found = std::ranges::find(verdict.checks, check, &psp::Check::check);
    return found != verdict.checks.end() && found->passed;
}

/// Whether checks of this family were made, and every one passed.
bool family_passed(const Verdict& verdict, std::string_view prefix) {
    bool any = false;
    for (const psp::Check& check : verdict.checks) {
        if (!check.check.starts_with(prefix)) continue;
        if (!check.passed) return false;
        any = true;
    }
    return any;
}

/// One element of the vector: its JSON key, where it is, and the values this verifier gives.
struct Element {
    std::string_view key;
    unsigned TrustVector::*value;
    std::array<unsigned, 5> known;
};
constexpr std::array elements{
    Element{"instance-identity", &TrustVector::instance_identity, {0, 2, 97, 97, 97}},
    Element{"configuration", &TrustVector::configuration, {0, 2, 96, 96, 96}},
    Element{"executables", &TrustVector::executables, {0, 3, 33, 99, 99}},
    Element{"hardware", &TrustVector::hardware, {0, 2, 32, 97, 97}},
    Element{"runtime-opaque", &TrustVector::runtime_opaque, {0, 2, 32, 96, 96}},
};

TrustTier tier_of(unsigned value) {
    if (value >= 96) return TrustTier::contraindicated;
    if (value >= 32) return TrustTier::warning;
    return value >= 2 ? TrustTier::affirming : TrustTier::none;
}

constexpr std::array tiers{TrustTier::none, TrustTier::affirming, TrustTier::warning, TrustTier::contraindicated};

TrustTier tier_from(json::Object& object, std::string_view key) {
    const std::string text = object.string(key, 64);
    const auto found = std::ranges::find(tiers, text, [](TrustTier tier) { return name(tier); });
    if (found == tiers.end()) object.refuse(key, fmt::format("is \"{}\", want none, affirming, warning or contraindicated", printable(text)));
    return *found;
}

TrustVector vector_from(json::Object object) {
    TrustVector out;
    for (const Element& element : elements) {
        if (!object.at(element.key).is_number_integer()) object.refuse(element.key, "is no number from 0 to 127");
        const auto value = static_cast<unsigned>(object.number(element.key, 127));
        if (std::ranges::find(element.known, value) == element.known.end())
            object.refuse(element.key, fmt::format("is {}, which this verifier never says", value));
        out.*element.value = value;
    }
    object.done();
    return out;
}

std::vector<std::string> names_from(json::Object& object, std::string_view key) {
    std::vector<std::string> out;
    const json::Value& list = object.array(key, list_limit);
    for (std::size_t i = 0; i < list.size(); ++i) {
        if (!list[i].is_string()) object.refuse(key, fmt::format("[{}] is no string", i));
        out.push_back(checked_name(list[i].get<std::string>(), fmt::format("{}: {}[{}]", object.what(), key, i)));
    }
    return out;
}

void verdict_from(json::Object object, AttestationResult& out) {
    out.session_id = object.hex<16>("session_id");
    out.launch_name = checked_name(object.string("launch_name"), object.what() + ": launch_name");
    out.trusted = object.boolean("trusted");
    out.level = static_cast<unsigned>(object.number("level", 5));
    out.emulated = object.boolean("emulated");
    if (object.has("root")) out.root = checked_text(object, "root", name_limit_bytes);
    if (object.has("reference")) out.reference = checked_text(object, "reference", name_limit_bytes);
    out.failed_checks = names_from(object, "failed_checks");
    out.advisories = names_from(object, "advisories");
    object.done();
    if (out.trusted && !out.failed_checks.empty()) object.refuse("trusted", fmt::format("is true, and {} checks failed", out.failed_checks.size()));
}

} // namespace

std::string_view name(TrustTier tier) {
    switch (tier) {
    case TrustTier::none: return "none";
    case TrustTier::affirming: return "affirming";
    case TrustTier::warning: return "warning";
    case TrustTier::contraindicated: return "contraindicated";
    }
    throw Error{Fault::bug, "no such trust tier"};
}

TrustTier TrustVector::tier() const {
    TrustTier worst = TrustTier::none;
    for (const Element& element : elements) worst = std::max(worst, tier_of(this->*element.value));
    return worst;
}

TrustVector trust_vector(const Verdict& verdict) {
    TrustVector out;
    const bool chain = family_passed(verdict, "chain.") && passed(verdict, "platform.root_kind") && verdict.root.has_value();
    const bool hardware = chain && !verdict.emulated;
    const bool weak = std::ranges::any_of(verdict.advisories, [](const AdvisoryFinding& finding) { return finding.id != "EMULATED-PSP"; });
    out.instance_identity = hardware && passed(verdict, "platform.chip") ? 2 : 97;
    out.hardware = !hardware || verdict.level < 3 ? 97 : weak || !passed(verdict, "platform.build_minimum") ? 32 : 2;
    out.configuration = family_passed(verdict, "policy.") && family_passed(verdict, "session.") && passed(verdict, "level.required") ? 2 : 96;
    out.executables = passed(verdict, "launch.digest") && passed(verdict, "evidence.kind") ? 3 : verdict.evidence == EvidenceKind::report ? 33 : 99;
    out.runtime_opaque = !hardware || verdict.level < 3 ? 96 : verdict.level >= 5 ? 2 : 32;
    return out;
}

AttestationResult attestation_result(const Verdict& verdict, const OwnerKey& issuer, std::string_view build, std::string policy_id) {
    AttestationResult out;
    out.issuer = issuer.thumbprint();
    out.issued_at = verdict.judged_at;
    out.build = build;
    out.vector = trust_vector(verdict);
    // whatever single element a failed check has no place in: a launch that is not trusted is contraindicated
    out.status = verdict.trusted() ? out.vector.tier() : TrustTier::contraindicated;
    out.policy_id = std::move(policy_id);
    out.session_id = verdict.session_id;
    out.launch_name = verdict.launch_name;
    out.trusted = verdict.trusted();
    out.level = verdict.level;
    out.emulated = verdict.emulated;
    out.root = verdict.root.value_or("");
    out.reference = verdict.reference.value_or("");
    for (const psp::Check& check : verdict.checks)
        if (!check.passed) out.failed_checks.push_back(check.check);
    for (const AdvisoryFinding& finding : verdict.advisories) out.advisories.push_back(finding.id);
    return out;
}

json::Value AttestationResult::to_json() const {
    json::Value vector_json = json::Value::object();
    for (const Element& element : elements) vector_json[std::string{element.key}] = vector.*element.value;
    json::Value verdict{
        {"session_id", hex(session_id)}, {"launch_name", launch_name}, {"trusted", trusted}, {"level", level}, {"emulated", emulated}};
    if (!root.empty()) verdict["root"] = root;
    if (!reference.empty()) verdict["reference"] = reference;
    verdict["failed_checks"] = failed_checks;
    verdict["advisories"] = advisories;
    json::Value guest{{"ear_status", name(status)},
                      {"ear_trustworthiness_vector", std::move(vector_json)},
                      {"ear_appraisal_policy_ids", json::Value::array({policy_id})},
                      {"xen_sev_verdict", std::move(verdict)}};
    return {{"eat_profile", profile},
            {"iss", issuer},
            {"iat", issued_at.time_since_epoch().count()},
            {"ear_verifier_id", {{"developer", developer}, {"build", build}}},
            {"submods", {{"guest", std::move(guest)}}}};
}

AttestationResult AttestationResult::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    AttestationResult out;
    if (const std::string found = object.string("eat_profile", 256); found != profile)
        object.refuse("eat_profile", fmt::format("is \"{}\", want \"{}\"", printable(found), profile));
    out.issuer = object.string("iss", 128);
    constexpr std::uint64_t year_9999 = 253402300799;
    if (!object.at("iat").is_number_integer()) object.refuse("iat", "is no number of seconds");
    out.issued_at = Time{std::chrono::seconds{static_cast<std::int64_t>(object.number("iat", year_9999))}};
    json::Object verifier = object.object("ear_verifier_id");
    if (verifier.string("developer", 64) != developer) verifier.refuse("developer", fmt::format("is not \"{}\"", developer));
    out.build = checked_name(verifier.string("build", 128), verifier.what() + ": build");
    verifier.done();
    json::Object submods = object.object("submods");
    json::Object guest = submods.object("guest");
    submods.done();
    object.done();
    out.status = tier_from(guest, "ear_status");
    out.vector = vector_from(guest.object("ear_trustworthiness_vector"));
    const json::Value& policies = guest.array("ear_appraisal_policy_ids", 1);
    if (policies.size() != 1 || !policies[0].is_string()) guest.refuse("ear_appraisal_policy_ids", "is not the id of one policy");
    out.policy_id = policies[0].get<std::string>();
    if (out.policy_id.size() > name_limit_bytes || out.policy_id != printable(out.policy_id, name_limit_bytes))
        guest.refuse("ear_appraisal_policy_ids", "is not printable text");
    verdict_from(guest.object("xen_sev_verdict"), out);
    guest.done();
    const TrustTier want = out.trusted ? out.vector.tier() : TrustTier::contraindicated;
    if (out.status != want) guest.refuse("ear_status", fmt::format("is {}, and what it is made of says {}", name(out.status), name(want)));
    if (out.emulated && (tier_of(out.vector.hardware) != TrustTier::contraindicated))
        guest.refuse("ear_trustworthiness_vector", "calls an emulated PSP hardware");
    return out;
}

std::string sign_attestation_result(const AttestationResult& result, const P384Key& key) {
    return sign_jws(key, AttestationResult::jws_type, result.to_json().dump());
}

AttestationResult read_attestation_result(std::string_view jwt, const OwnerKey& issuer, std::string_view what) {
    if (jwt.size() > AttestationResult::limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, want at most {}", what, jwt.size(), AttestationResult::limit_bytes)};
    const std::string payload = verify_jws(jwt, issuer, AttestationResult::jws_type, what);
    auto result = AttestationResult::from_json(json::parse(payload, what, {.bytes = AttestationResult::limit_bytes, .depth = 8}), what);
    if (result.issuer != issuer.thumbprint())
        throw Error{Fault::malformed, fmt::format("{}: \"iss\" is {}, want {}", what, printable(result.issuer), issuer.thumbprint())};
    return result;
}

std::string render(const AttestationResult& result) {
    std::string out = fmt::format("{} launch \"{}\": {}\n", result.trusted ? "trusted" : "NOT TRUSTED", result.launch_name, name(result.status));
    out += fmt::format("  issued     {} by {}\n  session    {}\n  policy     {}\n  level      L{}{}\n", text(result.issued_at), result.issuer,
                       hex(result.session_id), result.policy_id, result.level, result.emulated ? ", EMULATED PSP" : "");
    if (!result.root.empty()) out += fmt::format("  root       {}\n", result.root);
    if (!result.reference.empty()) out += fmt::format("  reference  {}\n", result.reference);
    for (const Element& element : elements)
        out += fmt::format("  {:<18} {:>3}  {}\n", element.key, result.vector.*element.value, name(tier_of(result.vector.*element.value)));
    for (const std::string& check : result.failed_checks) out += fmt::format("  FAIL {}\n", check);
    for (const std::string& advisory : result.advisories) out += fmt::format("  known weakness: {}\n", advisory);
    return out;
}

} // namespace sev::attest
