// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "launch/probe/assess_parts.hpp"

namespace sev::probe {
namespace {

constexpr std::string_view syscfg = "MSR 0xc0010010 (SYSCFG) of CPU 0", hwcr = "MSR 0xc0010015 (HWCR) of CPU 0";
constexpr unsigned smee_bit = 23, smm_lock_bit = 0;

/// One bit of an MSR: plain on bare metal; elsewhere a set bit is what the hypervisor shows, and a clear one proves nothing.
Fact msr_bit(const Evidence& e, const Reading<std::uint64_t>& msr, unsigned bit, std::string_view source, std::string_view what) {
    const bool set = msr.value() && (*msr.value() >> bit & 1) != 0;
    if (e.machine.place == Place::xen_dom0)
        return unknown(fmt::format("what Xen shows dom0 as {} is not the host's: it proves nothing about the BIOS", what));
    if (e.machine.place != Place::bare_metal) {
        if (set) return fact(true, fmt::format("{} is 1 as the hypervisor shows it", what), std::string{source}, Confidence::reported);
        return unknown(fmt::format("a guest cannot see the host's {}", what));
    }
    if (!msr.value()) return unknown(fmt::format("{} could not be read: {}", what, printable(msr.why_not())));
    return fact(set, fmt::format("{} is {}", what, set ? 1 : 0), std::string{source}, Confidence::direct);
}

/// The kernel's own finding, where the register could not be read.
Fact or_kernel(const Evidence& e, Fact from_msr, std::string_view what) {
    if (!from_msr.unknown() || e.machine.place != Place::bare_metal) return from_msr;
    const auto& flags = e.probe.cpu_flags;
    // only the flag's presence says something: newer kernels clear sme when it is not active
    if (flags.value() && (has_word(*flags.value(), "sev") || has_word(*flags.value(), "sme")))
        return fact(true, "the kernel kept the CPU flags that it clears otherwise", "/proc/cpuinfo", Confidence::reported);
    if (log_says(e.probe, "memory encryption not enabled by BIOS"))
        return fact(false, fmt::format("the kernel says that the BIOS did not enable memory encryption ({} not read)", what), "kernel log",
                    Confidence::reported);
    return from_msr;
}

Fact find_smee(const Evidence& e) {
    if (e.machine.leaf.no()) return not_applicable("there is no SME or SEV to enable");
    return or_kernel(e, msr_bit(e, e.probe.msr_syscfg, smee_bit, syscfg, "SYSCFG[23]"), "SYSCFG[23]");
}

Fact find_smm_lock(const Evidence& e) {
    if (e.machine.leaf.no()) return not_applicable("there is no SEV to lock SMM for");
    const Fact out = msr_bit(e, e.probe.msr_hwcr, smm_lock_bit, hwcr, "HWCR[0]");
    if (!out.unknown() || e.machine.place != Place::bare_metal) return out;
    if (e.probe.cpu_flags.value() && has_word(*e.probe.cpu_flags.value(), "sev"))
        return fact(true, "the kernel kept the CPU flag sev, which it clears when SMM is not locked", "/proc/cpuinfo", Confidence::reported);
    return out;
}

/// Three values: on, off, unknown. No CPUID bit and no MSR tells; the PSP may, through Linux's ccp driver.
Fact find_tsme(const Evidence& e) {
    const Machine& m = e.machine;
    if (m.vendor_known && !m.cpu_is_amds()) return not_applicable("TSME is AMD's");
    if (m.place != Place::bare_metal && m.place != Place::xen_dom0) return unknown("a guest cannot see what its host's memory controller does");
    const auto* const devices = e.probe.psp_devices.value();
    bool any_off = false;
    if (devices)
        for (const PspDevice& device : *devices) {
            if (!device.tsme_status.value()) continue;
            if (*device.tsme_status.value() == "1")
                return fact(true, "the PSP reports TSME active", fmt::format("tsme_status of PCI {}", printable(device.address, 16)),
                            Confidence::reported);
            any_off = any_off || *device.tsme_status.value() == "0";
        }
    if (log_says(e.probe, "TSME enabled") || log_says(e.probe, "Both TSME and SME are active"))
        return fact(true, "the kernel says that TSME is active", "kernel log", Confidence::reported);
    if (any_off) return fact(false, "the PSP reports TSME not active", "tsme_status of the PSP's PCI device", Confidence::reported);
    return unknown("no CPUID bit or MSR shows it, and this PSP or kernel offers no tsme_status; that is not the same as off");
}

std::optional<PspReport> find_psp(const Probe& probe) {
    const PlatformAnswer* const answer = probe.platform_status.value();
    if (!answer || answer->status != 0) return std::nullopt;
    // bytes that are no status are the check psp-status's to report
    if (answer->bytes[2] > 2) return std::nullopt;
    return PspReport{.status = psp::PlatformStatus::parse(wire::view(answer->bytes)),
                     .genuine_device = probe.sev_device_kernel_made.value() && *probe.sev_device_kernel_made.value()};
}

Fact find_xen_sev(const Evidence& e) {
    if (e.machine.place != Place::xen_dom0) return not_applicable("not running in Xen's dom0");
    constexpr int no_such_call = 38; // ENOSYS, part of Xen's ABI
    if (e.coco) {
        if (e.coco->is_sev() && e.coco->supported())
            return fact(true, "Xen's coco interface says that SEV is supported", "coco hypercall, op 0", Confidence::reported);
        return fact(false,
                    !e.coco->is_sev()     ? "Xen's coco interface is there, and says that the platform is not AMD SEV"
                    : e.coco->unsafe()    ? "Xen's coco interface is there, and SEV is disabled by policy: Xen calls this platform unsafe"
                                          : "Xen's coco interface is there, and says that SEV is not supported here",
                    "coco hypercall, op 0", Confidence::reported);
    }
    if (e.probe.coco_status.failed_with(no_such_call))
        return fact(false, fmt::format("{} has no interface for SEV guests, as no released Xen has", e.machine.hypervisor),
                    "coco hypercall, op 0: ENOSYS", Confidence::direct);
    return unknown(fmt::format("Xen could not be asked: {}", printable(e.probe.coco_status.why_not())));
}

} // namespace

bool says_yes(const Reading<std::string>& parameter) { return parameter.value() && (*parameter.value() == "Y" || *parameter.value() == "1"); }

std::optional<CocoStatus> coco_status_of(const Probe& probe) {
    const Bytes* const bytes = probe.coco_status.value();
    if (!bytes || bytes->size() != 64) return std::nullopt;
    const wire::View<64> v{bytes->data(), 64};
    return CocoStatus{.platform = wire::le32<0x00>(v), .platform_flags = wire::le32<0x04>(v), .flags = wire::le32<0x08>(v)};
}

Fact Evidence::silicon(bool EncryptionLeaf::*bit, std::string_view what) const {
    if (machine.leaf.unknown()) return machine.leaf;
    if (machine.leaf.no()) return machine.leaf;
    const bool has = (*machine.encryption).*bit;
    // a hypervisor may clear bits; what it shows is the CPU's, or pretended
    if (!has && machine.place != Place::bare_metal && machine.cpuid_confidence != Confidence::direct)
        return unknown(fmt::format("the hypervisor does not show the {} bit, whatever the CPU has", what));
    return fact(has, fmt::format("the {} bit of leaf 0x8000001f is {}", what, has ? 1 : 0), machine.cpuid_source, machine.cpuid_confidence);
}

Evidence gather(const Probe& probe, const Machine& machine) {
    Evidence e{.probe = probe,
               .machine = machine,
               .psp = find_psp(probe),
               .coco = machine.place == Place::xen_dom0 ? coco_status_of(probe) : std::nullopt,
               .smee = {},
               .smm_lock = {},
               .tsme = {},
               .xen_sev = {}};
    e.smee = find_smee(e);
    e.smm_lock = find_smm_lock(e);
    e.tsme = find_tsme(e);
    e.xen_sev = find_xen_sev(e);
    return e;
}

} // namespace sev::probe
