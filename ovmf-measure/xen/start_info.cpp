// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/start_info.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/wire.hpp"
#include "ovmf-measure/xen/layout.hpp"

namespace sev::measure {
namespace {

constexpr std::size_t modlist_bytes = XenStartInfo::module_slots * XenStartInfo::module_bytes;
constexpr std::size_t module_cmdlines_bytes = XenStartInfo::module_slots * XenStartInfo::module_cmdline_bytes;

/// NUL included, rounded up to 8; 0 when there is none.
std::size_t cmdline_bytes(const std::optional<std::string_view>& cmdline) { return cmdline ? (cmdline->size() + 1 + 7) / 8 * 8 : 0; }

void put_le32(Bytes& out, std::size_t at, std::uint32_t value) { wire::put_le32<0>(wire::Span<4>{std::span{out}.subspan(at, 4)}, value); }
void put_le64(Bytes& out, std::size_t at, std::uint64_t value) { wire::put_le64<0>(wire::Span<8>{std::span{out}.subspan(at, 8)}, value); }

/// Reads numbers of a segment by guest address or offset.
class Segment {
public:
    Segment(ByteView bytes, std::uint64_t gpa) : bytes_{bytes}, gpa_{gpa} {}
    std::size_t offset_of(std::uint64_t gpa, std::uint64_t length, std::string_view field) const {
        if (gpa < gpa_ || gpa - gpa_ > bytes_.size() || length > bytes_.size() - (gpa - gpa_))
            throw Error{Fault::malformed,
                        fmt::format("start_info: {} of {} bytes at {:#x} is outside the {} bytes at {:#x}", field, length, gpa, bytes_.size(), gpa_)};
        return static_cast<std::size_t>(gpa - gpa_);
    }
    std::uint32_t le32(std::size_t at) const { return wire::le32<0>(wire::View<4>{bytes_.subspan(at, 4)}); }
    std::uint64_t le64(std::size_t at) const { return wire::le64<0>(wire::View<8>{bytes_.subspan(at, 8)}); }
    std::string string(std::uint64_t gpa) const {
        const std::string_view rest = as_text(bytes_.subspan(offset_of(gpa, 1, "command line")));
        const auto end = rest.find('\0');
        if (end == std::string_view::npos)
            throw Error{Fault::malformed, fmt::format("start_info: the command line at {:#x} does not end in the segment", gpa)};
        return std::string{rest.substr(0, end)};
    }

private:
    ByteView bytes_;
    std::uint64_t gpa_;
};

} // namespace

std::size_t XenStartInfo::size_bytes() const {
    return header_bytes + cmdline_bytes(cmdline) + modlist_bytes + module_cmdlines_bytes + memory.size() * memory_entry_bytes;
}

Bytes XenStartInfo::serialize(std::uint64_t gpa) const {
    Bytes out(size_bytes());
    const std::size_t modlist = header_bytes + cmdline_bytes(cmdline), cmdlines = modlist + modlist_bytes, map = cmdlines + module_cmdlines_bytes;
    put_le32(out, 0x00, magic);
    put_le32(out, 0x04, 1); // version
    put_le32(out, 0x0C, module ? 1 : 0);
    put_le64(out, 0x10, module ? gpa + modlist : 0);
    put_le64(out, 0x18, cmdline ? gpa + header_bytes : 0);
    put_le64(out, 0x20, rsdp_gpa);
    put_le64(out, 0x28, gpa + map);
    put_le32(out, 0x30, static_cast<std::uint32_t>(memory.size()));
    if (cmdline) std::ranges::copy(*cmdline, out.begin() + header_bytes);
    if (module) {
        require(module->cmdline.size() < module_cmdline_bytes, "a module's command line fits");
        put_le64(out, modlist, module->gpa);
        put_le64(out, modlist + 8, module->size_bytes);
        put_le64(out, modlist + 16, module->cmdline.empty() ? 0 : gpa + cmdlines);
        std::ranges::copy(module->cmdline, out.begin() + static_cast<std::ptrdiff_t>(cmdlines));
    }
    for (std::size_t i = 0; i < memory.size(); ++i) {
        const std::size_t at = map + i * memory_entry_bytes;
        put_le64(out, at, memory[i].gpa);
        put_le64(out, at + 8, memory[i].size_bytes);
        put_le32(out, at + 16, memory[i].type);
    }
    return out;
}

XenStartInfoView XenStartInfoView::parse(ByteView bytes, std::uint64_t gpa) {
    const Segment segment{bytes, gpa};
    segment.offset_of(gpa, XenStartInfo::header_bytes, "header");
    if (segment.le32(0) != XenStartInfo::magic)
        throw Error{Fault::malformed, fmt::format("start_info: 0h magic is {:#x}, want {:#x}", segment.le32(0), XenStartInfo::magic)};
    XenStartInfoView out;
    out.rsdp_gpa = segment.le64(0x20);
    if (const std::uint64_t cmdline = segment.le64(0x18); cmdline != 0) out.cmdline = segment.string(cmdline);
    const std::uint32_t modules = segment.le32(0x0C), entries = segment.le32(0x30);
    const std::size_t modlist =
        modules != 0 ? segment.offset_of(segment.le64(0x10), std::uint64_t{modules} * XenStartInfo::module_bytes, "module list") : 0;
    for (std::size_t i = 0; i < modules; ++i)
        out.modules.push_back({segment.le64(modlist + i * XenStartInfo::module_bytes), segment.le64(modlist + i * XenStartInfo::module_bytes + 8)});
    const std::size_t map = segment.offset_of(segment.le64(0x28), std::uint64_t{entries} * XenStartInfo::memory_entry_bytes, "memory map");
    for (std::size_t i = 0; i < entries; ++i) {
        const std::size_t at = map + i * XenStartInfo::memory_entry_bytes;
        out.memory.push_back({.gpa = segment.le64(at), .size_bytes = segment.le64(at + 8), .type = segment.le32(at + 16)});
    }
    return out;
}

Bytes hvm_info_page(const XenGuestConfig& config, std::uint64_t low_end, std::uint64_t high_end) {
    constexpr std::size_t at = xen_layout::hvm_info_offset, table_bytes = 48;
    Bytes out(xen_layout::page_bytes);
    std::ranges::copy(std::string_view{"HVM INFO"}, out.begin() + at);
    put_le32(out, at + 8, table_bytes);
    out[at + 13] = config.apic ? 1 : 0;
    put_le32(out, at + 16, config.vcpus);
    put_le32(out, at + 20, static_cast<std::uint32_t>(low_end / xen_layout::page_bytes));
    put_le32(out, at + 24, xen_layout::ioreq_gfn); // reserved_mem_pgstart
    put_le32(out, at + 28, static_cast<std::uint32_t>(high_end / xen_layout::page_bytes));
    for (std::size_t i = 0; i < xen_max_vcpus; ++i)
        if (config.online.test(i)) out[at + 32 + i / 8] = static_cast<std::uint8_t>(out[at + 32 + i / 8] | 1U << i % 8);
    unsigned sum = 0;
    for (std::size_t i = 0; i < table_bytes; ++i) sum += out[at + i];
    out[at + 12] = static_cast<std::uint8_t>(0U - sum); // checksum: all 48 bytes sum to 0
    return out;
}

} // namespace sev::measure
