// SPDX-License-Identifier: Apache-2.0
// A bundle that a host signed, judged elsewhere. Expected values: tests/fixtures/make_bundle_vectors.py (Python's `cryptography`).
#include "attest/judge_bundle.hpp"
#include "attest/sign_jws.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;
using sev::test::failed;
using sev::test::FixtureLaunch;

namespace {

HostKey key_in(const char* name) { return HostKey::from_json(json::parse(read_text(test::fixture(name), 4096), name), name); }
HostKey host() { return key_in("attest/host.jwk"); }
std::string bundle_text() { return read_text(test::fixture("attest/signed-bundle.jws"), 1U << 20); }
SignedBundle known_bundle() { return open_signed_bundle(bundle_text(), host(), "bundle"); }

/// A launch that is trusted as it is, from its bundle alone; a test changes one thing.
struct Case {
    FixtureLaunch launch;
    SignedBundle bundle = known_bundle();
    bool with_tik = true, with_offer = false;
    ByteArray<16> tik = launch.tik;
    SessionOffer offer = bundle.bundle.offer;
    std::optional<std::chrono::seconds> max_age{};
    Time now = parse_time("2026-06-01T00:00:00Z", "test");

    Verdict verdict() const {
        BundleKnowledge known{.pdh = launch.facts.pdh};
        if (with_tik) known.tik.emplace(tik);
        if (with_offer) known.offer = offer;
        known.max_age = max_age;
        return judge_bundle(bundle, host(), std::move(known), launch.standard(), now);
    }
    std::string failures() const { return failed(verdict().checks); }
    /// As FixtureLaunch::use_report, in the bundle.
    void use_report() {
        launch.use_report();
        bundle.bundle.launch = launch.bundle.launch;
        bundle.bundle.platform = launch.bundle.platform;
        bundle.bundle.offer.policy = offer.policy = launch.facts.policy;
        bundle.bundle.offer.report_nonce = offer.report_nonce = launch.facts.report_nonce;
    }
};

} // namespace

TEST_CASE("signed bundle: known answer, signed by an independent implementation; round trip") {
    const SignedBundle bundle = known_bundle();
    CHECK(bundle.launch == 7);
    CHECK(bundle.state == "running");
    CHECK(bundle.collector == "sevd test");
    CHECK(text(bundle.created_at) == "2026-05-31T23:50:00Z");
    CHECK(text(bundle.measured_at) == "2026-05-31T23:50:02Z");
    CHECK(text(bundle.collected_at) == "2026-05-31T23:55:00Z");
    CHECK(bundle.bundle == FixtureLaunch{}.bundle);
    CHECK(read_message<SignedBundle>(bundle.to_json().dump(), "bundle") == bundle);
    const P384Key key = P384Key::generate();
    CHECK(open_signed_bundle(sign_jws(key, SignedBundle::jws_type, bundle.to_json().dump()), owner_key(key), "bundle") == bundle);
}

TEST_CASE("signed bundle: another key, type or version, and every sort of damage, are refused") {
    const std::string good = bundle_text();
    CHECK_THROWS_WITH_AS(open_signed_bundle(good, key_in("attest/other-host.jwk"), "file"), doctest::Contains("want the pinned"), Error);
    CHECK_THROWS_WITH_AS(open_signed_bundle(good + "\n", host(), "file"), doctest::Contains("file: a part of the JWS is not base64url"), Error);
    for (std::size_t length = 0; length + 1 < good.size(); length += 1 + length / 64) {
        CAPTURE(length);
        CHECK_THROWS_AS(open_signed_bundle(good.substr(0, length), host(), "file"), Error);
    }
    for (std::size_t at = 0; at + 1 < good.size(); at += 1 + good.size() / 997) {
        CAPTURE(at);
        std::string bad = good;
        bad[at] = bad[at] == 'A' ? 'B' : 'A';
        CHECK_THROWS_AS(open_signed_bundle(bad, host(), "file"), Error);
    }
    CHECK_THROWS_WITH_AS(open_signed_bundle(std::string(SignedBundle::wire_limit_bytes + 1, 'e'), host(), "file"), doctest::Contains("want at most"),
                         Error);
    const P384Key key = P384Key::generate();
    const auto refused = [&](std::string_view type, const std::string& payload, const char* why) {
        CHECK_THROWS_WITH_AS(open_signed_bundle(sign_jws(key, type, payload), owner_key(key), "file"), doctest::Contains(why), Error);
    };
    const std::string payload = known_bundle().to_json().dump();
    refused("vnd.xen-sev.bundle+jws;version=2", payload, "typ");
    refused("xen-sev-answer+jwt", payload, "typ");
    const auto changed = [&](const char* field, const json::Value& value) {
        json::Value out = known_bundle().to_json();
        out[field] = value;
        return out.dump();
    };
    const std::string_view type = SignedBundle::jws_type;
    refused(type, changed("format", "xen-sev/bundle"), "format");
    refused(type, changed("version", 2), "version");
    refused(type, changed("surprise", 1), "surprise");
    refused(type, changed("launch", 0), "launch");
    refused(type, changed("launch", -1), "launch");
    refused(type, changed("launch", 1e300), "launch");
    refused(type, changed("state", ""), "state");
    refused(type, changed("state", "a\nb"), "state");
    refused(type, changed("collector", 7), "collector");
    refused(type, changed("measured_at", "yesterday"), "measured_at");
    refused(type, changed("bundle", json::Value::array()), "bundle");
    refused(type, std::string(100, '[') + std::string(100, ']'), "nested deeper");
    refused(type, R"({"launch":1,"launch":2})", "launch");
    const json::Value whole = known_bundle().to_json();
    for (const auto& [field, value] : whole.items()) {
        json::Value lacking = whole;
        lacking.erase(field);
        refused(type, lacking.dump(), field.c_str());
    }
}

TEST_CASE("judge_bundle: the fixture's bundle is trusted with the session's TIK, and says what it rests on") {
    const Verdict verdict = Case{}.verdict();
    CHECK(failed(verdict.checks) == "");
    CHECK(verdict.trusted());
    CHECK(verdict.checks.at(0).check == "host.signature");
    CHECK(verdict.checks.at(1).check == "host.times");
    CHECK(verdict.checks.at(2).check == "session.known");
    CHECK(verdict.checks.size() == FixtureLaunch{}.judge().verdict.checks.size() + 3);
    CHECK(verdict.reference == "fixture image");
    CHECK(Verdict::from_json(verdict.to_json(), "verdict") == verdict);
}

TEST_CASE("judge_bundle: a host's signature alone is trusted for nothing") {
    Case c;
    c.with_tik = false;
    CHECK(c.failures() == "session.known evidence.kind launch.digest");
    c.with_offer = true; // known, and still not measured under anything
    CHECK(c.failures() == "evidence.kind launch.digest");
    const Verdict verdict = c.verdict();
    CHECK(test::find_check(verdict.checks, "evidence.kind")->detail.find("TIK is not at hand") != std::string::npos);
}

TEST_CASE("judge_bundle: every check fails alone") {
    Case c;
    SUBCASE("collected in the future") {
        c.now = parse_time("2026-05-31T23:49:59Z", "test");
        CHECK(c.failures() == "host.times");
        c.now = parse_time("2026-05-31T23:50:00Z", "test"); // as far as clocks may differ
        CHECK(c.failures() == "");
    }
    SUBCASE("too old") {
        c.max_age = std::chrono::seconds{299};
        CHECK(c.failures() == "host.times");
        c.max_age = std::chrono::seconds{300};
        CHECK(c.failures() == "");
    }
    SUBCASE("times run backwards") {
        std::swap(c.bundle.created_at, c.bundle.measured_at);
        CHECK(c.failures() == "host.times");
        std::swap(c.bundle.created_at, c.bundle.measured_at);
        std::swap(c.bundle.measured_at, c.bundle.collected_at);
        CHECK(c.failures() == "host.times");
    }
    SUBCASE("another session's blob beside a good measurement") {
        c.bundle.bundle.offer.session[0x60] ^= 1; // POLICY_MAC
        CHECK(c.failures() == "session.known");
    }
    SUBCASE("an offer that is not the owner's") {
        c.with_offer = true;
        c.bundle.bundle.offer.report_nonce[0] ^= 1;
        CHECK(c.failures() == "session.known");
    }
    SUBCASE("another TIK") {
        c.tik[0] ^= 1;
        CHECK(c.failures() == "session.known launch.digest");
    }
    SUBCASE("evidence of another launch, session, policy, build, or nonce, which a lying host signed") {
        auto& launch = c.bundle.bundle.launch;
        SUBCASE("launch") {
            launch.launch_name = "other";
            CHECK(c.failures() == "session.launch_name");
        }
        SUBCASE("session") {
            launch.session_id[0] ^= 1;
            CHECK(c.failures() == "session.id");
        }
        SUBCASE("policy") {
            c.bundle.bundle.offer.policy.value &= ~1U; // NODBG taken away, on both sides
            launch.policy = c.bundle.bundle.offer.policy;
            CHECK(c.failures() == "session.known policy.required_bits launch.digest advisory.DEBUG-ALLOWED");
        }
        SUBCASE("build") {
            launch.build.build ^= 1;
            CHECK(c.failures() == "launch.build launch.digest");
        }
        SUBCASE("nonce") {
            std::get<psp::LaunchMeasurement>(launch.proof).mnonce[0] ^= 1;
            CHECK(c.failures() == "launch.digest");
        }
    }
    SUBCASE("another chip") {
        c.bundle.bundle.platform.chain = read_file(test::fixture("psp/chain_rsa4096.bin"), 1U << 16);
        const std::string failures = c.failures();
        CHECK(failures.find("platform.chip") != std::string::npos);
        CHECK(failures.find("session.pdh") != std::string::npos);
    }
    SUBCASE("a platform that the owner made no session for") {
        c.launch.facts.pdh[0] ^= 1;
        CHECK(c.failures() == "session.pdh");
    }
}

TEST_CASE("judge_bundle: a report wants the owner's own offer, since only that names the nonce") {
    Case c;
    c.use_report();
    c.with_offer = true;
    CHECK(c.failures() == "session.known"); // the fixture's TIK is of a session with another policy than the report's
    c.with_tik = false;
    CHECK(c.failures() == "");
    c.with_offer = false;
    CHECK(c.failures() == "session.known");
    c.with_offer = true;
    c.offer.report_nonce[0] ^= 1;
    CHECK(c.failures() == "session.known report.nonce");
}
