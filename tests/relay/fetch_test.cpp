// SPDX-License-Identifier: Apache-2.0
#include <deque>
#include <map>

#include <fmt/format.h>

#include "attest/relay/fetch.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::relay;
using namespace std::chrono_literals;

namespace {

/// Answers from a list, and takes as long as it says on a clock of its own: nothing here waits.
class World : public Http {
public:
    struct Request {
        std::string url;
        std::size_t limit_bytes;
        Milliseconds timeout;
    };
    std::variant<Response, NoAnswer> get(const std::string& url, std::size_t limit_bytes, Milliseconds timeout) override {
        requests.push_back({url, limit_bytes, timeout});
        auto& answers = script[url];
        if (answers.empty() || requests.size() > silent_after) {
            now += timeout;
            return NoAnswer{"timed out", {}, true};
        }
        auto answer = answers.front();
        if (answers.size() > 1) answers.pop_front();
        return answer;
    }
    std::variant<Response, NoAnswer> post(const std::string&, ByteView, std::size_t, Milliseconds) override {
        throw Error{Fault::bug, "a fetch never posts"};
    }
    Clock clock() {
        return {.now = [this] { return now; },
                .sleep =
                    [this](Milliseconds span) {
                        now += span;
                        slept += span;
                    },
                .random = [] { return 1.0; }};
    }
    std::map<std::string, std::deque<std::variant<Response, NoAnswer>>> script;
    std::vector<Request> requests;
    std::size_t silent_after = SIZE_MAX; // requests
    Time now{std::chrono::seconds{1'000'000'000}};
    Milliseconds slept{0};
};

struct Fixture {
    test::TemporaryDirectory folder;
    endorsement::Store store{folder / "cache"};
    psp::Chain chain = psp::parse_chain(read_file(test::fixture("psp/chain_rsa2048.bin"), 65536), "chain");
    std::vector<psp::Root> roots{{.label = "test root", .product = psp::Product::naples, .fingerprint = chain.ark->fingerprint()}};
    psp::ChipId id = test::filled<64>(0x5A);
    Settings settings{};
    World world;
    std::string ca_url = endorsement::ca_url({}, psp::Product::naples), cek_url = endorsement::cek_url({}, id);

    Fixture() {
        Bytes ca = chain.ask->serialize();
        const Bytes ark = chain.ark->serialize();
        ca.insert(ca.end(), ark.begin(), ark.end());
        const auto cek = chain.cek->serialize();
        world.script[ca_url] = {Response{200, ca, std::nullopt}};
        world.script[cek_url] = {Response{200, {cek.begin(), cek.end()}, std::nullopt}};
    }
    Fetcher fetcher() { return {store, world, world.clock(), roots, settings}; }
    void fail_first(const std::string& url, unsigned status, std::optional<std::string> retry_after = std::nullopt) {
        world.script[url].push_front(Response{status, {}, std::move(retry_after)});
    }
};

} // namespace

TEST_CASE_FIXTURE(Fixture, "fetch: a CEK and its CA are asked for once, within limits") {
    CHECK(fetcher().cek(id, psp::Product::naples).outcome == Outcome::fetched);
    CHECK(fetcher().cek(id, psp::Product::naples).outcome == Outcome::cached);
    CHECK(fetcher().cek(id, std::nullopt).outcome == Outcome::cached);
    REQUIRE(world.requests.size() == 2);
    CHECK(world.requests[0].url == ca_url);
    CHECK(world.requests[0].limit_bytes == 3200);
    CHECK(world.requests[1].url == cek_url);
    CHECK(world.requests[1].limit_bytes == 2084);
    CHECK(world.slept == 0ms);
}

TEST_CASE_FIXTURE(Fixture, "fetch: Retry-After is waited for when the deadline allows, in both forms") {
    fail_first(ca_url, 429, "30");
    CHECK(fetcher().ca(psp::Product::naples).outcome == Outcome::fetched);
    CHECK(world.slept == 30s);
    fail_first(cek_url, 503, "Sun, 09 Sep 2001 01:47:10 GMT"); // 1000000030 s; it is 1000000030 now
    CHECK(fetcher().cek(id, std::nullopt).outcome == Outcome::fetched);
    CHECK(world.slept == 32s); // the back-off of one failure is longer
}

TEST_CASE_FIXTURE(Fixture, "fetch: a Retry-After beyond the deadline ends the attempt at once, and holds for later fetchers") {
    fail_first(ca_url, 429, "61");
    CHECK_THROWS_WITH_AS(fetcher().ca(psp::Product::naples), doctest::Contains("HTTP 429; not to be asked again before 2001-09-09T01:47:41Z"), Error);
    CHECK(world.slept == 0ms);
    world.now += 30s;
    CHECK(fetcher().ca(psp::Product::naples).outcome == Outcome::fetched); // its deadline is later
    CHECK(world.slept == 31s);
    CHECK(world.requests.size() == 2);
}

TEST_CASE_FIXTURE(Fixture, "fetch: failures double the wait, and success forgets them") {
    for (int i = 0; i < 4; ++i) fail_first(ca_url, 500);
    CHECK(fetcher().ca(psp::Product::naples).outcome == Outcome::fetched);
    CHECK(world.slept == 2s + 4s + 8s + 16s);
    CHECK_FALSE(store.wait(endorsement::server_of(ca_url), world.now));
}

TEST_CASE_FIXTURE(Fixture, "fetch: a server that never answers costs the deadline and no more") {
    world.script.clear();
    const Time begin = world.now;
    CHECK_THROWS_WITH_AS(fetcher().ca(psp::Product::naples), doctest::Contains("timed out"), Error);
    CHECK(world.now - begin <= settings.deadline);
    for (const World::Request& request : world.requests) CHECK(request.timeout <= settings.attempt_timeout);
    CHECK(world.requests.size() > 1);
}

TEST_CASE_FIXTURE(Fixture, "fetch: an attempt that the deadline cut does not hide what the server said before") {
    settings.deadline = 10s;
    fail_first(ca_url, 500);
    world.silent_after = 1;
    CHECK_THROWS_WITH_AS(fetcher().ca(psp::Product::naples), doctest::Contains("after 2 attempts: HTTP 500"), Error);
    const auto note = store.wait(endorsement::server_of(ca_url), world.now);
    REQUIRE(note);
    CHECK(note->reason == "HTTP 500");
    CHECK(note->failures == 2);
}

TEST_CASE_FIXTURE(Fixture, "fetch: a missing endorsement is believed for as long as it says, then asked for again") {
    world.script[cek_url].push_front(Response{404, {}, std::nullopt});
    const Fetched first = fetcher().cek(id, psp::Product::naples);
    CHECK(first.outcome == Outcome::missing);
    CHECK(first.ask_again == world.now + 24h);
    world.now += 24h - 1ms;
    CHECK(fetcher().cek(id, psp::Product::naples).outcome == Outcome::missing);
    CHECK(world.requests.size() == 2);
    world.now += 1ms;
    CHECK(fetcher().cek(id, psp::Product::naples).outcome == Outcome::fetched);
}

TEST_CASE_FIXTURE(Fixture, "fetch: a missing ASK makes the endorsement missing, and the CEK is not even asked for") {
    world.script[ca_url] = {Response{404, {}, std::nullopt}};
    const Fetched fetched = fetcher().cek(id, psp::Product::naples);
    CHECK(fetched.outcome == Outcome::missing);
    CHECK(fetched.subject == "ca naples");
    CHECK(world.requests.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "fetch: what cannot get better is not tried again") {
    SUBCASE("a status") { world.script[ca_url] = {Response{403, {}, std::nullopt}}; }
    SUBCASE("a stranger's certificate") { world.script[ca_url] = {NoAnswer{"certificate", {}, false}}; }
    SUBCASE("a wrong body") { world.script[ca_url] = {Response{200, {1, 2, 3}, std::nullopt}}; }
    SUBCASE("another root") { roots.clear(); }
    CHECK_THROWS_AS(fetcher().ca(psp::Product::naples), Error);
    CHECK(world.requests.size() == 1);
    CHECK(store.names("ca", 10).empty());
    CHECK(store.wait("download.amd.com:443", world.now)); // and it is left alone for a while
}

TEST_CASE_FIXTURE(Fixture, "fetch: offline asks nobody, writes nothing") {
    settings.offline = true;
    CHECK_THROWS_WITH_AS(fetcher().cek(id, psp::Product::naples), doctest::Contains("--offline"), Error);
    CHECK_THROWS_WITH_AS(fetcher().ca(psp::Product::naples), doctest::Contains("--offline"), Error);
    CHECK(world.requests.empty());
    CHECK_FALSE(std::filesystem::exists(store.directory()));
}

TEST_CASE_FIXTURE(Fixture, "fetch: a stored CEK that only lacked its CA is not asked for again") {
    store.put_cek(*chain.cek, id);
    CHECK(fetcher().cek(id, psp::Product::naples).outcome == Outcome::cached);
    REQUIRE(world.requests.size() == 1);
    CHECK(world.requests[0].url == ca_url);
}

TEST_CASE_FIXTURE(Fixture, "fetch: the CEK of another chip than the platform's is refused, from the cache and from the server") {
    const Digest other = test::filled<32>(1);
    CHECK(fetcher().cek(id, psp::Product::naples).outcome == Outcome::fetched);
    CHECK_THROWS_WITH_AS(fetcher().cek(id, psp::Product::naples, other), doctest::Contains("another chip"), Error);
    CHECK(fetcher().cek(id, psp::Product::naples, chain.cek->fingerprint()).outcome == Outcome::cached);
}
