// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/wire.hpp"

namespace sev::measure {

/// Segment register of a VMSA, 16 bytes: selector, attributes, limit, base.
struct Segment {
    std::uint16_t selector = 0, attrib = 0;
    std::uint32_t limit = 0;
    std::uint64_t base = 0;
    friend bool operator==(const Segment&, const Segment&) = default;
};

/// SEV-ES save area of one vCPU as a page of 4096 bytes. Fields are reached by name through `vmsa_fields`, whose table is the layout.
using Vmsa = ByteArray<4096>;

struct VmsaField {
    std::string_view name; // "cs.base", "rip", "sev_features" …
    std::size_t offset;
    std::size_t size_bytes;
};
/// Every field, ascending by offset; all other bytes of a launched VMSA are zero. Source: AMD64 APM volume 2 appendix B table B-4, Linux svm.h.
std::span<const VmsaField> vmsa_fields();

/// EAX of CPUID Fn0000_0001, which KVM puts into RDX.
struct CpuSignature {
    std::uint32_t value = 0;
    /// family and model are the displayed ones (23, 49, 0 for EPYC-Rome). Throws Error{Fault::usage} when family > 270, model > 255 or stepping > 15.
    static CpuSignature of(unsigned family, unsigned model, unsigned stepping);
    /// QEMU CPU models: "EPYC-Rome", "EPYC-v4" … Throws Error{Fault::usage} with the list.
    static CpuSignature of_qemu_model(std::string_view model);
    friend bool operator==(const CpuSignature&, const CpuSignature&) = default;
};

/// How a VMM sets up the VMSAs of its guests: named, versioned data.
struct VmsaProfile {
    std::string_view name; // "kvm-legacy"
    unsigned version;
    std::string_view title;
    std::string_view source;
};
/// kvm-legacy, kvm-init2, ec2, gce, krun.
std::span<const VmsaProfile> vmsa_profiles();
/// Throws Error{Fault::usage} with the list of names.
const VmsaProfile& vmsa_profile(std::string_view name);

struct VmsaInput {
    CpuSignature signature;
    std::uint64_t sev_features = 0;
    /// AP reset address from the firmware's SEV-ES reset block; needed for vCPU index ≥ 1 (not for krun).
    std::optional<std::uint32_t> ap_reset_address;
};
/// The page of one vCPU. Throws Error{Fault::malformed} when an AP needs a reset address and the firmware has none or 0.
Vmsa build_vmsa(const VmsaProfile& profile, unsigned vcpu_index, const VmsaInput& input);

struct VmsaDifference {
    std::string field; // a name of vmsa_fields, or "byte 0x6a0" outside all fields
    std::string left, right; // hex values
    friend bool operator==(const VmsaDifference&, const VmsaDifference&) = default;
};
/// Field by field, ascending.
std::vector<VmsaDifference> diff(const Vmsa& left, const Vmsa& right);

} // namespace sev::measure
