// SPDX-License-Identifier: Apache-2.0
// Ends that do not come about at once: a guest that stays, a launch of an earlier run that cannot be ended yet, a thread that is not to be had.
#include <pthread.h>

#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::Record;
using daemon::State;

namespace {

void let_destroy_fail(DaemonHost& host, unsigned times) {
    const std::scoped_lock lock{host.world.mutex};
    host.world.destroy_failures = times;
}

/// Threads are asked for with a stack that no address space has room for, as long as this lives.
class NoThreads {
public:
    NoThreads() {
        REQUIRE(pthread_getattr_default_np(&before_) == 0);
        pthread_attr_t greedy;
        REQUIRE(pthread_getattr_default_np(&greedy) == 0);
        REQUIRE(pthread_attr_setstacksize(&greedy, std::size_t{1} << 47) == 0);
        REQUIRE(pthread_setattr_default_np(&greedy) == 0);
        pthread_attr_destroy(&greedy);
    }
    NoThreads(const NoThreads&) = delete;
    NoThreads& operator=(const NoThreads&) = delete;
    ~NoThreads() {
        pthread_setattr_default_np(&before_);
        pthread_attr_destroy(&before_);
    }

private:
    pthread_attr_t before_;
};

} // namespace

TEST_CASE("a launch that fails on its way keeps its guest context as long as its guest may be there, wherever it failed") {
    for (const psp::CommandId command : {psp::CommandId::launch_update_data, psp::CommandId::launch_measure, psp::CommandId::launch_finish}) {
        CAPTURE(static_cast<unsigned>(command));
        DaemonHost host;
        Daemon daemon{host};
        host.emulator->faults().add({.command = command, .status = psp::Status::resource_limit, .skip = 0, .count = 1});
        let_destroy_fail(host, 1000);
        const auto id = daemon.start("web");
        REQUIRE(daemon.maintain_until([&] { return daemon.launches.find(id)->reason.find("could not be destroyed") != std::string::npos; }));
        for (int i = 0; i < 3; ++i) daemon.launches.maintain(); // which frees what is stuck, but not this
        CHECK(host.status().guest_count == 1);
        CHECK(free_asids(daemon) == 14);
        let_destroy_fail(host, 0);
        CHECK(daemon.maintain_until([&] { return has_ended(daemon.launches.find(id)->state) && host.status().guest_count == 0; }));
        CHECK(daemon.launches.find(id)->state == State::failed);
        CHECK(daemon.maintain_until([&] { return free_asids(daemon) == 15; }));
        CHECK(host.world.destroyed.contains("web"));
    }
}

TEST_CASE("a launch of an earlier run that cannot be ended yet keeps its name, counts, holds up nobody, and is tried again") {
    for (const State state : {State::judging, State::starting}) {
        CAPTURE(std::string{name(state)});
        DaemonHost host;
        host.initialise();
        const std::uint64_t id = left_launch(host, state);
        let_destroy_fail(host, 1000);
        Daemon daemon{host};
        CHECK(daemon.launches.counts().active == 1);
        CHECK(daemon.launches.find(id)->reason == "left by an earlier run, and could not be ended: the toolstack does not answer");
        CHECK(daemon.refusal("web") == fmt::format("409 launch {} has the name \"web\" already", id));
        CHECK(std::holds_alternative<Record>(daemon.launches.cancel(id)));
        const auto other = daemon.start("other");
        CHECK(daemon.settle(other).state == State::running);
        daemon.launches.maintain();
        CHECK(host.status().guest_count == 2); // its context stays as long as its guest may be there
        CHECK(free_asids(daemon) == 13);
        CHECK_FALSE(has_ended(daemon.launches.find(id)->state));
        let_destroy_fail(host, 0);
        CHECK(daemon.maintain_until([&] { return has_ended(daemon.launches.find(id)->state); }));
        CHECK(host.world.destroyed.contains("web"));
        CHECK(daemon.maintain_until([&] { return host.status().guest_count == 1 && free_asids(daemon) == 14; }));
        CHECK(daemon.settle(daemon.start("web")).state == State::running);
    }
}

TEST_CASE("a launch for which no thread is to be had ends, with its ASID and its name, and the next is admitted") {
    DaemonHost host;
    Daemon daemon{host};
    const auto running = daemon.start("running");
    REQUIRE(daemon.settle(running).state == State::running);
    {
        const NoThreads none;
        CHECK(daemon.refusal("web").find("503 no thread for a launch: ") == 0);
        CHECK_THROWS_WITH_AS(static_cast<void>(daemon.launches.cancel(running)), doctest::Contains("no thread for a launch"), Error);
        CHECK(daemon.launches.find(running)->state == State::running);
    }
    CHECK(daemon.launches.list(1).at(0).state == State::failed);
    CHECK(free_asids(daemon) == 14);
    CHECK(daemon.settle(daemon.start("web")).state == State::running);
    static_cast<void>(daemon.launches.cancel(running));
    CHECK(daemon.maintain_until([&] { return has_ended(daemon.launches.find(running)->state); }));
}

TEST_CASE("launches are called off while they are looked after: each ends once") {
    DaemonHost host;
    Daemon daemon{host};
    std::atomic<bool> over{false};
    std::thread caretaker{[&] {
        while (!over) daemon.launches.maintain();
    }};
    for (int i = 0; i < 40; ++i) {
        const auto id = daemon.start("web");
        if (i % 2 == 0) daemon.settle(id);
        static_cast<void>(daemon.launches.cancel(id));
        for (int wait = 0; wait < 1000 && !has_ended(daemon.launches.find(id)->state); ++wait) std::this_thread::sleep_for(10ms);
        CHECK(has_ended(daemon.launches.find(id)->state));
    }
    over = true;
    caretaker.join();
    CHECK(host.status().guest_count == 0);
    CHECK(free_asids(daemon) == 15);
}
