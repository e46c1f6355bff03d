// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/judge.hpp"
#include "attest/protocol/bundle.hpp"
#include "base/json.hpp"
#include "tests/support.hpp"

namespace sev::test {

/// tests/fixtures/attest/NAME, a JSON file made by make_attest_vectors.py.
inline json::Value attest_json(std::string_view name) {
    const Path path = fixture("attest") / name;
    return json::parse(read_text(path, 1U << 20), path.string(), {.bytes = 1U << 20, .depth = 16});
}
inline const json::Value& answers() {
    static const json::Value value = attest_json("answers.json");
    return value;
}
inline std::string string_of(const json::Value& value, std::string_view key) { return value.at(std::string{key}).get<std::string>(); }
template <std::size_t Size>
ByteArray<Size> hex_of(const json::Value& value, std::string_view key) {
    return unhex<Size>(string_of(value, key));
}
inline Bytes bytes_of(const json::Value& value, std::string_view key) { return try_unhex(string_of(value, key)).value(); }
template <class Key>
Key key_of(const json::Value& value, std::string_view name) {
    return Key{hex_of<16>(value, name)};
}
inline psp::SevCertificate fixture_pdh() {
    return psp::parse_chain(unbase64(string_of(attest_json("bundle.json").at("platform"), "chain"), "chain"), "chain").pdh.value();
}

/// Names of the checks that failed, in order, one space between them.
inline std::string failed(const std::vector<psp::Check>& checks) {
    std::string out;
    for (const psp::Check& check : checks)
        if (!check.passed) out += (out.empty() ? "" : " ") + check.check;
    return out;
}
inline const psp::Check* find_check(const std::vector<psp::Check>& checks, std::string_view name) {
    const auto found = std::ranges::find(checks, name, &psp::Check::check);
    return found == checks.end() ? nullptr : &*found;
}

inline const attest::Time june = attest::parse_time("2026-06-01T12:00:00Z", "test");

/// The fixture's launch, which is trusted as it is; a test changes one thing.
struct FixtureLaunch {
    attest::OwnerPolicy policy = attest::OwnerPolicy::load(fixture("attest/owner-policy.json"));
    attest::Bundle bundle = attest::read_message<attest::Bundle>(read_text(fixture("attest/bundle.json"), 1U << 20), "bundle");
    attest::Advisories advisories = attest::builtin_advisories();
    attest::Time now = june;
    attest::SessionFacts facts = attest::facts_of(bundle.offer, fixture_pdh());
    std::vector<attest::Reference> references = attest::resolve_references(policy);
    ByteArray<16> tek = hex_of<16>(answers().at("launch"), "tek"), tik = hex_of<16>(answers().at("launch"), "tik");

    attest::Session session() const { return {facts, psp::Tek{tek}, psp::Tik{tik}}; }
    attest::Standard standard() const { return {.policy = policy, .references = references, .advisories = advisories}; }
    attest::Judgement judge() const { return attest::judge(session(), bundle.platform, bundle.launch, standard(), now); }
    /// Makes the MEASURE anew, as firmware would after a change of policy, build or digest.
    void measure_again() {
        auto& measurement = std::get<psp::LaunchMeasurement>(bundle.launch.proof);
        measurement.measure =
            psp::expected_measurement(psp::Tik{tik}, bundle.launch.build, facts.policy, references.at(0).digest, measurement.mnonce);
    }
    void set_build(psp::Build build) { bundle.launch.build = bundle.platform.status.build = build; }
    void set_guest_policy(std::uint32_t value) {
        facts.policy = bundle.launch.policy = psp::Policy{value};
        measure_again();
    }
    /// Turns the launch into one judged by an attestation report: the one the PEK of the fixture's chain signed.
    void use_report() {
        const Bytes bytes = unbase64(string_of(answers(), "report"), "report");
        const auto report = psp::AttestationReport::parse(wire::exactly<208>(bytes, "report"));
        bundle.launch.proof = report;
        facts.policy = bundle.launch.policy = report.policy;
        set_build({.major = report.policy.minimum_api().major, .minor = report.policy.minimum_api().minor, .build = 48});
        policy.minimum_build = {};
        facts.report_nonce = report.mnonce;
        references = {{.name = "reported", .digest = report.launch_digest, .regions = {}, .secret_block = {}, .uncovered = {}}};
        policy.evidence = {attest::EvidenceKind::report};
        policy.accept_unproven_build = true;
        policy.forbidden_bits = 0;
    }
};

} // namespace sev::test
