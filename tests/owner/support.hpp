// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>

#include "attest/owner/service.hpp"
#include "attest/sign_jws.hpp"
#include "psp/keys.hpp"
#include "tests/attest/support.hpp"

namespace sev::test {

namespace owner = attest::owner;

/// Makes stores that several instances can open: a SQLite file, or a schema of the PostgreSQL server that tests/owner/with_postgresql.py started.
class StorePlace {
public:
    static std::optional<StorePlace> postgresql() {
        const char* connection = std::getenv("SEV_TEST_POSTGRESQL");
        if (!connection) {
            fmt::print("SKIPPED: no PostgreSQL server (tests/owner/with_postgresql.py starts one)\n");
            return std::nullopt;
        }
        static std::atomic<int> number{0};
        return StorePlace{connection, fmt::format("t{}_{}", getpid(), ++number)};
    }
    static StorePlace sqlite() { return StorePlace{{}, {}}; }
    std::unique_ptr<owner::Store> open(const P384Key& key, std::uint64_t sign_every = 256) const {
        owner::StoreOptions options{.owner = attest::owner_key(key).thumbprint(), .signer = owner::head_signer(key), .sign_every = sign_every};
        return connection_.empty() ? owner::open_sqlite_store(file(), std::move(options))
                                   : owner::open_postgresql_store(connection_, schema_, std::move(options));
    }
    bool is_postgresql() const { return !connection_.empty(); }
    Path file() const { return *directory_ / "owner.db"; }
    const std::string& connection() const { return connection_; }
    const std::string& schema() const { return schema_; }

private:
    StorePlace(std::string connection, std::string schema)
        : connection_{std::move(connection)}, schema_{std::move(schema)}, directory_{std::make_shared<TemporaryDirectory>()} {}
    std::string connection_, schema_;
    std::shared_ptr<TemporaryDirectory> directory_;
};

/// A folder with the fixture's policy as web.json, and its files.
class PolicyFolder {
public:
    PolicyFolder() {
        for (const char* name : {"one.bin", "two.bin", "disk.key"}) std::filesystem::copy_file(fixture("attest") / name, directory_ / name);
        write(policy());
    }
    static json::Value policy() { return attest_json("owner-policy.json"); }
    void write(const json::Value& policy, std::string_view name = "web") const {
        const std::string text = policy.dump();
        write_file(directory_ / (std::string{name} + ".json"), as_bytes(text), Visibility::readable, Existing::replace);
    }
    void write_bytes(std::string_view name, std::string_view content) const {
        write_file(directory_ / name, as_bytes(content), Visibility::readable, Existing::replace);
    }
    const Path& path() const { return directory_.path(); }

private:
    TemporaryDirectory directory_;
};

inline const char* const channel = "uid:0";

/// One instance of the owner's service.
struct OwnerInstance {
    explicit OwnerInstance(const StorePlace& place, std::shared_ptr<P384Key> with = std::make_shared<P384Key>(P384Key::generate()),
                           std::shared_ptr<owner::SealKeys> sealing = std::make_shared<owner::SealKeys>(owner::SealKeys::fresh()),
                           std::shared_ptr<PolicyFolder> its_folder = std::make_shared<PolicyFolder>(), owner::ServiceLimits limits = {},
                           owner::Clients its_clients = owner::Clients{{{.channel = "uid:0", .label = "", .policies = std::nullopt},
                                                                        {.channel = "cert:any", .label = "", .policies = std::nullopt}}})
        : key{std::move(with)}, seal_keys{std::move(sealing)}, folder{std::move(its_folder)}, clients{std::move(its_clients)},
          store{place.open(*key)}, policies{owner::policy_folder(folder->path())},
          service{
              {.key = *key, .policies = policies, .store = *store, .seal_keys = *seal_keys, .clients = clients, .limits = limits, .build = "test"}} {}
    std::shared_ptr<P384Key> key;
    std::shared_ptr<owner::SealKeys> seal_keys;
    std::shared_ptr<PolicyFolder> folder;
    owner::Clients clients;
    std::unique_ptr<owner::Store> store;
    owner::Policies policies;
    owner::OwnerService service;

    attest::OwnerKey pinned() const { return attest::owner_key(*key); }
    /// Asks, and opens the answer as a host would.
    attest::ExchangeAnswer ask(const std::string& request, std::string_view over = channel, attest::Time now = june) {
        return attest::open_answer(service.answer(request, over, now).jws, request, pinned());
    }
    std::string trouble(const std::string& request, std::string_view over = channel, attest::Time now = june) {
        const auto answer = ask(request, over, now);
        const auto* found = std::get_if<attest::ExchangeTrouble>(&answer.body);
        return found ? found->message : fmt::format("answered with body {}", answer.body.index());
    }
};

/// The host's end, with the PDH's private key: what an honest PSP would do with an offer.
struct FixtureHost {
    attest::Bundle bundle = attest::read_message<attest::Bundle>(read_text(fixture("attest/bundle.json"), 1U << 20), "bundle");
    Digest digest = hex_of<32>(answers().at("launch"), "digest");

    std::string session_request(std::string_view launch = "vault", std::string_view policy = "web") const {
        return attest::SessionRequest{
            .nonce = random_array<16>(), .launch_name = std::string{launch}, .policy = std::string{policy}, .platform = bundle.platform}
            .to_json()
            .dump();
    }
    /// The session's keys, unwrapped with the PDH.
    static psp::TransportKeys keys(const attest::SessionOffer& offer) {
        static const json::Value known = json::parse(read_text(fixture("psp/known_answers.json"), 1U << 20), "known answers");
        const auto pdh = P384Key::from_scalar(unhex<48>(known.at("pdh").at("scalar_be").get<std::string>()));
        const auto godh = psp::SevCertificate::parse(wire::view(offer.godh));
        const auto blob = psp::SessionBlob::parse(wire::view(offer.session));
        const SecretBytes z = pdh.ecdh(*godh.point());
        auto unwrapped = psp::unwrap_session(psp::derive_session_keys(z.reveal(), blob.nonce), blob, offer.policy);
        if (!unwrapped) throw Error{Fault::bug, "the offer does not unwrap"};
        return std::move(*unwrapped);
    }
    /// What LAUNCH_MEASURE gives in that session, for the reference's digest.
    attest::LaunchEvidence evidence(const attest::SessionOffer& offer) const {
        attest::LaunchEvidence out = bundle.launch;
        out.session_id = offer.session_id;
        out.launch_name = offer.launch_name;
        out.policy = offer.policy;
        psp::LaunchMeasurement measurement{.measure = {}, .mnonce = random_array<16>()};
        measurement.measure = psp::expected_measurement(keys(offer).tik, out.build, offer.policy, digest, measurement.mnonce);
        out.proof = measurement;
        return out;
    }
    static std::string judgement_request(const attest::LaunchEvidence& evidence) {
        return attest::JudgementRequest{.nonce = random_array<16>(), .launch = evidence}.to_json().dump();
    }
};

inline attest::SessionOffer offer_of(const attest::ExchangeAnswer& answer) {
    const auto* offer = std::get_if<attest::SessionOffer>(&answer.body);
    if (!offer) {
        const auto* trouble = std::get_if<attest::ExchangeTrouble>(&answer.body);
        throw Error{Fault::bug, fmt::format("no offer: {}", trouble ? trouble->message : "a refusal or a judgement")};
    }
    return *offer;
}
inline attest::JudgementAnswer judgement_of(const attest::ExchangeAnswer& answer) {
    const auto* judgement = std::get_if<attest::JudgementAnswer>(&answer.body);
    if (!judgement) {
        const auto* trouble = std::get_if<attest::ExchangeTrouble>(&answer.body);
        throw Error{Fault::bug, fmt::format("no judgement: {}", trouble ? trouble->message : "an offer or a refusal")};
    }
    return *judgement;
}

} // namespace sev::test

/// One test case over both stores: `place` is a StorePlace.
#define SEV_STORE_TEST_NAMED(function, name)                                                                                                         \
    static void function(const sev::test::StorePlace& place);                                                                                        \
    TEST_CASE(name " (SQLite)") { function(sev::test::StorePlace::sqlite()); }                                                                       \
    TEST_CASE(name " (PostgreSQL)") {                                                                                                                \
        if (const auto found = sev::test::StorePlace::postgresql()) function(*found);                                                                \
    }                                                                                                                                                \
    static void function(const sev::test::StorePlace& place)
#define STORE_TEST(name) SEV_STORE_TEST_NAMED(DOCTEST_ANONYMOUS(store_test_), name)
