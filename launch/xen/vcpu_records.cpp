// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/vcpu_records.hpp"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "base/cursor.hpp"
#include "base/error.hpp"
#include "launch/xen/vcpu_context.hpp"

namespace sev::launch::xen {
namespace {

using namespace vcpu_record;

constexpr std::uint16_t end_type = 0;

/// What is known of a type: sizes up to `most_bytes` are of newer releases, which append.
struct Kind {
    std::uint16_t type;
    std::string_view name;
    std::size_t least_bytes, most_bytes;
};
constexpr std::array kinds{
    Kind{cpu, "CPU", vcpu_cpu_record_bytes, vcpu_cpu_record_bytes},
    Kind{lapic, "LAPIC", 24, 64},
    Kind{lapic_registers, "LAPIC_REGS", 1024, 1024},
    Kind{mtrr, "MTRR", 240, 240},
    Kind{xsave, "XSAVE", 24 + 512 + 64, context_limit_bytes},
    Kind{viridian, "VIRIDIAN_VCPU", 8, 256},
    Kind{machine_check, "VMCE_VCPU", 8, 64},
    Kind{tsc_adjust, "TSC_ADJUST", 8, 8},
    Kind{msrs, "MSR", 8, context_limit_bytes},
};

const Kind* kind_of(std::uint16_t type) {
    const auto found = std::ranges::find(kinds, type, &Kind::type);
    return found == kinds.end() ? nullptr : &*found;
}

/// Records of the whole domain and of its devices: header, PIC, IO-APIC, PCI and ISA lines, PIT, RTC, HPET, PM timer, Viridian's clock.
bool of_domain(std::uint16_t type) { return type <= last_known && kind_of(type) == nullptr; }

template <class Unsigned>
Unsigned little(ByteView bytes, std::size_t at) {
    require(at + sizeof(Unsigned) <= bytes.size(), "a field within its record");
    Unsigned out = 0;
    for (std::size_t i = sizeof(Unsigned); i-- > 0;) out = static_cast<Unsigned>(static_cast<std::uint64_t>(out) << 8 | bytes[at + i]);
    return out;
}

/// Holds the fields of one vCPU's record against what they should be.
class Fields {
public:
    Fields(VcpuRecordOf of, ByteView record, std::vector<std::string>& out) : of_{of}, record_{record}, out_{out} {}

    template <class Unsigned>
    void want(std::string_view name, std::size_t at, Unsigned wanted) {
        if (const auto is = little<Unsigned>(record_, at); is != wanted)
            out_.push_back(fmt::format("vCPU {}: {} is {:#x}, want {:#x}", of_.vcpu, name, is, wanted));
    }
    void want_zero(std::size_t from, std::size_t end) {
        for (std::size_t at = from; at < end; ++at)
            if (record_[at] != 0) {
                out_.push_back(fmt::format("vCPU {}: its {} record has {:#04x} at offset {:#x}, want 0", of_.vcpu, of_.name(), record_[at], at));
                return;
            }
    }
    ByteView record() const noexcept { return record_; }
    void refuse(std::string text) { out_.push_back(fmt::format("vCPU {}: {}", of_.vcpu, std::move(text))); }

private:
    VcpuRecordOf of_;
    ByteView record_;
    std::vector<std::string>& out_;
};

/// struct hvm_hw_mtrr: PAT, 8 pairs of variable ranges, 11 fixed ones, capability, default type.
void check_mtrr(Fields& fields, const measure::XenVcpuContext& want) {
    fields.want<std::uint64_t>("PAT", 0, 0x0007'0406'0007'0406);
    for (std::size_t i = 0; i < 16; ++i) fields.want<std::uint64_t>(fmt::format("MTRR {} {}", i % 2 == 0 ? "base" : "mask", i / 2), 8 + 8 * i, 0);
    for (std::size_t i = 0; i < 11; ++i) fields.want<std::uint64_t>(fmt::format("fixed MTRR {}", i), 136 + 8 * i, 0);
    fields.want("MTRR default type", 232, want.mtrr_def_type);
}

/// struct hvm_hw_lapic: base MSR, disabled (2: by software), timer divisor, TSC deadline; newer releases append the x2APIC id.
void check_lapic(Fields& fields, unsigned vcpu) {
    fields.want<std::uint64_t>("APIC base", 0, 0xFEE0'0800 | (vcpu == 0 ? 0x100 : 0)); // enabled; bootstrap processor
    fields.want<std::uint32_t>("APIC disabled", 8, 2);
    fields.want<std::uint64_t>("APIC TSC deadline", 16, 0);
}

/// The APIC's page of registers, 16 bytes apart, as a reset leaves it; but for id and version.
void check_lapic_registers(Fields& fields) {
    constexpr std::size_t id = 0x20, version = 0x30, format = 0xE0, spurious = 0xF0, cmci = 0x2F0, first_lvt = 0x320, last_lvt = 0x370;
    constexpr std::uint32_t masked = 0x10000;
    for (std::size_t at = 0; at < fields.record().size(); at += 4) {
        if (at == id || at == version) continue;
        if (at == cmci && little<std::uint32_t>(fields.record(), at) == masked) continue; // not every release has it
        const bool lvt = at >= first_lvt && at <= last_lvt && at % 16 == 0;
        fields.want<std::uint32_t>(fmt::format("APIC register {:#x}", at), at, at == format ? 0xFFFF'FFFF : at == spurious ? 0xFF : lvt ? masked : 0);
    }
}

/// struct hvm_hw_cpu_xsave: the host's features, XCR0, all that XCR0 ever had; then the area: 512 bytes of FXSAVE, a header, the rest.
void check_xsave(Fields& fields) {
    constexpr std::size_t area = 24, registers = area + 32, header = area + 512, rest = header + 8;
    for (const auto& [name, at] : {std::pair{"XCR0", std::size_t{8}}, std::pair{"XCR0, accumulated,", std::size_t{16}}})
        if (const auto is = little<std::uint64_t>(fields.record(), at); is > 1) fields.refuse(fmt::format("{} is {:#x}, want 0x1 or 0", name, is));
    fields.want_zero(registers, header);
    if (const auto is = little<std::uint64_t>(fields.record(), header); is > 3)
        fields.refuse(fmt::format("extended state has components {:#x}, want x87 and SSE at most", is));
    fields.want_zero(rest, fields.record().size());
}

/// struct hvm_msr: count, then index and value of each that is not zero.
void check_msrs(Fields& fields) {
    constexpr std::uint32_t spec_ctrl = 0x48, virt_spec_ctrl = 0xC001'011F;
    constexpr std::size_t first = 8, entry_bytes = 16;
    const auto count = little<std::uint32_t>(fields.record(), 0);
    if ((fields.record().size() - first) / entry_bytes != count || (fields.record().size() - first) % entry_bytes != 0) {
        fields.refuse(fmt::format("its MSR record says {} MSRs in {} bytes", count, fields.record().size()));
        return;
    }
    fields.want_zero(4, first);
    for (std::size_t at = first; at < fields.record().size(); at += entry_bytes) {
        const auto index = little<std::uint32_t>(fields.record(), at);
        fields.want_zero(at + 4, at + 8);
        // what the host holds against speculation is its own
        if (index != spec_ctrl && index != virt_spec_ctrl) fields.want<std::uint64_t>(fmt::format("MSR {:#x}", index), at + 8, 0);
    }
}

} // namespace

std::string VcpuRecordOf::name() const {
    const Kind* const kind = kind_of(type);
    return kind ? std::string{kind->name} : fmt::format("type {}", type);
}

VcpuRecords read_vcpu_records(ByteView context) {
    if (context.size() > context_limit_bytes)
        throw Error{Fault::malformed, fmt::format("domain context: {} bytes, more than the limit of {}", context.size(), context_limit_bytes)};
    Cursor cursor{context, "domain context"};
    VcpuRecords out;
    for (;;) {
        const std::uint16_t type = cursor.le16("record type"), instance = cursor.le16("record instance");
        const std::uint32_t length = cursor.le32("record length");
        const ByteView body = cursor.take(length, "record");
        if (type == end_type) break;
        if (of_domain(type)) continue;
        if (const Kind* const kind = kind_of(type); kind && (body.size() < kind->least_bytes || body.size() > kind->most_bytes))
            cursor.refuse(fmt::format("{} record has {} bytes, want {}{}", kind->name, body.size(), kind->least_bytes,
                                      kind->least_bytes == kind->most_bytes ? "" : " or more"));
        const VcpuRecordOf of{.type = type, .vcpu = instance};
        if (!out.emplace(of, body).second) cursor.refuse(fmt::format("a second {} record of vCPU {}, want one", of.name(), instance));
    }
    cursor.done();
    return out;
}

void other_record_differences(const VcpuRecords& records, const measure::XenVcpuContext& want, unsigned vcpus, std::vector<std::string>& out) {
    std::set<unsigned> surplus;
    for (const auto& [of, record] : records) {
        if (of.type == cpu) continue;
        if (of.vcpu >= vcpus) {
            surplus.insert(of.vcpu);
            continue;
        }
        Fields fields{of, record, out};
        switch (of.type) {
        case mtrr: check_mtrr(fields, want); break;
        case lapic: check_lapic(fields, of.vcpu); break;
        case lapic_registers: check_lapic_registers(fields); break;
        case xsave: check_xsave(fields); break;
        case msrs: check_msrs(fields); break;
        case tsc_adjust: fields.want<std::uint64_t>("TSC_ADJUST", 0, 0); break;
        default: break; // the host's, or unknown: held against the first look alone
        }
    }
    for (const unsigned vcpu : surplus) out.push_back(fmt::format("vCPU {}: is one more than the {} wanted", vcpu, vcpus));
    for (const Kind& kind : kinds)
        for (unsigned vcpu = 0; vcpu < vcpus; ++vcpu)
            if ((kind.type == mtrr || kind.type == lapic || kind.type == lapic_registers) &&
                !records.contains({.type = kind.type, .vcpu = static_cast<std::uint16_t>(vcpu)}))
                out.push_back(fmt::format("vCPU {}: has no {} record", vcpu, kind.name));
}

} // namespace sev::launch::xen
