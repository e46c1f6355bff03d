// SPDX-License-Identifier: Apache-2.0
// The owner service's parts, each alone: seal keys, audit chain, policies and their cache, rates, clients.
#include <thread>

#include "attest/owner/rate.hpp"
#include "base/aead.hpp"
#include "tests/owner/support.hpp"

using namespace sev;
using namespace sev::attest;
using namespace sev::attest::owner;
using namespace std::chrono_literals;
using sev::test::june;
using sev::test::TemporaryDirectory;

TEST_CASE("aead: known answer, computed independently (tests/fixtures/make_owner_vectors.py); every truncation and every flipped bit is refused") {
    const json::Value known = json::parse(read_text(test::fixture("owner/answers.json"), 1U << 20), "answers").at("aead");
    const AeadKey key{unhex<32>(known.at("key").get<std::string>())};
    const std::string context = known.at("context").get<std::string>();
    const Bytes box = try_unhex(known.at("box").get<std::string>()).value();
    const auto plain = aead_open(key, as_bytes(context), box);
    REQUIRE(plain);
    CHECK(as_text(plain->reveal()) == known.at("plain").get<std::string>());
    for (std::size_t size = 0; size < box.size(); ++size) CHECK_FALSE(aead_open(key, as_bytes(context), ByteView{box}.first(size)));
    for (std::size_t bit = 0; bit < 8 * box.size(); ++bit) {
        Bytes bent = box;
        bent[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        CHECK_FALSE(aead_open(key, as_bytes(context), bent));
    }
    CHECK_FALSE(aead_open(key, as_bytes(context + "x"), box));
    CHECK(aead_seal(key, as_bytes(context), plain->reveal()) != aead_seal(key, as_bytes(context), plain->reveal()));
    CHECK(aead_open(key, {}, aead_seal(key, {}, {}))->size() == 0);
}

TEST_CASE("seal keys: round trip, rotation, and what is no key file") {
    SealKeys keys = SealKeys::fresh();
    const Sealed before = keys.seal("here", as_bytes("secret"));
    const std::string first = keys.current();
    keys.rotate();
    CHECK(keys.current() != first);
    const SealKeys again = SealKeys::parse(keys.serialize().reveal(), "keys");
    CHECK(again.current() == keys.current());
    CHECK(as_text(again.open("here", before).reveal()) == "secret");
    CHECK_THROWS_WITH_AS(again.open("there", before), doctest::Contains("does not open"), Error);
    CHECK_THROWS_WITH_AS(SealKeys::fresh().open("here", before), doctest::Contains("is not in the key file"), Error);
    keys.retire();
    CHECK(keys.size() == 1);
    CHECK_THROWS_AS(keys.open("here", before), Error);

    const SecretBytes whole = again.serialize();
    const std::string text{as_text(whole.reveal())};
    for (std::size_t size = 0; size < text.size(); ++size) {
        if (size == 20 + 82) continue; // heading and one whole key
        CHECK_THROWS_AS(SealKeys::parse(as_bytes(text).first(size), "keys"), Error);
    }
    const std::string one = text.substr(20, 82);
    CHECK_THROWS_WITH_AS(SealKeys::parse(as_bytes(text.substr(0, 20) + one + one), "keys"), "keys: line 3: the id stands twice", Error);
    CHECK_THROWS_WITH_AS(SealKeys::parse(as_bytes("xen-sev-seal-keys 1\n"), "keys"), "keys: has no key", Error);
    CHECK_THROWS_AS(SealKeys::parse(as_bytes("xen-sev-seal-keys 2\n" + one), "keys"), Error);
}

TEST_CASE("seal keys: a key that came into the file later opens what it sealed, and then seals; one that left it is still known") {
    const TemporaryDirectory dir;
    const Path path = dir / "seal.keys";
    const auto write = [&](const SealKeys& keys) { write_file(path, keys.serialize().reveal(), Visibility::secret, Existing::replace); };
    SealKeys file = SealKeys::fresh();
    write(file);
    const SealKeys running = SealKeys::load(path);
    const std::string first = file.current();
    const Sealed old = running.seal("here", as_bytes("old"));
    const std::string prepared = file.prepare();
    CHECK(file.current() == first);
    CHECK(file.size() == 2);
    CHECK(SealKeys::parse(file.serialize().reveal(), "keys").current() == first);
    file.use(prepared);
    CHECK_THROWS_WITH_AS(file.use("0123456789abcdef"), doctest::Contains("is not in the key file"), Error);
    const Sealed now = file.seal("here", as_bytes("new"));
    CHECK_THROWS_WITH_AS(running.open("here", now), doctest::Contains("is not in the key file"), Error); // not written yet
    file.retire();
    write(file);
    CHECK(as_text(running.open("here", now).reveal()) == "new");
    CHECK(running.current() == prepared);
    CHECK(as_text(running.open("here", old).reveal()) == "old");
    CHECK_THROWS_WITH_AS(running.open("there", now), doctest::Contains("does not open"), Error);
    // a file that cannot be trusted any more is not read again
    file.rotate();
    write(file);
    std::filesystem::permissions(path, std::filesystem::perms{0644});
    CHECK_THROWS_WITH_AS(running.open("here", file.seal("here", as_bytes("x"))), doctest::Contains("want 0600: others can read it"), Error);
    CHECK(as_text(running.open("here", now).reveal()) == "new");
}

TEST_CASE("seal keys: a file that others can read is refused") {
    const TemporaryDirectory dir;
    const Path path = dir / "seal.keys";
    write_file(path, SealKeys::fresh().serialize().reveal(), Visibility::secret, Existing::refuse);
    CHECK_NOTHROW(SealKeys::load(path));
    for (const unsigned mode : {0640U, 0604U, 0660U, 0601U}) {
        std::filesystem::permissions(path, std::filesystem::perms{mode});
        CHECK_THROWS_WITH_AS(SealKeys::load(path), doctest::Contains("want 0600: others can read it"), Error);
    }
}

namespace {

/// A log of five records, the fourth a signature.
struct Log {
    P384Key key = P384Key::generate();
    std::vector<AuditRecord> records;
    AuditHead head;
    void add(AuditRecord record) {
        head = head_after(record);
        records.push_back(std::move(record));
    }
    Log() {
        for (int i = 0; i < 3; ++i)
            add(audit_record(head,
                             {.event = "note",
                              .channel = "uid:0",
                              .session = {},
                              .launch = "vault\n\x1b[31m",
                              .policy = {},
                              .request = {},
                              .detail = std::to_string(i)},
                             june));
        add(audit_signature(head, head_signer(key), june));
        add(audit_record(head, {.event = "last", .channel = {}, .session = {}, .launch = {}, .policy = {}, .request = {}, .detail = {}}, june));
    }
    AuditVerifier::Summary verify(std::optional<AuditHead> known = std::nullopt) const { return verify_as(owner_key(key), head, known); }
    AuditVerifier::Summary verify_as(const OwnerKey& owner, const AuditHead& stored, std::optional<AuditHead> known = std::nullopt) const {
        AuditVerifier verifier{owner, known};
        for (const AuditRecord& record : records) verifier.add(record);
        return verifier.finish(stored);
    }
};

} // namespace

TEST_CASE("audit: an intact log verifies; text from outside is printable in it") {
    const Log log;
    const auto summary = log.verify();
    CHECK(summary.head == log.head);
    CHECK(summary.signatures == 1);
    CHECK(summary.unsigned_tail == 1);
    CHECK(log.verify(AuditHead{.seq = 3, .hash = head_after(log.records[2]).hash}).head.seq == 5);
    CHECK(log.records[0].text.find('\n') == std::string::npos);
    CHECK(log.records[0].text.find('\x1b') == std::string::npos);
    // the chain's rule, from outside: each line holds the SHA-256 of the line before
    CHECK(json::parse(log.records[1].text, "record").at("prev").get<std::string>() == hex(sha256(as_bytes(log.records[0].text))));
}

TEST_CASE("audit: every change of the log is noticed") {
    SUBCASE("one character anywhere") {
        Log log;
        for (std::size_t record = 0; record < log.records.size(); ++record)
            for (std::size_t at = 0; at < log.records[record].text.size(); at += 7) {
                const AuditRecord before = log.records[record];
                log.records[record].text[at] = static_cast<char>(log.records[record].text[at] ^ 1);
                CHECK_THROWS_AS(log.verify(), Error);
                log.records[record] = before;
            }
    }
    SUBCASE("a record left out, two exchanged, one doubled") {
        Log log;
        log.records.erase(log.records.begin() + 1);
        CHECK_THROWS_WITH_AS(log.verify(), doctest::Contains("follows record 1: 1 missing"), Error);
        Log other;
        std::swap(other.records[1], other.records[2]);
        CHECK_THROWS_AS(other.verify(), Error);
        Log doubled;
        doubled.records.insert(doubled.records.begin(), doubled.records.front());
        CHECK_THROWS_AS(doubled.verify(), Error);
    }
    SUBCASE("the end cut off") {
        Log log;
        log.records.pop_back();
        CHECK_THROWS_WITH_AS(log.verify(), doctest::Contains("its end was cut off or changed"), Error);
        // whoever cuts the store's head as well is noticed by a head that was noted down
        const AuditHead shorter = head_after(log.records.back());
        CHECK_NOTHROW(log.verify_as(owner_key(log.key), shorter));
        CHECK_THROWS_WITH_AS(log.verify_as(owner_key(log.key), shorter, log.head), doctest::Contains("before record 5 that was noted down"), Error);
    }
    SUBCASE("a log written anew by somebody else") {
        const Log log, forged;
        CHECK_THROWS_WITH_AS(forged.verify_as(owner_key(log.key), forged.head), doctest::Contains("signed by key"), Error);
        Log same = Log{};
        CHECK_THROWS_WITH_AS(same.verify(AuditHead{.seq = 2, .hash = sha256(as_bytes("another history"))}),
                             doctest::Contains("the log was rewritten"), Error);
    }
    SUBCASE("a signature over another head") {
        Log log;
        AuditRecord wrong = audit_signature(
            log.head, [&](const AuditHead& head) { return head_signer(log.key)({.seq = head.seq - 1, .hash = head.hash}); }, june);
        log.add(std::move(wrong));
        CHECK_THROWS_WITH_AS(log.verify(), doctest::Contains("signs another head"), Error);
    }
}

TEST_CASE("policies: computed once, and again when a file or the text changes") {
    const test::PolicyFolder folder;
    Policies policies{policy_folder(folder.path())};
    const auto first = policies.get("web");
    CHECK(hex(first->references.at(0).digest) == test::string_of(test::answers().at("launch"), "digest"));
    std::this_thread::sleep_for(2200ms); // files that changed a moment ago are hashed on every use, and ctime cannot be set back
    const auto second = policies.get("web");
    const auto hashed = policies.files_hashed();
    CHECK(second->digest == first->digest);
    for (int i = 0; i < 100; ++i) CHECK(policies.get("web") == second);
    CHECK(policies.files_hashed() == hashed); // 100 uses, nothing read
    // the same bytes written again: hashed again, the same snapshot
    std::filesystem::remove(folder.path() / "one.bin");
    std::filesystem::copy_file(test::fixture("attest/one.bin"), folder.path() / "one.bin");
    CHECK(policies.get("web")->digest == first->digest);
    CHECK(policies.files_hashed() > hashed);
    // one bit of a file, same size and with its old time put back
    Bytes bent = read_file(folder.path() / "two.bin", 1U << 20);
    const auto time = std::filesystem::last_write_time(folder.path() / "two.bin");
    bent[7] ^= 1;
    {
        std::FILE* file = std::fopen((folder.path() / "two.bin").c_str(), "r+b");
        REQUIRE(file);
        REQUIRE(std::fwrite(bent.data(), 1, bent.size(), file) == bent.size());
        std::fclose(file);
    }
    std::filesystem::last_write_time(folder.path() / "two.bin", time);
    const auto bent_snapshot = policies.get("web");
    CHECK(bent_snapshot->digest != first->digest);
    CHECK(bent_snapshot->references.at(0).digest != first->references.at(0).digest);
    // the text alone: other snapshot
    auto text = test::PolicyFolder::policy();
    text["level"] = 0;
    folder.write(text);
    CHECK(policies.get("web")->digest != bent_snapshot->digest);
    std::filesystem::remove(folder.path() / "one.bin");
    CHECK_THROWS_WITH_AS(policies.get("web"), doctest::Contains("one.bin"), Error);
}

TEST_CASE("policies: names that are paths, and policies that are not there") {
    const test::PolicyFolder folder;
    Policies policies{policy_folder(folder.path())};
    for (const char* name : {"../web", "/etc/passwd", "a/b", ".web", "", "web\n", "..", "web.json/", "%2e%2e"})
        CHECK_THROWS_AS(policies.get(name), Error);
    CHECK_THROWS_WITH_AS(policies.get("other"), R"(there is no policy named "other")", Error);
    folder.write_bytes(".hidden.json", "{}");
    folder.write_bytes("not a name.json", "{}");
    CHECK(policies.names() == std::vector<std::string>{"web"});
}

TEST_CASE("rate limit: a burst, then the rate; channels apart; a bounded memory") {
    RateLimit rate{2, 3};
    const RateLimit::Clock::time_point start{};
    for (int i = 0; i < 3; ++i) CHECK(rate.take("a", start));
    CHECK_FALSE(rate.take("a", start));
    CHECK(rate.take("b", start));
    CHECK_FALSE(rate.take("a", start + 499ms));
    CHECK(rate.take("a", start + 1000ms));
    CHECK(rate.take("a", start + 1000ms));
    CHECK_FALSE(rate.take("a", start + 900ms)); // a clock that goes back gives nothing
    for (int i = 0; i < 10; ++i) rate.take("a", start + 1h);
    CHECK_FALSE(rate.take("a", start + 1h));
    RateLimit many{0.01, 1};
    std::size_t granted = 0;
    for (int i = 0; i < 10'000; ++i) granted += many.take(std::to_string(i), start);
    CHECK(granted == RateLimit::channel_limit);
}

TEST_CASE("clients: deny by default; own entry before the one for all") {
    CHECK_FALSE(Clients{}.may_ask("uid:0"));
    const std::string cert = "cert:" + std::string(64, 'a');
    const Clients clients{{{.channel = "uid:1000", .label = "", .policies = std::vector<std::string>{"web"}},
                           {.channel = "cert:any", .label = "", .policies = std::nullopt},
                           {.channel = cert, .label = "", .policies = std::vector<std::string>{}}}};
    CHECK(clients.may_use("uid:1000", "web"));
    CHECK_FALSE(clients.may_use("uid:1000", "other"));
    CHECK_FALSE(clients.may_ask("uid:0"));
    CHECK_FALSE(clients.may_ask("uid:any"));
    CHECK(clients.may_use("cert:" + std::string(64, 'b'), "anything"));
    CHECK_FALSE(clients.may_use(cert, "web"));
    CHECK_FALSE(clients.may_ask("stdio:any"));
    CHECK_FALSE(clients.may_ask("none"));
    CHECK_FALSE(clients.may_ask(""));
}
