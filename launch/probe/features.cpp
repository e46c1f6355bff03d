// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "launch/probe/assess_parts.hpp"

namespace sev::probe {
namespace {

constexpr unsigned snp_bit = 24;

/// A stage cannot be had when an earlier one is missing.
std::optional<Fact> blocked(const Fact& earlier, std::string_view what) {
    if (earlier.no() || earlier.truth == Truth::not_applicable) return not_applicable(fmt::format("needs {} first", what));
    return std::nullopt;
}

Fact guest_cannot(const Machine& machine) {
    return fact(false, fmt::format("this is a guest of {}; guests are launched on hosts", machine.hypervisor), machine.place_because,
                Confidence::inferred);
}

/// On when every part is; off when any is known to be off; else unknown.
Fact all_of(const Fact& a, const Fact& b) {
    if (a.truth == Truth::not_applicable || a.no()) return a;
    if (b.truth == Truth::not_applicable || b.no()) return b;
    if (a.unknown()) return a;
    if (b.unknown()) return b;
    Fact out = a;
    out.because += "; " + b.because;
    if (b.source != a.source) out.source += "; " + b.source;
    if (b.confidence != a.confidence) out.confidence = Confidence::reported;
    return out;
}

Feature sme(const Evidence& e) {
    Feature out{.name = "SME", .silicon = e.silicon(&EncryptionLeaf::sme, "SME"), .enabled = e.smee, .initialised = {}, .usable = {}};
    if (auto stop = blocked(out.silicon, "SME in silicon")) {
        out.enabled = out.initialised = out.usable = *stop;
        return out;
    }
    const Machine& m = e.machine;
    if (m.place == Place::xen_dom0) {
        out.initialised =
            fact(false, "Xen never sets the C-bit in its page tables, so it makes no use of SME", "Xen's source, 4.17 to 4.22", Confidence::inferred);
    } else if (!m.can_host()) {
        out.initialised = unknown("a guest cannot see whether its host uses SME");
    } else if (kernel_made_active(e.probe, "SME") || log_says(e.probe, "Both TSME and SME are active")) {
        out.initialised = fact(true, "the kernel says that SME is active", "kernel log", Confidence::reported);
    } else if (out.enabled.no()) {
        out.initialised = not_applicable("needs SMEE in the BIOS first");
    } else if (e.probe.kernel_arguments.value() && has_word(*e.probe.kernel_arguments.value(), "mem_encrypt=off")) {
        out.initialised = fact(false, "the kernel was started with mem_encrypt=off", "/proc/cmdline", Confidence::reported);
    } else {
        out.initialised =
            unknown(e.probe.kernel_log.value() ? "no line of the kernel log says that SME is active, and the log may have rolled over"
                                               : fmt::format("the kernel log could not be read: {}", printable(e.probe.kernel_log.why_not())));
    }
    out.usable = out.initialised;
    return out;
}

Feature tsme(const Evidence& e) {
    Feature out{.name = "TSME", .silicon = {}, .enabled = e.tsme, .initialised = e.tsme, .usable = e.tsme};
    if (e.tsme.truth == Truth::not_applicable)
        out.silicon = fact(false, e.tsme.because, e.machine.cpuid_source, e.machine.cpuid_confidence);
    else if (e.tsme.unknown())
        out.silicon = unknown("there is no CPUID bit for TSME");
    else
        out.silicon = fact(true, "the PSP reports a state of it", e.tsme.source, Confidence::reported);
    return out;
}

/// What the PSP said: INIT or WORKING.
Fact psp_initialised(const Evidence& e) {
    if (e.psp) {
        const bool ready = e.psp->status.state != psp::PlatformState::uninit;
        return fact(ready, fmt::format("the platform is in state {}", psp::name(e.psp->status.state)), "/dev/sev, PLATFORM_STATUS",
                    e.machine.place == Place::bare_metal && e.psp->genuine_device ? Confidence::direct : Confidence::reported);
    }
    if (e.machine.place == Place::xen_dom0) {
        if (e.xen_sev.yes()) return e.xen_sev;
        return unknown("under Xen dom0 cannot ask the PSP: there is no /dev/sev, and Xen offers no way");
    }
    if (log_says(e.probe, "SEV: failed to INIT"))
        return fact(false, "the kernel says that the INIT command failed", "kernel log", Confidence::reported);
    if (log_says(e.probe, "SEV API:"))
        return fact(true, "the kernel says which SEV API the PSP has, after its INIT", "kernel log", Confidence::reported);
    if (e.probe.sev_device_read.failed_with(2))
        return fact(false, "there is no /dev/sev: the kernel's ccp driver did not set SEV up", "/dev/sev: ENOENT", Confidence::reported);
    return unknown(fmt::format("the PSP could not be asked: {}", printable(e.probe.platform_status.why_not())));
}

/// Whether guests of a kind can be launched now, by KVM on Linux or by Xen.
Fact usable(const Evidence& e, const Feature& f, const Reading<std::string>& parameter, std::string_view parameter_name, const Fact& by_xen) {
    if (e.machine.place == Place::xen_dom0) return by_xen;
    if (!e.machine.can_host() && !e.psp) return guest_cannot(e.machine);
    const std::string source = fmt::format("/sys/module/kvm_amd/parameters/{}", parameter_name);
    if (!parameter.value())
        return fact(false, fmt::format("kvm_amd does not offer it ({}), and Linux launches guests by nothing else", printable(parameter.why_not())),
                    source, Confidence::reported);
    if (!says_yes(parameter))
        return fact(false, fmt::format("kvm_amd has {}={}", parameter_name, printable(*parameter.value(), 8)), source, Confidence::reported);
    if (!f.initialised.yes()) return unknown(fmt::format("kvm_amd has {}=Y, but: {}", parameter_name, f.initialised.because));
    return fact(true, fmt::format("kvm_amd has {}=Y: by KVM, not by Xen", parameter_name), source, Confidence::reported);
}

/// What a guest is shown does not count its host's ASIDs.
bool counts_asids(const Evidence& e) { return e.machine.encryption && (e.machine.can_host() || e.psp); }

Fact asids_left(const Evidence& e, bool es) {
    const EncryptionLeaf& leaf = *e.machine.encryption;
    const std::uint32_t count = es ? leaf.es_asids() : leaf.sev_asids();
    return fact(count != 0, fmt::format("{} {} ASIDs (lowest SEV ASID {}, highest {})", count, es ? "SEV-ES" : "SEV", leaf.min_sev_asid, leaf.asids),
                e.machine.cpuid_source, e.machine.cpuid_confidence);
}

Feature sev(const Evidence& e) {
    Feature out{.name = "SEV", .silicon = e.silicon(&EncryptionLeaf::sev, "SEV"), .enabled = {}, .initialised = {}, .usable = {}};
    if (auto stop = blocked(out.silicon, "SEV in silicon")) {
        out.enabled = out.initialised = out.usable = *stop;
        return out;
    }
    out.enabled = all_of(e.smee, e.smm_lock);
    if (!out.enabled.no() && counts_asids(e) && asids_left(e, false).no()) out.enabled = asids_left(e, false);
    if (!e.machine.can_host() && !e.psp) {
        out.initialised = unknown("a guest cannot ask its host's PSP");
        out.usable = guest_cannot(e.machine);
        return out;
    }
    out.initialised = psp_initialised(e);
    out.usable = out.enabled.no() ? fact(false, out.enabled.because, out.enabled.source, out.enabled.confidence)
                                  : usable(e, out, e.probe.kvm_sev, "sev", e.xen_sev);
    return out;
}

Feature sev_es(const Evidence& e, const Feature& plain) {
    Feature out{.name = "SEV-ES", .silicon = e.silicon(&EncryptionLeaf::sev_es, "SEV-ES"), .enabled = {}, .initialised = {}, .usable = {}};
    if (auto stop = blocked(out.silicon, "SEV-ES in silicon")) {
        out.enabled = out.initialised = out.usable = *stop;
        return out;
    }
    out.enabled = all_of(e.smee, e.smm_lock);
    if (!out.enabled.no() && counts_asids(e) && asids_left(e, true).no()) out.enabled = asids_left(e, true);
    out.initialised = plain.initialised;
    if (e.psp && out.initialised.yes()) {
        const bool es = e.psp->status.es_configured;
        out.initialised = fact(es, es ? "the platform was initialised for SEV-ES" : "the platform was initialised without SEV-ES",
                               "/dev/sev, PLATFORM_STATUS", out.initialised.confidence);
    }
    Fact by_xen = e.xen_sev;
    if (e.coco && e.xen_sev.yes())
        by_xen = fact(e.coco->es(), e.coco->es() ? "Xen's coco interface offers SEV-ES" : "Xen's coco interface does not offer SEV-ES",
                      "coco hypercall, op 0", Confidence::reported);
    if (e.machine.place == Place::xen_dom0 && e.xen_sev.yes()) out.initialised = by_xen;
    out.usable = out.enabled.no() ? fact(false, out.enabled.because, out.enabled.source, out.enabled.confidence)
                                  : usable(e, out, e.probe.kvm_sev_es, "sev_es", by_xen);
    return out;
}

Feature snp(const Evidence& e) {
    Feature out{.name = "SEV-SNP", .silicon = e.silicon(&EncryptionLeaf::snp, "SEV-SNP"), .enabled = {}, .initialised = {}, .usable = {}};
    if (auto stop = blocked(out.silicon, "SEV-SNP in silicon")) {
        out.enabled = out.initialised = out.usable = *stop;
        return out;
    }
    if (e.machine.place == Place::xen_dom0)
        out.enabled = unknown("Xen shows dom0 a masked SYSCFG in which bit 24 reads 0");
    else if (e.machine.place != Place::bare_metal)
        out.enabled = unknown("a guest cannot see the host's SYSCFG");
    else if (!e.probe.msr_syscfg.value())
        out.enabled = says_yes(e.probe.kvm_sev_snp)
                          ? fact(true, "kvm_amd has sev_snp=Y", "/sys/module/kvm_amd/parameters/sev_snp", Confidence::reported)
                          : unknown(fmt::format("SYSCFG[24] could not be read: {}", printable(e.probe.msr_syscfg.why_not())));
    else {
        const bool on = (*e.probe.msr_syscfg.value() >> snp_bit & 1) != 0;
        out.enabled = fact(on, on ? "SYSCFG[24] is 1" : "SYSCFG[24] is 0: no kernel that supports SNP found an RMP reserved by the BIOS",
                           "MSR 0xc0010010 (SYSCFG) of CPU 0", Confidence::direct);
    }
    if (e.machine.place == Place::xen_dom0) {
        const bool offered = e.coco && e.xen_sev.yes() && e.coco->snp();
        out.usable = offered           ? fact(true, "Xen's coco interface offers SEV-SNP", "coco hypercall, op 0", Confidence::reported)
                     : e.xen_sev.yes() ? fact(false, "Xen's coco interface does not offer SEV-SNP", "coco hypercall, op 0", Confidence::reported)
                                       : e.xen_sev;
        out.initialised = offered ? out.usable : unknown("under Xen dom0 cannot ask the PSP");
        return out;
    }
    if (auto stop = blocked(out.enabled, "SYSCFG[24]")) {
        out.initialised = out.usable = *stop;
        return out;
    }
    out.initialised = says_yes(e.probe.kvm_sev_snp) ? fact(true, "kvm_amd has sev_snp=Y, which it has only after SNP was initialised",
                                                           "/sys/module/kvm_amd/parameters/sev_snp", Confidence::reported)
                                                    : unknown("xen-sev does not ask the PSP about SNP, which it does not launch");
    out.usable = usable(e, out, e.probe.kvm_sev_snp, "sev_snp", e.xen_sev);
    return out;
}

} // namespace

std::array<Feature, 5> assess_features(const Evidence& evidence) {
    Feature plain = sev(evidence);
    Feature es = sev_es(evidence, plain);
    return {sme(evidence), tsme(evidence), std::move(plain), std::move(es), snp(evidence)};
}

std::string_view Feature::state() const {
    if (name == "TSME") return silicon.no() ? "absent" : usable.yes() ? "on" : usable.no() ? "off" : "unknown";
    if (silicon.no()) return "absent";
    if (usable.yes()) return "usable now";
    if (silicon.unknown()) return "unknown";
    // a later stage shows more than an earlier one that cannot be seen
    if (initialised.yes() && !enabled.no()) return "initialised";
    if (enabled.yes()) return "firmware-enabled";
    return "in silicon";
}

const Fact& Feature::deciding() const {
    if (name == "TSME") return usable;
    if (usable.yes()) return usable;
    for (const Fact* const stage : {&silicon, &enabled, &initialised})
        if (stage->no()) return *stage;
    if (usable.no()) return usable;
    for (const Fact* const stage : {&silicon, &enabled, &initialised})
        if (!stage->yes()) return *stage;
    return usable;
}

} // namespace sev::probe
