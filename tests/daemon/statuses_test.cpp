// SPDX-License-Identifier: Apache-2.0
// Every status of the SEV API at the commands around a launch's own, and at those of SEV-ES guests and of reports: launches_test.cpp has the others.
#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::State;

namespace {

std::vector<psp::StatusInfo> failures() {
    std::vector<psp::StatusInfo> out;
    for (const psp::StatusInfo& info : psp::all_statuses())
        if (info.status != psp::Status::success) out.push_back(info);
    REQUIRE(out.size() > 20);
    return out;
}

std::size_t free_asids(const Daemon& daemon, bool es) {
    const auto half = daemon.launches.asids().count(es);
    return half.clean + half.dirty;
}

bool serving(Daemon& daemon) {
    return daemon.maintain_until([&] { return daemon.launches.closed().empty(); });
}

bool nothing_left(Daemon& daemon) {
    return daemon.maintain_until([&] {
        return daemon.launches.closed().empty() && daemon.journal.stuck().empty() && daemon.host.status().guest_count == 0 &&
               free_asids(daemon, false) + free_asids(daemon, true) == 15;
    });
}

/// One launch with a command that answers so: its end.
Record ended_with(Daemon& daemon, psp::CommandId command, psp::Status status, const std::function<void(daemon::LaunchRequest&)>& ask = {}) {
    static unsigned number = 0;
    REQUIRE(serving(daemon));
    daemon.host.emulator->faults().add({.command = command, .status = status, .skip = 0, .count = 1});
    auto request = Daemon::request(fmt::format("s{}", number++));
    if (ask) ask(request);
    const auto made = daemon.launches.create(request);
    REQUIRE(std::holds_alternative<Record>(made));
    const Record record = daemon.settle(std::get<Record>(made).id);
    daemon.host.emulator->faults().clear();
    return record;
}

} // namespace

TEST_CASE("every PSP status at LAUNCH_UPDATE_VMSA: an end, and nothing left") {
    DaemonHost host{true};
    Daemon daemon{host};
    for (const psp::StatusInfo& info : failures()) {
        CAPTURE(info.name);
        const Record record = ended_with(daemon, psp::CommandId::launch_update_vmsa, info.status);
        CHECK(record.state == State::failed);
        CHECK(record.reason.find(info.name) != std::string::npos);
        CHECK(nothing_left(daemon));
    }
    CHECK(host.world.ran_ever == 0);
    // without a fault the same guest comes as far as its owner's verdict
    REQUIRE(serving(daemon));
    CHECK(daemon.settle(daemon.start("web")).state == State::refused);
}

TEST_CASE("every PSP status at ATTESTATION: an end, and nothing left") {
    DaemonHost host;
    Daemon daemon{host};
    const auto ask = [](daemon::LaunchRequest& request) { request.evidence = attest::EvidenceKind::report; };
    for (const psp::StatusInfo& info : failures()) {
        CAPTURE(info.name);
        const Record record = ended_with(daemon, psp::CommandId::attestation, info.status, ask);
        CHECK(record.state == State::failed);
        CHECK(record.reason.find(info.name) != std::string::npos);
        CHECK(nothing_left(daemon));
    }
    CHECK(host.world.ran_ever == 0);
}

TEST_CASE("every PSP status at GET_ID: the chip's name is a claim that a launch can do without, or the launch ends") {
    DaemonHost host;
    Daemon daemon{host};
    for (const psp::StatusInfo& info : failures()) {
        CAPTURE(info.name);
        const Record record = ended_with(daemon, psp::CommandId::get_id, info.status);
        if (record.state == State::running) daemon.launches.cancel(record.id);
        else CHECK(record.reason.find(info.name) != std::string::npos);
        CHECK(daemon::has_ended(daemon.settle(record.id, State::destroyed).state));
        CHECK(nothing_left(daemon));
    }
}

TEST_CASE("every PSP status at DF_FLUSH: no ASID that was used before is handed out without it") {
    DaemonHost host;
    Daemon daemon{host};
    // all but one ASID are taken, so that each launch needs the one that the last gave back
    const std::size_t all = daemon.launches.asids().count(false).total;
    for (std::size_t i = 0; i + 1 < all; ++i) REQUIRE(daemon.settle(daemon.start(fmt::format("keeps {}", i))).state == State::running);
    for (const psp::StatusInfo& info : failures()) {
        CAPTURE(info.name);
        REQUIRE(serving(daemon));
        const auto id = daemon.start("last");
        REQUIRE(daemon.settle(id).state == State::running);
        daemon.launches.cancel(id);
        REQUIRE(daemon.settle(id, State::destroyed).state == State::destroyed);
        const std::size_t created = host.world.created.size();
        host.emulator->faults().add({.command = psp::CommandId::df_flush, .status = info.status, .skip = 0, .count = 1});
        std::string said;
        try {
            said = daemon.refusal("refused");
        } catch (const Error& error) {
            said = error.what();
        }
        CHECK(said.find(info.name) != std::string::npos);
        CHECK(host.world.created.size() == created);
        CHECK(free_asids(daemon, false) == 1);
        host.emulator->faults().clear();
    }
}

TEST_CASE("every PSP status at DEACTIVATE and DECOMMISSION: the guest is gone, and context and ASID come back in the end") {
    for (const auto command : {psp::CommandId::deactivate, psp::CommandId::decommission}) {
        DaemonHost host;
        Daemon daemon{host};
        for (const psp::StatusInfo& info : failures()) {
            CAPTURE(psp::find_command(static_cast<std::uint32_t>(command))->name);
            CAPTURE(info.name);
            REQUIRE(serving(daemon));
            const auto id = daemon.start("web");
            REQUIRE(daemon.settle(id).state == State::running);
            host.emulator->faults().add({.command = command, .status = info.status, .skip = 0, .count = 1});
            daemon.launches.cancel(id);
            CHECK(daemon.settle(id, State::destroyed).state == State::destroyed);
            CHECK(host.world.running.empty());
            host.emulator->faults().clear();
            CHECK(nothing_left(daemon));
        }
    }
}

TEST_CASE("every PSP status at SHUTDOWN: the daemon ends all the same, and the next launches on the platform that it finds") {
    DaemonHost host;
    const auto one_launch = [&] {
        Daemon daemon{host};
        REQUIRE(serving(daemon));
        const auto id = daemon.start("web");
        CHECK(daemon.settle(id).state == State::running);
        daemon.launches.cancel(id);
        CHECK(daemon.settle(id, State::destroyed).state == State::destroyed);
        CHECK(nothing_left(daemon));
    };
    one_launch();
    REQUIRE(host.status().state == psp::PlatformState::uninit); // without a fault
    for (const psp::StatusInfo& info : failures()) {
        CAPTURE(info.name);
        host.emulator->faults().add({.command = psp::CommandId::shutdown, .status = info.status, .skip = 0, .count = 1});
        one_launch();
        host.emulator->faults().clear();
        CHECK(host.status().state == psp::PlatformState::init);
        one_launch(); // with the ASID that the last one used
        CHECK(host.status().state == psp::PlatformState::init); // who did not give INIT does not give SHUTDOWN
        psp::run(host.direct, psp::Shutdown{});
    }
}

TEST_CASE("every PSP status at INIT: said, no launches, and served once it works") {
    DaemonHost host;
    for (const psp::StatusInfo& info : failures()) {
        CAPTURE(info.name);
        if (host.status().state != psp::PlatformState::uninit) psp::run(host.direct, psp::Shutdown{});
        host.emulator->faults().add({.command = psp::CommandId::init, .status = info.status, .skip = 0, .count = 1});
        Daemon daemon{host};
        host.emulator->faults().clear();
        CHECK(daemon.refusal("web").starts_with("503"));
        CHECK(serving(daemon));
    }
    Daemon daemon{host};
    REQUIRE(serving(daemon));
    CHECK(daemon.settle(daemon.start("web")).state == State::running);
}
