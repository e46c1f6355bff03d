// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "launch/probe/columns.hpp"
#include "launch/probe/report.hpp"

namespace sev::probe {
namespace {

constexpr std::size_t label = 9;

std::string or_unknown(const Reading<std::string>& reading) {
    return reading.value() && !reading.value()->empty() ? plain(*reading.value()) : std::string{"unknown"};
}

std::string system_line(const Probe& probe, const Machine& m) {
    std::string out = fmt::format("Linux {}", or_unknown(probe.kernel_release));
    switch (m.place) {
    case Place::bare_metal: return out + " on bare metal";
    case Place::xen_dom0:
        return out + fmt::format(" in the {}dom0 of {}", m.dom0 == Dom0Kind::pv ? "PV " : m.dom0 == Dom0Kind::pvh ? "PVH " : "", plain(m.hypervisor));
    case Place::xen_guest: return out + fmt::format(" in a guest of {}", plain(m.hypervisor));
    case Place::virtual_machine: return out + fmt::format(" in a virtual machine of {}", plain(m.hypervisor));
    case Place::unknown: break;
    }
    return out + fmt::format("; where it runs is unknown: {}", m.place_because);
}

std::string cpu_line(const Probe& probe, const Machine& m) {
    std::string out = m.brand.empty() ? "unnamed CPU" : plain(m.brand);
    if (m.vendor_known && !m.amd) out += fmt::format(" ({})", plain(m.vendor));
    return out + fmt::format(", microcode {}", or_unknown(probe.cpu_microcode));
}

std::string board_line(const Probe& probe) {
    const bool board = probe.dmi_board_name.value() != nullptr;
    if (!board && !probe.dmi_product_name.value()) return fmt::format("unknown: no DMI data: {}", probe.dmi_board_name.why_not());
    return fmt::format("{} {}, BIOS {} of {}", or_unknown(board ? probe.dmi_board_vendor : probe.dmi_system_vendor),
                       or_unknown(board ? probe.dmi_board_name : probe.dmi_product_name), or_unknown(probe.dmi_bios_version),
                       or_unknown(probe.dmi_bios_date));
}

std::string psp_line(const PspReport& psp) {
    const psp::PlatformStatus& s = psp.status;
    return fmt::format("{}API {}.{} build {}, state {}, {} owned, {} guest{}, SEV-ES {}", psp.genuine_device ? "" : "EMULATED: ", s.build.major,
                       s.build.minor, s.build.build, psp::name(s.state), s.externally_owned ? "externally" : "self", s.guest_count,
                       s.guest_count == 1 ? "" : "s", s.es_configured ? "on" : "off");
}

/// "[kernel log; reported]"; nothing for what nobody said.
std::string cited(const Fact& fact) {
    if (fact.source.empty()) return fact.because;
    return fmt::format("{} [{}; {}]", fact.because, fact.source, name(fact.confidence));
}

std::string_view cell(const Fact& fact) { return fact.truth == Truth::not_applicable ? "-" : name(fact.truth); }

void render_features(std::string& out, const Report& report, bool explain) {
    out += fmt::format("\n{:<9}{:<12}{:<10}{:<14}{:<12}{}\n", "", "in silicon", "by BIOS", "initialised", "usable now", "so it is");
    for (const Feature& f : report.features)
        out += fmt::format("{:<9}{:<12}{:<10}{:<14}{:<12}{}\n", f.name, cell(f.silicon), cell(f.enabled), cell(f.initialised), cell(f.usable),
                           f.state());
    out += "\n";
    for (const Feature& f : report.features) {
        if (!explain) {
            out += labelled(f.name, cited(f.deciding()), label);
            continue;
        }
        for (const auto& [stage, fact] :
             {std::pair{"in silicon", &f.silicon}, {"by BIOS", &f.enabled}, {"initialised", &f.initialised}, {"usable now", &f.usable}})
            out += labelled(stage == std::string_view{"in silicon"} ? f.name : "", fmt::format("{}: {}: {}", stage, name(fact->truth), cited(*fact)),
                            label);
    }
}

void render_layers(std::string& out, const Report& report) {
    std::string unknown_before;
    const LayerResult* const missing = report.first_missing();
    for (const LayerResult& one : report.layers) {
        if (&one == missing) break;
        if (one.fact.unknown()) unknown_before += fmt::format("{}{}", unknown_before.empty() ? "" : ", ", name(one.layer));
    }
    std::string text = missing ? fmt::format("first missing layer: {}: {}", name(missing->layer), missing->fact.because)
                               : std::string{"no layer is known to be missing"};
    if (!unknown_before.empty()) text += fmt::format(" (not known from here: {})", unknown_before);
    out += labelled("Missing", text, label);
}

void render_checks(std::string& out, const Report& report, bool explain) {
    std::string unknown;
    std::size_t passed = 0, failed = 0;
    for (const CheckResult& one : report.checks) {
        passed += one.fact.yes() ? 1 : 0;
        if (one.fact.unknown()) unknown += fmt::format("{}{}", unknown.empty() ? "" : ", ", one.info->id);
        if (!one.fact.no() || (!one.expected && !explain)) continue;
        if (failed++ == 0) out += "\n";
        out += labelled("FAIL", fmt::format("{}: {}", one.info->id, one.fact.because), 6);
        out += labelled("", fmt::format("do: {}", one.remedy), 6);
        if (explain) out += labelled("", fmt::format("see: docs/checks/{}.md", one.info->id), 6);
    }
    out += "\n" + labelled("Checks",
                           fmt::format("{} passed, {} failed{}{}", passed, failed, unknown.empty() ? "" : "; not known from here: ", unknown), label);
    if (failed != 0 && !explain) out += labelled("", "each FAIL has its page: docs/checks/<id>.md", label);
    if (!explain) return;
    for (const CheckResult& one : report.checks)
        if (one.fact.unknown()) out += labelled("?", fmt::format("{}: {}", one.info->id, one.fact.because), 6);
}

} // namespace

std::string_view sme_versus_tsme() {
    return "SME and TSME both let the memory controller encipher what lies in the DRAM chips, with one key that the PSP makes at boot. With SME the "
           "operating "
           "system or hypervisor picks the pages, by the C-bit in its page tables; Linux can, Xen never does. With TSME the BIOS turns it on for all "
           "of DRAM "
           "before anything boots; no software takes part, and none can be sure of it: there is no CPUID bit, and only some PSPs report it. Both "
           "help against "
           "stolen DIMMs, cold boot and probing of the bus. Neither hides anything from a hypervisor, dom0, or any software on the machine: for that "
           "each guest "
           "needs a key of its own, which is SEV. With TSME on, SME adds nothing; SEV guests use their own keys with or without either.";
}

std::string render(const Probe& probe, const Report& report, bool explain) {
    const Machine& m = report.machine;
    std::string out;
    for (const std::string& note : report.notes) out += labelled("NOTE", note, label);
    if (!report.notes.empty()) out += "\n";
    out += labelled("CPU", cpu_line(probe, m), label);
    out += labelled("Board", board_line(probe), label);
    out += labelled("System", system_line(probe, m), label);
    out += labelled("Level", fmt::format("L{}: {}", report.level.level, level_text(report.level.level)), label);
    out += labelled("", report.level.because, label);
    if (report.level.level < first_encrypting_level) out += labelled("", "no guest here is protected from its host by encryption", label);
    if (!report.level.might_be_higher.empty()) out += labelled("", fmt::format("it may be higher: {}", report.level.might_be_higher), label);

    render_features(out, report, explain);

    out += "\n";
    if (m.encryption) {
        const EncryptionLeaf& leaf = *m.encryption;
        out +=
            labelled("Leaf", fmt::format("C-bit {}; {} physical address bits are lost when SMEE is on", leaf.c_bit, leaf.address_bits_lost), label);
        if (m.can_host() || report.psp) {
            const CheckResult& es = report.check("bios-sev-es-asids");
            out += labelled("ASIDs",
                            fmt::format("{}: {} SEV-ES, {} SEV{}", leaf.asids, leaf.es_asids(), leaf.sev_asids(),
                                        es.fact.no() ? "; 0 SEV-ES ASIDs: " + es.remedy : ""),
                            label);
        }
    }
    out += labelled("PSP",
                    report.psp
                        ? psp_line(*report.psp)
                        : fmt::format("does not answer: {}", m.place == Place::xen_dom0      ? "under Xen dom0 cannot ask it"
                                                             : probe.platform_status.value() ? "see psp-status"
                                                                                             : "/dev/sev: " + plain(probe.platform_status.why_not())),
                    label);
    if (probe.chip_id.value()) out += labelled("Chip id", hex(*probe.chip_id.value()), label);
    if (report.coco)
        out += labelled(
            "coco",
            fmt::format("platform {}, platform flags 0x{:x}, flags 0x{:x}", report.coco->platform, report.coco->platform_flags, report.coco->flags),
            label);
    render_layers(out, report);
    render_checks(out, report, explain);
    if (explain || (m.can_host() && report.feature("SME").silicon.yes())) out += "\n" + labelled("", sme_versus_tsme(), 0);
    return out;
}

} // namespace sev::probe
