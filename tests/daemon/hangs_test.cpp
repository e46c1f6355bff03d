// SPDX-License-Identifier: Apache-2.0
// A PSP that hangs at the commands around a launch's own, and at those of SEV-ES guests and of reports: launches_test.cpp has the others. Each is
// said, wedges nothing, and leaves nothing behind once the PSP answers again.
#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::State;

namespace {

constexpr auto deadline = 500ms;

bool serving(Daemon& daemon) {
    return daemon.maintain_until([&] { return daemon.launches.closed().empty(); });
}

bool nothing_left(Daemon& daemon) {
    return daemon.maintain_until([&] {
        const auto sev = daemon.launches.asids().count(false), es = daemon.launches.asids().count(true);
        return daemon.launches.closed().empty() && daemon.journal.stuck().empty() && daemon.host.status().guest_count == 0 &&
               sev.clean + sev.dirty + es.clean + es.dirty == 15;
    });
}

/// While the PSP hangs: it is said, nothing new is admitted, and neither that nor maintenance waits for it.
void said_and_not_wedged(Daemon& daemon) {
    CHECK(daemon.psp.health().state == PspHealth::State::silent);
    CHECK(daemon.launches.closed().find("the PSP does not answer") == 0);
    const auto begun = std::chrono::steady_clock::now();
    CHECK(daemon.refusal("next").find("503 the PSP does not answer") == 0);
    daemon.launches.maintain();
    CHECK(std::chrono::steady_clock::now() - begun < 250ms);
}

} // namespace

TEST_CASE("a PSP that hangs at LAUNCH_UPDATE_VMSA or ATTESTATION: the launch fails, and the next one goes its way") {
    for (const bool es : {true, false}) {
        CAPTURE(es);
        DaemonHost host{es};
        Daemon daemon{host, deadline};
        REQUIRE(serving(daemon));
        host.firmware->hold(es ? psp::CommandId::launch_update_vmsa : psp::CommandId::attestation);
        auto request = Daemon::request("web");
        if (!es) request.evidence = attest::EvidenceKind::report;
        const auto made = daemon.launches.create(request);
        REQUIRE(std::holds_alternative<Record>(made));
        REQUIRE(host.firmware->wait_until_held());
        const Record record = daemon.settle(std::get<Record>(made).id);
        CHECK(record.state == State::failed);
        CHECK(record.reason.find("no answer within 500 ms") != std::string::npos);
        said_and_not_wedged(daemon);
        CHECK(host.world.ran_ever == 0);
        host.firmware->let_go();
        CHECK(nothing_left(daemon));
        // no reference of the owner's covers register state: its verdict is as far as such a guest comes
        CHECK(daemon.settle(daemon.start("web")).state == (es ? State::refused : State::running));
    }
}

TEST_CASE("a PSP that hangs at what a launch shows its owner of the platform: the launch fails before its guest's context is made") {
    for (const auto command : {psp::CommandId::platform_status, psp::CommandId::get_id}) {
        CAPTURE(psp::find_command(static_cast<std::uint32_t>(command))->name);
        DaemonHost host;
        Daemon daemon{host, deadline};
        REQUIRE(serving(daemon));
        host.firmware->hold(command);
        const auto id = daemon.start("web");
        REQUIRE(host.firmware->wait_until_held());
        const Record record = daemon.settle(id);
        CHECK(record.state == State::failed);
        CHECK(record.handle == psp::GuestHandle{});
        said_and_not_wedged(daemon);
        host.firmware->let_go();
        CHECK(nothing_left(daemon));
        CHECK(daemon.settle(daemon.start("web")).state == State::running);
    }
}

TEST_CASE("a PSP that hangs at GUEST_STATUS of a guest that runs: it runs on, its ASID is nobody else's, and all comes back with its end") {
    DaemonHost host;
    std::uint64_t id = 0;
    {
        Daemon daemon{host};
        id = daemon.start("web");
        REQUIRE(daemon.settle(id).state == State::running);
    }
    host.firmware->hold(psp::CommandId::guest_status);
    Daemon daemon{host, deadline};
    CHECK(daemon.launches.find(id)->state == State::running);
    CHECK(daemon.launches.find(id)->reason.find("the PSP does not say whether its context is there") != std::string::npos);
    CHECK(daemon.launches.asids().retired() == 1);
    said_and_not_wedged(daemon);
    daemon.launches.cancel(id); // while it hangs
    CHECK(daemon.settle(id, State::destroyed).state == State::destroyed);
    CHECK(host.world.running.empty());
    CHECK(host.world.destroyed.contains("web"));
    CHECK(daemon.journal.stuck().size() == 1);
    host.firmware->let_go();
    CHECK(nothing_left(daemon));
}

TEST_CASE("a PSP that hangs at DEACTIVATE or DECOMMISSION: the guest is gone at once, its context and ASID when the PSP answers") {
    for (const auto command : {psp::CommandId::deactivate, psp::CommandId::decommission}) {
        CAPTURE(psp::find_command(static_cast<std::uint32_t>(command))->name);
        DaemonHost host;
        Daemon daemon{host, deadline};
        REQUIRE(serving(daemon));
        const auto id = daemon.start("web");
        REQUIRE(daemon.settle(id).state == State::running);
        host.firmware->hold(command);
        daemon.launches.cancel(id);
        REQUIRE(host.firmware->wait_until_held());
        CHECK(host.world.running.empty());
        const Record record = daemon.settle(id, State::destroyed);
        CHECK(record.state == State::destroyed);
        CHECK(record.reason.find("stuck in the PSP") != std::string::npos);
        CHECK(daemon.journal.stuck().size() == 1);
        CHECK(daemon.launches.asids().retired() == (command == psp::CommandId::deactivate ? 1 : 0));
        said_and_not_wedged(daemon);
        host.firmware->let_go();
        CHECK(nothing_left(daemon));
        CHECK(daemon.settle(daemon.start("web")).state == State::running);
    }
}

TEST_CASE("a PSP that hangs at DF_FLUSH: no guest is built, and no ASID is lost") {
    DaemonHost host;
    Daemon daemon{host, deadline};
    REQUIRE(serving(daemon));
    host.firmware->hold(psp::CommandId::df_flush); // before the first ASID is handed out
    std::string said;
    try {
        said = daemon.refusal("web");
    } catch (const Error& error) {
        said = error.what();
    }
    CHECK(said.find("no answer within 500 ms") != std::string::npos);
    CHECK(host.world.created.empty());
    said_and_not_wedged(daemon);
    host.firmware->let_go();
    CHECK(nothing_left(daemon));
    CHECK(daemon.settle(daemon.start("web")).state == State::running);
}

TEST_CASE("a PSP that hangs at INIT: the daemon is up and says so, and serves when it answers") {
    DaemonHost host;
    host.firmware->hold(psp::CommandId::init);
    Daemon daemon{host, deadline};
    REQUIRE(host.firmware->wait_until_held());
    REQUIRE(daemon.maintain_until([&] { return daemon.psp.health().state == PspHealth::State::silent; }));
    said_and_not_wedged(daemon);
    host.firmware->let_go();
    REQUIRE(serving(daemon));
    CHECK(daemon.settle(daemon.start("web")).state == State::running);
}

TEST_CASE("a PSP that hangs at SHUTDOWN: the daemon ends all the same, and soon") {
    DaemonHost host;
    std::optional<Daemon> daemon{std::in_place, host, deadline};
    REQUIRE(serving(*daemon));
    host.firmware->hold(psp::CommandId::shutdown);
    const auto begun = std::chrono::steady_clock::now();
    daemon.reset();
    CHECK(std::chrono::steady_clock::now() - begun < 5s);
    CHECK(host.firmware->wait_until_held()); // it came as far
    host.firmware->let_go();
}
