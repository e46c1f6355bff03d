// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/launch_digest.hpp"

#include "base/crypto.hpp"
#include "tests/measure/support.hpp"

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

namespace {

std::optional<KernelHashes> table(const json::Value& name) {
    if (name.is_null()) return std::nullopt;
    const std::string text = answers().at("kernel_hash_tables").at(name.get<std::string>()).get<std::string>();
    return KernelHashes::parse(wire::view(unhex<176>(text)));
}

} // namespace

TEST_CASE("launch digest: known answers from an independent script, SEV and SEV-ES of every profile") {
    for (const auto& [file, digest] : answers().at("images").items()) CHECK(hex(sha256(image(file))) == digest.get<std::string>());
    std::size_t count = 0;
    for (const auto& want : answers().at("digests")) {
        const Bytes firmware = image(want.at("firmware").get<std::string>());
        QemuLaunch launch{.firmware = firmware, .kernel = table(want.at("table")), .vmsas = {}};
        if (!want.at("profile").is_null()) {
            launch.vmsas = qemu_vmsas(vmsa_profile(want.at("profile").get<std::string>()), want.at("vcpus").get<unsigned>(),
                                      CpuSignature::of_qemu_model("EPYC-v4"), firmware);
        }
        CHECK_MESSAGE(hex(launch_digest(launch)) == want.at("digest").get<std::string>(), want.dump());
        ++count;
    }
    CHECK(count == 16);
}

TEST_CASE("launch digest: vectors of sev-snp-measure and virtee/sev") {
    const auto vectors = vector_json("measurement/launch_digest.json");
    if (!vectors) return;
    for (const auto& want : vectors->at("cases")) {
        const Bytes firmware = read_file(*vector_file("firmware/" + want.at("firmware").get<std::string>()), 1U << 20);
        QemuLaunch launch{.firmware = firmware, .kernel = {}, .vmsas = {}};
        if (!want.at("kernel").is_null()) {
            REQUIRE(want.at("kernel") == "empty");
            REQUIRE(want.at("initrd") == "empty");
            launch.kernel = KernelHashes::of(sha256({}), sha256({}), want.at("append").get<std::string>());
        }
        if (want.at("mode") == "seves") {
            const std::string profile = want.contains("vmm") ? want.at("vmm").get<std::string>() : "kvm-init2";
            launch.vmsas = qemu_vmsas(vmsa_profile(profile), want.at("vcpus").get<unsigned>(),
                                      CpuSignature::of_qemu_model(want.at("vcpu_type").get<std::string>()), firmware);
        }
        if (want.contains("error")) {
            CHECK(message_of([&] { return launch_digest(launch); }) ==
                  "firmware: SEV hash table block (7255371f-3a3b-4b04-927b-1da6efa8d454) has base 0: this build does not support kernel hashes");
        } else {
            CHECK_MESSAGE(hex(launch_digest(launch)) == want.at("digest_hex").get<std::string>(), want.dump());
        }
    }
}

TEST_CASE("launch digest: it covers exactly the regions, in order") {
    const Bytes firmware = image("full.fd");
    const QemuLaunch launch{.firmware = firmware,
                            .kernel = table("all"),
                            .vmsas = qemu_vmsas(vmsa_profile("kvm-legacy"), 3, CpuSignature::of(23, 1, 2), firmware)};
    const auto all = regions(launch);
    REQUIRE(all.size() == 5);
    CHECK(all[0].label == "firmware");
    CHECK(all[0].gpa == 0xFFFFF000U); // 4096 bytes below 4 GiB
    CHECK(all[0].length_bytes == 4096);
    CHECK(hex(all[0].sha256) == answers().at("images").at("full.fd").get<std::string>());
    CHECK(all[1].label == "kernel hashes");
    CHECK(all[1].gpa == 0x810C00U);
    CHECK(all[1].length_bytes == 176);
    CHECK(all[2].label == "vmsa 0");
    CHECK(all[4].label == "vmsa 2");
    CHECK(!all[4].gpa);
    CHECK(all[2].sha256 != all[3].sha256);
    CHECK(all[3].sha256 == all[4].sha256);
    for (const MeasuredRegion& region : all) CHECK(!region.source.empty());
}

TEST_CASE("launch digest: any flipped bit of the firmware, of the hashes and of a VMSA changes it") {
    const Bytes firmware = image("full.fd");
    const auto vmsas = qemu_vmsas(vmsa_profile("kvm-init2"), 2, CpuSignature::of(23, 1, 2), firmware);
    const QemuLaunch launch{.firmware = firmware, .kernel = {}, .vmsas = vmsas};
    const Digest want = launch_digest(launch);
    for (std::size_t bit = 0; bit < 8 * 4096; bit += 97) {
        Bytes other = firmware;
        other[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        CHECK(launch_digest({.firmware = other, .kernel = {}, .vmsas = vmsas}) != want);
        QemuLaunch changed = launch;
        changed.vmsas[bit % 2][bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        CHECK(launch_digest(changed) != want);
    }
    QemuLaunch with_kernel = launch;
    with_kernel.kernel = table("all");
    CHECK(launch_digest(with_kernel) != want);
    QemuLaunch fewer = launch;
    fewer.vmsas.pop_back();
    CHECK(launch_digest(fewer) != want);
}

TEST_CASE("launch digest: firmware that cannot be measured is refused") {
    const auto refusal = [](std::size_t size) {
        const Bytes firmware(size, 0xFF);
        return message_of([&] { return launch_digest({.firmware = firmware, .kernel = {}, .vmsas = {}}); });
    };
    CHECK(refusal(0) == "firmware: 0 bytes, want a whole flash image");
    CHECK(refusal(4095) == "firmware: 4095 bytes, want a multiple of 16: the PSP measures no other length");
    CHECK(refusal(4097) == "firmware: 4097 bytes, want a multiple of 16: the PSP measures no other length");
    CHECK(refusal(4096) == "");
    const auto kernel_refusal = [](const char* name) {
        const Bytes firmware = image(name);
        return message_of([&] { return launch_digest({.firmware = firmware, .kernel = KernelHashes{}, .vmsas = {}}); });
    };
    CHECK(kernel_refusal("no_table.fd") == "firmware: SEV hash table block (7255371f-3a3b-4b04-927b-1da6efa8d454) is missing, needed for kernel "
                                           "hashes; "
                                           "it has no GUID table at its end");
    CHECK(kernel_refusal("bare_reset_block.fd") ==
          "firmware: SEV hash table block (7255371f-3a3b-4b04-927b-1da6efa8d454) is missing, needed for kernel hashes; it has SEV-ES reset block");
    CHECK(kernel_refusal("no_hashes.fd") ==
          "firmware: SEV hash table block (7255371f-3a3b-4b04-927b-1da6efa8d454) has base 0: this build does not support kernel hashes");
    CHECK(kernel_refusal("full.fd") == "");
    const Bytes firmware = image("full.fd");
    CHECK(message_of([&] { return launch_digest({.firmware = firmware, .kernel = {}, .vmsas = std::vector<Vmsa>(4097)}); }) ==
          "number of vCPUs is 4097, want 1 to 4096");
}

TEST_CASE("VMSAs of a QEMU guest: number and firmware are checked") {
    const VmsaProfile& profile = vmsa_profile("kvm-legacy");
    const Bytes full = image("full.fd"), none = image("no_table.fd");
    CHECK_THROWS_WITH_AS(static_cast<void>(qemu_vmsas(profile, 0, {}, full)), "number of vCPUs is 0, want 1 to 4096", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(qemu_vmsas(profile, 4097, {}, full)), "number of vCPUs is 4097, want 1 to 4096", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(qemu_vmsas(profile, 0U - 1U, {}, full)), "number of vCPUs is 4294967295, want 1 to 4096", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(qemu_vmsas(profile, 2, {}, none)),
                         "firmware: SEV-ES reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e) is missing, needed for vCPUs other than the first "
                         "(SEV-ES); "
                         "it has no GUID table at its end",
                         Error);
    const Bytes zero = image_with({{guid::sev_es_reset_block, {0, 0, 0, 0}}});
    CHECK_THROWS_WITH_AS(
        static_cast<void>(qemu_vmsas(profile, 2, {}, zero)),
        "firmware: SEV-ES reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e) has AP reset address 0, want the address where vCPUs other than "
        "the first start",
        Error);
    CHECK(qemu_vmsas(profile, 1, {}, none).size() == 1);
    CHECK(qemu_vmsas(vmsa_profile("krun"), 2, {}, none).size() == 2);
    const auto pages = qemu_vmsas(profile, 5, CpuSignature{7}, full, 0x20);
    REQUIRE(pages.size() == 5);
    CHECK(get(pages[0], "rip") == 0xFFF0);
    CHECK(get(pages[4], "rip") == 0xB004);
    CHECK(get(pages[4], "cs.base") == 0x800000);
    CHECK(get(pages[4], "rdx") == 7);
    CHECK(get(pages[4], "sev_features") == 0x20);
}
