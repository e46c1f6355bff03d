// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cerrno>

#include <fmt/format.h>

#include "base/error.hpp"
#include "launch/probe/assess_parts.hpp"
#include "psp/status.hpp"

namespace sev::probe {
namespace {

constexpr std::array table{
    CheckInfo{"host-place", "status runs on the host, not inside a guest", "run it on the host: in dom0, or on Linux on the bare machine"},
    CheckInfo{"host-privileges", "every reader was allowed to read", "run it as root"},
    CheckInfo{"host-msr", "the CPU's MSRs can be read", "modprobe msr, then run it again"},
    CheckInfo{"cpu-vendor", "the CPU is AMD's", "SME and SEV are AMD's: this host can do the guest owner's work only"},
    CheckInfo{"cpuid-leaf", "CPUID leaf 0x8000001f exists", "none on this CPU: it is older than memory encryption"},
    CheckInfo{"cpuid-agreement", "all sources of CPUID say the same", "report it with sevctl probe: a source of CPUID is being filtered"},
    CheckInfo{"silicon-sme", "the CPU has SME", "none on this CPU"},
    CheckInfo{"silicon-sev", "the CPU has SEV", "none on this CPU: SEV needs an EPYC with it"},
    CheckInfo{"silicon-sev-es", "the CPU has SEV-ES", "none on this CPU: choose policies without ES"},
    CheckInfo{"silicon-sev-snp", "the CPU has SEV-SNP", "none on this CPU; xen-sev launches SEV and SEV-ES only"},
    CheckInfo{"bios-smee", "the BIOS enabled memory encryption (SMEE)", "set 'SMEE' (Secure Memory Encryption) to enabled in the BIOS"},
    CheckInfo{"bios-smm-lock", "the BIOS locked SMM", "update the BIOS; look for 'SMM Lock'"},
    CheckInfo{"bios-sev-asids", "there are ASIDs for guests without SEV-ES",
              "lower 'SEV-ES ASID Space Limit' in the BIOS, or use SEV-ES policies only"},
    CheckInfo{"bios-sev-es-asids", "there are ASIDs for SEV-ES guests", "set 'SEV-ES ASID Space Limit' in the BIOS above 1"},
    CheckInfo{"bios-snp", "SEV-SNP is enabled", "set 'SEV-SNP Support' and RMP coverage in the BIOS; xen-sev does not use SNP"},
    CheckInfo{"psp-driver", "the ccp driver has bound the PSP", "modprobe ccp; if no device appears, look for the PSP in the BIOS"},
    CheckInfo{"psp-device", "/dev/sev exists", "see the kernel log: dmesg | grep -iE 'ccp|sev'"},
    CheckInfo{"psp-access", "/dev/sev may be opened", "run it as root"},
    CheckInfo{"psp-genuine", "/dev/sev was made by the kernel's own driver",
              "none if the emulation is wanted; else stop the program that provides it"},
    CheckInfo{"psp-status", "the PSP answers PLATFORM_STATUS", "power the machine off and on; then update BIOS or SEV firmware"},
    CheckInfo{"psp-initialised", "the PSP's SEV firmware is initialised", "load ccp with its defaults (psp_init_on_probe=1), or modprobe kvm_amd"},
    CheckInfo{"psp-sev-es", "the PSP was initialised for SEV-ES", "see the kernel log: the driver could not reserve its memory for SEV-ES"},
    CheckInfo{"kvm-device", "/dev/kvm answers", "modprobe kvm_amd; enable SVM in the BIOS. Not needed under Xen"},
    CheckInfo{"kvm-sev", "kvm_amd offers SEV", "modprobe kvm_amd sev=1. Not needed under Xen"},
    CheckInfo{"kvm-sev-es", "kvm_amd offers SEV-ES", "modprobe kvm_amd sev_es=1. Not needed under Xen"},
    CheckInfo{"kvm-sev-snp", "kvm_amd offers SEV-SNP", "see bios-snp; xen-sev does not use SNP"},
    CheckInfo{"xen-version", "Xen is 4.17 or newer", "update Xen to 4.17 or newer"},
    CheckInfo{"xen-control", "Xen's control interface can be used", "run it as root in dom0, with the helper module for this Xen release installed"},
    CheckInfo{"xen-coco", "Xen has an interface for SEV guests", "none with a released Xen; guests can be measured in software (L1)"},
    CheckInfo{"xen-sev", "Xen says that SEV is supported", "see xl dmesg for why Xen declined"},
    CheckInfo{"xen-attestation", "Xen gives evidence and takes secrets", "use a Xen with the attestation operations"},
    CheckInfo{"xen-sev-es", "Xen offers SEV-ES", "choose policies without ES, or a Xen that offers it"},
    CheckInfo{"toolstack-coco", "libxl can ask for a SEV guest", "use the toolstack that belongs to the Xen with SEV"},
    CheckInfo{"guest-kernel", "the guest's kernel can run under SEV on Xen", "use a guest kernel made for it"},
};

class Checks {
public:
    Checks(const Evidence& evidence, const std::array<Feature, 5>& features)
        : e_{evidence}, m_{evidence.machine}, sme_{features[0]}, sev_{features[2]}, es_{features[3]}, snp_{features[4]} {
        host();
        silicon();
        bios();
        psp();
        kvm();
        xen();
    }
    std::vector<CheckResult> take() && { return std::move(results_); }

private:
    void add(std::string_view id, Fact fact, bool expected = true, std::string remedy = {}) {
        const CheckInfo* const info = find_check(id);
        require(info && (results_.empty() || results_.back().info < info), "checks are made in the order of their table");
        results_.push_back({info, std::move(fact), expected, remedy.empty() ? std::string{info->remedy} : std::move(remedy)});
    }
    bool dom0() const { return m_.place == Place::xen_dom0; }
    bool linux_host() const { return m_.place == Place::bare_metal || (m_.place == Place::virtual_machine && e_.psp); }
    Fact needs(const Fact& earlier, std::string_view what, Fact then) const {
        if (earlier.no() || earlier.truth == Truth::not_applicable) return not_applicable(fmt::format("needs {}", what));
        return then;
    }

    void host() {
        const Probe& p = e_.probe;
        if (m_.place == Place::unknown)
            add("host-place", unknown(m_.place_because));
        else if (m_.can_host())
            add("host-place", fact(true, std::string{name(m_.place)}, m_.place_because, Confidence::direct));
        else
            add("host-place", fact(false, fmt::format("this is a guest of {}", m_.hypervisor), m_.place_because, Confidence::direct));

        std::string refused;
        each_reading(p, [&](std::string_view reading, const auto& outcome) {
            if (outcome.failed_with(EACCES) || outcome.failed_with(EPERM)) refused += fmt::format("{}{}", refused.empty() ? "" : ", ", reading);
        });
        const bool root = p.user_id.value() && *p.user_id.value() == 0;
        // root is refused too, by lockdown or in a container; then being root is no remedy
        add("host-privileges",
            fact(refused.empty(), refused.empty() ? "nothing was refused" : fmt::format("refused{}: {}", root ? " even to root" : "", refused),
                 "the readers' errors", Confidence::direct),
            true, root ? "lift the kernel's lockdown or leave the container" : "");

        if (m_.place != Place::bare_metal || !m_.leaf.yes())
            add("host-msr", not_applicable("no MSR would say anything here"));
        else if (p.msr_syscfg.failed_with(ENOENT))
            add("host-msr", fact(false, "there is no /dev/cpu/0/msr", "/dev/cpu/0/msr: ENOENT", Confidence::direct));
        else if (p.msr_syscfg.value())
            add("host-msr", fact(true, "SYSCFG was read", "/dev/cpu/0/msr", Confidence::direct));
        else
            add("host-msr", unknown(printable(p.msr_syscfg.why_not())), true,
                p.msr_syscfg.failed_with(EACCES) || p.msr_syscfg.failed_with(EPERM) ? "run it as root" : "");
    }

    Fact agreement() const {
        const auto* const instruction = e_.probe.cpuid_instruction.value();
        const auto* const other = dom0() ? e_.probe.cpuid_xen_raw.value() : e_.probe.cpuid_device.value();
        if (!instruction || !other) return not_applicable("there is one source only");
        const auto ours = instruction->find(leaf_encryption), theirs = other->find(leaf_encryption);
        // Xen may hide the leaf from dom0; that is known, and no disagreement
        if (dom0() && (!ours || (ours->eax == 0 && ours->ebx == 0))) return not_applicable("Xen hides the leaf from dom0's instruction");
        const auto same = [](const CpuidLeaf& a, const CpuidLeaf& b) { return a.eax == b.eax && a.ebx == b.ebx && a.ecx == b.ecx && a.edx == b.edx; };
        const bool agree = ours.has_value() == theirs.has_value() && (!ours || same(*ours, *theirs));
        return fact(agree, agree ? "two sources give the same leaf 0x8000001f" : "two sources give a different leaf 0x8000001f",
                    dom0() ? "CPUID instruction, Xen's raw CPU policy" : "CPUID instruction, /dev/cpu/0/cpuid", Confidence::direct);
    }

    void silicon() {
        if (!m_.vendor_known)
            add("cpu-vendor", unknown("CPUID does not give the vendor"));
        else
            add("cpu-vendor",
                fact(m_.amd,
                     m_.hygon ? "the CPU is Hygon's, whose CSV has other keys and certificates" : fmt::format("the CPU's vendor is {}", m_.vendor),
                     m_.cpuid_source, m_.cpuid_confidence),
                true, m_.hygon ? "none: xen-sev neither launches nor verifies CSV guests" : "");
        add("cpuid-leaf", m_.vendor_known && !m_.cpu_is_amds() ? not_applicable("the CPU is not AMD's") : m_.leaf);
        add("cpuid-agreement", m_.vendor_known && !m_.cpu_is_amds() ? not_applicable("the CPU is not AMD's") : agreement());
        const auto bit = [&](const Fact& silicon) { return m_.leaf.no() ? not_applicable("there is no leaf 0x8000001f") : silicon; };
        add("silicon-sme", bit(sme_.silicon));
        add("silicon-sev", bit(sev_.silicon));
        // a CPU of before ES or SNP is no faulty one
        add("silicon-sev-es", needs(sev_.silicon, "SEV", bit(es_.silicon)), false);
        add("silicon-sev-snp", needs(sev_.silicon, "SEV", bit(snp_.silicon)), false);
    }

    void bios() {
        add("bios-smee", needs(m_.leaf, "CPUID leaf 0x8000001f", e_.smee));
        add("bios-smm-lock", needs(sev_.silicon, "SEV", e_.smm_lock));
        const bool known = m_.encryption && sev_.silicon.yes();
        const auto asids = [&](bool es) {
            const std::uint32_t count = es ? m_.encryption->es_asids() : m_.encryption->sev_asids();
            return fact(count != 0,
                        fmt::format("{} {} ASIDs: the lowest SEV ASID is {} of {}", count, es ? "SEV-ES" : "SEV", m_.encryption->min_sev_asid,
                                    m_.encryption->asids),
                        m_.cpuid_source, m_.cpuid_confidence);
        };
        const bool guest = !m_.can_host() && !e_.psp;
        const Fact no_count = guest ? not_applicable("a guest's CPUID does not count its host's ASIDs") : unknown("leaf 0x8000001f is not known");
        add("bios-sev-asids", needs(sev_.silicon, "SEV", known && !guest ? asids(false) : no_count));
        add("bios-sev-es-asids", needs(es_.silicon, "SEV-ES", known && !guest ? asids(true) : no_count));
        add("bios-snp", needs(snp_.silicon, "SEV-SNP", snp_.enabled), false);
    }

    void psp() {
        const Probe& p = e_.probe;
        if (dom0()) {
            for (const std::string_view id : {"psp-driver", "psp-device", "psp-access", "psp-genuine"})
                add(id, not_applicable("under Xen the PSP is not dom0's"));
            const Fact asked = needs(sev_.silicon, "SEV", e_.xen_sev.yes() ? e_.xen_sev : unknown("dom0 cannot ask the PSP, and Xen offers no way"));
            add("psp-status", asked, true, "boot Linux on the bare machine once and run sevctl status there");
            add("psp-initialised", asked, true, "boot Linux on the bare machine once and run sevctl status there");
            add("psp-sev-es", not_applicable("xen-sev-es says it"));
            return;
        }
        if (!linux_host() || sev_.silicon.no()) {
            for (const std::string_view id : {"psp-driver", "psp-device", "psp-access", "psp-genuine", "psp-status", "psp-initialised", "psp-sev-es"})
                add(id, not_applicable(m_.leaf.no() || sev_.silicon.no() ? "the CPU has no SEV" : "this is no host"));
            return;
        }
        const auto* const devices = p.psp_devices.value();
        if (!devices)
            add("psp-driver", e_.psp ? not_applicable("/dev/sev answers")
                                     : unknown(fmt::format("the PCI devices could not be listed: {}", printable(p.psp_devices.why_not()))));
        else {
            const bool bound = std::ranges::any_of(*devices, [](const PspDevice& one) { return one.driver == "ccp"; });
            add("psp-driver", e_.psp && !bound
                                  ? not_applicable("/dev/sev answers")
                                  : fact(bound,
                                         bound ? "ccp has bound a device"
                                               : fmt::format("{} AMD encryption controllers on the PCI bus, none bound by ccp", devices->size()),
                                         "/sys/bus/pci/devices", Confidence::direct));
        }
        const bool absent = p.sev_device_read.failed_with(ENOENT) || p.sev_device_read.failed_with(ENODEV) || p.sev_device_read.failed_with(ENXIO);
        const Fact device = p.sev_device_read.not_tried() ? unknown(printable(p.sev_device_read.why_not()))
                          : fact(!absent, absent ? "there is no /dev/sev" : "/dev/sev is there", "/dev/sev", Confidence::direct);
        add("psp-device", device, true, device.no() ? absent_remedy() : "");
        const bool opens = p.sev_device_read.value() != nullptr;
        const Fact access =
            needs(device, "/dev/sev", fact(opens, opens ? "/dev/sev opens" : printable(p.sev_device_read.why_not()), "/dev/sev", Confidence::direct));
        add("psp-access", access);
        add("psp-genuine",
            needs(access, "/dev/sev",
                  !p.sev_device_kernel_made.value()
                      ? unknown(printable(p.sev_device_kernel_made.why_not()))
                      : fact(*p.sev_device_kernel_made.value(),
                             *p.sev_device_kernel_made.value() ? "/sys/class/misc/sev is there" : "there is no /sys/class/misc/sev: an emulated PSP",
                             "/sys/class/misc/sev", Confidence::direct)));
        add("psp-status", needs(access, "/dev/sev", status()));
        const Fact answered = fact(e_.psp.has_value(), "", "", Confidence::direct);
        add("psp-initialised", needs(answered, "PLATFORM_STATUS", sev_.initialised));
        add("psp-sev-es",
            needs(answered, "PLATFORM_STATUS", needs(sev_.initialised, "an initialised PSP", needs(es_.silicon, "SEV-ES", es_.initialised))));
    }

    Fact status() const {
        const PlatformAnswer* const answer = e_.probe.platform_status.value();
        if (e_.psp) return fact(true, fmt::format("SEV API {}", e_.psp->status.build.text()), "/dev/sev, PLATFORM_STATUS", Confidence::direct);
        if (!answer)
            return fact(false, fmt::format("PLATFORM_STATUS failed: {}", printable(e_.probe.platform_status.why_not())), "/dev/sev",
                        Confidence::direct);
        if (answer->status != 0)
            return fact(false, fmt::format("PLATFORM_STATUS: {}", psp::text(static_cast<psp::Status>(answer->status))), "/dev/sev",
                        Confidence::direct);
        return fact(false, fmt::format("PLATFORM_STATUS: 02h STATE is {}, want 0..2", answer->bytes[2]), "/dev/sev", Confidence::direct);
    }

    /// Why the kernel did not make /dev/sev, as far as the other facts tell.
    std::string absent_remedy() const {
        if (e_.smee.no()) return "see bios-smee";
        if (e_.smm_lock.no()) return "see bios-smm-lock";
        if (const auto* const devices = e_.probe.psp_devices.value();
            devices && std::ranges::none_of(*devices, [](const PspDevice& one) { return one.driver == "ccp"; }))
            return "see psp-driver";
        if (e_.probe.psp_devices.value()) return "none if this PSP's firmware has no SEV, as in Ryzen; else see the kernel log for ccp and SEV";
        return {};
    }

    void kvm() {
        const Probe& p = e_.probe;
        if (!linux_host() || sev_.silicon.no()) {
            for (const std::string_view id : {"kvm-device", "kvm-sev", "kvm-sev-es", "kvm-sev-snp"})
                add(id, not_applicable(dom0() ? "Xen runs the guests here" : sev_.silicon.no() ? "the CPU has no SEV" : "this is no host"));
            return;
        }
        add("kvm-device",
            fact(p.kvm_api.value() != nullptr, p.kvm_api.value() ? fmt::format("API version {}", *p.kvm_api.value()) : printable(p.kvm_api.why_not()),
                 "/dev/kvm", Confidence::direct));
        const auto parameter = [&](const Reading<std::string>& reading) {
            return fact(says_yes(reading),
                        reading.value() ? fmt::format("the parameter is {}", printable(*reading.value(), 8)) : printable(reading.why_not()),
                        "/sys/module/kvm_amd/parameters", Confidence::reported);
        };
        const bool no_device = p.sev_device_read.failed_with(ENOENT);
        add("kvm-sev", parameter(p.kvm_sev), true, no_device ? "see psp-device" : "");
        const bool no_asids = m_.encryption && m_.encryption->es_asids() == 0;
        add("kvm-sev-es", needs(es_.silicon, "SEV-ES", parameter(p.kvm_sev_es)), true,
            no_device  ? "see psp-device"
            : no_asids ? "see bios-sev-es-asids"
                       : "");
        add("kvm-sev-snp", needs(snp_.silicon, "SEV-SNP", parameter(p.kvm_sev_snp)), false);
    }

    void xen() {
        const Probe& p = e_.probe;
        if (!dom0()) {
            for (const std::string_view id :
                 {"xen-version", "xen-control", "xen-coco", "xen-sev", "xen-attestation", "xen-sev-es", "toolstack-coco", "guest-kernel"})
                add(id, not_applicable("not running in Xen's dom0"));
            return;
        }
        const auto release = p.xen_version.value() ? xen_release(*p.xen_version.value()) : std::nullopt;
        add("xen-version", !release ? unknown(fmt::format("Xen's version could not be read: {}",
                                                          printable(p.xen_version.value() ? *p.xen_version.value() : p.xen_version.why_not())))
                                    : fact(*release >= XenRelease{4, 17}, m_.hypervisor, "/sys/hypervisor/version", Confidence::direct));
        add("xen-control", p.xen_control.value() ? fact(true, "libxenctrl opened", "libxenctrl", Confidence::direct)
                                                 : fact(false, printable(p.xen_module.value() ? p.xen_control.why_not() : p.xen_module.why_not()),
                                                        "libxenctrl", Confidence::direct));
        const Fact there = e_.coco ? fact(true, "the coco hypercall answers", "coco hypercall, op 0", Confidence::direct) : e_.xen_sev;
        add("xen-coco", there);
        const Fact sev = needs(there, "the coco interface", e_.xen_sev);
        add("xen-sev", sev);
        add("xen-attestation", needs(sev, "SEV in Xen",
                                     p.coco_certificates.value()     ? fact(true, "op 3 answers", "coco hypercall, op 3", Confidence::direct)
                                     : p.coco_certificates.failure() ? fact(false, fmt::format("op 3: {}", printable(p.coco_certificates.why_not())),
                                                                            "coco hypercall, op 3", Confidence::direct)
                                                                     : unknown(printable(p.coco_certificates.why_not()))));
        add("xen-sev-es",
            needs(sev, "SEV in Xen",
                  e_.coco ? fact(e_.coco->es(), e_.coco->es() ? "offered" : "not offered", "coco hypercall, op 0", Confidence::reported) : sev));
        add("toolstack-coco",
            needs(there, "the coco interface",
                  p.xen_toolstack_coco.value()
                      ? fact(*p.xen_toolstack_coco.value(), *p.xen_toolstack_coco.value() ? "libxl has the setting" : "libxl has no such setting",
                             "libxl's header", Confidence::reported)
                      : unknown(printable(p.xen_toolstack_coco.why_not()))));
        add("guest-kernel", needs(there, "the coco interface", unknown("it depends on each guest")));
    }

    const Evidence& e_;
    const Machine& m_;
    const Feature &sme_, &sev_, &es_, &snp_;
    std::vector<CheckResult> results_;
};

} // namespace

std::span<const CheckInfo> all_checks() { return table; }

const CheckInfo* find_check(std::string_view id) {
    const auto found = std::ranges::find(table, id, &CheckInfo::id);
    return found == table.end() ? nullptr : &*found;
}

std::vector<CheckResult> assess_checks(const Evidence& evidence, const std::array<Feature, 5>& features) {
    auto out = Checks{evidence, features}.take();
    require(out.size() == table.size(), "every check has a result");
    return out;
}

} // namespace sev::probe
