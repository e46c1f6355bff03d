// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "base/crypto.hpp"
#include "ovmf-measure/launch_digest.hpp"
#include "tests/measure/support.hpp"

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

namespace {

using Ids = std::vector<std::string>;

Ids ids(const std::vector<CoverageFinding>& findings) {
    Ids out;
    for (const CoverageFinding& finding : findings) {
        CHECK(!finding.text.empty());
        CHECK(!finding.remedy.empty());
        out.push_back(finding.id);
    }
    return out;
}
std::string text(const std::vector<CoverageFinding>& findings, std::string_view id) {
    for (const CoverageFinding& finding : findings) {
        if (finding.id == id) return finding.text;
    }
    return {};
}
std::vector<Vmsa> pages(const Bytes& firmware) { return qemu_vmsas(vmsa_profile("kvm-legacy"), 2, CpuSignature::of(23, 1, 2), firmware); }

} // namespace

TEST_CASE("coverage: the best case of SEV-ES still leaves devices, addresses and variables") {
    const Bytes firmware = image("full.fd");
    const QemuLaunch launch{.firmware = firmware, .kernel = KernelHashes{}, .vmsas = pages(firmware)};
    CHECK(ids(coverage(launch, true)) == Ids{"variable-store-outside", "devices-unmeasured", "addresses-unbound"});
}

TEST_CASE("coverage: each finding comes from its cause alone") {
    const Bytes firmware = image("full.fd");
    const QemuLaunch good{.firmware = firmware, .kernel = KernelHashes{}, .vmsas = pages(firmware)};
    const auto added = [&](const QemuLaunch& launch, bool direct_boot) {
        const Ids before = ids(coverage(good, true)), after = ids(coverage(launch, direct_boot));
        Ids out;
        for (const std::string& id : after) {
            if (std::ranges::find(before, id) == before.end()) out.push_back(id);
        }
        return out;
    };
    SUBCASE("direct boot without hashes") {
        QemuLaunch launch = good;
        launch.kernel.reset();
        CHECK(added(launch, true) == Ids{"kernel-unmeasured"});
    }
    SUBCASE("direct boot with firmware that has no place for hashes") {
        const Bytes other = image("no_hashes.fd");
        QemuLaunch launch{.firmware = other, .kernel = {}, .vmsas = pages(other)};
        CHECK(added(launch, true) == Ids{"kernel-unmeasured", "hash-block-absent"});
        CHECK(text(coverage(launch, true), "hash-block-absent").find("base 0") != std::string::npos);
        launch.kernel = KernelHashes{};
        CHECK(added(launch, true) == Ids{"hash-block-absent"});
    }
    SUBCASE("hash block too small, or absent") {
        const Bytes small = image_with({{guid::sev_es_reset_block, {4, 0, 0, 1}}, {guid::sev_hash_table_block, {0, 0, 1, 0, 175, 0, 0, 0}}});
        CHECK(added({.firmware = small, .kernel = KernelHashes{}, .vmsas = pages(small)}, true) == Ids{"hash-block-absent"});
        const Bytes absent = image_with({{guid::sev_es_reset_block, {4, 0, 0, 1}}});
        CHECK(added({.firmware = absent, .kernel = KernelHashes{}, .vmsas = pages(absent)}, true) == Ids{"hash-block-absent"});
    }
    SUBCASE("no direct boot") {
        QemuLaunch launch = good;
        CHECK(added(launch, false) == Ids{"kernel-hashes-unused", "disk-boot-unmeasured"});
        launch.kernel.reset();
        CHECK(added(launch, false) == Ids{"disk-boot-unmeasured"});
    }
    SUBCASE("no SEV-ES") {
        QemuLaunch launch = good;
        launch.vmsas.clear();
        CHECK(added(launch, true) == Ids{"registers-unmeasured"});
    }
    SUBCASE("SEV-ES with firmware without a reset block, or with address 0") {
        const Bytes none = image_with({{guid::sev_hash_table_block, {0, 0, 1, 0, 176, 0, 0, 0}}});
        CHECK(added({.firmware = none, .kernel = KernelHashes{}, .vmsas = std::vector<Vmsa>(1)}, true) == Ids{"reset-block-absent"});
        const Bytes zero = image_with({{guid::sev_es_reset_block, {0, 0, 0, 0}}, {guid::sev_hash_table_block, {0, 0, 1, 0, 176, 0, 0, 0}}});
        CHECK(added({.firmware = zero, .kernel = KernelHashes{}, .vmsas = std::vector<Vmsa>(1)}, true) == Ids{"reset-block-absent"});
        CHECK(added({.firmware = zero, .kernel = KernelHashes{}, .vmsas = {}}, true) == Ids{"registers-unmeasured"});
    }
    SUBCASE("stray bytes in VMSAs: one finding with the first") {
        QemuLaunch launch = good;
        launch.vmsas[0][0xFFF] = 1;
        launch.vmsas[1][0x6A0] = 1;
        launch.vmsas[1][0x6A1] = 2;
        CHECK(added(launch, true) == Ids{"vmsa-stray-bytes"});
        CHECK(text(coverage(launch, true), "vmsa-stray-bytes").starts_with("VMSA of vCPU 0 has 1 bytes"));
    }
    SUBCASE("part of an image") {
        const Bytes part{firmware.begin() + 2048, firmware.end()};
        CHECK(added({.firmware = part, .kernel = KernelHashes{}, .vmsas = pages(firmware)}, true) == Ids{"firmware-incomplete"});
        CHECK(text(coverage({.firmware = {}, .kernel = {}, .vmsas = {}}, false), "firmware-incomplete").starts_with("the firmware has 0 bytes"));
    }
}

TEST_CASE("coverage: a variable store inside the image takes the place of one outside") {
    const Bytes firmware = image("variables.fd");
    const auto findings = coverage({.firmware = firmware, .kernel = {}, .vmsas = pages(firmware)}, false);
    CHECK(ids(findings) == Ids{"disk-boot-unmeasured", "variable-store-inside", "devices-unmeasured", "addresses-unbound"});
    CHECK(text(findings, "variable-store-inside").starts_with("the firmware image holds a UEFI variable store of 8192 bytes at 0x1000"));
}

TEST_CASE("coverage: a broken GUID table is an error, not silence") {
    Bytes firmware = image("full.fd");
    firmware[firmware.size() - 0x31] = 0xFF;
    CHECK_THROWS_AS(static_cast<void>(coverage({.firmware = firmware, .kernel = {}, .vmsas = {}}, false)), Error);
}
