// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <compare>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "ovmf-measure/xen/image.hpp"

namespace sev::launch::xen {

/// Types of records that Xen saves of a vCPU. Source: Xen 4.17 public/arch-x86/hvm/save.h.
namespace vcpu_record {
inline constexpr std::uint16_t cpu = 2, lapic = 5, lapic_registers = 6, mtrr = 14, xsave = 16, viridian = 17, machine_check = 18, tsc_adjust = 19,
                               msrs = 20, last_known = 20;
} // namespace vcpu_record

inline constexpr std::size_t vcpu_cpu_record_bytes = 0x408;

/// Whose record of which type.
struct VcpuRecordOf {
    std::uint16_t type = 0, vcpu = 0;
    std::string name() const; // "LAPIC", "type 21"
    auto operator<=>(const VcpuRecordOf&) const = default;
};
/// The records of vCPUs in a domain's saved context, those of unknown types too; views of it.
using VcpuRecords = std::map<VcpuRecordOf, ByteView>;

/// Throws Error{Fault::malformed} with the offset for records that do not fit, have another size than their type, or are there twice.
VcpuRecords read_vcpu_records(ByteView context);

/// Adds to `out` what is not as it is after a reset in the records other than the CPU's: see vcpu_differences.
void other_record_differences(const VcpuRecords& records, const measure::XenVcpuContext& want, unsigned vcpus, std::vector<std::string>& out);

} // namespace sev::launch::xen
