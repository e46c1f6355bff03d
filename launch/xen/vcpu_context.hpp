// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "ovmf-measure/xen/image.hpp"

namespace sev::launch::xen {

/// Context of a paused HVM or PVH domain as Xen saves it: records one after the other, each {u16 type, u16 instance, u32 length}. Bytes of the
/// host's own hypervisor, and bounded all the same.
/// Source: Xen 4.17 public/hvm/save.h, public/arch-x86/hvm/save.h.
inline constexpr std::size_t context_limit_bytes = 4 * 1024 * 1024;

/// vcpu_differences says in which registers a domain's vCPUs are not as the builder leaves them, one line each: "vCPU 0: rip is 0x100000, want
/// 0x1000850"; "vCPU 1: is up, want it down". Empty: as wanted. Looked at are
///   every register of vCPU 0's CPU record but its time stamp counter, and which vCPUs have such a record;
///   of each of `vcpus` the MTRRs and PAT, the local APIC, TSC_ADJUST; where Xen saves them, MSRs and extended state.
/// What is the host's own is passed over: MTRR and machine check capabilities, version, id and timer divisor of the APIC, speculation controls among
/// the MSRs, Viridian's registers. Devices' records (PIC, IO-APIC, timers) are not looked at.
/// Throws Error{Fault::malformed} with the offset for records that do not fit, or that are there twice.
/// Source: Xen 4.17.7 as captured (tests/fixtures/xen_context); Intel SDM 3A 11.4.7.1 for the local APIC after a reset.
std::vector<std::string> vcpu_differences(ByteView context, const measure::XenVcpuContext& want, unsigned vcpus);

/// vcpu_changes says what of the vCPUs' records has changed between two looks at a domain that was paused throughout: every record of a vCPU, whole,
/// those that this program does not know too, but for the CPU record, which vcpu_differences holds against the prediction. Empty: nothing.
/// Throws likewise.
std::vector<std::string> vcpu_changes(ByteView first, ByteView now);

} // namespace sev::launch::xen
