// SPDX-License-Identifier: Apache-2.0
// The SEV API's commands over the coco hypercall: answers that tests/fixtures/coco/make.py packed go in, certificates of tests/fixtures/psp come out.
#include "psp/xen/xen_firmware.hpp"
#include "base/crypto.hpp"
#include "tests/coco/support.hpp"

using namespace sev;
using namespace sev::psp;
using namespace sev::psp::xen;
using namespace sev::test::coco;

namespace {

struct Host {
    Fake* hypervisor; // the firmware's
    std::unique_ptr<XenFirmware> firmware;
};

/// A Xen of layout B with certificates.
Host vates_b() {
    auto fake = std::make_unique<Fake>();
    be_vates(*fake);
    fake->replies[3] = {.error_number = 0, .bytes = answer("certificates_b_answer")};
    Fake* const hypervisor = fake.get();
    Host out{hypervisor, std::make_unique<XenFirmware>(std::move(fake), Layout::vates_b)};
    hypervisor->asked.clear();
    return out;
}

/// From now on operation 3 answers with another chain, once `operation` has been asked.
void change_chain_after(Fake& fake, std::uint32_t operation) {
    fake.replies[operation] = {};
    fake.afterwards = [&fake, operation](std::uint32_t asked) {
        if (asked == operation) fake.replies[3].bytes = answer("certificates_b_other_answer");
    };
}

std::vector<std::uint32_t> operations(const Fake& fake) {
    std::vector<std::uint32_t> out;
    for (const Asked& each : fake.asked) out.push_back(each.operation);
    return out;
}

std::string refusal(const std::function<void()>& body, Fault fault) {
    try {
        body();
    } catch (const Error& error) {
        CHECK(error.fault() == fault);
        CHECK_FALSE(error.hint().empty());
        CHECK(std::string{error.what()}.find('\n') == std::string::npos);
        return error.what();
    }
    return "nothing was refused";
}

std::string refused_firmware(const std::function<void(Fake&)>& arrange, std::optional<Layout> named = std::nullopt) {
    auto fake = std::make_unique<Fake>();
    arrange(*fake);
    return refusal([&] { const XenFirmware firmware(std::move(fake), named); }, Fault::system);
}

Bytes certificate_bytes(std::string_view chain, std::size_t first, std::size_t count) {
    const Bytes all = read_file(test::fixture(fmt::format("psp/{}.bin", chain)), 1U << 20);
    const auto at = all.begin() + static_cast<std::ptrdiff_t>(first * 2084);
    return {at, at + static_cast<std::ptrdiff_t>(count * 2084)};
}

} // namespace

TEST_CASE("XenFirmware: without a usable hypercall there is none, and the reason has a remedy") {
    CHECK(refused_firmware([](Fake&) {}) == "this Xen has no coco hypercall (ENOSYS): guests can be measured and not encrypted, level L1");
    CHECK(refused_firmware([](Fake& fake) { fake.replies[0].error_number = EPERM; }) == "the coco hypercall is refused: Operation not permitted");
    CHECK(refused_firmware(be_vates).find("name one") != std::string::npos);
    CHECK(refused_firmware(be_rfc, Layout::vates_a) == "the coco hypercall has the layout rfc-2025-05, and the host's configuration names vates-a");
    const auto off = [](Fake& fake) {
        be_rfc(fake);
        fake.replies[0].bytes[8] = 2;
    };
    CHECK(refused_firmware(off) == "coco hypercall, layout rfc-2025-05: SEV is there and switched off as unsafe");
}

TEST_CASE("XenFirmware: PDH_CERT_EXPORT and GET_ID are operation 3") {
    const Host host = vates_b();
    CHECK(host.firmware->backend() == "xen");
    CHECK(host.firmware->layout() == Layout::vates_b);
    CHECK(host.firmware->level() == 5);
    CHECK(host.firmware->status().version_build == 15);

    Call call = PdhCertExport{}.encode();
    CHECK(host.firmware->issue(CommandId::pdh_cert_export, call) == Status::success);
    CHECK(call.blobs[0].data == certificate_bytes("chain_rsa2048", 0, 1));
    CHECK(call.blobs[1].data == certificate_bytes("chain_rsa2048", 1, 3));
    CHECK(Bytes(call.buffer.begin() + 0x08, call.buffer.begin() + 0x0C) == *try_unhex("24080000")); // 2084
    CHECK(Bytes(call.buffer.begin() + 0x18, call.buffer.begin() + 0x1C) == *try_unhex("6c180000")); // 6252
    CHECK(run(*host.firmware, PdhCertExport{}).pek == certificate_of("chain_rsa2048", 1));

    const auto ids = run(*host.firmware, GetId{.sockets = 2});
    REQUIRE(ids.size() == 2);
    for (std::size_t i = 0; i < 128; ++i) CHECK(ids[i / 64][i % 64] == i);
    Call narrow = GetId{.sockets = 1}.encode();
    CHECK(host.firmware->issue(CommandId::get_id, narrow) == Status::invalid_length);
    CHECK(Bytes(narrow.buffer.begin() + 0x08, narrow.buffer.begin() + 0x0C) == *try_unhex("80000000"));
    CHECK(operations(*host.hypervisor) == std::vector<std::uint32_t>{3, 3, 3, 3});

    host.hypervisor->replies[3].bytes[128] = 0;
    CHECK(refusal([&] { run(*host.firmware, GetId{}); }, Fault::system) ==
          "GET_ID: Xen gives no chip id: the PSP's firmware is older than API 0.16");
    host.hypervisor->replies[3] = {.error_number = EIO, .bytes = {}};
    CHECK(refusal([&] { run(*host.firmware, PdhCertExport{}); }, Fault::system) ==
          "PDH_CERT_EXPORT: coco operation 3 (platform_get_certificates): the hypervisor refused (Input/output error)");
}

TEST_CASE("XenFirmware: PEK_CSR is operation 4") {
    const Host host = vates_b();
    host.hypervisor->replies[4] = {.error_number = 0, .bytes = certificate_bytes("chain_rsa2048", 1, 1)};
    Call call = PekCsr{}.encode();
    CHECK(host.firmware->issue(CommandId::pek_csr, call) == Status::success);
    CHECK(call.blobs[0].data == certificate_bytes("chain_rsa2048", 1, 1));
    CHECK(operations(*host.hypervisor) == std::vector<std::uint32_t>{4});
    host.hypervisor->replies[4].bytes.clear(); // "success", and nothing written
    CHECK_THROWS_AS(run(*host.firmware, PekCsr{}), Error);
}

TEST_CASE("XenFirmware: new keys are operation 5, believed when operation 3 shows them") {
    const auto both = [](const auto& command, std::string_view argument, std::string_view old) {
        const Host host = vates_b();
        host.hypervisor->replies[5] = {};
        CHECK(refusal([&] { run(*host.firmware, command); }, Fault::system)
                  .ends_with(fmt::format("Xen says that it is done, and the {} is the old one", old)));
        host.hypervisor->asked.clear();
        change_chain_after(*host.hypervisor, 5);
        CHECK_NOTHROW(run(*host.firmware, command));
        CHECK(operations(*host.hypervisor) == std::vector<std::uint32_t>{3, 5, 3});
        CHECK(host.hypervisor->asked[1].argument == answer(argument));
        host.hypervisor->replies[5].error_number = EIO;
        CHECK_THROWS_AS(run(*host.firmware, command), Error);
    };
    both(PekGen{}, "regenerate_pek", "PEK");
    both(PdhGen{}, "regenerate_pdh", "PDH");
}

TEST_CASE("XenFirmware: PEK_CERT_IMPORT is operation 6, believed when operation 3 shows both certificates") {
    const Host host = vates_b();
    host.hypervisor->replies[6] = {};
    const PekCertImport command{.pek = certificate_of("chain_rsa4096", 1), .oca = certificate_of("chain_rsa4096", 2)};
    CHECK(refusal([&] { run(*host.firmware, command); }, Fault::system) ==
          "PEK_CERT_IMPORT: Xen says that it is done, and the platform exports other certificates than the imported ones");
    host.hypervisor->asked.clear();
    change_chain_after(*host.hypervisor, 6);
    CHECK_NOTHROW(run(*host.firmware, command));
    CHECK(operations(*host.hypervisor) == std::vector<std::uint32_t>{3, 6, 3});
    CHECK(host.hypervisor->asked[1].argument == certificate_bytes("chain_rsa4096", 1, 2));
}

TEST_CASE("XenFirmware: nothing is made up: PLATFORM_STATUS is refused, and so is what the hypervisor gives itself, without a call") {
    const Host host = vates_b();
    CHECK(refusal([&] { run(*host.firmware, GetPlatformStatus{}); }, Fault::system) ==
          "PLATFORM_STATUS: Xen's coco hypercall, layout vates-b, does not tell the platform's STATE, OWNER, CONFIG and GUEST_COUNT");
    CHECK(refusal([&] { run(*host.firmware, LaunchMeasure{}); }, Fault::usage) ==
          "LAUNCH_MEASURE: Xen's coco hypercall does not carry LAUNCH_MEASURE");
    for (const CommandInfo& each : all_commands()) {
        switch (each.id) {
        case CommandId::platform_status:
        case CommandId::pdh_cert_export:
        case CommandId::get_id:
        case CommandId::pek_csr:
        case CommandId::pek_gen:
        case CommandId::pdh_gen:
        case CommandId::pek_cert_import: break;
        default: {
            Call call;
            CHECK(refusal([&] { host.firmware->issue(each.id, call); }, Fault::usage) ==
                  fmt::format("Xen's coco hypercall does not carry {}", each.name));
        }
        }
    }
    CHECK(host.hypervisor->asked.empty());
}

TEST_CASE("XenFirmware: the RFC has none of the platform's commands, said without a call") {
    auto fake = std::make_unique<Fake>();
    be_rfc(*fake);
    Fake& hypervisor = *fake;
    XenFirmware firmware{std::move(fake), std::nullopt};
    CHECK(firmware.level() == 3);
    hypervisor.asked.clear();
    const auto lacks = [](const std::string& text) { return text.ends_with(": layout rfc-2025-05 does not have it"); };
    CHECK(lacks(refusal([&] { run(firmware, PdhCertExport{}); }, Fault::system)));
    CHECK(lacks(refusal([&] { run(firmware, GetId{}); }, Fault::system)));
    CHECK(lacks(refusal([&] { run(firmware, PekCsr{}); }, Fault::system)));
    CHECK(lacks(refusal([&] { run(firmware, PekGen{}); }, Fault::system)));
    CHECK(lacks(refusal([&] { run(firmware, PdhGen{}); }, Fault::system)));
    CHECK(lacks(refusal(
        [&] {
            run(firmware, PekCertImport{certificate_of("chain_rsa4096", 1), certificate_of("chain_rsa4096", 2)});
        },
        Fault::system)));
    CHECK(hypervisor.asked.empty());
}
