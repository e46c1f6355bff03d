// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include <fmt/format.h>

#include "attest/endorsement/servers.hpp"
#include "attest/endorsement/store.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::endorsement;

namespace {

constexpr Time at(std::int64_t seconds) { return Time{std::chrono::seconds{seconds}}; }
psp::ChipId chip(std::uint8_t value) { return test::filled<64>(value); }

/// A full export made by tests/fixtures/make_psp_vectors.py, and the root it ends at.
struct TestChain {
    psp::Chain chain;
    std::vector<psp::Root> roots;
};
TestChain chain_of(std::string_view file, psp::Product product) {
    TestChain out{.chain = psp::parse_chain(read_file(test::fixture(file), 65536), file), .roots = {}};
    out.roots.push_back({.label = "test root", .product = product, .fingerprint = out.chain.ark->fingerprint()});
    return out;
}
TestChain naples() { return chain_of("psp/chain_rsa2048.bin", psp::Product::naples); }
TestChain rome() { return chain_of("psp/chain_rsa4096.bin", psp::Product::rome); }

Authority authority_of(const TestChain& chain) { return *judge_ca(*chain.chain.ask, *chain.chain.ark, "test", chain.roots, std::nullopt).value; }

} // namespace

TEST_CASE("retry_after: the three dates of RFC 9110 section 5.6.7 are one moment, 784111777 s") {
    const Time now = at(784'111'000);
    for (const std::string_view date : {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"}) {
        CAPTURE(date);
        CHECK(retry_after(date, now) == at(784'111'777));
    }
}

TEST_CASE("retry_after: seconds, white space, the past, and more than a day") {
    const Time now = at(1'000'000);
    CHECK(retry_after("120", now) == at(1'000'120));
    CHECK(retry_after(" \t0 ", now) == now);
    CHECK(retry_after("99999999999999999999999999", now) == now + longest_wait);
    CHECK(retry_after("Sun, 06 Nov 2094 08:49:37 GMT", now) == now + longest_wait);
    CHECK(retry_after("Thu, 01 Jan 1970 00:00:00 GMT", now) == now);
}

TEST_CASE("retry_after: nothing else is read as a time") {
    for (const std::string_view text :
         {"", " ", "soon", "-1", "+1", "1.5", "1 2", "0x10", "Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 UTC",
          "Sun, 06 Nov 1994 08:49:37 GMT+1", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
          "Sun, 06 Nov 1994 08:49:61 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT", "Sun Nov  6 08:49:37 94", "sun, 06 nov 1994 08:49:37 gmt"}) {
        CAPTURE(text);
        CHECK_FALSE(retry_after(text, at(784'111'000)));
    }
    for (const std::string_view whole : {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"})
        for (std::size_t length = 0; length < whole.size(); ++length) CHECK_FALSE(retry_after(whole.substr(0, length), at(784'111'000)));
}

TEST_CASE("retry_after: a two-digit year more than 50 years ahead is one of the past") {
    const Time now = std::chrono::sys_days{std::chrono::year{2026} / 1 / 1};
    CHECK(retry_after("Sunday, 06-Nov-94 08:49:37 GMT", now) == now);                       // 1994
    CHECK(retry_after("Sunday, 06-Nov-27 08:49:37 GMT", now) == now + longest_wait);        // 2027
    CHECK(retry_after("Thursday, 01-Jan-26 00:01:00 GMT", now) == now + std::chrono::minutes{1});
}

TEST_CASE("back_off: doubles up to an hour, and at least half of it is kept") {
    constexpr Milliseconds first{2000};
    CHECK(back_off(1, first, 0.0) == Milliseconds{1000});
    CHECK(back_off(1, first, 1.0) == Milliseconds{2000});
    CHECK(back_off(2, first, 0.5) == Milliseconds{3000});
    CHECK(back_off(5, first, 1.0) == Milliseconds{32000});
    CHECK(back_off(0, first, 1.0) == Milliseconds{2000});
    CHECK(back_off(std::numeric_limits<unsigned>::max(), first, 1.0) == std::chrono::hours{1});
}

TEST_CASE("text: a time for people") { CHECK(text(at(784'111'777)) == "1994-11-06T08:49:37Z"); }

TEST_CASE("notes: what is written is read, and nothing else") {
    const WaitNote wait{.server = "localhost:443", .failures = 3, .not_before = at(1'000'000), .reason = "HTTP 429"};
    CHECK(WaitNote::parse(wait.serialize(), "note") == wait);
    const MissingNote missing{.subject = "ca naples", .server = "localhost:443", .asked = at(5), .ask_again = at(6), .reason = "HTTP 404"};
    CHECK(MissingNote::parse(missing.serialize(), "note") == missing);
    CHECK_THROWS_AS(WaitNote::parse(missing.serialize(), "note"), Error);
    std::string more = wait.serialize();
    more.insert(more.rfind('}'), ",\"x\":1");
    CHECK_THROWS_AS(WaitNote::parse(more, "note"), Error);
    const std::string whole = missing.serialize();
    for (std::size_t length = 0; length + 2 < whole.size(); ++length) CHECK_THROWS_AS(MissingNote::parse(whole.substr(0, length), "note"), Error);
}

TEST_CASE("servers: AMD's addresses, and what an address may be") {
    CHECK(cek_url({}, chip(0xAB)) == fmt::format("https://kdsintf.amd.com/cek/id/{}", hex(chip(0xAB))));
    CHECK(ca_url({}, psp::Product::naples) == "https://download.amd.com/developer/eula/sev/ask_ark_naples.cert");
    CHECK_NOTHROW(check_pattern("https://[::1]:8443/a/{id}?x=1", "{id}", "it"));
    for (const std::string_view pattern :
         {"", "https://", "http://host/{id}", "https:///{id}", "https://:443/{id}", "https://user@host/{id}", "https://host/", "https://{id}/",
          "https://host/{id}/{id}", "https://host/{id} ", "https://host/{id}\n", "file:///{id}", "HTTPS://host/{id}", "https://h\xC3\xB6st/{id}"}) {
        CAPTURE(pattern);
        CHECK_THROWS_AS(check_pattern(pattern, "{id}", "it"), Error);
    }
    CHECK_THROWS_AS(check_pattern("https://host/" + std::string(1024, 'a') + "{id}", "{id}", "it"), Error);
    CHECK(server_of("https://Host.Example/x") == "host.example:443");
    CHECK(server_of("https://host:8443?x") == "host:8443");
    CHECK(server_of("https://[::1]/x") == "[::1]:443");
    CHECK(server_of("https://[::1]:7/x") == "[::1]:7");
}

TEST_CASE("judge_ca: good under its root, for its product, and for no other") {
    const TestChain test = naples();
    const Bytes bytes = authority_of(test).serialize();
    CHECK(judge_ca(bytes, "it", test.roots, std::nullopt));
    CHECK(judge_ca(bytes, "it", test.roots, psp::Product::naples));
    CHECK(judge_ca(bytes, "it", test.roots, psp::Product::rome).refusal == "it: ASK and ARK of naples (test root), want those of rome");
    CHECK_FALSE(judge_ca(bytes, "it", {}, std::nullopt));
    CHECK_FALSE(judge_ca(bytes, "it", psp::amd_roots(), std::nullopt));
    CHECK_FALSE(judge_ca(bytes, "it", rome().roots, std::nullopt));
}

TEST_CASE("judge_ca: every length but the right one, and every bit") {
    const TestChain test = naples();
    const Bytes bytes = authority_of(test).serialize();
    for (std::size_t length = 0; length < bytes.size(); ++length)
        CHECK_FALSE(judge_ca(ByteView{bytes}.first(length), "it", test.roots, std::nullopt));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        Bytes other = bytes;
        other[i] ^= static_cast<std::uint8_t>(1U << (i % 8));
        const auto judged = judge_ca(other, "it", test.roots, std::nullopt);
        CHECK_FALSE(judged);
        CHECK(judged.refusal.starts_with("it: "));
    }
}

TEST_CASE("judge_cek: good under its own ASK alone; every bit counts") {
    const TestChain small = naples(), large = rome();
    CHECK(judge_cek(*small.chain.cek, "it", authority_of(small)));
    CHECK(judge_cek(*large.chain.cek, "it", authority_of(large)));
    CHECK_FALSE(judge_cek(*small.chain.cek, "it", authority_of(large)));
    CHECK_FALSE(judge_cek(*large.chain.cek, "it", authority_of(small)));
    const auto bytes = small.chain.cek->serialize();
    const Authority authority = authority_of(small);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        auto other = bytes;
        other[i] ^= static_cast<std::uint8_t>(1U << (i % 8));
        const auto parsed = parse_cek(other, "it");
        CHECK_FALSE((parsed && judge_cek(*parsed.value, "it", authority)));
    }
}

TEST_CASE("foreign: says what came instead") {
    CHECK(foreign({}) == "empty");
    CHECK(foreign(as_bytes("\r\n <!DOCTYPE HTML PUBLIC>")) == "an HTML page");
    CHECK(foreign(as_bytes("<HTML>")) == "an HTML page");
    CHECK(foreign(as_bytes("<?xml version='1.0'?>")) == "XML");
    CHECK(foreign(as_bytes("-----BEGIN CERTIFICATE-----")) == "PEM");
    CHECK(foreign(as_bytes("{\"error\": 1}")) == "JSON");
    CHECK(foreign(as_bytes("Not Found\n")) == "text");
    CHECK(foreign(naples().chain.cek->serialize()).empty());
}

TEST_CASE("Store: what is put is found, by chip and by key, and verified each time") {
    const test::TemporaryDirectory folder;
    const Store store{folder / "cache"};
    const TestChain test = naples();
    CHECK_FALSE(store.cek(chip(1), test.roots));
    CHECK(store.cek(chip(1), test.roots).refusal.empty());
    store.put_cek(*test.chain.cek, chip(1));
    CHECK(store.cek(chip(1), test.roots).refusal.find("without ASK and ARK") != std::string::npos);
    store.put_ca(authority_of(test));
    CHECK(store.cek(chip(1), test.roots).value->cek == *test.chain.cek);
    CHECK(store.cek(chip(1), test.roots, psp::Product::naples));
    CHECK_FALSE(store.cek(chip(1), test.roots, psp::Product::rome));
    CHECK(store.cek(test.chain.cek->fingerprint(), test.roots).value->authority == authority_of(test));
    CHECK_FALSE(store.cek(chip(2), test.roots));
    CHECK_FALSE(store.cek(chip(1), psp::amd_roots()));
    CHECK_FALSE(store.cek(chip(1), {}));

    Bytes broken = read_file(store.ca_path(psp::Product::naples), 4096);
    broken[0x200] ^= 1;
    write_file(store.ca_path(psp::Product::naples), broken, Visibility::readable, Existing::replace);
    CHECK_FALSE(store.cek(chip(1), test.roots));
}

TEST_CASE("Store: the CEK of another key under a key's name is refused") {
    const test::TemporaryDirectory folder;
    const Store store{folder / "cache"};
    const TestChain test = naples();
    store.put_ca(authority_of(test));
    store.put_cek(*test.chain.cek, std::nullopt);
    const Digest other = test::filled<32>(7);
    write_file(store.cek_path(other), test.chain.cek->serialize(), Visibility::readable, Existing::refuse);
    CHECK(store.cek(other, test.roots).refusal.find("another key") != std::string::npos);
    CHECK(store.names("cek", 10).size() == 2);
    CHECK(store.names("cek", 1).size() == 1);
    CHECK(store.names("elsewhere", 10).empty());
}

TEST_CASE("Store: notes hold for their own subject and time only") {
    const test::TemporaryDirectory folder;
    const Store store{folder / "cache"};
    const Time now = at(1'000'000'000);
    const auto note = [&](std::string subject, Time until) {
        return MissingNote{.subject = std::move(subject), .server = "s:443", .asked = now, .ask_again = until, .reason = "HTTP 404"};
    };
    const auto one_hour = now + std::chrono::hours{1};
    CHECK_FALSE(store.missing_cek(chip(1), now));
    store.put_missing_cek(chip(1), note(subject_of(chip(1)), one_hour));
    CHECK(store.missing_cek(chip(1), now));
    CHECK_FALSE(store.missing_cek(chip(1), one_hour));
    CHECK_FALSE(store.missing_cek(chip(1), now - longest_missing)); // a clock that was set back must not make a day a week
    CHECK_FALSE(store.missing_cek(chip(2), now));
    store.put_missing_cek(chip(2), note(subject_of(chip(1)), one_hour));
    CHECK_FALSE(store.missing_cek(chip(2), now));
    store.put_missing_ca(psp::Product::milan, note(subject_of(psp::Product::milan), one_hour));
    CHECK(store.missing_ca(psp::Product::milan, now));
    store.put_cek(*naples().chain.cek, chip(1));
    CHECK_FALSE(store.missing_cek(chip(1), now));

    store.put_wait({.server = "a_b:443", .failures = 1, .not_before = one_hour, .reason = "x"});
    CHECK(store.wait("a_b:443", now));
    CHECK_FALSE(store.wait("a-b:443", now));
    CHECK_FALSE(store.wait("a_b_443", now));
    CHECK_FALSE(store.wait("a_b:443", now - longest_wait));
    store.clear_wait("a_b:443");
    CHECK_FALSE(store.wait("a_b:443", now));
}

TEST_CASE("default_directory: root's, the user's, or none") {
    CHECK(default_directory(true, "/x", "/home/u") == "/var/cache/xen-sev");
    CHECK(default_directory(false, "/x", "/home/u") == "/x/xen-sev");
    CHECK(default_directory(false, "relative", "/home/u") == "/home/u/.cache/xen-sev");
    CHECK(default_directory(false, "", "/home/u") == "/home/u/.cache/xen-sev");
    CHECK_THROWS_AS(default_directory(false, "", ""), Error);
}

TEST_CASE("Lock: the second waits until the deadline, and then says so") {
    const test::TemporaryDirectory folder;
    Time now = at(0);
    unsigned slept = 0;
    const auto clock = [&] { return now; };
    const auto sleep = [&](Milliseconds span) {
        now += span;
        ++slept;
    };
    {
        const Lock first = Lock::take(folder / "l", at(1), clock, sleep);
        CHECK(slept == 0);
        CHECK_THROWS_WITH_AS(static_cast<void>(Lock::take(folder / "l", at(1), clock, sleep)), doctest::Contains("another process"), Error);
        CHECK(slept > 0);
    }
    CHECK_NOTHROW(static_cast<void>(Lock::take(folder / "l", at(1), clock, sleep)));
}
