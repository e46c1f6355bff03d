// SPDX-License-Identifier: Apache-2.0
// A guest that goes away on its own in the middle of its launch: it ends, it alone, and nothing of it is left.
#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::State;

namespace {

struct Scene {
    DaemonHost host;
    Daemon daemon{host};
    Scene() { REQUIRE(daemon.settle(daemon.start("other")).state == State::running); }

    void vanish(const std::string& at) {
        const std::scoped_lock lock{host.world.mutex};
        host.world.vanish_at = at;
    }
    /// The launch's end, and all that must hold then.
    Record ended(std::uint64_t id, const std::string& at) {
        const Record record = daemon.settle(id);
        CHECK(record.state == State::failed);
        CHECK(record.reason.find("domain is gone, at " + at) != std::string::npos);
        CHECK(host.status().guest_count == 1);
        const auto sev = daemon.launches.asids().count(false);
        CHECK(sev.in_use() == 1);
        CHECK(sev.retired == 0);
        CHECK(daemon.journal.stuck().empty());
        CHECK(host.world.running == std::set<std::string>{"other"});
        CHECK(host.world.ran_ever == 1);
        return record;
    }
};

bool had(const Record& record, std::string_view step) {
    return std::ranges::any_of(record.steps, [&](const auto& each) { return each.step == step; });
}

} // namespace

TEST_CASE("a guest that vanishes while it is loaded, or when its secret is to go in") {
    struct Case {
        std::string at, came_to, did_not_come_to;
    };
    const std::vector<Case> cases{{"LAUNCH_UPDATE_DATA", "ACTIVATE", "LAUNCH_UPDATE_DATA"},
                                  {"LAUNCH_UPDATE_DATA of the second part", "LAUNCH_UPDATE_DATA", "LAUNCH_MEASURE"},
                                  {"slot", "LAUNCH_MEASURE", "LAUNCH_SECRET"},
                                  {"LAUNCH_SECRET", "LAUNCH_MEASURE", "LAUNCH_SECRET"}};
    for (const Case& each : cases) {
        CAPTURE(each.at);
        Scene scene;
        scene.vanish(each.at);
        const Record record = scene.ended(scene.daemon.start("web"), each.at);
        CHECK(had(record, each.came_to));
        CHECK_FALSE(had(record, each.did_not_come_to));
    }
}

TEST_CASE("a guest that vanishes while its owner is asked for a session or a verdict: noticed before anything more is done") {
    struct Case {
        State asking;
        std::string noticed_at, did_not_come_to;
    };
    for (const Case& each : std::vector<Case>{{State::session, "descriptor", "LAUNCH_START"}, {State::judging, "recheck", "LAUNCH_SECRET"}}) {
        CAPTURE(std::string{name(each.asking)});
        Scene scene;
        scene.host.owner->set(TestOwner::Mode::honest, 300ms);
        const auto id = scene.daemon.start("web");
        REQUIRE(scene.daemon.settle(id, each.asking).state == each.asking);
        scene.vanish(each.noticed_at);
        CHECK_FALSE(had(scene.ended(id, each.noticed_at), each.did_not_come_to));
    }
}
