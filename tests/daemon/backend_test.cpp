// SPDX-License-Identifier: Apache-2.0
// sevd with the PSP behind Xen's coco hypercall: what it shows, what it launches (nothing), and why.
#include "launch/daemon/api.hpp"
#include "tests/coco/support.hpp"
#include "tests/daemon/support.hpp"

using namespace sev;
using namespace sev::test;
using daemon::PspChoice;

namespace {

std::unique_ptr<daemon::Backend> xen_backend(const std::function<void(coco::Fake&)>& arrange, std::optional<psp::xen::Layout> named) {
    auto fake = std::make_unique<coco::Fake>();
    arrange(*fake);
    PspChoice choice;
    choice.backend = PspChoice::Backend::xen;
    choice.layout = named;
    return daemon::open_xen_backend(choice, std::move(fake));
}

void with_certificates(coco::Fake& fake) {
    coco::be_vates(fake);
    fake.replies[3] = {.error_number = 0, .bytes = coco::answer("certificates_a_answer")};
}

} // namespace

TEST_CASE("backend xen: level and title are the hypervisor's, nothing can be launched, and the reason is the layout's own") {
    const auto rfc = xen_backend(coco::be_rfc, std::nullopt);
    CHECK(rfc->level == 3);
    CHECK_FALSE(rfc->emulated);
    CHECK(rfc->sources.empty());
    CHECK(rfc->title == "AMD Secure Processor behind Xen's coco hypercall, layout rfc-2025-05");
    CHECK(rfc->no_launches ==
          "Xen's coco hypercall, layout rfc-2025-05, gives no evidence of a guest and takes no secrets: no owner could judge it");

    const auto vates = xen_backend(with_certificates, psp::xen::Layout::vates_a);
    CHECK(vates->level == 5);
    CHECK(vates->sources.empty());
    CHECK(vates->firmware->backend() == "xen");
    CHECK(vates->title == "AMD Secure Processor behind Xen's coco hypercall, layout vates-a, firmware 0.24.15");
    CHECK(vates->no_launches ==
          "Xen's coco hypercall, layout vates-a, does not return what LAUNCH_MEASURE gave: no owner frees a secret without it");
    const auto early = xen_backend(
        [](coco::Fake& fake) {
            with_certificates(fake);
            std::fill(fake.replies[0].bytes.begin() + 16, fake.replies[0].bytes.end(), std::uint8_t{0});
        },
        psp::xen::Layout::vates_a);
    CHECK(early->title == "AMD Secure Processor behind Xen's coco hypercall, layout vates-a"); // its 0.0.0 is no version
}

TEST_CASE("backend xen: stock Xen is refused") {
    CHECK_THROWS_WITH_AS(xen_backend([](coco::Fake&) {}, std::nullopt),
                         "this Xen has no coco hypercall (ENOSYS): guests can be measured and not encrypted, level L1", Error);
}

TEST_CASE("backend xen: a daemon with it serves its certificates, and says of the rest what is missing") {
    DaemonHost host;
    const auto backend = xen_backend(with_certificates, psp::xen::Layout::vates_a);
    daemon::Journal journal{host.directory / "state"};
    daemon::PspQueue psp{backend->firmware, 5s};
    service::EventHub events;
    const daemon::OwnerChannel owners{nullptr};
    daemon::Launches launches{{.backend = *backend, .psp = psp, .journal = journal, .owners = owners, .events = events, .log = host.log},
                              host.configuration};
    launches.recover();
    CHECK(launches.closed() == backend->no_launches);
    const auto made = launches.create(Daemon::request("one"));
    const auto* refused = std::get_if<daemon::Refusal>(&made);
    REQUIRE(refused);
    CHECK(refused->status == 409);
    CHECK(refused->detail == backend->no_launches);

    daemon::HostKeyFile host_key{host.directory / "state"};
    daemon::Api api{{.backend = *backend, .psp = psp, .launches = launches, .events = events, .host_key = host_key, .version = "test"},
                    host.configuration};
    const auto get = [routes = api.routes()](std::string_view path) {
        const auto route = std::ranges::find_if(routes, [&](const auto& each) { return each.method == "GET" && each.path == path; });
        REQUIRE(route != routes.end());
        return route->handle(service::Request{});
    };
    const Bytes file = read_file(fixture("psp/chain_rsa2048.bin"), 1U << 20);
    CHECK(get("/v1/platform/certificates").body == as_text(ByteView{file}.first(4 * 2084)));
    const json::Value status = json::parse(get("/v1/status").body, "status");
    CHECK(status.at("psp").at("backend") == "xen");
    CHECK(status.at("level") == 5);
    CHECK(status.at("launches").at("admitted") == false);
    CHECK(status.at("launches").at("why_not") == backend->no_launches);
    CHECK_THROWS_WITH_AS(get("/v1/platform"),
                         "PLATFORM_STATUS: Xen's coco hypercall, layout vates-a, does not tell the platform's STATE, OWNER, CONFIG and GUEST_COUNT",
                         Error);
    CHECK(psp.health().state == daemon::PspHealth::State::answering);
}
