// SPDX-License-Identifier: Apache-2.0
// Sessions' time while somebody sets the clock.
#include "attest/owner/session_times.hpp"
#include "tests/owner/support.hpp"

using namespace sev;
using namespace sev::attest;
using namespace std::chrono_literals;
using owner::SessionTimes;
using test::june;

namespace {

/// Two clocks: one that passes, and one that is set.
struct Clocks {
    std::chrono::seconds passed{1'000};
    SessionTimes times{june, [this] { return SessionTimes::Steady{passed}; }};
    Time of_day(std::chrono::seconds set_by = {}) const { return june + (passed - 1'000s) + set_by; }
};

} // namespace

TEST_CASE("session times: a session's time passes as it should, whatever the time of day says; others' is the time of day") {
    Clocks clocks;
    const SessionId mine = test::filled<16>(1), other = test::filled<16>(2);
    clocks.times.opened(mine, june, june + 600s);
    for (const auto set_by : {0s, 86'400s, -86'400s}) {
        clocks.passed = 1'500s;
        CHECK(clocks.times.time_of(mine, clocks.of_day(set_by)) == june + 500s);
        CHECK(clocks.times.time_of(other, clocks.of_day(set_by)) == clocks.of_day(set_by));
    }
    clocks.times.taken(mine);
    CHECK(clocks.times.time_of(mine, june) == june);
}

TEST_CASE("session times: nothing that lives is cleaned away when the clock is set forward, and all of it in the end") {
    Clocks clocks;
    const SessionId mine = test::filled<16>(1);
    clocks.times.opened(mine, june, june + 600s);
    clocks.passed += 100s;
    CHECK(clocks.times.cleaning(clocks.of_day()).by == june + 100s);
    auto cleaning = clocks.times.cleaning(clocks.of_day(86'400s));
    CHECK(cleaning.by == june + 100s);
    CHECK(cleaning.set_by == 86'400s);
    clocks.passed += 499s;
    cleaning = clocks.times.cleaning(clocks.of_day(86'400s));
    CHECK(cleaning.by == june + 599s);
    CHECK(cleaning.set_by == 0s); // said once
    clocks.times.cleaned(cleaning.by);
    CHECK(clocks.times.size() == 1);
    clocks.passed += 1s;
    cleaning = clocks.times.cleaning(clocks.of_day(86'400s));
    CHECK(cleaning.by == june + 600s + 86'400s); // the session has had its time: from here on the new time of day holds
    clocks.times.cleaned(cleaning.by);
    CHECK(clocks.times.size() == 0);
    CHECK(clocks.times.cleaning(clocks.of_day(86'400s)).set_by == 0s);
}

TEST_CASE("session times: set back, the clock revives nothing, however often") {
    Clocks clocks;
    const SessionId mine = test::filled<16>(1);
    clocks.times.opened(mine, june, june + 600s);
    clocks.passed += 601s;
    for (const auto set_by : {-599s, -60s, -86'400s, -1s, 0s}) {
        const auto cleaning = clocks.times.cleaning(clocks.of_day(set_by));
        CHECK(cleaning.by <= clocks.of_day(set_by));
        CHECK(clocks.times.time_of(mine, clocks.of_day(set_by)) == june + 601s); // after its end, so nobody takes it
    }
    clocks.times.cleaned(june + 600s); // its row is gone from the store, and now it may be forgotten
    CHECK(clocks.times.size() == 0);
}

TEST_CASE("session times: two clocks that differ by a moment are not taken for one that was set") {
    Clocks clocks;
    for (int i = 0; i < 1000; ++i) {
        clocks.passed += 10s;
        CHECK(clocks.times.cleaning(clocks.of_day(std::chrono::seconds{i % 3 - 1})).set_by == 0s);
    }
}
