// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/vcpu_context.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"
#include "launch/xen/vcpu_records.hpp"

namespace sev::launch::xen {
namespace {

constexpr std::size_t cpu_bytes = vcpu_cpu_record_bytes, tsc_at = 0x3F0;

struct Register {
    std::string_view name;
    std::size_t at, size_bytes;
};
/// The whole record: what is not named here does not exist.
constexpr std::array registers{
    Register{"rax", 0x200, 8},
    Register{"rbx", 0x208, 8},
    Register{"rcx", 0x210, 8},
    Register{"rdx", 0x218, 8},
    Register{"rbp", 0x220, 8},
    Register{"rsi", 0x228, 8},
    Register{"rdi", 0x230, 8},
    Register{"rsp", 0x238, 8},
    Register{"r8", 0x240, 8},
    Register{"r9", 0x248, 8},
    Register{"r10", 0x250, 8},
    Register{"r11", 0x258, 8},
    Register{"r12", 0x260, 8},
    Register{"r13", 0x268, 8},
    Register{"r14", 0x270, 8},
    Register{"r15", 0x278, 8},
    Register{"rip", 0x280, 8},
    Register{"rflags", 0x288, 8},
    Register{"cr0", 0x290, 8},
    Register{"cr2", 0x298, 8},
    Register{"cr3", 0x2A0, 8},
    Register{"cr4", 0x2A8, 8},
    Register{"dr0", 0x2B0, 8},
    Register{"dr1", 0x2B8, 8},
    Register{"dr2", 0x2C0, 8},
    Register{"dr3", 0x2C8, 8},
    Register{"dr6", 0x2D0, 8},
    Register{"dr7", 0x2D8, 8},
    Register{"cs selector", 0x2E0, 4},
    Register{"ds selector", 0x2E4, 4},
    Register{"es selector", 0x2E8, 4},
    Register{"fs selector", 0x2EC, 4},
    Register{"gs selector", 0x2F0, 4},
    Register{"ss selector", 0x2F4, 4},
    Register{"tr selector", 0x2F8, 4},
    Register{"ldtr selector", 0x2FC, 4},
    Register{"cs limit", 0x300, 4},
    Register{"ds limit", 0x304, 4},
    Register{"es limit", 0x308, 4},
    Register{"fs limit", 0x30C, 4},
    Register{"gs limit", 0x310, 4},
    Register{"ss limit", 0x314, 4},
    Register{"tr limit", 0x318, 4},
    Register{"ldtr limit", 0x31C, 4},
    Register{"idtr limit", 0x320, 4},
    Register{"gdtr limit", 0x324, 4},
    Register{"cs base", 0x328, 8},
    Register{"ds base", 0x330, 8},
    Register{"es base", 0x338, 8},
    Register{"fs base", 0x340, 8},
    Register{"gs base", 0x348, 8},
    Register{"ss base", 0x350, 8},
    Register{"tr base", 0x358, 8},
    Register{"ldtr base", 0x360, 8},
    Register{"idtr base", 0x368, 8},
    Register{"gdtr base", 0x370, 8},
    Register{"cs attributes", 0x378, 4},
    Register{"ds attributes", 0x37C, 4},
    Register{"es attributes", 0x380, 4},
    Register{"fs attributes", 0x384, 4},
    Register{"gs attributes", 0x388, 4},
    Register{"ss attributes", 0x38C, 4},
    Register{"tr attributes", 0x390, 4},
    Register{"ldtr attributes", 0x394, 4},
    Register{"sysenter_cs", 0x398, 8},
    Register{"sysenter_esp", 0x3A0, 8},
    Register{"sysenter_eip", 0x3A8, 8},
    Register{"shadow_gs", 0x3B0, 8},
    Register{"msr_flags", 0x3B8, 8},
    Register{"lstar", 0x3C0, 8},
    Register{"star", 0x3C8, 8},
    Register{"cstar", 0x3D0, 8},
    Register{"syscall_mask", 0x3D8, 8},
    Register{"efer", 0x3E0, 8},
    Register{"tsc_aux", 0x3E8, 8},
    Register{"tsc", tsc_at, 8},
    Register{"pending event", 0x3F8, 4},
    Register{"error code", 0x3FC, 4},
    Register{"flags", 0x400, 4},
    Register{"padding", 0x404, 4},
};
static_assert(registers.back().at + registers.back().size_bytes == cpu_bytes);

void put(std::span<std::uint8_t> record, std::string_view name, std::uint64_t value) {
    const auto found = std::ranges::find(registers, name, &Register::name);
    require(found != registers.end(), "a register of the CPU record");
    for (std::size_t i = 0; i < found->size_bytes; ++i) record[found->at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

void put_segment(std::span<std::uint8_t> record, std::string_view name, const measure::XenSegment& segment) {
    put(record, fmt::format("{} selector", name), segment.selector);
    put(record, fmt::format("{} limit", name), segment.limit);
    put(record, fmt::format("{} base", name), segment.base);
    put(record, fmt::format("{} attributes", name), segment.attributes);
}

/// The record as the builder leaves it, but for the FPU's area, which counts only once the FPU is in use.
ByteArray<cpu_bytes> wanted_record(const measure::XenVcpuContext& want) {
    ByteArray<cpu_bytes> record{};
    put(record, "rip", want.rip);
    put(record, "rbx", want.rbx);
    put(record, "rflags", want.rflags);
    put(record, "cr0", want.cr0);
    put(record, "dr6", want.dr6);
    put(record, "dr7", want.dr7);
    put_segment(record, "cs", want.cs);
    for (const std::string_view name : {"ds", "es", "ss"}) put_segment(record, name, want.data);
    put_segment(record, "tr", want.tr);
    return record;
}

std::uint64_t value_of(ByteView record, const Register& one) {
    std::uint64_t out = 0;
    for (std::size_t i = one.size_bytes; i-- > 0;) out = out << 8 | record[one.at + i];
    return out;
}

void cpu_differences(const VcpuRecords& records, const measure::XenVcpuContext& want, std::vector<std::string>& out) {
    bool first_seen = false;
    for (const auto& [of, record] : records) {
        if (of.type != vcpu_record::cpu) continue;
        if (of.vcpu != 0) {
            out.push_back(fmt::format("vCPU {}: is up, want it down", of.vcpu));
            continue;
        }
        first_seen = true;
        const auto expected = wanted_record(want);
        for (const Register& one : registers) {
            const std::uint64_t is = value_of(record, one), wanted = value_of(expected, one);
            if (one.at != tsc_at && is != wanted) out.push_back(fmt::format("vCPU 0: {} is {:#x}, want {:#x}", one.name, is, wanted));
        }
    }
    if (!first_seen) out.push_back("vCPU 0: has no CPU record, want it up");
}

} // namespace

std::vector<std::string> vcpu_differences(ByteView context, const measure::XenVcpuContext& want, unsigned vcpus) {
    const VcpuRecords records = read_vcpu_records(context);
    std::vector<std::string> out;
    cpu_differences(records, want, out);
    other_record_differences(records, want, vcpus, out);
    return out;
}

std::vector<std::string> vcpu_changes(ByteView first, ByteView now) {
    const VcpuRecords before = read_vcpu_records(first), after = read_vcpu_records(now);
    std::vector<std::string> out;
    for (const auto& [of, record] : before) {
        if (of.type == vcpu_record::cpu) continue; // every byte of it has a wanted value, but for the time stamp counter
        const auto found = after.find(of);
        if (found == after.end()) out.push_back(fmt::format("vCPU {}: its {} record is gone", of.vcpu, of.name()));
        else if (!std::ranges::equal(record, found->second)) {
            const auto differs = std::ranges::mismatch(record, found->second).in1;
            out.push_back(fmt::format("vCPU {}: its {} record has changed, first at offset {:#x}", of.vcpu, of.name(), differs - record.begin()));
        }
    }
    for (const auto& [of, record] : after)
        if (of.type != vcpu_record::cpu && !before.contains(of)) out.push_back(fmt::format("vCPU {}: has a {} record now", of.vcpu, of.name()));
    return out;
}

} // namespace sev::launch::xen
