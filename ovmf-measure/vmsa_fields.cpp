// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/error.hpp"
#include "ovmf-measure/vmsa.hpp"

namespace sev::measure {

namespace {

// Source: AMD64 APM volume 2 appendix B table B-4; Linux arch/x86/include/asm/svm.h, struct sev_es_save_area. SPEC_CTRL (2E0h) is in
// the APM and in sevctl's layout, not in svm.h.
constexpr auto fields = std::to_array<VmsaField>({
    {"es.selector", 0x000, 2}, {"es.attrib", 0x002, 2}, {"es.limit", 0x004, 4}, {"es.base", 0x008, 8}, {"cs.selector", 0x010, 2},
    {"cs.attrib", 0x012, 2}, {"cs.limit", 0x014, 4}, {"cs.base", 0x018, 8}, {"ss.selector", 0x020, 2}, {"ss.attrib", 0x022, 2},
    {"ss.limit", 0x024, 4}, {"ss.base", 0x028, 8}, {"ds.selector", 0x030, 2}, {"ds.attrib", 0x032, 2}, {"ds.limit", 0x034, 4},
    {"ds.base", 0x038, 8}, {"fs.selector", 0x040, 2}, {"fs.attrib", 0x042, 2}, {"fs.limit", 0x044, 4}, {"fs.base", 0x048, 8},
    {"gs.selector", 0x050, 2}, {"gs.attrib", 0x052, 2}, {"gs.limit", 0x054, 4}, {"gs.base", 0x058, 8}, {"gdtr.selector", 0x060, 2},
    {"gdtr.attrib", 0x062, 2}, {"gdtr.limit", 0x064, 4}, {"gdtr.base", 0x068, 8}, {"ldtr.selector", 0x070, 2}, {"ldtr.attrib", 0x072, 2},
    {"ldtr.limit", 0x074, 4}, {"ldtr.base", 0x078, 8}, {"idtr.selector", 0x080, 2}, {"idtr.attrib", 0x082, 2}, {"idtr.limit", 0x084, 4},
    {"idtr.base", 0x088, 8}, {"tr.selector", 0x090, 2}, {"tr.attrib", 0x092, 2}, {"tr.limit", 0x094, 4}, {"tr.base", 0x098, 8},
    {"pl0_ssp", 0x0A0, 8}, {"pl1_ssp", 0x0A8, 8}, {"pl2_ssp", 0x0B0, 8}, {"pl3_ssp", 0x0B8, 8}, {"u_cet", 0x0C0, 8}, {"vmpl", 0x0CA, 1},
    {"cpl", 0x0CB, 1}, {"efer", 0x0D0, 8}, {"xss", 0x140, 8}, {"cr4", 0x148, 8}, {"cr3", 0x150, 8}, {"cr0", 0x158, 8}, {"dr7", 0x160, 8},
    {"dr6", 0x168, 8}, {"rflags", 0x170, 8}, {"rip", 0x178, 8}, {"dr0", 0x180, 8}, {"dr1", 0x188, 8}, {"dr2", 0x190, 8}, {"dr3", 0x198, 8},
    {"dr0_addr_mask", 0x1A0, 8}, {"dr1_addr_mask", 0x1A8, 8}, {"dr2_addr_mask", 0x1B0, 8}, {"dr3_addr_mask", 0x1B8, 8}, {"rsp", 0x1D8, 8},
    {"s_cet", 0x1E0, 8}, {"ssp", 0x1E8, 8}, {"isst_addr", 0x1F0, 8}, {"rax", 0x1F8, 8}, {"star", 0x200, 8}, {"lstar", 0x208, 8},
    {"cstar", 0x210, 8}, {"sfmask", 0x218, 8}, {"kernel_gs_base", 0x220, 8}, {"sysenter_cs", 0x228, 8}, {"sysenter_esp", 0x230, 8},
    {"sysenter_eip", 0x238, 8}, {"cr2", 0x240, 8}, {"g_pat", 0x268, 8}, {"dbgctl", 0x270, 8}, {"br_from", 0x278, 8}, {"br_to", 0x280, 8},
    {"last_excp_from", 0x288, 8}, {"last_excp_to", 0x290, 8}, {"spec_ctrl", 0x2E0, 4}, {"pkru", 0x2E8, 4}, {"tsc_aux", 0x2EC, 4},
    {"tsc_scale", 0x2F0, 8}, {"tsc_offset", 0x2F8, 8}, {"rcx", 0x308, 8}, {"rdx", 0x310, 8}, {"rbx", 0x318, 8}, {"rbp", 0x328, 8},
    {"rsi", 0x330, 8}, {"rdi", 0x338, 8}, {"r8", 0x340, 8}, {"r9", 0x348, 8}, {"r10", 0x350, 8}, {"r11", 0x358, 8}, {"r12", 0x360, 8},
    {"r13", 0x368, 8}, {"r14", 0x370, 8}, {"r15", 0x378, 8}, {"guest_exit_info_1", 0x390, 8}, {"guest_exit_info_2", 0x398, 8},
    {"guest_exit_int_info", 0x3A0, 8}, {"guest_nrip", 0x3A8, 8}, {"sev_features", 0x3B0, 8}, {"vintr_ctrl", 0x3B8, 8},
    {"guest_exit_code", 0x3C0, 8}, {"virtual_tom", 0x3C8, 8}, {"tlb_id", 0x3D0, 8}, {"pcpu_id", 0x3D8, 8}, {"event_inj", 0x3E0, 8},
    {"xcr0", 0x3E8, 8}, {"x87_dp", 0x400, 8}, {"mxcsr", 0x408, 4}, {"x87_ftw", 0x40C, 2}, {"x87_fsw", 0x40E, 2}, {"x87_fcw", 0x410, 2},
    {"x87_fop", 0x412, 2}, {"x87_ds", 0x414, 2}, {"x87_cs", 0x416, 2}, {"x87_rip", 0x418, 8}, {"fpreg_x87", 0x420, 80, true},
    {"fpreg_xmm", 0x470, 256, true}, {"fpreg_ymm", 0x570, 256, true},
});

// Source: the files that virtee/sevctl's test of `vmsa show` expects; the layout is that of Linux' former struct vmcb_save_area, so that
// what it calls sw_exit_code … x87_state_gpa has other names today.
constexpr auto sevctl_fields = std::to_array<VmsaField>({
    {"es.selector", 0x000, 2}, {"es.attrib", 0x002, 2}, {"es.limit", 0x004, 4}, {"es.base", 0x008, 8}, {"cs.selector", 0x010, 2},
    {"cs.attrib", 0x012, 2}, {"cs.limit", 0x014, 4}, {"cs.base", 0x018, 8}, {"ss.selector", 0x020, 2}, {"ss.attrib", 0x022, 2},
    {"ss.limit", 0x024, 4}, {"ss.base", 0x028, 8}, {"ds.selector", 0x030, 2}, {"ds.attrib", 0x032, 2}, {"ds.limit", 0x034, 4},
    {"ds.base", 0x038, 8}, {"fs.selector", 0x040, 2}, {"fs.attrib", 0x042, 2}, {"fs.limit", 0x044, 4}, {"fs.base", 0x048, 8},
    {"gs.selector", 0x050, 2}, {"gs.attrib", 0x052, 2}, {"gs.limit", 0x054, 4}, {"gs.base", 0x058, 8}, {"gdtr.selector", 0x060, 2},
    {"gdtr.attrib", 0x062, 2}, {"gdtr.limit", 0x064, 4}, {"gdtr.base", 0x068, 8}, {"ldtr.selector", 0x070, 2}, {"ldtr.attrib", 0x072, 2},
    {"ldtr.limit", 0x074, 4}, {"ldtr.base", 0x078, 8}, {"idtr.selector", 0x080, 2}, {"idtr.attrib", 0x082, 2}, {"idtr.limit", 0x084, 4},
    {"idtr.base", 0x088, 8}, {"tr.selector", 0x090, 2}, {"tr.attrib", 0x092, 2}, {"tr.limit", 0x094, 4}, {"tr.base", 0x098, 8},
    {"reserved_1", 0x0A0, 43, true}, {"cpl", 0x0CB, 1}, {"reserved_2", 0x0CC, 4, true}, {"efer", 0x0D0, 8},
    {"reserved_3", 0x0D8, 104, true}, {"xss", 0x140, 8}, {"cr4", 0x148, 8}, {"cr3", 0x150, 8}, {"cr0", 0x158, 8}, {"dr7", 0x160, 8},
    {"dr6", 0x168, 8}, {"rflags", 0x170, 8}, {"rip", 0x178, 8}, {"reserved_4", 0x180, 88, true}, {"rsp", 0x1D8, 8},
    {"reserved_5", 0x1E0, 24, true}, {"rax", 0x1F8, 8}, {"star", 0x200, 8}, {"lstar", 0x208, 8}, {"cstar", 0x210, 8}, {"sfmask", 0x218, 8},
    {"kernel_gs_base", 0x220, 8}, {"sysenter_cs", 0x228, 8}, {"sysenter_esp", 0x230, 8}, {"sysenter_eip", 0x238, 8}, {"cr2", 0x240, 8},
    {"reserved_6", 0x248, 32, true}, {"g_pat", 0x268, 8}, {"dbgctl", 0x270, 8}, {"br_from", 0x278, 8}, {"br_to", 0x280, 8},
    {"last_excp_from", 0x288, 8}, {"last_excp_to", 0x290, 8}, {"reserved_7", 0x298, 72, true}, {"spec_ctrl", 0x2E0, 4},
    {"reserved_7b", 0x2E4, 4, true}, {"pkru", 0x2E8, 4}, {"reserved_7a", 0x2EC, 20, true}, {"reserved_8", 0x300, 8}, {"rcx", 0x308, 8},
    {"rdx", 0x310, 8}, {"rbx", 0x318, 8}, {"reserved_9", 0x320, 8}, {"rbp", 0x328, 8}, {"rsi", 0x330, 8}, {"rdi", 0x338, 8},
    {"r8", 0x340, 8}, {"r9", 0x348, 8}, {"r10", 0x350, 8}, {"r11", 0x358, 8}, {"r12", 0x360, 8}, {"r13", 0x368, 8}, {"r14", 0x370, 8},
    {"r15", 0x378, 8}, {"reserved_10", 0x380, 16, true}, {"sw_exit_code", 0x390, 8}, {"sw_exit_info_1", 0x398, 8},
    {"sw_exit_info_2", 0x3A0, 8}, {"sw_scratch", 0x3A8, 8}, {"reserved_11", 0x3B0, 56, true}, {"xcr0", 0x3E8, 8},
    {"valid_bitmap", 0x3F0, 16, true}, {"x87_state_gpa", 0x400, 8},
});

constexpr bool ascending(std::span<const VmsaField> table) {
    for (std::size_t i = 0; i < table.size(); ++i) {
        const std::size_t end = table[i].offset + table[i].size_bytes;
        if (end > (i + 1 < table.size() ? table[i + 1].offset : sizeof(Vmsa))) return false;
        if (!table[i].is_array && table[i].size_bytes > 8) return false;
    }
    return true;
}
static_assert(ascending(fields) && ascending(sevctl_fields));

} // namespace

std::span<const VmsaField> vmsa_fields() { return fields; }

std::span<const VmsaField> vmsa_sevctl_fields() { return sevctl_fields; }

const VmsaField& vmsa_field(std::string_view name) {
    const auto found = std::ranges::find(fields, name, &VmsaField::name);
    if (found == fields.end()) {
        throw Error{Fault::usage, fmt::format("VMSA: no field is called '{}'", printable(name, 40)),
                    "the names are those of Linux' svm.h, such as rip, cs.base, sev_features"};
    }
    return *found;
}

} // namespace sev::measure
