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
/// 0x1000850"; "vCPU 1: is up, want it down". Empty: as wanted. Looked at are every register of vCPU 0's CPU record but its time stamp counter, which
/// vCPUs have such a record, and the MTRR default type of each of `vcpus`.
/// Throws Error{Fault::malformed} with the offset for records that do not fit.
std::vector<std::string> vcpu_differences(ByteView context, const measure::XenVcpuContext& want, unsigned vcpus);

} // namespace sev::launch::xen
