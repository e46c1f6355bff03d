// SPDX-License-Identifier: Apache-2.0
// Guests that fail half made, that nobody can see, that are slow to be looked at, and that two launches want.
#include <future>

#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::State;

TEST_CASE("a guest that fails half made is destroyed before its launch ends, however often that takes") {
    DaemonHost host;
    Daemon daemon{host};
    host.world.vanish_at = "opened";
    host.world.destroy_failures = 2;
    const auto id = daemon.start("web");
    CHECK(daemon.maintain_until([&] { return has_ended(daemon.launches.find(id)->state); }));
    CHECK(daemon.launches.find(id)->state == State::failed);
    CHECK(daemon.launches.find(id)->reason == "domain is gone, at opened");
    CHECK(host.world.destroy_failures == 0);
    CHECK(host.world.created == std::set<std::string>{"web"});
    CHECK(host.world.destroyed == std::set<std::string>{"web"});
    CHECK(daemon.launches.asids().count(false).in_use() == 0);
}

TEST_CASE("a running guest of which nobody can tell whether it is there is left alone, and looked at again") {
    DaemonHost host;
    Daemon daemon{host};
    const auto id = daemon.start("web");
    REQUIRE(daemon.settle(id).state == State::running);
    {
        const std::scoped_lock lock{host.world.mutex};
        host.world.vanish_at = "alive";
    }
    for (int i = 0; i < 10; ++i) {
        daemon.launches.maintain();
        std::this_thread::sleep_for(20ms);
    }
    CHECK(daemon.launches.find(id)->state == State::running);
    CHECK(host.world.destroyed.empty());
    {
        const std::scoped_lock lock{host.world.mutex};
        host.world.vanish_at.clear();
        host.world.running.clear();
    }
    CHECK(daemon.maintain_until([&] { return has_ended(daemon.launches.find(id)->state); }));
    CHECK(daemon.launches.find(id)->reason == "the guest ended by itself");
}

TEST_CASE("a guest that is slow to be looked at holds up no maintenance; what was asked for meanwhile is done after it") {
    DaemonHost host;
    Daemon daemon{host};
    const auto id = daemon.start("web");
    REQUIRE(daemon.settle(id).state == State::running);
    std::unique_lock slow{host.world.mutex}; // a look waits for it
    auto turns = std::async(std::launch::async, [&] {
        for (int i = 0; i < 5; ++i) {
            daemon.launches.maintain();
            std::this_thread::sleep_for(20ms);
        }
    });
    CHECK(turns.wait_for(5s) == std::future_status::ready);
    daemon.launches.cancel(id);
    std::this_thread::sleep_for(50ms);
    slow.unlock();
    CHECK(daemon.settle(id, State::destroyed).state == State::destroyed);
    CHECK(host.world.running.empty());
}

TEST_CASE("a guest has one launch at a time, whatever its launches are called") {
    DaemonHost host;
    Daemon daemon{host};
    const auto id = daemon.start("web");
    REQUIRE(daemon.settle(id).state == State::running);
    auto request = Daemon::request("other");
    request.guest["domain"] = "web";
    const auto refused = daemon.launches.create(request);
    REQUIRE(std::holds_alternative<Refusal>(refused));
    CHECK(std::get<Refusal>(refused).status == 409);
    CHECK(std::get<Refusal>(refused).detail == fmt::format("launch {} (web) is of this guest already", id));
    daemon.launches.cancel(id);
    REQUIRE(daemon.settle(id, State::destroyed).state == State::destroyed);
    CHECK(std::holds_alternative<Record>(daemon.launches.create(request)));
}
