// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/error.hpp"
#include "ovmf-measure/vmsa.hpp"

namespace sev::measure {

namespace {

using Cpu = VmsaRule::Cpu;
using Value = VmsaRule::Value;

// What a KVM vCPU has after reset. Source: AMD64 APM volume 2 section 14.1.3 (processor initialization state); Linux
// arch/x86/kvm/svm/svm.c (EFER.SVME, and CR4.MCE where the host has it); QEMU target/i386/cpu.c (x86_cpu_reset).
constexpr auto kvm_common = std::to_array<VmsaRule>({
    {"es.attrib", 0x0093},   {"es.limit", 0xFFFF},
    {"cs.selector", 0xF000}, {"cs.attrib", 0x009B},   {"cs.limit", 0xFFFF},
    {"ss.attrib", 0x0093},   {"ss.limit", 0xFFFF},
    {"ds.attrib", 0x0093},   {"ds.limit", 0xFFFF},
    {"fs.attrib", 0x0093},   {"fs.limit", 0xFFFF},
    {"gs.attrib", 0x0093},   {"gs.limit", 0xFFFF},
    {"gdtr.limit", 0xFFFF},
    {"ldtr.attrib", 0x0082}, {"ldtr.limit", 0xFFFF},
    {"idtr.limit", 0xFFFF},
    {"tr.attrib", 0x008B},   {"tr.limit", 0xFFFF},
    {"efer", 0x1000},        {"cr4", 0x40},           {"cr0", 0x10},
    {"dr7", 0x400},          {"dr6", 0xFFFF0FF0},     {"rflags", 0x2},
    {"g_pat", 0x0007040600070406},
    {"xcr0", 0x1},
    {"sev_features", 0, Cpu::every, Value::features},
    {"rdx", 0, Cpu::every, Value::signature},
    {"cs.base", 0xFFFF0000, Cpu::boot},
    {"rip", 0xFFF0, Cpu::boot},
    {"cs.base", 0, Cpu::others, Value::reset_segment},
    {"rip", 0, Cpu::others, Value::reset_offset},
});

// KVM_SEV_INIT2 sets up the floating-point state before it is measured; the legacy ioctl does not, to keep old measurements valid.
constexpr auto kvm_init2 = std::to_array<VmsaRule>({
    {"mxcsr", 0x1F80},
    {"x87_fcw", 0x037F},
});

constexpr auto ec2 = std::to_array<VmsaRule>({
    {"cs.attrib", 0x009A, Cpu::boot},
    {"ss.attrib", 0x0092},
    {"tr.attrib", 0x0083},
    {"rdx", 0x600},
});

constexpr auto gce = std::to_array<VmsaRule>({
    {"g_pat", 0x00070106},
    {"rdx", 0x600},
});

constexpr auto krun = std::to_array<VmsaRule>({
    {"cs.attrib", 0x009A},
    {"ss.attrib", 0x0092},
    {"tr.attrib", 0x0083},
    {"rsi", 0x7000, Cpu::boot},
    {"rbp", 0x8FF0, Cpu::boot},
    {"rsp", 0x8FF0, Cpu::boot},
    {"cs.selector", 0x9100, Cpu::others},
});
// libkrun's APs do not start where the firmware says, so its common part is KVM's without the reset address.
constexpr auto krun_common = [] {
    auto rules = kvm_common;
    for (VmsaRule& rule : rules) {
        if (rule.value == Value::reset_segment) rule = {"cs.base", 0x91000, Cpu::others};
        if (rule.value == Value::reset_offset) rule = {"rip", 0, Cpu::others};
    }
    return rules;
}();

constexpr auto profiles = std::to_array<VmsaProfile>({
    {.name = "kvm-legacy",
     .version = 1,
     .title = "QEMU/KVM, VM made with KVM_SEV_ES_INIT: Linux before 6.10, or QEMU with legacy-vm-type=on",
     .source = "Linux arch/x86/kvm/svm/sev.c, QEMU target/i386; pages equal those of virtee/sevctl 0.6 and virt-qemu-sev-validate",
     .unverified = "CR4.MCE depends on the host having MCE, as every EPYC has",
     .common = kvm_common,
     .own = {}},
    {.name = "kvm-init2",
     .version = 1,
     .title = "QEMU/KVM, VM made with KVM_SEV_INIT2: Linux 6.10 and later with a QEMU that uses it",
     .source = "Linux arch/x86/kvm/svm/sev.c, QEMU target/i386; pages equal those of sev-snp-measure 0.0.13 for vmm-type QEMU",
     .unverified = "CR4.MCE depends on the host having MCE, as every EPYC has; sev_features is what the VMM asks for: QEMU 0 for "
                   "SEV-ES, others may set bit 5 (DebugSwap)",
     .common = kvm_common,
     .own = kvm_init2},
    {.name = "ec2",
     .version = 1,
     .title = "Amazon EC2",
     .source = "sev-snp-measure 0.0.13, vmm-type ec2 (made for SEV-SNP)",
     .unverified = "nothing was compared with a host; sources disagree on RDX: 0x600 here as in sev-snp-measure, 0 in virtee/sev; SEV-ES "
                   "guests with a launch measurement are not on offer there",
     .common = kvm_common,
     .own = ec2},
    {.name = "gce",
     .version = 1,
     .title = "Google Compute Engine",
     .source = "sev-snp-measure 0.0.13, vmm-type gce (made for SEV-SNP)",
     .unverified = "nothing was compared with a host; SEV-ES guests with a launch measurement are not on offer there",
     .common = kvm_common,
     .own = gce},
    {.name = "krun",
     .version = 1,
     .title = "libkrun",
     .source = "virtee/sevctl 0.6, vmsa build --userspace krun",
     .unverified = "nothing was compared with a host; sources disagree: virtee/sev gives vCPUs other than the first the reset address, no RDX, "
                   "and RSI, RBP "
                   "and RSP of the first vCPU to all",
     .common = krun_common,
     .own = krun},
});

/// Whether a rule of this kind survives the rules after it.
bool uses(const VmsaProfile& profile, Value value) {
    bool used = false;
    std::string_view field; // of the rule that is in force
    for (const std::span<const VmsaRule> rules : {profile.common, profile.own}) {
        for (const VmsaRule& rule : rules) {
            if (rule.value == value) {
                used = true;
                field = rule.field;
            } else if (used && rule.field == field && rule.cpu == Cpu::every) {
                used = false;
            }
        }
    }
    return used;
}

} // namespace

bool VmsaProfile::uses_signature() const noexcept { return uses(*this, Value::signature); }

bool VmsaProfile::uses_reset_address() const noexcept { return uses(*this, Value::reset_segment); }

std::span<const VmsaProfile> vmsa_profiles() { return profiles; }

const VmsaProfile& vmsa_profile(std::string_view name) {
    std::string known;
    for (const VmsaProfile& profile : profiles) {
        if (name == profile.name || name == fmt::format("{}@{}", profile.name, profile.version)) return profile;
        known += fmt::format("{}{}@{}", known.empty() ? "" : ", ", profile.name, profile.version);
    }
    throw Error{Fault::usage, fmt::format("VMSA profile is '{}', want one of {}", printable(name, 40), known)};
}

} // namespace sev::measure
