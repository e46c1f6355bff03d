// SPDX-License-Identifier: Apache-2.0
#include <functional>
#include <set>
#include <type_traits>

#include "attest/secret_packet.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;
using sev::test::failed;
using sev::test::FixtureLaunch;

// No packet without a trusted verdict: the right to seal cannot be made, copied or got from a Verdict.
static_assert(!std::is_default_constructible_v<TrustedVerdict>);
static_assert(!std::is_copy_constructible_v<TrustedVerdict> && !std::is_copy_assignable_v<TrustedVerdict>);
static_assert(!std::is_constructible_v<TrustedVerdict, Verdict>);
static_assert(
    !std::is_constructible_v<TrustedVerdict, Verdict, SessionFacts, psp::TransportKeys, psp::ApiVersion, Digest, std::optional<measure::Area>>);
static_assert(!std::is_aggregate_v<TrustedVerdict>);
static_assert(!std::is_invocable_v<decltype(&seal), const Verdict&, const SecretPlace&, ByteView>);
// A session is spent by being judged: it can only be moved there.
static_assert(!std::is_copy_constructible_v<Session> && !std::is_copy_assignable_v<Session>);
static_assert(!std::is_invocable_v<decltype(&judge), Session&, const PlatformEvidence&, const LaunchEvidence&, const Standard&, Time>);

TEST_CASE("judge: a launch whose files were all made by an independent implementation is trusted") {
    const FixtureLaunch launch;
    CHECK(hex(launch.references.at(0).digest) == test::string_of(test::answers().at("launch"), "digest"));
    const Judgement judgement = launch.judge();
    CHECK(failed(judgement.verdict.checks) == "");
    CHECK(judgement.verdict.trusted());
    REQUIRE(judgement.trusted.has_value());
    CHECK(judgement.trusted->verdict() == judgement.verdict);
    CHECK(judgement.verdict.reference == "fixture image");
    CHECK(judgement.verdict.root == "fixture root");
    CHECK(judgement.verdict.emulated);
    CHECK(judgement.verdict.level == 1);
    CHECK(judgement.verdict.launch_name == "vault");
    CHECK(judgement.verdict.session_id == launch.facts.id);
    CHECK(judgement.verdict.judged_at == test::june);
    std::string ids;
    for (const AdvisoryFinding& finding : judgement.verdict.advisories) ids += finding.id + " ";
    CHECK(ids == "CEK-EXTRACTION-2019 CEK-GLITCH-2021 CVE-2021-26311 CVE-2020-12967 REGISTERS-READABLE EMULATED-PSP ");
}

TEST_CASE("judge: a report signed by the platform's PEK is trusted, and gives no right to seal") {
    FixtureLaunch launch;
    launch.use_report();
    const Judgement judgement = launch.judge();
    CHECK(failed(judgement.verdict.checks) == "");
    CHECK(judgement.verdict.trusted());
    CHECK_FALSE(judgement.trusted.has_value());
    const Verdict alone = judge_report(launch.facts, launch.bundle.platform, launch.bundle.launch, launch.standard(), launch.now);
    CHECK(alone == judgement.verdict);
}

namespace {

/// A change after which one check alone fails.
struct Lie {
    std::string check;
    std::function<void(FixtureLaunch&)> tell;
};

const std::vector<Lie>& lies() {
    static const std::vector<Lie> all{
        {"policy.validity", [](auto& l) { l.now = parse_time("2025-12-31T23:59:59Z", "t"); }},
        {"policy.validity", [](auto& l) { l.now = parse_time("2027-01-01T00:00:00Z", "t"); }},
        // byte 41Ch of the fourth certificate: the ASK's signature of the CEK
        {"chain.cek.signature_by_ask", [](auto& l) { l.bundle.platform.chain.at(3 * 2084 + 0x41C) ^= 1; }},
        {"platform.root_kind", [](auto& l) { l.policy.other_roots.at(0).emulated = false; }},
        {"platform.chip", [](auto& l) { l.policy.chips->at(0).cek[0] ^= 1; }},
        {"platform.chip", [](auto& l) { l.policy.chips->clear(); }},
        {"platform.chip", [](auto& l) { (*l.bundle.platform.chip_id)[63] ^= 1; }},
        {"platform.chip", [](auto& l) { l.bundle.platform.chip_id.reset(); }},
        {"platform.build_minimum", [](auto& l) { l.policy.minimum_build = {.major = 0, .minor = 17, .build = 49}; }},
        {"level.required", [](auto& l) { l.policy.level = 2; l.bundle.platform.level = 5; }},
        {"level.required", [](auto& l) { l.bundle.platform.level = 0; }},
        {"session.id", [](auto& l) { l.bundle.launch.session_id[0] ^= 1; }},
        {"session.launch_name", [](auto& l) { l.bundle.launch.launch_name = "other"; }},
        {"session.policy", [](auto& l) { l.bundle.launch.policy.value ^= 2; }},
        {"session.pdh", [](auto& l) { l.facts.pdh[0] ^= 1; }},
        {"launch.build", [](auto& l) { l.bundle.platform.status.build.build = 49; }},
        {"policy.required_bits", [](auto& l) { l.policy.required_bits |= psp::Policy::noks; }},
        {"policy.forbidden_bits", [](auto& l) { l.policy.required_bits = 0; l.policy.forbidden_bits = psp::Policy::nodbg; }},
        {"policy.minimum_api", [](auto& l) { l.set_guest_policy(0x12000001); }},
        {"policy.minimum_api", [](auto& l) { l.set_guest_policy(0x00010001); }},
        {"policy.reserved_bits", [](auto& l) { l.set_guest_policy(0x11000041); }},
        {"policy.reserved_bits", [](auto& l) { l.set_guest_policy(0x11008001); }},
        {"evidence.kind", [](auto& l) { l.policy.evidence = {EvidenceKind::report}; }},
        {"evidence.kind", [](auto& l) { l.policy.evidence.clear(); }},
        {"evidence.kind", [](auto& l) { l.use_report(); l.policy.evidence = {EvidenceKind::measurement}; }},
        {"evidence.build_proven", [](auto& l) { l.use_report(); l.policy.accept_unproven_build = false; }},
        {"evidence.build_proven", [](auto& l) {
             l.set_build({.major = 0, .minor = 16, .build = 99});
             l.set_guest_policy(1);
             l.policy.minimum_build = {};
             l.policy.accepted_advisories = {"CVE-2019-9836"};
         }},
        {"report.signature", [](auto& l) { l.use_report(); std::get<psp::AttestationReport>(l.bundle.launch.proof).signature.s[47] ^= 1; }},
        {"report.nonce", [](auto& l) { l.use_report(); l.facts.report_nonce[0] ^= 1; }},
        {"report.policy", [](auto& l) { l.use_report(); l.facts.policy.value ^= 2; l.bundle.launch.policy = l.facts.policy; }},
        {"launch.digest", [](auto& l) { std::get<psp::LaunchMeasurement>(l.bundle.launch.proof).measure[31] ^= 1; }},
        {"launch.digest", [](auto& l) { std::get<psp::LaunchMeasurement>(l.bundle.launch.proof).mnonce[0] ^= 1; }},
        {"launch.digest", [](auto& l) { l.tik[0] ^= 1; }},
        {"launch.digest", [](auto& l) { l.references.at(0).digest[0] ^= 1; }},
        {"launch.digest", [](auto& l) { l.references.clear(); }},
        {"launch.digest", [](auto& l) { l.use_report(); l.references.at(0).digest[0] ^= 1; }},
        {"advisories", [](auto& l) { l.advisories.list.clear(); }},
        {"advisory.CVE-2019-9836", [](auto& l) {
             l.set_build({.major = 0, .minor = 17, .build = 21});
             l.measure_again();
             l.policy.minimum_build = {};
         }},
        {"advisory.DEBUG-ALLOWED", [](auto& l) { l.policy.required_bits = 0; l.set_guest_policy(0x11000000); }},
    };
    return all;
}

} // namespace

TEST_CASE("judge: each check fails alone, and then nothing is trusted and nothing can be sealed") {
    for (const Lie& lie : lies()) {
        CAPTURE(lie.check);
        FixtureLaunch launch;
        launch.set_guest_policy(0x11000001);
        REQUIRE(launch.judge().verdict.trusted());
        lie.tell(launch);
        const Judgement judgement = launch.judge();
        CHECK(failed(judgement.verdict.checks) == lie.check);
        CHECK_FALSE(judgement.verdict.trusted());
        CHECK_FALSE(judgement.trusted.has_value());
    }
}

TEST_CASE("judge: no check is without such a test") {
    std::set<std::string> told{"chain.format", "platform.backend"}; // cannot fail alone with this chain: tests of their own, below
    for (const Lie& lie : lies()) told.insert(lie.check);
    FixtureLaunch reported;
    reported.use_report();
    for (const Verdict& verdict : {FixtureLaunch{}.judge().verdict, reported.judge().verdict})
        for (const psp::Check& check : verdict.checks) {
            CAPTURE(check.check);
            // the links of the chain have theirs in tests/psp
            CHECK((told.contains(check.check) || (check.check.starts_with("chain.") && check.check != "chain.format")));
        }
}

TEST_CASE("judge: bytes that are no chain are a failed check, and every missing link is named") {
    FixtureLaunch launch;
    launch.bundle.platform.chain.resize(100);
    const Verdict verdict = launch.judge().verdict;
    const psp::Check* format = test::find_check(verdict.checks, "chain.format");
    REQUIRE(format);
    CHECK_FALSE(format->passed);
    CHECK(format->detail.starts_with("certificate chain: 100 bytes, want "));
    for (const char* name :
         {"chain.ark.present", "chain.ask.present", "chain.cek.present", "chain.pek.present", "chain.pdh.present", "session.pdh", "platform.chip"}) {
        CAPTURE(name);
        const psp::Check* check = test::find_check(verdict.checks, name);
        REQUIRE(check);
        CHECK_FALSE(check->passed);
    }
}

TEST_CASE("judge: an emulated PSP under a root that the policy does not name") {
    FixtureLaunch launch;
    launch.policy.other_roots.at(0).fingerprint[0] ^= 1;
    CHECK(failed(launch.judge().verdict.checks) == "chain.ark.root platform.root_kind");
    launch.policy.other_roots.clear();
    CHECK_FALSE(launch.judge().verdict.trusted());
    launch.policy.amd_roots = {psp::Product::naples, psp::Product::rome, psp::Product::milan, psp::Product::genoa, psp::Product::turin};
    CHECK(failed(launch.judge().verdict.checks) == "chain.ark.root platform.root_kind");
}

TEST_CASE("judge: what a failing advisory forbids, the policy can accept by its id, and by no other") {
    FixtureLaunch launch;
    launch.set_build({.major = 0, .minor = 17, .build = 21});
    launch.measure_again();
    launch.policy.minimum_build = {};
    launch.policy.accepted_advisories = {"CVE-2021-26311"};
    CHECK(failed(launch.judge().verdict.checks) == "advisory.CVE-2019-9836");
    launch.policy.accepted_advisories = {"CVE-2019-9836"};
    CHECK(launch.judge().verdict.trusted());
}

TEST_CASE("judge: a mismatch is explained by the descriptor, which decides nothing") {
    FixtureLaunch launch;
    launch.references.at(0).regions.at(1).sha256[0] ^= 1;
    launch.references.at(0).digest[0] ^= 1;
    const Verdict wrong = launch.judge().verdict;
    CHECK(failed(wrong.checks) == "launch.digest");
    REQUIRE(wrong.notes.size() == 1);
    CHECK(wrong.notes.at(0).starts_with("reference \"fixture image\": region 1 (\"two\"): sha256 "));

    FixtureLaunch honest_words; // the host describes what the owner wants, and loaded something else
    honest_words.references.at(0).digest[0] ^= 1;
    CHECK(honest_words.judge().verdict.notes ==
          std::vector<std::string>{"reference \"fixture image\": the host says it loaded exactly this, and the evidence does not bear that out"});

    FixtureLaunch false_words; // the other way round: the evidence counts
    false_words.bundle.launch.descriptor->regions.at(0).sha256[0] ^= 1;
    const Verdict trusted = false_words.judge().verdict;
    CHECK(trusted.trusted());
    CHECK(trusted.notes.at(0).starts_with("the host's descriptor does not fit what the evidence proves: region 0 (\"one\"): sha256 "));

    FixtureLaunch silent;
    silent.bundle.launch.descriptor.reset();
    CHECK(silent.judge().verdict.trusted());
    silent.references.at(0).digest[0] ^= 1;
    CHECK(silent.judge().verdict.notes == std::vector<std::string>{"the host sent no descriptor of what it loaded"});
}

TEST_CASE("judge: the reference that matched is named, whichever it is") {
    FixtureLaunch launch;
    Reference other = launch.references.at(0);
    other.name = "other";
    other.digest[5] ^= 1;
    launch.references.insert(launch.references.begin(), other);
    CHECK(launch.judge().verdict.reference == "fixture image");
}

TEST_CASE("judge_report: a measurement cannot be judged without the session's keys") {
    const FixtureLaunch launch;
    const Verdict verdict = judge_report(launch.facts, launch.bundle.platform, launch.bundle.launch, launch.standard(), launch.now);
    CHECK(failed(verdict.checks) == "evidence.kind launch.digest");
}

TEST_CASE("judge: a spent session is refused, and not answered with wiped keys") {
    const FixtureLaunch launch;
    Session session = launch.session();
    CHECK(judge(std::move(session), launch.bundle.platform, launch.bundle.launch, launch.standard(), launch.now).verdict.trusted());
    CHECK(session.spent()); // NOLINT: the moved-from state is what is tested
    CHECK_THROWS_WITH_AS(judge(std::move(session), launch.bundle.platform, launch.bundle.launch, launch.standard(), launch.now),
                         "broken invariant: a session is used once", Error);
}

TEST_CASE("judge: no key and no expected MEASURE in what is said") {
    FixtureLaunch launch;
    auto& measurement = std::get<psp::LaunchMeasurement>(launch.bundle.launch.proof);
    const std::string right = hex(measurement.measure);
    measurement.measure[0] ^= 1;
    const std::string said = launch.judge().verdict.to_json().dump();
    for (const std::string& secret : {hex(launch.tek), hex(launch.tik), right, base64(launch.tek), base64(launch.tik)})
        CHECK(said.find(secret) == std::string::npos);
}

TEST_CASE("judge_platform: the platform before there is a session") {
    FixtureLaunch launch;
    PlatformVerdict verdict = judge_platform(launch.policy, launch.bundle.platform, launch.now);
    CHECK(verdict.accepted());
    REQUIRE(verdict.pdh.has_value());
    CHECK(verdict.pdh == test::fixture_pdh());
    CHECK(verdict.emulated);
    launch.policy.chips->clear();
    verdict = judge_platform(launch.policy, launch.bundle.platform, launch.now);
    CHECK(failed(verdict.checks) == "platform.chip");
    CHECK_FALSE(verdict.pdh.has_value());
    launch = {};
    launch.policy.minimum_build = {};
    launch.bundle.platform.status.build = {.major = 0, .minor = 17, .build = 21};
    CHECK(failed(judge_platform(launch.policy, launch.bundle.platform, launch.now).checks) == "advisory.CVE-2019-9836");
}

TEST_CASE("judge: a genuine AMD chain supports L4, with SEV-ES L5, and no emulated backend") {
    const auto folder = test::vector_file("certs/naples");
    if (!folder) return;
    psp::Chain chain;
    const auto sev = [&](const char* name) { return psp::parse_sev_certificate(read_file(*folder / name, 4096), name); };
    const auto ca = [&](const char* name) { return psp::parse_ca_certificate(read_file(*folder / name, 4096), name); };
    chain.pdh = sev("pdh.cert"), chain.pek = sev("pek.cert"), chain.oca = sev("oca.cert"), chain.cek = sev("cek.cert");
    chain.ask = ca("ask.cert"), chain.ark = ca("ark.cert");
    FixtureLaunch launch;
    launch.bundle.platform.chain = chain.serialize();
    launch.bundle.platform.backend = Backend::ccp;
    launch.bundle.platform.level = 5;
    launch.facts.pdh = chain.pdh->fingerprint();
    launch.policy.other_roots.clear();
    launch.policy.amd_roots = {psp::Product::naples};
    launch.policy.chips = std::vector<AllowedChip>{{.label = "vector", .cek = chain.cek->fingerprint(), .id = {}}};
    Verdict verdict = launch.judge().verdict; // our own session: only the PSP could know its TIK, and here we do
    CHECK(failed(verdict.checks) == "");
    CHECK(verdict.level == 4);
    CHECK_FALSE(verdict.emulated);
    launch.policy.forbidden_bits = 0;
    launch.set_guest_policy(0x11000005);
    CHECK(launch.judge().verdict.level == 5);
    launch.bundle.platform.level = 2;
    CHECK(launch.judge().verdict.level == 2);
    launch.bundle.platform.backend = Backend::emulated;
    CHECK(failed(launch.judge().verdict.checks) == "platform.backend");
}
