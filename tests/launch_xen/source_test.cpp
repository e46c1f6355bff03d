// SPDX-License-Identifier: Apache-2.0
// Which domain a request is about, and that it stays that one.
#include <functional>

#include "tests/launch_xen/support.hpp"

using namespace sev;
using namespace sev::launch;
using namespace sev::launch::xen;
using test::FakeHost;
using test::refusal;

namespace {

constexpr const char* its_uuid = "0c2f5b8e-0000-4000-8000-000000000007";
constexpr const char* another_uuid = "0c2f5b8e-0000-4000-8000-000000000008";

json::Value guest_of(const char* text) { return json::parse(text, "test"); }
json::Value domain_seven(const json::Value& more = json::Value::object()) {
    json::Value out{{"kind", "xen"}, {"domid", 7}};
    out.update(more);
    return out;
}

/// The configuration that the toolstack has on record for the host's domain.
void record_configuration(FakeHost& host) {
    host.domain->config = host.libxl_config("work").dump();
}

} // namespace

TEST_CASE("Xen request: what it may say, and each thing that it may not") {
    const auto wanted = WantedDomain::parse(
        guest_of(R"({"kind": "xen", "domid": 7, "uuid": "0C2F5B8E-0000-4000-8000-000000000007", "unpause": false})"));
    CHECK(wanted.domid == 7);
    CHECK(wanted.uuid == its_uuid);
    CHECK_FALSE(wanted.unpause);
    CHECK(WantedDomain::parse(wanted.to_json()) == wanted);
    const auto plain = WantedDomain::parse(guest_of(R"({"kind": "xen", "domid": 7})"));
    CHECK(plain.unpause);
    CHECK_FALSE(plain.uuid);
    CHECK(WantedDomain::parse(guest_of(R"({"kind": "xen", "xl_cfg": "/a.cfg"})")).file == Path{"/a.cfg"});
    CHECK(WantedDomain::parse(guest_of(R"({"kind": "xen", "xl_cfg_text": "name='a'"})")).text == "name='a'");

    const std::vector<std::pair<const char*, const char*>> cases{
        {R"({"kind": "xen"})", "guest: xl_cfg and xl_cfg_text, domid: want exactly one of them"},
        {R"({"kind": "xen", "domid": 7, "xl_cfg": "/a.cfg"})", "want exactly one of them"},
        {R"({"kind": "xen", "domid": 0})", "guest: domid is 0, which is dom0"},
        {R"({"kind": "xen", "domid": 32752})", "guest: domid is"},
        {R"({"kind": "xen", "xl_cfg": "a.cfg"})", "guest: xl_cfg is a.cfg, want an absolute path"},
        {R"({"kind": "xen", "xl_cfg": "/a.cfg", "unpause": false})", "guest: unpause goes with domid alone"},
        {R"({"kind": "xen", "xl_cfg_text": "", "uuid": "0c2f5b8e-0000-4000-8000-000000000007"})", "guest: uuid goes with domid alone"},
        {R"({"kind": "xen", "domid": 7, "uuid": ""})", "guest: uuid is \"\", want one such as"},
        {R"({"kind": "xen", "domid": 7, "uuid": "0c2f5b8e000040008000000000000007"})", "want one such as"},
        {R"({"kind": "xen", "domid": 7, "uuid": "0c2f5b8e-0000-4000-8000-00000000000g"})", "want one such as"},
        {R"({"kind": "xen", "domid": 7, "uuid": "0c2f5b8e00-00-4000-8000-000000000007"})", "want one such as"},
        {R"({"kind": "xen", "domid": 7, "uuid": "0c2f5b8e-0000-4000-8000-000000000007 "})", "want one such as"},
        {R"({"kind": "xen", "domid": 7, "uuid": "\u001b[2J"})", "guest: uuid is \"\\x1b[2J\""},
        {R"({"kind": "xen", "domid": 7, "uuid": 7})", "guest: uuid"},
        {R"({"kind": "xen", "domid": 7, "unpause": "no"})", "guest: unpause"},
        {R"({"kind": "xen", "domid": 7, "unpause": 0})", "guest: unpause"},
        {R"({"kind": "xen", "domid": 7, "pause": true})", "pause"},
    };
    for (const auto& [given, says] : cases) {
        const auto& text = given; // Clang 14 does not capture a structured binding
        CAPTURE(text);
        const std::string said = refusal([&] { WantedDomain::parse(guest_of(text)); });
        CHECK_MESSAGE(said.find(says) != std::string::npos, said);
    }
}

TEST_CASE("Xen source: a domain that has another UUID than the request says is not looked at, and left alone") {
    FakeHost host;
    record_configuration(host);
    auto source = host.source();
    CHECK(refusal([&] { source.plan(domain_seven({{"uuid", another_uuid}})); }) ==
          fmt::format("domain 7: is another one by now: its UUID is {}, want {}", its_uuid, another_uuid));
    CHECK_FALSE(host.domain->held);
    const json::Value identity{{"uuid", its_uuid}, {"domid", 7}};
    CHECK(source.plan(domain_seven({{"uuid", its_uuid}})).identity == identity);
    CHECK(source.plan(domain_seven()).identity == identity);
    CHECK(source.same_guest(identity, {{"uuid", its_uuid}, {"name", "work"}, {"configuration", ""}}));
    CHECK_FALSE(source.same_guest(identity, {{"uuid", another_uuid}, {"domid", 7}}));
    CHECK(refusal([&] { source.plan({{"kind", "xen"}, {"domid", 8}}); }) == "domain 8: there is none");
    host.domain->state.has_run = true;
    CHECK(refusal([&] { source.plan(domain_seven({{"unpause", false}})); }) == "domain 7: has run, want one that was created paused");
    CHECK(host.domain->destroyed == 0);
}

TEST_CASE("Xen source: a number that becomes another domain's after it was planned is not taken hold of") {
    for (const bool named : {false, true}) {
        FakeHost host;
        record_configuration(host);
        auto source = host.source();
        const json::Value guest = named ? domain_seven({{"uuid", its_uuid}, {"unpause", false}}) : domain_seven();
        const auto plan = source.plan(guest);
        host.domain->state.uuid = another_uuid;
        CHECK(refusal([&] { source.open(guest, plan.identity); }) == "domain 7: is gone");
        CHECK_FALSE(host.domain->held);
        CHECK(host.domain->destroyed == 0);
        CHECK(source.destroy_leftover(plan.identity) == "nothing was left of it");
        CHECK(host.domain->destroyed == 0);
        host.domain->state.uuid = its_uuid;
        host.domain->state.domid = 8; // the same qube, started anew
        CHECK(refusal([&] { source.open(guest, plan.identity); }) == "domain 7: is gone");
        CHECK(source.destroy_leftover(plan.identity) == "nothing was left of it");
        CHECK_FALSE(host.domain->held);
        CHECK(host.domain->destroyed == 0);
    }
}

TEST_CASE("Xen source: a running domain of which nobody can tell anything is not said to be gone") {
    FakeHost host;
    record_configuration(host);
    auto source = host.source();
    const auto plan = source.plan(domain_seven());
    const auto guest = source.open(domain_seven(), plan.identity);
    guest->run();
    const auto later = source.adopt(plan.identity); // by the next sevd
    for (Guest* const one : {guest.get(), later.get()}) {
        CHECK(one->alive());
        host.domain->silent = true;
        CHECK(refusal([&] { one->alive(); }) == "keeper: no answer in time");
        host.domain->silent = false;
        host.domain->state.dying = true;
        CHECK_FALSE(one->alive());
        host.domain->state.dying = false;
        host.domain->state.domid = 8;
        CHECK_FALSE(one->alive());
        host.domain->state.domid = 7;
        CHECK(one->alive());
        host.domain->gone = true;
        CHECK_FALSE(one->alive());
        host.domain->gone = false;
    }
}

TEST_CASE("Xen source: a domain that somebody else resumes is measured, given its secret and left paused") {
    FakeHost host;
    record_configuration(host);
    auto source = host.source();
    const json::Value wanted = domain_seven({{"uuid", its_uuid}, {"unpause", false}});
    const auto plan = source.plan(wanted);
    {
        const auto guest = source.open(wanted, plan.identity);
        CHECK(host.domain->held);
        CHECK(guest->is_left_paused());
        const auto slot = guest->slot("initrd");
        REQUIRE(slot);
        const std::string secret = "070701 and what an archive holds besides";
        std::ranges::copy(secret, host.space.at(guest->locate(slot->gpa, slot->length_bytes)[0].at, slot->length_bytes).begin());
        CHECK_FALSE(guest->alive());
        guest->run();
        CHECK(host.domain->unpaused == 0);
        CHECK(host.domain->let_go == 1);
        CHECK(host.domain->state.paused);
        CHECK(guest->alive());
        CHECK(as_text(host.memory->get(host.gpa("ramdisk"), secret.size())) == secret);
        CHECK(host.memory->mapped == 0); // whoever ends the domain is not kept waiting by us
        host.domain->state.paused = false;
        host.domain->state.has_run = true;
        CHECK(guest->alive());
        host.domain->gone = true; // ended by whoever resumed it
        CHECK_FALSE(guest->alive());
        guest->destroy(); // harmless
    }
    CHECK(source.adopt(plan.identity) == nullptr);
}

TEST_CASE("Xen source: a domain that is to be left paused is checked as any other right before, and one that runs by then is refused") {
    const std::vector<std::pair<std::function<void(FakeHost&)>, const char*>> cases{
        {[](FakeHost& host) { host.memory->flip(host.gpa("kernel") + 1); }, "has changed since it was measured: kernel"},
        {[](FakeHost& host) { host.domain->state.has_run = true; }, "has run already"},
        {[](FakeHost& host) { host.domain->state.paused = false; }, "is not paused"},
        {[](FakeHost& host) { host.domain->context[40 + 0x280] ^= 1; }, "rip"},
    };
    for (const auto& [tamper, message] : cases) {
        const auto& says = message; // Clang 14 does not capture a structured binding
        CAPTURE(says);
        FakeHost host;
        const auto guest = host.guest(false);
        tamper(host);
        const std::string said = refusal([&] { guest->run(); });
        CHECK_MESSAGE(said.find(says) != std::string::npos, said);
        CHECK(host.domain->let_go == 0);
        CHECK(host.domain->unpaused == 0);
        CHECK(host.memory->written.empty());
        CHECK_FALSE(guest->alive());
        guest->destroy();
        CHECK(host.domain->destroyed == 1);
    }
}

TEST_CASE("Xen source: a domain that its toolstack would start again is refused, and left as it is") {
    const auto recorded = [](const json::Value& endings) {
        auto host = std::make_unique<FakeHost>();
        json::Value config = host->libxl_config("work");
        config.update(endings);
        host->domain->config = json::Value{{"domid", 7}, {"config", config}}.dump();
        return host;
    };
    for (const char* const event : {"on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset"})
        for (const json::Value& action :
             {json::Value{"restart"}, json::Value{"restart_rename"}, json::Value{"coredump_destroy"}, json::Value{"coredump_restart"},
              json::Value{"soft_reset"}, json::Value{"surprise"}, json::Value{1}, json::Value{}}) {
            if (std::string_view{event} == "on_soft_reset" && action == "soft_reset") continue;
            CAPTURE(event);
            CAPTURE(action.dump());
            const auto host = recorded({{event, action}});
            auto source = host->source();
            for (const json::Value& guest : {domain_seven(), domain_seven({{"uuid", its_uuid}, {"unpause", false}})}) {
                const std::string said = refusal([&] { source.plan(guest); });
                CHECK_MESSAGE(said.find(fmt::format("domain 7: {} is {}, want destroy or preserve", event, printable(action.dump(), 64))) == 0, said);
            }
            CHECK_FALSE(host->domain->held);
            CHECK(host->domain->destroyed == 0);
        }
    for (const json::Value& endings :
         {json::Value::object(), json::Value{{"on_reboot", "destroy"}, {"on_crash", "preserve"}, {"on_soft_reset", "soft_reset"}},
          json::Value{{"on_poweroff", "preserve"}, {"on_watchdog", "destroy"}, {"on_soft_reset", "destroy"}}}) {
        CAPTURE(endings.dump());
        const auto host = recorded(endings);
        auto source = host->source();
        const auto plan = source.plan(domain_seven());
        CHECK(source.open(domain_seven(), plan.identity));
    }
    // and once more when it is taken hold of
    const auto host = recorded(json::Value::object());
    auto source = host->source();
    const auto plan = source.plan(domain_seven());
    json::Value config = host->libxl_config("work");
    config["on_reboot"] = "restart";
    host->domain->config = config.dump();
    CHECK(refusal([&] { source.open(domain_seven(), plan.identity); }).find("domain 7: on_reboot is") == 0);
    CHECK(host->domain->unpaused == 0);
}
