// SPDX-License-Identifier: Apache-2.0
// A domain is created from what was planned, or not at all.
#include "tests/launch_xen/support.hpp"

using namespace sev;
using namespace sev::launch;
using namespace sev::launch::xen;
using test::FakeHost;
using test::refusal;

namespace {

/// An xl.cfg of the host's guest: what xl makes of it, with the UUID that xl draws anew each time.
struct Planned {
    FakeHost host;
    Path file = host.folder / "web.cfg";
    json::Value config = host.libxl_config("web");
    std::vector<json::Value> created;
    DomainSource source = host.source();

    explicit Planned(std::string_view text = "name='web'\n") {
        write_file(file, as_bytes(text), Visibility::readable, Existing::refuse);
        host.domain->read_xl_config = [this](const Path&) {
            json::Value drawn = config;
            drawn["c_info"]["uuid"] = random_uuid();
            return drawn.dump();
        };
        host.domain->create = [this](const std::string& libxl_json) { created.push_back(json::parse(libxl_json, "created")); };
    }
    json::Value wanted() const { return {{"kind", "xen"}, {"xl_cfg", file.string()}}; }
};

} // namespace

TEST_CASE("Xen plan: the domain is created with the planned UUID, from a configuration that says what it said") {
    Planned one;
    const auto plan = one.source.plan(one.wanted());
    CHECK(one.created.empty());
    CHECK(one.source.open(one.wanted(), plan.identity));
    REQUIRE(one.created.size() == 1);
    CHECK(one.created[0]["c_info"]["uuid"] == plan.identity["uuid"]);
    CHECK(one.created[0]["b_info"]["cmdline"] == "console=hvc0 quiet");
    CHECK(one.host.domain->destroyed == 0);
    // with what takes it back after a crash
    CHECK(one.source.destroy_leftover(plan.identity) == "nothing was left of it");
}

TEST_CASE("Xen plan: whatever else the configuration says by then is refused, and nothing is created") {
    const std::vector<std::pair<const char*, json::Value>> changes{
        {"/b_info/cmdline", "console=hvc0 quiet init=/bin/sh"}, {"/b_info/kernel", "/boot/another"}, {"/b_info/max_memkb", 524288},
        {"/b_info/max_vcpus", 4},                               {"/c_info/name", "another"},         {"/disks", {{{"vdev", "xvda"}}}},
    };
    for (const auto& [name, value] : changes) {
        const auto& where = name; // Clang 14 does not capture a structured binding
        CAPTURE(where);
        Planned one;
        const auto plan = one.source.plan(one.wanted());
        one.config[json::Value::json_pointer{where}] = value;
        CHECK(refusal([&] { one.source.open(one.wanted(), plan.identity); }) == one.file.string() + ": has changed since the launch was admitted");
        CHECK(one.created.empty());
    }
}

TEST_CASE("Xen plan: files that change between the prediction and the creation make another domain, which is destroyed") {
    for (const char* part : {"kernel", "ramdisk"}) {
        CAPTURE(part);
        Planned one;
        const auto plan = one.source.plan(one.wanted());
        one.host.domain->create = [&](const std::string&) { one.host.memory->flip(one.host.gpa(part) + 20); }; // the builder read another file
        const std::string said = refusal([&] { one.source.open(one.wanted(), plan.identity); });
        CHECK_MESSAGE(said.starts_with(fmt::format("domain 7 is not what its configuration says: {}: page 0", part)), said);
        CHECK(one.host.domain->destroyed == 1);
        CHECK(one.host.domain->unpaused == 0);
    }
}

TEST_CASE("Xen plan: a configuration that names its UUID keeps it") {
    Planned one{"name='web'\nuuid = '0c2f5b8e-0000-4000-8000-00000000000a'\n"};
    one.host.domain->read_xl_config = [&](const Path&) {
        json::Value named = one.config;
        named["c_info"]["uuid"] = "0c2f5b8e-0000-4000-8000-00000000000a";
        return named.dump();
    };
    CHECK(one.source.plan(one.wanted()).identity["uuid"] == "0c2f5b8e-0000-4000-8000-00000000000a");
    one.host.domain->state.uuid = "0c2f5b8e-0000-4000-8000-00000000000a";
    CHECK(refusal([&] { one.source.plan(one.wanted()); }) == "a domain with the UUID 0c2f5b8e-0000-4000-8000-00000000000a is there already");
}
