// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "ovmf-measure/firmware_table.hpp"
#include "ovmf-measure/kernel_hashes.hpp"
#include "ovmf-measure/vmsa.hpp"

namespace sev::measure {

/// What QEMU and KVM load for a `qemu` guest.
struct QemuLaunch {
    ByteView firmware;                  // the whole first flash
    std::optional<KernelHashes> kernel; // with kernel-hashes=on
    std::vector<Vmsa> vmsas;            // SEV-ES: one for each vCPU; SEV: none
};

/// The launch digest: SHA-256(firmware ‖ hash table? ‖ VMSA[0] ‖ …). Throws Error{Fault::malformed} for an empty firmware or
/// one whose size is no multiple of 16 bytes (LAUNCH_UPDATE_DATA takes no other), and, with `kernel`, for a firmware whose hash
/// block is missing, has base 0, or is smaller than 176 bytes; Error{Fault::usage} for more than `max_vcpus` VMSAs.
Digest launch_digest(const QemuLaunch& launch);

/// VMSAs of `vcpus` vCPUs, the address of the APs taken from the firmware. Throws Error{Fault::usage} for 0 or more than `max_vcpus` vCPUs, and
/// Error{Fault::malformed} when there are APs and the firmware has no SEV-ES reset block, or one with address 0.
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
/// The digest covers exactly these, back to back. Throws as `launch_digest` does.
std::vector<MeasuredRegion> regions(const QemuLaunch& launch);

/// Something that runs in the guest or steers it and that the launch digest does not cover, or covers in a way that surprises.
struct CoverageFinding {
    std::string id;     // "kernel-unmeasured"
    std::string text;   // for people
    std::string remedy;
    friend bool operator==(const CoverageFinding&, const CoverageFinding&) = default;
};
/// What the digest of this launch does not say, the gravest first; never empty, since no launch digest binds addresses or the VMM's devices.
/// `direct_boot`: the guest is started with -kernel. Accepts launches that `launch_digest` refuses, and says why they are; throws
/// Error{Fault::malformed} only for a GUID table that is broken.
///
/// ids: kernel-unmeasured, hash-block-absent, kernel-hashes-unused, disk-boot-unmeasured, registers-unmeasured, reset-block-absent,
/// variable-store-inside, variable-store-outside, vmsa-stray-bytes, firmware-incomplete, devices-unmeasured, addresses-unbound.
std::vector<CoverageFinding> coverage(const QemuLaunch& launch, bool direct_boot);

} // namespace sev::measure
