// SPDX-License-Identifier: Apache-2.0
// The two steps between host and owner, and the JWS under them. Expected values: tests/fixtures/make_owner_vectors.py (Python's `cryptography`).
#include "attest/protocol/exchange.hpp"
#include "attest/sign_jws.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;
using sev::test::june;

namespace {

const json::Value& known() {
    static const json::Value value = json::parse(read_text(test::fixture("owner/answers.json"), 1U << 20), "answers");
    return value;
}
OwnerKey owner_of(std::size_t i) { return OwnerKey::from_json(known().at("owners").at(i).at("jwk"), "jwk"); }
P384Key key_of_owner(std::size_t i) { return P384Key::from_scalar(unhex<48>(known().at("owners").at(i).at("scalar").get<std::string>())); }
std::string text_at(const json::Value& value, const char* key) { return value.at(key).get<std::string>(); }

const Bundle& bundle() {
    static const Bundle value = read_message<Bundle>(read_text(test::fixture("attest/bundle.json"), 1U << 20), "bundle");
    return value;
}
SessionRequest session_request() { return {.nonce = test::filled<16>(7), .launch_name = "vault", .policy = "web", .platform = bundle().platform}; }
JudgementRequest judgement_request() { return {.nonce = test::filled<16>(8), .launch = bundle().launch}; }
Verdict verdict() { return test::FixtureLaunch{}.judge().verdict; }

std::string wire_of(const P384Key& key, std::string_view request, decltype(ExchangeAnswer::body) body) {
    return sign_jws(key, ExchangeAnswer::jws_type,
                    ExchangeAnswer{.request = sha256(as_bytes(request)), .answered_at = june, .body = std::move(body)}.to_json().dump());
}

} // namespace

TEST_CASE("OwnerKey: thumbprint as RFC 7638 has it, from an independent implementation; round trip") {
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK(owner_of(i).thumbprint() == text_at(known().at("owners").at(i), "thumbprint"));
        CHECK(owner_key(key_of_owner(i)) == owner_of(i));
        CHECK(OwnerKey::from_json(owner_of(i).to_json(), "jwk") == owner_of(i));
    }
}

TEST_CASE("OwnerKey: what is no public P-384 key is refused, each for its own reason") {
    const json::Value good = owner_of(0).to_json();
    const auto refused = [&](const char* key, const json::Value& value, const char* why) {
        json::Value bad = good;
        bad[key] = value;
        CHECK_THROWS_WITH_AS(OwnerKey::from_json(bad, "jwk"), doctest::Contains(why), Error);
    };
    refused("d", "AAAA", "private key");
    refused("kty", "RSA", "kty");
    refused("crv", "P-256", "crv");
    refused("alg", "ES256", "alg");
    refused("use", "enc", "use");
    refused("kid", "another", "kid");
    refused("x", "AAAA", "48 bytes");
    json::Value off_curve = good;
    off_curve.erase("kid");
    off_curve["x"] = std::string(64, 'A');
    CHECK_THROWS_WITH_AS(OwnerKey::from_json(off_curve, "jwk"), doctest::Contains("no point of P-384"), Error);
    refused("y", good.at("y").get<std::string>() + "=", "48 bytes");
    refused("key_ops", json::Value::array(), "key_ops");
    for (const char* key : {"kty", "crv", "x", "y"}) {
        json::Value bad = good;
        bad.erase(key);
        CHECK_THROWS_AS(OwnerKey::from_json(bad, "jwk"), Error);
    }
}

TEST_CASE("verify_jws: what an independent implementation signed verifies") {
    const json::Value& jws = known().at("jws");
    CHECK(verify_jws(text_at(jws, "good"), owner_of(0), "test+jwt", "text") == text_at(jws, "payload"));
}

TEST_CASE("verify_jws: each wrong header and signer alone is refused") {
    const json::Value& jws = known().at("jws");
    REQUIRE(jws.at("bad").size() == 12);
    for (const auto& [key, text] : jws.at("bad").items()) {
        const auto& name = key; // Clang 14 does not capture a structured binding
        INFO(name);
        CHECK_THROWS_AS(verify_jws(text.get<std::string>(), owner_of(0), "test+jwt", "text"), Error);
    }
    CHECK_THROWS_WITH_AS(verify_jws(text_at(jws.at("bad"), "alg none"), owner_of(0), "test+jwt", "text"), doctest::Contains("alg"), Error);
    CHECK_THROWS_WITH_AS(verify_jws(text_at(jws.at("bad"), "another owner"), owner_of(0), "test+jwt", "text"), doctest::Contains("want the pinned"),
                         Error);
    CHECK_THROWS_WITH_AS(verify_jws(text_at(jws.at("bad"), "signed by another"), owner_of(0), "test+jwt", "text"),
                         doctest::Contains("does not verify"), Error);
    CHECK_THROWS_AS(verify_jws(text_at(jws, "good"), owner_of(1), "test+jwt", "text"), Error);
}

TEST_CASE("verify_jws: every truncation, every changed character, other forms of base64") {
    const std::string good = text_at(known().at("jws"), "good");
    for (std::size_t size = 0; size < good.size(); ++size) CHECK_THROWS_AS(verify_jws(good.substr(0, size), owner_of(0), "test+jwt", "text"), Error);
    for (std::size_t at = 0; at < good.size(); ++at) {
        std::string bent = good;
        bent[at] = bent[at] == 'A' ? 'B' : 'A';
        CHECK_THROWS_AS(verify_jws(bent, owner_of(0), "test+jwt", "text"), Error);
    }
    for (const std::string& bad :
         {good + ".", "." + good, good + "=", good + "\n", good + ".AAAA", std::string{".."}, std::string{}, std::string(5000, 'A') + ".."})
        CHECK_THROWS_AS(verify_jws(bad, owner_of(0), "test+jwt", "text"), Error);
}

TEST_CASE("sign_jws: deterministic header and payload, and verifies") {
    const P384Key key = key_of_owner(0);
    const std::string text = sign_jws(key, "test+jwt", text_at(known().at("jws"), "payload"));
    const std::string good = text_at(known().at("jws"), "good");
    CHECK(text.substr(0, text.rfind('.')) == good.substr(0, good.rfind('.'))); // the signature alone is random
    CHECK(verify_jws(text, owner_of(0), "test+jwt", "text") == text_at(known().at("jws"), "payload"));
}

TEST_CASE("requests: round trip, and each truncation is refused") {
    const std::string first = session_request().to_json().dump(), second = judgement_request().to_json().dump();
    CHECK(std::get<SessionRequest>(read_exchange_request(first, "r")) == session_request());
    CHECK(std::get<JudgementRequest>(read_exchange_request(second, "r")) == judgement_request());
    for (const std::string* text : {&first, &second})
        for (std::size_t size = 0; size < text->size(); size += 61) CHECK_THROWS_AS(read_exchange_request(text->substr(0, size), "r"), Error);
}

TEST_CASE("requests: each broken rule alone is refused, by name") {
    const auto refused = [&](json::Value request, const char* key, const json::Value& value, const char* why) {
        if (value.is_null()) request.erase(key);
        else request[key] = value;
        CHECK_THROWS_WITH_AS(read_exchange_request(request.dump(), "r"), doctest::Contains(why), Error);
    };
    for (const json::Value& good : {session_request().to_json(), judgement_request().to_json()}) {
        refused(good, "format", "xen-sev/other", "format");
        refused(good, "format", nullptr, "format");
        refused(good, "version", 2, "version");
        refused(good, "version", nullptr, "version");
        refused(good, "nonce", nullptr, "nonce");
        refused(good, "nonce", std::string(31, '0'), "nonce");
        refused(good, "nonce", std::string(32, 'g'), "nonce");
        refused(good, "surplus", 1, "surplus");
    }
    const json::Value session = session_request().to_json();
    refused(session, "launch_name", "", "launch_name");
    refused(session, "launch_name", std::string(129, 'a'), "launch_name");
    refused(session, "launch_name", " a", "launch_name");
    refused(session, "launch_name", "a\nb", "launch_name");
    for (const char* policy : {"", ".", "..", ".a", "a/b", "a\\b", "a b", "ä", "a%2f"}) refused(session, "policy", policy, "policy");
    refused(session, "policy", std::string(65, 'a'), "policy");
    refused(session, "platform", nullptr, "platform");
    refused(session, "launch", judgement_request().launch.to_json(), "launch");
    refused(judgement_request().to_json(), "launch", nullptr, "launch");
    refused(judgement_request().to_json(), "policy", "web", "policy");
    CHECK(checked_policy_name("A.z_0-9", "p") == "A.z_0-9");
}

TEST_CASE("open_answer: every kind of answer to its own step opens") {
    const P384Key key = key_of_owner(0);
    const std::string first = session_request().to_json().dump(), second = judgement_request().to_json().dump();
    SessionOffer offer = bundle().offer;
    offer.launch_name = "vault";
    CHECK(std::get<SessionOffer>(open_answer(wire_of(key, first, offer), first, owner_of(0)).body) == offer);
    const PlatformRefusal refusal{.launch_name = "vault", .checks = {{"chain.ark.root", false, "no"}}};
    CHECK(std::get<PlatformRefusal>(open_answer(wire_of(key, first, refusal), first, owner_of(0)).body) == refusal);
    const JudgementAnswer judgement{.verdict = verdict(), .packets = {}, .attestation_result = "jwt"};
    CHECK(std::get<JudgementAnswer>(open_answer(wire_of(key, second, judgement), second, owner_of(0)).body) == judgement);
    const ExchangeTrouble trouble{.message = "no", .retry = true};
    for (const std::string* request : {&first, &second})
        CHECK(std::get<ExchangeTrouble>(open_answer(wire_of(key, *request, trouble), *request, owner_of(0)).body) == trouble);
}

TEST_CASE("open_answer: an answer to another request, by another owner, of another step, launch, session or kind does not open") {
    const P384Key key = key_of_owner(0);
    const std::string first = session_request().to_json().dump(), second = judgement_request().to_json().dump();
    const auto refused = [&](const std::string& wire, const std::string& request, const char* why) {
        CHECK_THROWS_WITH_AS(open_answer(wire, request, owner_of(0)), doctest::Contains(why), Error);
    };
    SessionOffer offer = bundle().offer;
    const std::string good = wire_of(key, first, offer);
    CHECK_NOTHROW(open_answer(good, first, owner_of(0)));
    auto later = session_request();
    later.nonce[0] ^= 1; // all the same but for the nonce
    refused(good, later.to_json().dump(), "is to another request");
    refused(wire_of(key_of_owner(1), first, offer), first, "want the pinned");
    offer.launch_name = "other";
    refused(wire_of(key, first, offer), first, "is for launch");
    refused(wire_of(key, first, PlatformRefusal{.launch_name = "other", .checks = {{"a", false, ""}}}), first, "is for launch");
    const JudgementAnswer judgement{.verdict = verdict(), .packets = {}, .attestation_result = {}};
    refused(wire_of(key, first, judgement), first, "no launch was shown yet");
    refused(wire_of(key, second, bundle().offer), second, "want a judgement");
    refused(wire_of(key, second, PlatformRefusal{.launch_name = "vault", .checks = {{"a", false, ""}}}), second, "want a judgement");
    auto other = judgement;
    other.verdict.launch_name = "other";
    refused(wire_of(key, second, other), second, "is for launch");
    other = judgement;
    other.verdict.session_id[0] ^= 1;
    refused(wire_of(key, second, other), second, "another session");
    other = judgement;
    other.verdict.evidence = EvidenceKind::report;
    refused(wire_of(key, second, other), second, "another kind of evidence");
    refused(
        sign_jws(key, "other+jwt", ExchangeAnswer{.request = sha256(as_bytes(first)), .answered_at = june, .body = bundle().offer}.to_json().dump()),
        first, "typ");
    refused(std::string(ExchangeAnswer::wire_limit_bytes + 1, 'A'), first, "bytes, want at most");
}

TEST_CASE("answers: packets without trust, packets of another session, no body, two bodies") {
    const P384Key key = key_of_owner(0);
    const std::string second = judgement_request().to_json().dump();
    const auto refused = [&](const json::Value& answer, const char* why) {
        CHECK_THROWS_WITH_AS(open_answer(sign_jws(key, ExchangeAnswer::jws_type, answer.dump()), second, owner_of(0)), doctest::Contains(why), Error);
    };
    SecretPacketMessage packet{
        .session_id = bundle().launch.session_id, .slot = "efi", .offset_bytes = 0, .gpa = {}, .header = {}, .data = Bytes(16)};
    JudgementAnswer judgement{.verdict = verdict(), .packets = {packet}, .attestation_result = {}};
    ExchangeAnswer answer{.request = sha256(as_bytes(second)), .answered_at = june, .body = judgement};
    CHECK_NOTHROW(open_answer(sign_jws(key, ExchangeAnswer::jws_type, answer.to_json().dump()), second, owner_of(0)));
    judgement.packets.at(0).session_id[0] ^= 1;
    answer.body = judgement;
    refused(answer.to_json(), "another session than the verdict");
    judgement.packets = {packet};
    judgement.verdict.checks.at(0).passed = false;
    answer.body = judgement;
    refused(answer.to_json(), "the verdict is not trusted");
    answer.body = PlatformRefusal{.launch_name = "vault", .checks = {{"a", true, ""}}};
    refused(answer.to_json(), "want at least one that failed");
    // each within its own limit, and together more than a host keeps of one launch
    PlatformRefusal many{.launch_name = "vault", .checks = {}};
    for (int i = 0; i < 256; ++i) many.checks.push_back({fmt::format("c{}", i), false, std::string(4096, 'd')});
    answer.body = many;
    refused(answer.to_json(), "bytes, want at most 262144");
    judgement.packets.clear();
    judgement.verdict.checks.clear();
    for (int i = 0; i < 60; ++i) judgement.verdict.checks.push_back({fmt::format("c{}", i), true, std::string(4096, 'd')});
    answer.body = judgement;
    CHECK_NOTHROW(open_answer(sign_jws(key, ExchangeAnswer::jws_type, answer.to_json().dump()), second, owner_of(0)));
    for (int i = 60; i < 70; ++i) judgement.verdict.checks.push_back({fmt::format("c{}", i), true, std::string(4096, 'd')});
    answer.body = judgement;
    refused(answer.to_json(), "want at most 262144");
    answer.body = ExchangeTrouble{.message = "no", .retry = false};
    json::Value twice = answer.to_json();
    twice["refusal"] = {{"launch_name", "vault"}, {"checks", {{{"check", "a"}, {"passed", false}, {"detail", ""}}}}};
    refused(twice, "has 2 of");
    json::Value none = answer.to_json();
    none.erase("trouble");
    refused(none, "has 0 of");
    json::Value surplus = answer.to_json();
    surplus["surplus"] = 1;
    refused(surplus, "surplus");
    for (const char* time : {"2026-06-01", "2026-13-01T00:00:00Z", "now"}) {
        json::Value bad = answer.to_json();
        bad["answered_at"] = time;
        refused(bad, "answered_at");
    }
}
