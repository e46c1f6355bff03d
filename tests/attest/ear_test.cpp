// SPDX-License-Identifier: Apache-2.0
// Verdicts as attestation results. The JWT that must be read was made by tests/fixtures/make_owner_vectors.py; tests/owner/owner_test.py reads ours
// with Python's `cryptography`.
#include "attest/ear.hpp"
#include "attest/sign_jws.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;

namespace {

const json::Value& known() {
    static const json::Value value = json::parse(read_text(test::fixture("owner/answers.json"), 1U << 20), "answers");
    return value;
}
P384Key key() { return P384Key::from_scalar(unhex<48>(known().at("owners").at(0).at("scalar").get<std::string>())); }

/// The verdict on hardware that no fixture has: AMD's root, SEV-ES, nothing known against it.
Verdict best() {
    Verdict out = test::FixtureLaunch{}.judge().verdict;
    out.emulated = false;
    out.level = 5;
    out.root = "AMD ARK Milan";
    out.advisories.clear();
    return out;
}
void fail(Verdict& verdict, std::string_view check) {
    const auto found = std::ranges::find(verdict.checks, check, &psp::Check::check);
    REQUIRE(found != verdict.checks.end());
    found->passed = false;
}

} // namespace

TEST_CASE("EAR: one that an independent implementation wrote is read, whole") {
    const auto result = read_attestation_result(known().at("ear").at("jwt").get<std::string>(), owner_key(key()), "EAR");
    CHECK(result.to_json() == known().at("ear").at("claims"));
    CHECK(result.status == TrustTier::warning);
    CHECK(result.vector == TrustVector{.instance_identity = 2, .configuration = 2, .executables = 3, .hardware = 32, .runtime_opaque = 2});
    CHECK(text(result.issued_at) == "2026-06-01T12:00:00Z");
    CHECK(result.launch_name == "vault");
    CHECK(result.policy_id == known().at("ear").at("claims").at("submods").at("guest").at("ear_appraisal_policy_ids").at(0).get<std::string>());
    CHECK_THROWS_AS(read_attestation_result(known().at("ear").at("jwt").get<std::string>(), owner_key(P384Key::generate()), "EAR"), Error);
    const std::string jwt = known().at("ear").at("jwt").get<std::string>();
    for (std::size_t size = 0; size < jwt.size(); size += 3)
        CHECK_THROWS_AS(read_attestation_result(jwt.substr(0, size), owner_key(key()), "EAR"), Error);
}

TEST_CASE("EAR: the vector says what the verdict supports, and no more") {
    CHECK(trust_vector(best()) == TrustVector{.instance_identity = 2, .configuration = 2, .executables = 3, .hardware = 2, .runtime_opaque = 2});
    CHECK(trust_vector(best()).tier() == TrustTier::affirming);
    SUBCASE("an emulated PSP, and every level below L3, affirm neither hardware nor run time") {
        for (unsigned level = 0; level <= 5; ++level)
            for (const bool emulated : {false, true}) {
                Verdict verdict = best();
                verdict.level = level;
                verdict.emulated = emulated;
                const TrustVector vector = trust_vector(verdict);
                const bool real = level >= 3 && !emulated;
                CHECK(vector.hardware == (real ? 2 : 97));
                CHECK(vector.runtime_opaque == (!real ? 96 : level == 5 ? 2 : 32));
                CHECK((vector.tier() == TrustTier::affirming) == (real && level == 5));
                if (emulated) CHECK(vector.instance_identity == 97);
            }
    }
    SUBCASE("a known weakness is a warning") {
        Verdict verdict = best();
        verdict.advisories.push_back({.id = "X", .severity = Severity::warn, .accepted = false, .text = {}, .source = {}});
        CHECK(trust_vector(verdict).hardware == 32);
        CHECK(trust_vector(verdict).tier() == TrustTier::warning);
    }
    SUBCASE("a failed check shows in its place, and never affirms") {
        const auto with = [](std::string_view check) {
            Verdict verdict = best();
            fail(verdict, check);
            CHECK(attestation_result(verdict, owner_key(key()), "b", "p").status == TrustTier::contraindicated);
            return trust_vector(verdict);
        };
        CHECK(with("chain.pek.signature_by_cek").hardware == 97);
        CHECK(with("chain.pek.signature_by_cek").instance_identity == 97);
        CHECK(with("platform.chip").instance_identity == 97);
        CHECK(with("platform.build_minimum").hardware == 32);
        CHECK(with("policy.required_bits").configuration == 96);
        CHECK(with("session.policy").configuration == 96);
        CHECK(with("launch.digest").executables == 99);
        for (const psp::Check& check : best().checks) with(check.check);
    }
    SUBCASE("a verdict without checks affirms nothing") {
        const TrustVector vector = trust_vector(Verdict{});
        CHECK(vector.tier() == TrustTier::contraindicated);
        CHECK(vector.hardware == 97);
        CHECK(vector.configuration == 96);
    }
}

TEST_CASE("EAR: round trip of a trusted and of an untrusted verdict") {
    for (const bool trusted : {true, false}) {
        Verdict verdict = test::FixtureLaunch{}.judge().verdict;
        if (!trusted) fail(verdict, "launch.digest");
        const auto result = attestation_result(verdict, owner_key(key()), "sev-owner 1", "xen-sev:web:00");
        CHECK(result.trusted == trusted);
        CHECK(result.status == TrustTier::contraindicated);
        const std::string jwt = sign_attestation_result(result, key());
        CHECK(read_attestation_result(jwt, owner_key(key()), "EAR") == result);
        CHECK(render(result).find(trusted ? "trusted launch" : "NOT TRUSTED launch") == 0);
    }
}

TEST_CASE("EAR: the reader is strict") {
    const json::Value good = known().at("ear").at("claims");
    CHECK_NOTHROW(AttestationResult::from_json(good, "EAR"));
    const auto refused = [&](const char* pointer, const json::Value& value, const char* why) {
        json::Value bad = good;
        bad[json::Value::json_pointer{pointer}] = value;
        INFO(pointer);
        CHECK_THROWS_WITH_AS(AttestationResult::from_json(bad, "EAR"), doctest::Contains(why), Error);
    };
    refused("/eat_profile", "tag:github.com,2023:veraison/ear", "eat_profile");
    refused("/iat", "1780315200", "iat");
    refused("/iat", -1, "iat");
    refused("/exp", 1, "exp");
    refused("/ear_verifier_id/developer", "another", "developer");
    refused("/submods/host", json::Value::object(), "host");
    refused("/submods/guest/ear_status", "affirming", "what it is made of says warning");
    refused("/submods/guest/ear_status", "none", "what it is made of says warning");
    refused("/submods/guest/ear_status", "contraindicated", "what it is made of says warning");
    refused("/submods/guest/ear_status", "splendid", "want none");
    refused("/submods/guest/ear_trustworthiness_vector/hardware", 2, "what it is made of says affirming");
    refused("/submods/guest/ear_trustworthiness_vector/hardware", 3, "never says");
    refused("/submods/guest/ear_trustworthiness_vector/hardware", 128, "hardware");
    refused("/submods/guest/ear_trustworthiness_vector/hardware", -2, "hardware");
    refused("/submods/guest/ear_trustworthiness_vector/hardware", "2", "hardware");
    refused("/submods/guest/ear_trustworthiness_vector/file-system", 2, "file-system");
    refused("/submods/guest/ear_appraisal_policy_ids", json::Value::array(), "id of one policy");
    refused("/submods/guest/ear_raw_evidence", "x", "ear_raw_evidence");
    refused("/submods/guest/xen_sev_verdict/trusted", false, "says contraindicated");
    refused("/submods/guest/xen_sev_verdict/failed_checks", {"launch.digest"}, "1 checks failed");
    refused("/submods/guest/xen_sev_verdict/level", 6, "level");
    refused("/submods/guest/xen_sev_verdict/emulated", true, "calls an emulated PSP hardware");
    refused("/submods/guest/xen_sev_verdict/launch_name", "a\nb", "launch_name");
    refused("/submods/guest/xen_sev_verdict/surplus", 1, "surplus");
    for (const char* key : {"eat_profile", "iss", "iat", "ear_verifier_id", "submods"}) {
        json::Value bad = good;
        bad.erase(key);
        CHECK_THROWS_AS(AttestationResult::from_json(bad, "EAR"), Error);
    }
}
