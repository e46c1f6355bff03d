// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "ovmf-measure/firmware_table.hpp"
#include "ovmf-measure/vmsa.hpp"

namespace sev::measure {

/// Kernel, ramdisk and command line of a direct boot, by their SHA-256. QEMU's hash of the command line covers one NUL at its end.
struct KernelHashes {
    Digest kernel{}, initrd{}, cmdline{};
    /// `initrd` nullopt: hash of the empty string. `cmdline` without its NUL.
    static KernelHashes of(const Digest& kernel, const std::optional<Digest>& initrd, std::string_view cmdline);
    /// QEMU's PaddedSevHashTable, 176 bytes.
    ByteArray<176> serialize() const;
    static KernelHashes parse(wire::View<176> v);
    friend bool operator==(const KernelHashes&, const KernelHashes&) = default;
};

/// What QEMU and KVM load for a `qemu` guest.
struct QemuLaunch {
    ByteView firmware;                  // the whole first flash
    std::optional<KernelHashes> kernel; // with kernel-hashes=on
    std::vector<Vmsa> vmsas;            // SEV-ES: one for each vCPU; SEV: none
};

/// The launch digest: SHA-256(firmware ‖ hash table? ‖ VMSA[0] ‖ …). Throws Error{Fault::malformed} for an empty firmware, and, with `kernel`, for a
/// firmware whose hash block is missing, has base 0, or is smaller than 176 bytes.
Digest launch_digest(const QemuLaunch& launch);

/// VMSAs of `vcpus` vCPUs, the address of the APs taken from the firmware. Throws Error{Fault::usage} for 0 or more than 4096 vCPUs.
std::vector<Vmsa> qemu_vmsas(const VmsaProfile& profile, unsigned vcpus, CpuSignature signature, ByteView firmware, std::uint64_t sev_features = 0);

/// One region in the order in which it is loaded, for the launch descriptor.
struct MeasuredRegion {
    std::string label;                // "firmware", "kernel hashes", "vmsa 0"
    std::optional<std::uint64_t> gpa; // VMSAs have none
    std::uint64_t length_bytes;
    Digest sha256;
    std::string source; // where the bytes come from
    friend bool operator==(const MeasuredRegion&, const MeasuredRegion&) = default;
};
std::vector<MeasuredRegion> regions(const QemuLaunch& launch);

/// Something that runs in the guest or steers it and that the launch digest does not cover.
struct CoverageFinding {
    std::string id;     // "kernel-unmeasured"
    std::string text;   // for people
    std::string remedy;
    friend bool operator==(const CoverageFinding&, const CoverageFinding&) = default;
};
/// `direct_boot`: the guest is started with -kernel.
std::vector<CoverageFinding> coverage(const QemuLaunch& launch, bool direct_boot);

} // namespace sev::measure
