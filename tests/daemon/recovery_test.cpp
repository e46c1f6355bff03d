// SPDX-License-Identifier: Apache-2.0
// What a daemon finds that died in the middle. The PSP and the guests outlive it here, as they do under a hypervisor; the journal is put into the
// state in which the daemon died.
#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::Journal;
using daemon::Record;
using daemon::State;

TEST_CASE("recovery: a launch that died in any state is destroyed, guest first, and its context and ASID come back") {
    for (const State state : {State::accepted, State::opening, State::session, State::loading, State::judging, State::releasing, State::starting,
                              State::running, State::ending}) {
        CAPTURE(std::string{name(state)});
        DaemonHost host;
        host.initialise();
        const std::uint64_t id = left_launch(host, state);
        Daemon daemon{host};
        const Record after = daemon.launches.find(id).value();
        CHECK(has_ended(after.state));
        CHECK(after.reason.find(fmt::format("sevd stopped while it was {}", name(state))) == 0);
        CHECK(host.world.destroyed.contains("web") == (state != State::accepted));
        CHECK(host.status().guest_count == 0);
        CHECK(free_asids(daemon) == 15);
        CHECK(daemon.journal.stuck().empty());
        CHECK(daemon.settle(daemon.start("web")).state == State::running);
    }
}

TEST_CASE("recovery: a context whose handle nobody wrote down is found by the PSP's own count") {
    DaemonHost host;
    host.initialise();
    left_context(host, std::nullopt);
    left_context(host, psp::Asid{13});
    CHECK(host.status().guest_count == 2);
    const Daemon daemon{host};
    CHECK(host.status().guest_count == 0);
    CHECK(daemon.launches.closed().empty());
}

TEST_CASE("recovery: an ASID that was used before this run is handed out only after WBINVD and DF_FLUSH") {
    DaemonHost host;
    host.initialise();
    const psp::Asid first{host.emulator->personality().min_sev_asid}; // the one that is handed out first
    left_context(host, first);
    Daemon daemon{host};
    const Record record = daemon.settle(daemon.start("web"));
    CHECK(record.reason.find("DF_FLUSH") == std::string::npos);
    CHECK(record.state == State::running);
    CHECK(record.asid == first);
}

TEST_CASE("recovery: every PSP status at GUEST_STATUS of a running guest: only INVALID_GUEST says that its context is gone; else its ASID is kept") {
    DaemonHost host;
    for (const psp::StatusInfo& info : psp::all_statuses()) {
        if (info.status == psp::Status::success) continue;
        CAPTURE(info.name);
        std::uint64_t id = 0;
        {
            Daemon daemon{host};
            REQUIRE(daemon.maintain_until([&] { return daemon.launches.closed().empty(); }));
            id = daemon.start("web");
            REQUIRE(daemon.settle(id).state == State::running);
        }
        REQUIRE(host.status().guest_count == 1);
        host.emulator->faults().add({.command = psp::CommandId::guest_status, .status = info.status, .skip = 0, .count = 1});
        Daemon daemon{host};
        host.emulator->faults().clear();
        const Record record = daemon.launches.find(id).value();
        CHECK(record.state == State::running);
        if (info.status == psp::Status::invalid_guest) {
            CHECK(record.reason == "adopted after a restart; its PSP context is gone");
            CHECK(record.asid == psp::Asid{});
            CHECK(host.status().guest_count == 0); // whatever is there all the same is nobody's
        } else {
            CHECK(record.reason.find("the PSP does not say whether its context is there") != std::string::npos);
            CHECK(record.reason.find(info.name) != std::string::npos);
            CHECK(daemon.launches.asids().retired() == 1);
            CHECK(host.status().guest_count == 1);
        }
        daemon.launches.cancel(id);
        CHECK(daemon.settle(id, State::destroyed).state == State::destroyed);
        CHECK(daemon.maintain_until([&] { return host.status().guest_count == 0 && free_asids(daemon) == 15; }));
        CHECK(daemon.journal.stuck().empty());
    }
}

TEST_CASE("recovery: every PSP status at GUEST_STATUS of a context that nobody knows: no launch before it is found and gone") {
    DaemonHost host;
    host.initialise();
    for (const psp::StatusInfo& info : psp::all_statuses()) {
        if (info.status == psp::Status::success) continue;
        CAPTURE(info.name);
        const std::uint32_t handle = psp::raw(left_context(host, std::nullopt));
        // handle 1 is asked about first
        host.emulator->faults().add({.command = psp::CommandId::guest_status, .status = info.status, .skip = handle - 1, .count = 1});
        Daemon daemon{host};
        host.emulator->faults().clear();
        CHECK(daemon.refusal("web").starts_with("503"));
        CHECK(daemon.maintain_until([&] { return daemon.launches.closed().empty(); }));
        CHECK(host.status().guest_count == 0);
    }
}

TEST_CASE("recovery: a PSP that does not answer at the start is waited for; guests are destroyed all the same, and nobody gets their ASIDs") {
    DaemonHost host;
    host.initialise();
    {
        Journal journal{host.directory / "state"};
        Record record;
        record.request = Daemon::request("web");
        record.identity = {{"domain", "web"}};
        record.state = State::judging;
        record.asid = psp::Asid{12};
        record.handle = left_context(host, psp::Asid{12});
        journal.add(record);
    }
    host.firmware->hold(psp::CommandId::platform_status);
    Daemon daemon{host, 200ms};
    CHECK(host.world.destroyed.contains("web"));
    CHECK(daemon.refusal("next").find("503 the PSP does not answer") == 0);
    CHECK(daemon.launches.asids().count(false).retired == 1);
    host.firmware->let_go();
    CHECK(daemon.maintain_until([&] { return daemon.launches.closed().empty(); }));
    CHECK(host.status().guest_count == 0);
    CHECK(daemon.launches.asids().count(false).retired == 0);
    CHECK(daemon.settle(daemon.start("next")).state == State::running);
}

TEST_CASE("recovery: a running guest whose context the PSP lost is adopted, and said to be without") {
    DaemonHost host;
    std::uint64_t id = 0;
    {
        Daemon daemon{host};
        id = daemon.start("web");
        REQUIRE(daemon.settle(id).state == State::running);
    }
    host.emulator->reset();
    Daemon daemon{host};
    CHECK(daemon.launches.find(id)->state == State::running);
    CHECK(daemon.launches.find(id)->reason == "adopted after a restart; its PSP context is gone");
    daemon.launches.cancel(id);
    CHECK(daemon.settle(id, State::destroyed).state == State::destroyed);
    CHECK(host.world.running.empty());
    CHECK(free_asids(daemon) == 15);
}
