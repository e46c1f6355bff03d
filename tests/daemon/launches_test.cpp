// SPDX-License-Identifier: Apache-2.0
#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::State;

TEST_CASE("a launch: trusted, its secret goes in, it runs, and it is ended by request") {
    DaemonHost host;
    Daemon daemon{host};
    const auto events = daemon.events.subscribe();
    const auto id = daemon.start("web");
    const Record record = daemon.settle(id);
    CAPTURE(record.reason);
    REQUIRE(record.state == State::running);
    CHECK(host.world.running == std::set<std::string>{"web"});
    CHECK(host.owner->sessions_made() == 1);
    CHECK(host.owner->released() == 1);
    CHECK(host.status().guest_count == 1);
    CHECK(free_asids(daemon) == 14);
    CHECK(record.session.has_value());
    CHECK(record.verdict->at("trusted") == true);
    std::vector<std::string> steps;
    for (const auto& step : record.steps) steps.push_back(step.step);
    CHECK(steps == std::vector<std::string>{"LAUNCH_START", "ACTIVATE", "LAUNCH_UPDATE_DATA", "LAUNCH_UPDATE_DATA", "LAUNCH_MEASURE", "LAUNCH_SECRET",
                                            "LAUNCH_FINISH"});
    std::vector<std::string> states;
    while (const auto event = events->take()) {
        const auto value = json::parse(event->data, "event");
        if (!value.contains("step")) states.push_back(value.at("state").get<std::string>());
    }
    CHECK(states == std::vector<std::string>{"accepted", "opening", "session", "loading", "judging", "releasing", "starting", "running"});

    CHECK(daemon.refusal("web") == fmt::format("409 launch {} has the name \"web\" already", id));
    CHECK(std::holds_alternative<Record>(daemon.launches.cancel(id)));
    CHECK(daemon.settle(id, State::destroyed).state == State::destroyed);
    CHECK(host.world.running.empty());
    CHECK(host.world.destroyed.contains("web"));
    CHECK(host.status().guest_count == 0);
    CHECK(free_asids(daemon) == 15);
    const auto again = daemon.launches.cancel(id);
    REQUIRE(std::holds_alternative<Refusal>(again));
    CHECK(std::get<Refusal>(again).status == 409);
}

TEST_CASE("launches are listed newest first, and by name, as they are at this moment") {
    DaemonHost host;
    Daemon daemon{host};
    std::vector<std::uint64_t> web;
    for (int i = 0; i < 3; ++i) {
        const auto other = daemon.start(fmt::format("other-{}", i));
        web.push_back(daemon.start("web"));
        REQUIRE(daemon.settle(web.back()).state == State::running);
        REQUIRE(daemon.settle(other).state == State::running);
        if (i == 2) break;
        for (const auto id : {web.back(), other}) {
            daemon.launches.cancel(id);
            REQUIRE(daemon.settle(id, State::destroyed).state == State::destroyed);
        }
    }
    const auto ids = [&](std::size_t limit, const std::optional<std::string>& name) {
        std::vector<std::uint64_t> out;
        for (const Record& record : daemon.launches.list(limit, name)) out.push_back(record.id);
        return out;
    };
    CHECK(ids(1, "web") == std::vector{web[2]});
    CHECK(ids(1000, "web") == std::vector{web[2], web[1], web[0]});
    CHECK(ids(2, std::nullopt) == std::vector{web[2], web[2] - 1});
    CHECK(ids(1000, std::nullopt).size() == 6);
    CHECK(ids(1000, "WEB").empty());
    CHECK(ids(1000, "we_").empty());
    CHECK(ids(1000, "web' OR '1'='1").empty());
    CHECK(daemon.launches.list(1, "web")[0].state == State::running);
    CHECK(daemon.launches.list(2, "web")[1].state == State::destroyed);
    for (const Record& record : daemon.launches.list(1000, std::nullopt)) CHECK((record.steps.empty() && !record.verdict));
}

TEST_CASE("a guest that whoever asked resumes: its launch runs, and says that it was left paused") {
    DaemonHost host;
    host.world.left_paused = true;
    Daemon daemon{host};
    const Record record = daemon.settle(daemon.start("web"));
    CHECK(record.state == State::running);
    CHECK(record.reason.ends_with(", and left paused for whoever asked to resume"));
    CHECK(host.owner->released() == 1);
    {
        const std::scoped_lock lock{host.world.mutex};
        host.world.running.erase("web"); // ended by whoever asked, resumed or not
    }
    CHECK(daemon.maintain_until([&] { return has_ended(daemon.launches.find(record.id)->state); }));
    CHECK(daemon.launches.find(record.id)->state == State::destroyed);
    CHECK(host.status().guest_count == 0);
    CHECK(free_asids(daemon) == 15);
}

TEST_CASE("a launch that the owner does not trust never runs, and nothing of it is left") {
    DaemonHost host;
    write_file(host.directory / "memory", Bytes(0x10000, 7), Visibility::readable, Existing::replace);
    host.owner->stop();
    host.server.reset();
    host.owner = std::make_unique<TestOwner>(attest::OwnerPolicy::parse(host.policy(), "policy", host.directory.path())); // knows other memory
    host.configuration.owners.at("alice").key = host.owner->key();
    host.start_owner();
    Daemon daemon{host};
    const Record record = daemon.settle(daemon.start("web"));
    CHECK(record.state == State::refused);
    CHECK(record.reason.find("not trusted: 1 of") == 0);
    CHECK(record.verdict->at("trusted") == false);
    CHECK(host.world.ran_ever == 0);
    CHECK(host.world.destroyed.contains("web"));
    CHECK(host.owner->released() == 0);
    CHECK(host.status().guest_count == 0);
    CHECK(free_asids(daemon) == 15);
}

TEST_CASE("owners that are slow, silent, lying or gone: the launch ends in a said state, and never runs") {
    struct Case {
        TestOwner::Mode mode;
        std::string reason;
    };
    const std::vector<Case> cases{
        {TestOwner::Mode::garbage, "owner's answer"},
        {TestOwner::Mode::wrong_key, "owner's answer"},
        {TestOwner::Mode::other_request, "is to another request than the one that was sent"},
        {TestOwner::Mode::trouble, "the store is away"},
        {TestOwner::Mode::huge, "answer of more than"},
        {TestOwner::Mode::refuse_http, "HTTP status 403: not for you"},
        {TestOwner::Mode::silent, "no whole answer before the deadline"},
    };
    for (const Case& each : cases) {
        CAPTURE(each.reason);
        DaemonHost host;
        host.configuration.owners.at("alice").deadline = 2s;
        host.owner->set(each.mode);
        Daemon daemon{host};
        const Record record = daemon.settle(daemon.start("web"));
        CAPTURE(record.reason);
        CHECK(record.state == State::failed);
        CHECK(record.reason.find(each.reason) != std::string::npos);
        CHECK(host.world.ran_ever == 0);
        CHECK(host.status().guest_count == 0);
        CHECK(free_asids(daemon) == 15);
    }
}

TEST_CASE("an owner that is away for a moment is asked again, each time with a new request") {
    DaemonHost host;
    host.owner->set(TestOwner::Mode::trouble_once);
    Daemon daemon{host};
    CHECK(daemon.settle(daemon.start("web")).state == State::running);
}

TEST_CASE("a session is good once, for ever: another launch and another run of the daemon are refused it") {
    DaemonHost host;
    host.owner->set(TestOwner::Mode::same_session);
    {
        Daemon daemon{host};
        const Record first = daemon.settle(daemon.start("one"));
        CHECK(first.reason.find("no such session") != std::string::npos); // this owner offers, and keeps none
        CHECK(daemon.settle(daemon.start("two")).reason.find("a session that was used before") != std::string::npos);
    }
    Daemon later{host};
    CHECK(later.settle(later.start("three")).reason.find("a session that was used before") != std::string::npos);
    CHECK(host.status().guest_count == 0);
}

TEST_CASE("no ASID free is said before the guest is built, and a freed one comes back after the flush") {
    DaemonHost host;
    Daemon daemon{host}; // seven ASIDs for plain SEV
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 7; ++i) ids.push_back(daemon.start(fmt::format("g{}", i)));
    CHECK(daemon.refusal("one-too-many") == "503 no SEV ASID is free (7 in use)");
    CHECK_FALSE(host.world.created.contains("one-too-many"));
    for (const auto id : ids) CHECK(daemon.settle(id).state == State::running);
    daemon.launches.cancel(ids[3]);
    CHECK(daemon.settle(ids[3], State::destroyed).state == State::destroyed);
    CHECK(daemon.launches.asids().count(false).dirty == 1);
    const Record next = daemon.settle(daemon.start("next"));
    CHECK(next.state == State::running);
    CHECK(daemon.launches.asids().count(false).dirty == 0);
    CHECK(host.status().guest_count == 7);
}

TEST_CASE("every PSP status at every command of a launch: an end, and nothing left") {
    DaemonHost host;
    Daemon daemon{host};
    unsigned rounds = 0;
    for (const auto command :
         {psp::CommandId::platform_status, psp::CommandId::pdh_cert_export, psp::CommandId::launch_start, psp::CommandId::activate,
          psp::CommandId::launch_update_data, psp::CommandId::launch_measure, psp::CommandId::launch_secret, psp::CommandId::launch_finish}) {
        for (const psp::StatusInfo& info : psp::all_statuses()) {
            if (info.status == psp::Status::success) continue;
            CAPTURE(psp::find_command(static_cast<std::uint32_t>(command))->name);
            CAPTURE(info.name);
            REQUIRE(daemon.maintain_until([&] { return daemon.launches.closed().empty(); })); // after HWERROR, until a command succeeds
            host.emulator->faults().add({.command = command, .status = info.status, .skip = 0, .count = 1});
            const Record record = daemon.settle(daemon.start(fmt::format("g{}", rounds++)));
            CHECK(record.state == State::failed);
            CHECK(record.reason.find(info.name) != std::string::npos);
            CHECK(host.status().guest_count == 0);
            CHECK(free_asids(daemon) == 15);
            host.emulator->faults().clear();
        }
    }
    CHECK(host.world.ran_ever == 0);
    CHECK(rounds == 8 * (psp::all_statuses().size() - 1));
}

TEST_CASE("DEACTIVATE and DECOMMISSION that fail: the context is stuck, said, kept from others, and freed later") {
    for (const auto command : {psp::CommandId::deactivate, psp::CommandId::decommission}) {
        DaemonHost host;
        Daemon daemon{host};
        const auto id = daemon.start("web");
        REQUIRE(daemon.settle(id).state == State::running);
        host.emulator->faults().add({.command = command, .status = psp::Status::hwerror_unsafe, .skip = 0, .count = 1});
        daemon.launches.cancel(id);
        const Record record = daemon.settle(id, State::destroyed);
        CHECK(record.state == State::destroyed);
        CHECK(record.reason.find("stuck in the PSP") != std::string::npos);
        CHECK(host.status().guest_count == 1);
        CHECK(daemon.journal.stuck().size() == 1);
        CHECK(free_asids(daemon) == (command == psp::CommandId::deactivate ? 14 : 15));
        CHECK(daemon.maintain_until([&] { return daemon.journal.stuck().empty(); }));
        CHECK(host.status().guest_count == 0);
        CHECK(free_asids(daemon) == 15);
    }
}

TEST_CASE("a PSP that hangs at any command: said, no new launches, nothing wedged, and all well when it answers again") {
    for (const auto command :
         {psp::CommandId::pdh_cert_export, psp::CommandId::launch_start, psp::CommandId::activate, psp::CommandId::launch_update_data,
          psp::CommandId::launch_measure, psp::CommandId::launch_secret, psp::CommandId::launch_finish}) {
        CAPTURE(psp::find_command(static_cast<std::uint32_t>(command))->name);
        DaemonHost host;
        Daemon daemon{host, 500ms};
        REQUIRE(daemon.maintain_until([&] { return daemon.launches.closed().empty(); })); // INIT makes keys, which takes its time
        host.firmware->hold(command);
        const auto id = daemon.start("web");
        REQUIRE(host.firmware->wait_until_held());
        const Record record = daemon.settle(id);
        CHECK(record.state == State::failed);
        CHECK(daemon.psp.health().state == PspHealth::State::silent);
        CHECK(daemon.launches.closed().find("the PSP does not answer") == 0);
        CHECK(daemon.refusal("next").find("503 the PSP does not answer") == 0);
        const auto begun = std::chrono::steady_clock::now();
        daemon.launches.maintain(); // does not wait behind the command that hangs
        CHECK(std::chrono::steady_clock::now() - begun < 250ms);
        CHECK(host.world.ran_ever == 0);
        host.firmware->let_go();
        CHECK(daemon.maintain_until(
            [&] { return daemon.launches.closed().empty() && daemon.journal.stuck().empty() && host.status().guest_count == 0; }));
        CHECK(daemon.settle(daemon.start("next")).state == State::running);
    }
}

TEST_CASE("a guest that vanishes at any step ends its launch, and only its own") {
    for (const std::string call : {"open", "descriptor", "recheck", "run"}) {
        CAPTURE(call);
        DaemonHost host;
        Daemon daemon{host};
        const auto other = daemon.start("other");
        REQUIRE(daemon.settle(other).state == State::running);
        host.world.vanish_at = call;
        const Record record = daemon.settle(daemon.start("web"));
        CHECK(record.state == State::failed);
        CHECK(record.reason.find("domain is gone, at " + call) != std::string::npos);
        CHECK(daemon.settle(other).state == State::running);
        CHECK(host.status().guest_count == 1);
        CHECK(free_asids(daemon) == 14);
        CHECK(host.world.running == std::set<std::string>{"other"});
    }
}

TEST_CASE("a running guest that ends by itself, and one that the toolstack will not destroy at first") {
    DaemonHost host;
    Daemon daemon{host};
    const auto one = daemon.start("one"), two = daemon.start("two");
    REQUIRE(daemon.settle(one).state == State::running);
    REQUIRE(daemon.settle(two).state == State::running);
    {
        const std::scoped_lock lock{host.world.mutex};
        host.world.running.erase("one");
        host.world.destroy_failures = 0;
    }
    CHECK(daemon.maintain_until([&] { return has_ended(daemon.launches.find(one)->state); }));
    CHECK(daemon.launches.find(one)->reason == "the guest ended by itself");
    host.world.destroy_failures = 2;
    daemon.launches.cancel(two);
    CHECK(daemon.maintain_until([&] {
        return daemon.launches.find(two)->reason.find("could not be destroyed") != std::string::npos || has_ended(daemon.launches.find(two)->state);
    }));
    CHECK(host.status().guest_count + (has_ended(daemon.launches.find(two)->state) ? 1U : 0U) == 1); // its context stays as long as it may be there
    CHECK(daemon.maintain_until([&] { return has_ended(daemon.launches.find(two)->state); }));
    CHECK(daemon.launches.find(two)->reason == "ended by request");
    CHECK(host.status().guest_count == 0);
    CHECK(free_asids(daemon) == 15);
}

TEST_CASE("a launch that is called off while its owner is silent ends at once") {
    DaemonHost host;
    host.owner->set(TestOwner::Mode::silent);
    Daemon daemon{host};
    const auto id = daemon.start("web");
    CHECK(daemon.settle(id, State::session).state == State::session);
    const auto begun = std::chrono::steady_clock::now();
    daemon.launches.cancel(id);
    CHECK(daemon.settle(id).state == State::cancelled);
    CHECK(std::chrono::steady_clock::now() - begun < 2s);
    CHECK(free_asids(daemon) == 15);
}

TEST_CASE("a stop calls off what does not run, leaves alone what does, and the next daemon adopts that") {
    DaemonHost host;
    std::uint64_t running = 0, waiting = 0;
    {
        Daemon daemon{host};
        running = daemon.start("run");
        REQUIRE(daemon.settle(running).state == State::running);
        host.owner->set(TestOwner::Mode::silent);
        waiting = daemon.start("wait");
        REQUIRE(daemon.settle(waiting, State::session).state == State::session);
        CHECK(daemon.launches.stop(5s));
        CHECK(daemon.journal.find(waiting)->state == State::cancelled);
        CHECK(daemon.journal.find(running)->state == State::running);
        CHECK(daemon.refusal("late").find("503") == 0);
    }
    CHECK(host.world.running == std::set<std::string>{"run"});
    CHECK(host.status().guest_count == 1);
    Daemon next{host};
    const Record adopted = next.launches.find(running).value();
    CHECK(adopted.state == State::running);
    CHECK(adopted.reason == "adopted after a restart; its PSP context is there");
    CHECK(free_asids(next) == 14);
    next.launches.cancel(running);
    CHECK(next.settle(running, State::destroyed).state == State::destroyed);
    CHECK(host.status().guest_count == 0);
    CHECK(free_asids(next) == 15);
    CHECK(host.world.running.empty());
}
