// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <thread>

#include <sqlite3.h>
#include <sys/stat.h>

#include "tests/owner/support.hpp"

using namespace sev;
using namespace sev::attest;
using namespace sev::attest::owner;
using namespace std::chrono_literals;
using sev::test::june;
using sev::test::StorePlace;

namespace {

AuditEvent event(std::string kind) {
    AuditEvent out;
    out.event = std::move(kind);
    return out;
}

SessionRecord record(const SealKeys& keys, std::string_view channel = "uid:0", std::string_view launch = "vault") {
    SessionRecord out;
    out.facts = {.id = random_array<16>(),
                 .launch_name = std::string{launch},
                 .policy = psp::Policy{0x11000001},
                 .report_nonce = random_array<16>(),
                 .pdh = random_array<32>()};
    out.channel = channel;
    out.policy_name = "web";
    out.snapshot = random_array<32>();
    out.created_at = june;
    out.expires_at = june + 600s;
    out.platform = R"({"a":"ä\"\\"})";
    const auto secret = random_array<32>();
    out.keys = keys.seal(out.seal_context(), secret);
    return out;
}

} // namespace

STORE_TEST("store: a session is taken once, whole, and its keys are gone from the store") {
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    const auto store = place.open(key);
    const SessionRecord made = record(seal);
    REQUIRE(store->open_session(made, {}, event("opened"), june) == OpenOutcome::opened);
    CHECK(store->seal_keys_in_use() == std::vector{seal.current()});
    const auto again = place.open(key); // another instance
    const auto taken = again->take_session(made.facts.id, "uid:0", "vault", event("taken"), june + 599s);
    REQUIRE(taken.outcome == TakeOutcome::taken);
    CHECK(taken.record->facts == made.facts);
    CHECK(taken.record->channel == made.channel);
    CHECK(taken.record->policy_name == made.policy_name);
    CHECK(taken.record->snapshot == made.snapshot);
    CHECK(taken.record->platform == made.platform);
    CHECK(taken.record->keys == made.keys);
    CHECK(taken.record->seal_context() == made.seal_context());
    CHECK(store->take_session(made.facts.id, "uid:0", "vault", event("taken"), june).outcome == TakeOutcome::spent);
    CHECK(store->seal_keys_in_use().empty());
    CHECK(store->session(made.facts.id)->state == SessionState::taken);
    store->end_session(made.facts.id, {.state = SessionState::trusted, .result = "{}", .attestation_result = "jwt", .packets = 3}, event("judged"),
                       june + 1s);
    const auto summary = store->session(made.facts.id);
    CHECK(summary->state == SessionState::trusted);
    CHECK(summary->packets == 3);
    CHECK(summary->attestation_result == "jwt");
    CHECK_THROWS_AS(store->end_session(made.facts.id, {}, event("judged"), june), Error);
    CHECK(store->take_session(made.facts.id, "uid:0", "vault", event("taken"), june).outcome == TakeOutcome::spent);
    CHECK(store->audit_head().seq == 3);
}

STORE_TEST("store: what does not match takes nothing") {
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    const auto store = place.open(key);
    const SessionRecord made = record(seal);
    REQUIRE(store->open_session(made, {}, event("opened"), june) == OpenOutcome::opened);
    const auto take = [&](const SessionId& id, std::string_view channel, std::string_view launch, Time now) {
        return store->take_session(id, channel, launch, event("taken"), now).outcome;
    };
    CHECK(take(random_array<16>(), "uid:0", "vault", june) == TakeOutcome::unknown);
    CHECK(take(made.facts.id, "uid:1", "vault", june) == TakeOutcome::unknown);
    CHECK(take(made.facts.id, "uid:0", "vault2", june) == TakeOutcome::other_launch);
    CHECK(take(made.facts.id, "uid:0", "vault", june + 600s) == TakeOutcome::expired);
    CHECK(take(made.facts.id, "uid:0", "vault", june - 301s) == TakeOutcome::expired); // the clock was set back
    CHECK(store->audit_head().seq == 1);
    CHECK(take(made.facts.id, "uid:0", "vault", june - 299s) == TakeOutcome::taken);
}

STORE_TEST("store: caps, in all and for each channel; expired sessions do not count, and lose their keys") {
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    const auto store = place.open(key);
    const SessionCaps caps{.total = 3, .per_channel = 2};
    CHECK(store->open_session(record(seal, "uid:0"), caps, event("o"), june) == OpenOutcome::opened);
    CHECK(store->open_session(record(seal, "uid:0"), caps, event("o"), june) == OpenOutcome::opened);
    CHECK(store->open_session(record(seal, "uid:0"), caps, event("o"), june) == OpenOutcome::channel_reached);
    CHECK(store->open_session(record(seal, "uid:1"), caps, event("o"), june) == OpenOutcome::opened);
    CHECK(store->open_session(record(seal, "uid:2"), caps, event("o"), june) == OpenOutcome::total_reached);
    CHECK(store->counts().open == 3);
    SessionRecord later = record(seal, "uid:2");
    later.expires_at += 600s;
    CHECK(store->open_session(later, caps, event("o"), june + 600s) == OpenOutcome::opened);
    CHECK(store->clean(june + 600s, june - 1h, 100) == 3);
    const StoreCounts counts = store->counts();
    CHECK(counts.expired == 3);
    CHECK(counts.open == 1);
    CHECK(store->sessions(10, SessionState::expired).size() == 3);
    CHECK(store->clean(june + 601s, june + 1s, 100) == 0); // forgets what was made before
    CHECK(store->counts().expired == 0);
    CHECK(store->counts().open == 1);
}

STORE_TEST("store: a session that was taken and never ended is troubled, not taken for ever, and no other state changes") {
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    const auto store = place.open(key);
    const SessionCaps caps{.total = 10, .per_channel = 10};
    const SessionRecord left = record(seal, "uid:0"), judged = record(seal, "uid:0");
    for (const SessionRecord* one : {&left, &judged}) {
        REQUIRE(store->open_session(*one, caps, event("o"), june) == OpenOutcome::opened);
        REQUIRE(store->take_session(one->facts.id, "uid:0", one->facts.launch_name, event("taken"), june).outcome == TakeOutcome::taken);
    }
    const SessionEnd end{.state = SessionState::trusted, .result = {}, .attestation_result = {}, .packets = 0};
    store->end_session(judged.facts.id, end, event("judged"), june);
    store->clean(left.expires_at + judging_patience - 1s, june - 1h, 100);
    CHECK(store->session(left.facts.id)->state == SessionState::taken);
    store->clean(left.expires_at + judging_patience, june - 1h, 100);
    CHECK(store->session(left.facts.id)->state == SessionState::troubled);
    CHECK(store->session(left.facts.id)->ended_at == left.expires_at + judging_patience);
    CHECK(store->session(judged.facts.id)->state == SessionState::trusted);
    // an instance that was so slow may not end it after all: its answer never leaves
    CHECK_THROWS_AS(store->end_session(left.facts.id, end, event("late"), june), Error);
}

STORE_TEST("store: only the newest ended sessions are kept") {
    const P384Key key = P384Key::generate();
    const auto store = place.open(key);
    for (int i = 0; i < 10; ++i) {
        SessionSummary refused;
        refused.id = random_array<16>();
        refused.channel = "uid:0";
        refused.launch_name = std::to_string(i);
        refused.policy_name = "web";
        refused.platform = "{}";
        store->keep_refusal(refused, event("refused"), june + std::chrono::seconds{i});
    }
    store->clean(june + 1h, june - 1h, 4);
    const auto left = store->sessions(100, std::nullopt);
    REQUIRE(left.size() == 4);
    CHECK(left.front().launch_name == "9");
    CHECK(left.back().launch_name == "6");
}

STORE_TEST("store: what one channel is refused, or does, pushes out nothing of another's, and no refusal a verdict") {
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    const auto store = place.open(key);
    const auto judged = [&](std::string_view channel, std::string_view launch, std::chrono::seconds at) {
        SessionRecord made = record(seal, channel, launch);
        made.created_at = june + at;
        REQUIRE(store->open_session(made, {}, event("opened"), june + at) == OpenOutcome::opened);
        REQUIRE(store->take_session(made.facts.id, channel, launch, event("taken"), june + at).outcome == TakeOutcome::taken);
        store->end_session(made.facts.id, {.state = SessionState::trusted, .result = "{}", .attestation_result = "jwt", .packets = 1},
                           event("judged"), june + at);
    };
    const auto refused = [&](std::string_view channel, std::chrono::seconds at) {
        SessionSummary out;
        out.id = random_array<16>();
        out.channel = channel;
        out.launch_name = "refused";
        out.policy_name = "web";
        out.platform = "{}";
        store->keep_refusal(out, event("refused"), june + at);
    };
    judged("uid:1", "quiet 1", 1s);
    judged("uid:1", "quiet 2", 2s);
    judged("uid:2", "noisy", 3s);
    for (int i = 0; i < 40; ++i) refused("uid:2", std::chrono::seconds{10 + i});
    for (int i = 0; i < 9; ++i) judged("uid:3", fmt::format("busy {}", i), std::chrono::seconds{100 + i});
    SessionRecord waiting = record(seal, "uid:2", "being judged");
    waiting.created_at = june;
    waiting.expires_at = june + 2h;
    REQUIRE(store->open_session(waiting, {}, event("opened"), june) == OpenOutcome::opened);
    REQUIRE(store->take_session(waiting.facts.id, "uid:2", "being judged", event("taken"), june).outcome == TakeOutcome::taken);
    const auto names = [&](const std::vector<SessionSummary>& list) {
        std::vector<std::string> out;
        for (const SessionSummary& one : list) out.push_back(one.launch_name);
        std::ranges::sort(out);
        return out;
    };
    // one of each channel, refused or not, then the second of each
    CHECK(names(store->sessions_by_turns(4)) == std::vector<std::string>{"busy 8", "noisy", "quiet 2", "refused"});
    store->clean(june + 1h, june - 1h, 8);
    CHECK(names(store->sessions(100, std::nullopt)) ==
          std::vector<std::string>{"being judged", "busy 6", "busy 7", "busy 8", "noisy", "quiet 1", "quiet 2", "refused", "refused"});
    CHECK(store->counts().of(std::nullopt) == 9);
    CHECK(store->counts().of(SessionState::refused) == 2);
    const auto all = store->sessions(100, std::nullopt), trusted = store->sessions(100, SessionState::trusted);
    REQUIRE(trusted.size() == 6);
    const auto third = store->sessions(2, std::nullopt, 2), of_trusted = store->sessions(100, SessionState::trusted, 5);
    REQUIRE(third.size() == 2);
    CHECK(third.front().id == all.at(2).id);
    REQUIRE(of_trusted.size() == 1);
    CHECK(of_trusted.front().id == trusted.back().id);
    CHECK(store->sessions(100, std::nullopt, 9).empty());
}

STORE_TEST("store: of many threads on three instances, one takes the session") {
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    std::vector<std::unique_ptr<Store>> instances;
    for (int i = 0; i < 3; ++i) instances.push_back(place.open(key, 16));
    constexpr int rounds = 12, threads_each = 3;
    for (int round = 0; round < rounds; ++round) {
        const SessionRecord made = record(seal);
        REQUIRE(instances[0]->open_session(made, {}, event("opened"), june) == OpenOutcome::opened);
        std::atomic<int> taken{0}, spent{0}, other{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 3 * threads_each; ++i)
            threads.emplace_back([&, i] {
                try {
                    const auto outcome =
                        instances[static_cast<std::size_t>(i % 3)]->take_session(made.facts.id, "uid:0", "vault", event("taken"), june).outcome;
                    ++(outcome == TakeOutcome::taken ? taken : outcome == TakeOutcome::spent ? spent : other);
                } catch (const std::exception&) {
                    ++other;
                }
            });
        for (std::thread& thread : threads) thread.join();
        CHECK(taken == 1);
        CHECK(spent == 3 * threads_each - 1);
        CHECK(other == 0);
    }
    AuditVerifier verifier{owner_key(key), std::nullopt};
    for (const AuditRecord& row : instances[1]->audit_records(1, 1000)) verifier.add(row);
    const auto summary = verifier.finish(instances[2]->audit_head());
    CHECK(summary.head.seq == 2 * rounds + summary.signatures);
    CHECK(summary.signatures >= 1);
}

STORE_TEST("store: a change that fails leaves nothing behind, and the others of its batch stand") {
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    const auto store = place.open(key);
    const SessionRecord made = record(seal);
    REQUIRE(store->open_session(made, {}, event("opened"), june) == OpenOutcome::opened);
    std::atomic<int> failed{0}, passed{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 12; ++i)
        threads.emplace_back([&, i] {
            try {
                if (i % 2 == 0) store->open_session(made, {}, event("double"), june); // its id is taken: refused by the database
                else store->note(event("note"), june);
                ++passed;
            } catch (const Error&) {
                ++failed;
            }
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(failed == 6);
    CHECK(passed == 6);
    CHECK(store->audit_head().seq == 7);
    CHECK(store->counts().open == 1);
}

STORE_TEST("store: documents, and sealing anew under another key") {
    const P384Key key = P384Key::generate();
    SealKeys seal = SealKeys::fresh();
    const std::string first = seal.current();
    const auto store = place.open(key);
    const SessionRecord made = record(seal);
    const SecretBytes keys_before = seal.open(made.seal_context(), made.keys);
    REQUIRE(store->open_session(made, {}, event("opened"), june) == OpenOutcome::opened);
    const Bytes secret{1, 2, 3, 0, 255};
    store->put_document(sealed_document(seal, "secret", "disk", secret), event("stored"), june);
    store->put_document(sealed_document(seal, "policy", "web", as_bytes("{}")), event("stored"), june);
    store->put_document(sealed_document(seal, "policy", "web", as_bytes(R"({"a":1})")), event("stored"), june + 1s);
    const auto policy = [&] { return std::string{as_text(open_document(seal, *store->document("policy", "web")).reveal())}; };
    CHECK(policy() == R"({"a":1})");
    CHECK(store->document("policy", "web")->changed_at == june + 1s);
    CHECK_FALSE(store->document("policy", "disk"));
    CHECK_THROWS_WITH_AS(store->put_document({.kind = "policy", .name = "web", .sealed = std::nullopt, .changed_at = {}}, event("stored"), june),
                         doctest::Contains("sealed before it is stored"), Error);
    seal.rotate();
    CHECK(store->reseal(seal, event("rotated"), june) == 3);
    CHECK(store->reseal(seal, event("rotated"), june) == 0);
    CHECK(store->seal_keys_in_use() == std::vector{seal.current()});
    seal.retire();
    CHECK_FALSE(seal.has(first));
    CHECK(policy() == R"({"a":1})");
    const auto document = store->document("secret", "disk");
    CHECK(std::ranges::equal(seal.open(seal_context("secret", "disk"), *document->sealed).reveal(), secret));
    const auto taken = store->take_session(made.facts.id, "uid:0", "vault", event("taken"), june);
    CHECK(std::ranges::equal(seal.open(taken.record->seal_context(), taken.record->keys).reveal(), keys_before.reveal()));
    CHECK(store->documents("policy").size() == 1);
    CHECK(store->remove_document("policy", "web", event("removed"), june));
    CHECK_FALSE(store->remove_document("policy", "web", event("removed"), june));
}

STORE_TEST("store: belongs to one owner") {
    place.open(P384Key::generate());
    CHECK_THROWS_WITH_AS(place.open(P384Key::generate()), doctest::Contains("belongs to owner"), Error);
}

STORE_TEST("store: the audit log cannot be changed or shortened through the database") {
    const P384Key key = P384Key::generate();
    {
        const auto store = place.open(key);
        for (int i = 0; i < 5; ++i) store->note(event("note"), june);
    }
    if (!place.is_postgresql()) {
        sqlite3* db = nullptr;
        REQUIRE(sqlite3_open(place.file().c_str(), &db) == SQLITE_OK);
        CHECK(sqlite3_exec(db, "UPDATE audit SET record = 'x' WHERE seq = 2", nullptr, nullptr, nullptr) != SQLITE_OK);
        CHECK(sqlite3_exec(db, "DELETE FROM audit WHERE seq = 5", nullptr, nullptr, nullptr) != SQLITE_OK);
        sqlite3_close(db);
    }
    const auto store = place.open(key);
    CHECK(store->audit_records(1, 100).size() == 5);
    CHECK(store->audit_records(4, 100).size() == 2);
    CHECK(store->audit_records(2, 2).size() == 2);
    CHECK(store->sign_audit(june).seq == 6);
    CHECK(store->sign_audit(june).seq == 6); // it is signed already
}

TEST_CASE("store: a SQLite file is made for its user alone, and one that others can read is refused") {
    const StorePlace place = StorePlace::sqlite();
    const P384Key key = P384Key::generate();
    place.open(key);
    struct stat status {};
    REQUIRE(stat(place.file().c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
    std::filesystem::permissions(place.file(), std::filesystem::perms{0644});
    CHECK_THROWS_WITH_AS(place.open(key), doctest::Contains("has mode 0644, want 0600"), Error);
}

TEST_CASE("store: no key lies in the SQLite file in the clear") {
    const StorePlace place = StorePlace::sqlite();
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    const auto store = place.open(key);
    SessionRecord made = record(seal);
    const std::string marker = "a secret of thirty-two bytes, yes";
    made.keys = seal.seal(made.seal_context(), as_bytes(marker).first(32));
    store->open_session(made, {}, event("opened"), june);
    store->put_document(sealed_document(seal, "secret", "disk", as_bytes(marker)), event("stored"), june);
    for (const char* suffix : {"", "-wal"}) {
        const Path file = place.file().string() + suffix;
        if (!std::filesystem::exists(file)) continue;
        const Bytes content = read_file(file, 1U << 24);
        CHECK(content.size() > 0);
        CHECK(as_text(content).find(marker.substr(0, 16)) == std::string_view::npos);
        CHECK(as_text(content).find(hex(as_bytes(marker).first(16))) == std::string_view::npos);
    }
}

STORE_TEST("store: a document that its owner did not seal is not read, and one of another kind or name does not open") {
    const P384Key key = P384Key::generate();
    const SealKeys seal = SealKeys::fresh();
    const auto store = place.open(key);
    store->put_document(sealed_document(seal, "policy", "strict", as_bytes("strict")), event("stored"), june);
    const auto shelf = policy_store(*store, seal, "/");
    CHECK(shelf->text("strict") == "strict");
    CHECK_FALSE(shelf->text("lenient"));
    const Sealed strict = store->document("policy", "strict")->sealed.value();
    const auto put = [&](std::string_view name, Sealed sealed) {
        store->put_document({.kind = "policy", .name = std::string{name}, .sealed = std::move(sealed), .changed_at = {}}, event("moved"), june);
    };
    put("lenient", strict); // another policy's box
    CHECK_THROWS_WITH_AS(shelf->text("lenient"), doctest::Contains("stored policy lenient: what seal key"), Error);
    put("lenient", seal.seal(seal_context("secret", "lenient"), as_bytes("a secret's box")));
    CHECK_THROWS_WITH_AS(shelf->text("lenient"), doctest::Contains("does not open"), Error);
    put("lenient", SealKeys::fresh().seal(seal_context("policy", "lenient"), as_bytes("under somebody's own key")));
    CHECK_THROWS_WITH_AS(shelf->text("lenient"), doctest::Contains("is not in the key file"), Error);
    Sealed bent = strict;
    bent.box.back() ^= 1;
    put("strict", bent);
    CHECK_THROWS_AS(shelf->text("strict"), Error);
    CHECK_THROWS_WITH_AS(open_document(seal, {.kind = "policy", .name = "web", .sealed = std::nullopt, .changed_at = {}}),
                         doctest::Contains("bears no seal of this owner"), Error);
}
