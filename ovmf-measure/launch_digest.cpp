// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/launch_digest.hpp"

#include <fmt/format.h>

#include "base/crypto.hpp"
#include "base/error.hpp"

namespace sev::measure {

namespace {

constexpr std::uint64_t four_gib = std::uint64_t{1} << 32; // the first flash ends there

/// Runs `each` over the regions in the order in which QEMU loads them: label, address, bytes, source.
template <class Each>
void for_each_region(const QemuLaunch& launch, Each&& each) {
    const std::size_t size = launch.firmware.size();
    if (size == 0) throw Error{Fault::malformed, "firmware: 0 bytes, want a whole flash image"};
    if (size % 16 != 0) {
        throw Error{Fault::malformed, fmt::format("firmware: {} bytes, want a multiple of 16: the PSP measures no other length", size),
                    "is it cut off, compressed, or no flash image?"};
    }
    if (size >= four_gib) throw Error{Fault::malformed, fmt::format("firmware: {} bytes, want a flash image below 4 GiB", size)};
    if (launch.vmsas.size() > max_vcpus) check_vcpus(launch.vmsas.size());
    each("firmware", std::optional<std::uint64_t>{four_gib - size}, launch.firmware, "first flash: pflash unit 0, or -bios");
    if (launch.kernel) {
        const Area area = FirmwareTable::parse(launch.firmware).need_hash_block();
        const auto table = launch.kernel->serialize();
        each("kernel hashes", std::optional<std::uint64_t>{area.base}, ByteView{table}, "QEMU, with -kernel and kernel-hashes=on");
    }
    for (std::size_t i = 0; i < launch.vmsas.size(); ++i) {
        each(fmt::format("vmsa {}", i), std::optional<std::uint64_t>{}, ByteView{launch.vmsas[i]}, i == 0 ? "KVM, boot vCPU" : "KVM, other vCPU");
    }
}

} // namespace

Digest launch_digest(const QemuLaunch& launch) {
    Sha256 digest;
    for_each_region(launch, [&](const auto&, const auto&, ByteView bytes, const auto&) { digest.update(bytes); });
    return digest.finish();
}

std::vector<MeasuredRegion> regions(const QemuLaunch& launch) {
    std::vector<MeasuredRegion> all;
    for_each_region(launch, [&](const auto& label, const auto& gpa, ByteView bytes, const auto& source) {
        all.push_back({.label = label, .gpa = gpa, .length_bytes = bytes.size(), .sha256 = sha256(bytes), .source = source});
    });
    return all;
}

std::vector<Vmsa> qemu_vmsas(const VmsaProfile& profile, unsigned vcpus, CpuSignature signature, ByteView firmware, std::uint64_t sev_features) {
    check_vcpus(vcpus);
    VmsaInput input{.signature = signature, .sev_features = sev_features, .ap_reset_address = std::nullopt};
    std::vector<Vmsa> pages{build_vmsa(profile, 0, input)};
    if (vcpus == 1) return pages;
    if (profile.uses_reset_address()) input.ap_reset_address = FirmwareTable::parse(firmware).need_ap_reset_address();
    pages.resize(vcpus, build_vmsa(profile, 1, input)); // all but the first are equal
    return pages;
}

} // namespace sev::measure
