// SPDX-License-Identifier: Apache-2.0
// The owner's service as hosts, honest and hostile, meet it; over both stores.
#include <atomic>
#include <thread>

#include "attest/ear.hpp"
#include "tests/owner/support.hpp"

using namespace sev;
using namespace sev::attest;
using namespace std::chrono_literals;
using sev::test::channel;
using sev::test::FixtureHost;
using sev::test::judgement_of;
using sev::test::june;
using sev::test::offer_of;
using sev::test::OwnerInstance;

namespace {

std::string log_of(owner::Store& store) {
    std::string out;
    for (const auto& record : store.audit_records(1, 10'000)) out += record.text + "\n";
    return out;
}

std::size_t count(const std::string& text, std::string_view what) {
    std::size_t out = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++out;
    return out;
}

} // namespace

STORE_TEST("service: an honest launch is trusted, and its secret opens under that session's keys alone") {
    OwnerInstance owner{place};
    const FixtureHost host;
    const auto offer = offer_of(owner.ask(host.session_request()));
    CHECK(offer.launch_name == "vault");
    const auto evidence = host.evidence(offer);
    const auto judgement = judgement_of(owner.ask(FixtureHost::judgement_request(evidence)));
    CHECK(test::failed(judgement.verdict.checks) == "");
    REQUIRE(judgement.packets.size() == 1);
    const auto& packet = judgement.packets.front();
    const auto keys = FixtureHost::keys(offer);
    const auto header = psp::PacketHeader::parse(wire::view(packet.header));
    const auto& measure = std::get<psp::LaunchMeasurement>(evidence.proof).measure;
    CHECK(header.mac == psp::secret_packet_mac(keys.tik, evidence.build.api(), header.flags, header.iv, packet.data, measure));
    Bytes plain(packet.data.size());
    aes128_ctr(keys.tek.reveal(), header.iv, packet.data, plain);
    const Bytes secret = read_file(test::fixture("attest/disk.key"), 1U << 16);
    CHECK(as_text(plain).find(as_text(secret)) != std::string_view::npos);

    const auto result = read_attestation_result(judgement.attestation_result, owner.pinned(), "EAR");
    CHECK(result.trusted);
    CHECK(result.status == TrustTier::contraindicated); // an emulated PSP, whatever the owner accepts
    CHECK(result.vector.hardware == 97);
    CHECK(result.session_id == offer.session_id);
    const auto kept = owner.store->session(offer.session_id);
    CHECK(kept->state == owner::SessionState::trusted);
    CHECK(kept->packets == 1);
    CHECK(read_message<Verdict>(kept->result, "kept") == judgement.verdict);
    // neither keys nor the secret are in the log
    const std::string log = log_of(*owner.store);
    CHECK(count(log, "session.judged") == 1);
    CHECK(log.find(hex(keys.tek.reveal())) == std::string::npos);
    CHECK(log.find(hex(keys.tik.reveal())) == std::string::npos);
}

STORE_TEST("attack: a session replayed, with the same request or with another, gives nothing") {
    OwnerInstance owner{place};
    const FixtureHost host;
    const auto offer = offer_of(owner.ask(host.session_request()));
    const std::string request = FixtureHost::judgement_request(host.evidence(offer));
    CHECK(judgement_of(owner.ask(request)).packets.size() == 1);
    CHECK(owner.trouble(request) == "the session was used already");
    CHECK(owner.trouble(FixtureHost::judgement_request(host.evidence(offer))) == "the session was used already");
    CHECK(owner.store->session(offer.session_id)->packets == 1);
}

STORE_TEST("attack: a session that was judged once and not trusted cannot be tried again with better evidence") {
    OwnerInstance owner{place};
    const FixtureHost host;
    const auto offer = offer_of(owner.ask(host.session_request()));
    auto bent = host.evidence(offer);
    std::get<psp::LaunchMeasurement>(bent.proof).measure[0] ^= 1;
    const auto judgement = judgement_of(owner.ask(FixtureHost::judgement_request(bent)));
    CHECK(test::failed(judgement.verdict.checks) == "launch.digest");
    CHECK(judgement.packets.empty());
    CHECK_FALSE(read_attestation_result(judgement.attestation_result, owner.pinned(), "EAR").trusted);
    CHECK(owner.trouble(FixtureHost::judgement_request(host.evidence(offer))) == "the session was used already");
}

STORE_TEST("attack: evidence for another launch, over another channel, or after the session's time takes no session") {
    OwnerInstance owner{place};
    const FixtureHost host;
    const auto offer = offer_of(owner.ask(host.session_request()));
    auto other = host.evidence(offer);
    other.launch_name = "other";
    CHECK(owner.trouble(FixtureHost::judgement_request(other)) == "the session was made for another launch");
    const std::string good = FixtureHost::judgement_request(host.evidence(offer));
    CHECK(owner.trouble(good, "cert:" + std::string(64, 'a')) == "there is no such session for this channel");
    CHECK(owner.trouble(good, "uid:1") == "there is no such session for this channel");
    CHECK(owner.trouble(good, channel, june + 600s) == "the session has expired");
    auto unknown = host.evidence(offer);
    unknown.session_id[0] ^= 1;
    CHECK(owner.trouble(FixtureHost::judgement_request(unknown)) == "there is no such session for this channel");
    // none of them has spent it
    CHECK(judgement_of(owner.ask(good, channel, june + 599s)).verdict.trusted());
}

STORE_TEST("attack: measurements of another session, with another nonce, of another policy or build are not trusted") {
    OwnerInstance owner{place};
    const FixtureHost host;
    const auto judged = [&](const std::function<void(LaunchEvidence&)>& lie) {
        auto evidence = host.evidence(offer_of(owner.ask(host.session_request())));
        lie(evidence);
        const auto judgement = judgement_of(owner.ask(FixtureHost::judgement_request(evidence)));
        CHECK(judgement.packets.empty());
        return test::failed(judgement.verdict.checks);
    };
    const auto& measurement = [](LaunchEvidence& evidence) -> psp::LaunchMeasurement& { return std::get<psp::LaunchMeasurement>(evidence.proof); };
    CHECK(judged([&](auto& e) { measurement(e).mnonce[0] ^= 1; }) == "launch.digest");
    CHECK(judged([&](auto& e) { e.proof = host.bundle.launch.proof; }) == "launch.digest"); // of the fixture's session
    CHECK(judged([&](auto& e) { e.policy.value ^= 2; }) == "session.policy");
    CHECK(judged([&](auto& e) { e.build.build ^= 1; }) == "launch.build launch.digest");
    const auto report = psp::AttestationReport::parse(wire::exactly<208>(unbase64(test::string_of(test::answers(), "report"), "report"), "report"));
    CHECK(judged([&](auto& e) { e.proof = report; }) == "evidence.kind evidence.build_proven report.nonce report.policy launch.digest");
}

STORE_TEST("attack: a report by another chip's PEK") {
    auto folder = std::make_shared<test::PolicyFolder>();
    auto policy = test::PolicyFolder::policy();
    policy["evidence"] = {"report"};
    policy["accept_unproven_build"] = true;
    policy["chips"] = "any";
    folder->write(policy);
    OwnerInstance owner{place, std::make_shared<P384Key>(P384Key::generate()), std::make_shared<owner::SealKeys>(owner::SealKeys::fresh()), folder};
    FixtureHost host;
    host.bundle.platform.chain = read_file(test::fixture("psp/chain_rsa_oca.bin"), 1U << 16); // same root, another platform
    const auto offer = offer_of(owner.ask(host.session_request()));
    auto evidence = host.bundle.launch;
    evidence.session_id = offer.session_id;
    evidence.policy = offer.policy;
    evidence.proof = psp::AttestationReport::parse(wire::exactly<208>(unbase64(test::string_of(test::answers(), "report"), "report"), "report"));
    const auto judgement = judgement_of(owner.ask(FixtureHost::judgement_request(evidence)));
    CHECK(test::find_check(judgement.verdict.checks, "report.signature")->passed == false);
    CHECK_FALSE(judgement.verdict.trusted());
}

STORE_TEST("attack: a policy, or a reference's file, that changes between the steps ends the session") {
    OwnerInstance owner{place};
    const FixtureHost host;
    const std::string_view why = "the policy, or a file of its references, has changed since the session was made";
    auto offer = offer_of(owner.ask(host.session_request()));
    auto weaker = test::PolicyFolder::policy();
    weaker["level"] = 0;
    owner.folder->write(weaker);
    const std::string request = FixtureHost::judgement_request(host.evidence(offer));
    CHECK(owner.trouble(request) == why);
    CHECK(owner.trouble(request) == "the session was used already");
    CHECK(owner.store->session(offer.session_id)->state == owner::SessionState::troubled);
    owner.folder->write(test::PolicyFolder::policy());
    offer = offer_of(owner.ask(host.session_request()));
    owner.folder->write_bytes("one.bin", "other bytes");
    CHECK(owner.trouble(FixtureHost::judgement_request(host.evidence(offer))) == why);
    std::filesystem::remove(owner.folder->path() / "one.bin");
    CHECK(owner.trouble(host.session_request()) == "the guest owner's service could not work on it; its log says why");
    CHECK(count(log_of(*owner.store), "request.failed") == 1);
}

STORE_TEST("attack: a host asks for a policy it may not use, that is not there, or that is a path") {
    OwnerInstance owner{place,
                        std::make_shared<P384Key>(P384Key::generate()),
                        std::make_shared<owner::SealKeys>(owner::SealKeys::fresh()),
                        std::make_shared<test::PolicyFolder>(),
                        {},
                        owner::Clients{{{.channel = "uid:0", .label = "", .policies = std::vector<std::string>{"web", "absent"}}}}};
    owner.folder->write(test::PolicyFolder::policy(), "lenient");
    const FixtureHost host;
    CHECK(owner.trouble(host.session_request("vault", "lenient")) == R"(this channel may not use a policy named "lenient")");
    CHECK(owner.trouble(host.session_request("vault", "nowhere")) == R"(this channel may not use a policy named "nowhere")");
    CHECK(owner.trouble(host.session_request("vault", "absent")) == R"(there is no policy named "absent")");
    const auto said = [&](const std::string& text) {
        return std::get<ExchangeTrouble>(ExchangeAnswer::from_json(json::parse(verify_jws(owner.service.answer(text, channel, june).jws,
                                                                                          owner.pinned(), ExchangeAnswer::jws_type, "answer"),
                                                                               "answer"),
                                                                   "answer")
                                             .body)
            .message;
    };
    for (const char* name : {"../web", "/etc/passwd", ".web", "web/../lenient", "web%00"}) {
        auto request = json::parse(host.session_request(), "request", {.bytes = 1U << 20, .depth = 16});
        request["policy"] = name;
        CHECK(said(request.dump()).find("is no policy name") != std::string::npos);
    }
}

STORE_TEST("attack: requests that are no requests get a signed answer, and change nothing") {
    OwnerInstance owner{place};
    const FixtureHost host;
    const std::string good = host.session_request();
    const auto said = [&](const std::string& text) {
        const auto answered = owner.service.answer(text, channel, june);
        CHECK(answered.kind == owner::AnswerKind::trouble);
        CHECK_FALSE(answered.internal);
        const auto answer =
            ExchangeAnswer::from_json(json::parse(verify_jws(answered.jws, owner.pinned(), ExchangeAnswer::jws_type, "answer"), "answer"), "answer");
        CHECK(answer.request == sha256(as_bytes(text)));
        return std::get<ExchangeTrouble>(answer.body).message;
    };
    const auto with = [&](std::string_view from, std::string_view to) {
        std::string text = good;
        const std::size_t at = text.find(from);
        REQUIRE(at != std::string::npos);
        return text.replace(at, from.size(), to);
    };
    CHECK(said("").find("request") != std::string::npos);
    CHECK(said("{}").find("format") != std::string::npos);
    CHECK(said("[]") != "");
    CHECK(said(with(R"("nonce")", R"("extra":1,"nonce")")).find("extra") != std::string::npos);
    CHECK(said(with(R"("version":1)", R"("version":2)")).find("version") != std::string::npos);
    CHECK(said(with(R"("version":1)", R"("version":1e400)")) != "");
    CHECK(said(with(R"("version":1)", R"("version":184467440737095516160)")) != "");
    CHECK(said(with(R"("version":1)", R"("version":-1)")) != "");
    CHECK(said(with(R"("level":1)", R"("level":99999999999)")) != "");
    CHECK(said(with(R"("launch_name":"vault")", R"("launch_name":"va\u001bult")")).find("launch_name") != std::string::npos);
    CHECK(said(with(R"("launch_name":"vault")", R"("launch_name":"a","launch_name":"b")")) != "");
    CHECK(said(std::string(100'000, '[')) != "");
    CHECK(said(std::string(exchange_request_limit_bytes + 1, ' ')).find("bytes") != std::string::npos);
    CHECK(said(std::string("\xff\xfe\0\0", 4)) != "");
    for (std::size_t size = 0; size < good.size(); size += 97) said(good.substr(0, size));
    CHECK(owner.store->counts().open == 0);
    CHECK(owner.store->counts().refused == 0);
    CHECK(offer_of(owner.ask(good)).launch_name == "vault");
}

STORE_TEST("attack: two owners: what one made, the other does not know, and its key is not the pinned one") {
    OwnerInstance first{place};
    OwnerInstance second{place.is_postgresql() ? *test::StorePlace::postgresql() : test::StorePlace::sqlite()};
    const FixtureHost host;
    const auto offer = offer_of(first.ask(host.session_request()));
    const std::string request = FixtureHost::judgement_request(host.evidence(offer));
    CHECK(second.trouble(request) == "there is no such session for this channel");
    const std::string answer = second.service.answer(host.session_request(), channel, june).jws;
    CHECK_THROWS_WITH_AS(open_answer(answer, host.session_request(), first.pinned()), doctest::Contains("is signed by key"), Error);
    CHECK(judgement_of(first.ask(request)).verdict.trusted());
}

STORE_TEST("attack: a platform that is not accepted gets every check, and no session") {
    OwnerInstance owner{place};
    FixtureHost host;
    host.bundle.platform.chain.at(3 * 2084 + 0x41C) ^= 1;
    const auto answer = owner.ask(host.session_request());
    const auto& refusal = std::get<PlatformRefusal>(answer.body);
    CHECK(test::failed(refusal.checks) == "chain.cek.signature_by_ask");
    CHECK(owner.store->counts().open == 0);
    CHECK(owner.store->counts().refused == 1);
}

STORE_TEST("service: caps on open sessions are signed trouble that may be tried again") {
    OwnerInstance owner{place,
                        std::make_shared<P384Key>(P384Key::generate()),
                        std::make_shared<owner::SealKeys>(owner::SealKeys::fresh()),
                        std::make_shared<test::PolicyFolder>(),
                        {.caps = {.total = 2, .per_channel = 1}, .session_lifetime = 60s}};
    const FixtureHost host;
    offer_of(owner.ask(host.session_request()));
    const auto answer = owner.ask(host.session_request());
    CHECK(std::get<ExchangeTrouble>(answer.body).retry);
    CHECK(std::get<ExchangeTrouble>(answer.body).message == "this channel has 1 open sessions already");
    offer_of(owner.ask(host.session_request(), "cert:" + std::string(64, 'a')));
    CHECK(owner.trouble(host.session_request(), "cert:" + std::string(64, 'b')) == "there are 2 open sessions already");
    offer_of(owner.ask(host.session_request(), channel, june + 61s));
}

STORE_TEST("service: any instance answers any step; of the same step at once on three, one releases secrets") {
    auto key = std::make_shared<P384Key>(P384Key::generate());
    auto seal = std::make_shared<owner::SealKeys>(owner::SealKeys::fresh());
    std::vector<std::unique_ptr<OwnerInstance>> instances;
    for (int i = 0; i < 3; ++i)
        instances.push_back(
            std::make_unique<OwnerInstance>(place, key, seal, std::make_shared<test::PolicyFolder>())); // each its own copy of the files
    const FixtureHost host;
    for (std::size_t round = 0; round < 4; ++round) {
        const auto offer = offer_of(instances[round % 3]->ask(host.session_request()));
        const std::string request = FixtureHost::judgement_request(host.evidence(offer));
        std::atomic<int> released{0}, refused{0};
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < 9; ++i)
            threads.emplace_back([&, i] {
                const auto answer = instances[i % 3]->ask(request);
                if (const auto* judgement = std::get_if<JudgementAnswer>(&answer.body)) released += static_cast<int>(judgement->packets.size());
                else if (std::get<ExchangeTrouble>(answer.body).message == "the session was used already") ++refused;
            });
        for (std::thread& thread : threads) thread.join();
        CHECK(released == 1);
        CHECK(refused == 8);
    }
    owner::AuditVerifier verifier{instances[0]->pinned(), std::nullopt};
    for (const auto& record : instances[1]->store->audit_records(1, 10'000)) verifier.add(record);
    CHECK(verifier.finish(instances[2]->store->audit_head()).head.seq == 4 * (1 + 1 + 1 + 8));
}

STORE_TEST("service: a session's keys bound to their row: a row moved or changed in the store is not judged") {
    OwnerInstance owner{place};
    const FixtureHost host;
    // another instance with other seal keys stands for a store in which the box belongs to something else
    OwnerInstance stranger{place, owner.key, std::make_shared<owner::SealKeys>(owner::SealKeys::fresh()), owner.folder};
    const auto offer = offer_of(owner.ask(host.session_request()));
    CHECK(stranger.trouble(FixtureHost::judgement_request(host.evidence(offer))) ==
          "the guest owner's service could not work on it; its log says why");
    CHECK(owner.store->session(offer.session_id)->state == owner::SessionState::troubled);
    CHECK(log_of(*owner.store).find("is not in the key file") != std::string::npos);
}

STORE_TEST("service: secrets from the store; one that is missing releases nothing") {
    auto folder = std::make_shared<test::PolicyFolder>();
    auto policy = test::PolicyFolder::policy();
    policy["secrets"][0]["path"] = "store:disk";
    folder->write(policy);
    OwnerInstance owner{place, std::make_shared<P384Key>(P384Key::generate()), std::make_shared<owner::SealKeys>(owner::SealKeys::fresh()), folder};
    const FixtureHost host;
    const auto step_two = [&] { return FixtureHost::judgement_request(host.evidence(offer_of(owner.ask(host.session_request())))); };
    CHECK(owner.trouble(step_two()) == "the guest owner's service could not work on it; its log says why");
    const std::string secret = "from the store, sixteen and more";
    owner.store->put_document(owner::sealed_document(*owner.seal_keys, "secret", "disk", as_bytes(secret)),
                              {.event = "secret.stored", .channel = {}, .session = {}, .launch = {}, .policy = {}, .request = {}, .detail = {}},
                              june);
    CHECK(judgement_of(owner.ask(step_two())).packets.size() == 1);
    // sealed for another name: does not open
    owner.store->put_document({.kind = "secret",
                               .name = "disk",
                               .sealed = owner.seal_keys->seal(owner::seal_context("secret", "other"), as_bytes(secret)),
                               .changed_at = {}},
                              {.event = "secret.stored", .channel = {}, .session = {}, .launch = {}, .policy = {}, .request = {}, .detail = {}},
                              june);
    CHECK(owner.trouble(step_two()) == "the guest owner's service could not work on it; its log says why");
    CHECK(count(log_of(*owner.store), "session.troubled") == 2);
    CHECK(log_of(*owner.store).find(secret) == std::string::npos);
}
