// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "base/error.hpp"
#include "launch/probe/assess_parts.hpp"

namespace sev::probe {
namespace {

constexpr XenRelease oldest_xen{4, 17};

Level dom0_level(const Evidence& e) {
    const auto release = e.probe.xen_version.value() ? xen_release(*e.probe.xen_version.value()) : std::nullopt;
    if (!e.machine.amd)
        return {.level = 0,
                .because = e.machine.vendor_known ? fmt::format("dom0 of {}, on a CPU of {}", e.machine.hypervisor, e.machine.vendor)
                                                  : "dom0 of Xen, on a CPU of unknown vendor",
                .might_be_higher = {}};
    if (!release) return {.level = 0, .because = "dom0 of a Xen whose version could not be read", .might_be_higher = "Xen's version is not known"};
    if (*release < oldest_xen)
        return {.level = 0, .because = fmt::format("dom0 of {}, older than 4.17", e.machine.hypervisor), .might_be_higher = {}};
    if (!e.probe.xen_control.value())
        return {.level = 0,
                .because = fmt::format("dom0 of {}, whose control interface did not open", e.machine.hypervisor),
                .might_be_higher = fmt::format("Xen could not be asked: {}", printable(e.probe.xen_control.why_not()))};
    Level out{.level = 1, .because = fmt::format("dom0 of {} with its control interface", e.machine.hypervisor), .might_be_higher = {}};
    if (e.xen_sev.unknown()) out.might_be_higher = e.xen_sev.because;
    if (!e.xen_sev.yes()) return out;
    out = {.level = 3, .because = e.xen_sev.because, .might_be_higher = {}};
    if (!e.probe.coco_certificates.value()) return out;
    out = {.level = 4, .because = "Xen's coco interface gives evidence (op 3 answers)", .might_be_higher = {}};
    if (e.coco->es()) out = {.level = 5, .because = "Xen's coco interface gives evidence and offers SEV-ES", .might_be_higher = {}};
    return out;
}

} // namespace

std::string_view level_text(unsigned level) {
    switch (level) {
    case 0: return "the guest owner's work, digests and the emulated PSP; no encryption";
    case 1: return "software-measured launch on stock Xen, trusting dom0; no encryption";
    case 2: return "Linux with a PSP: status, certificates, ownership; no Xen guests";
    case 3: return "Xen launches SEV guests, but gives no evidence and takes no secrets";
    case 4: return "Xen launches SEV guests, with evidence and secrets";
    case 5: return "Xen launches SEV-ES guests, with evidence and secrets";
    default: throw Error{Fault::bug, fmt::format("level is {}, want 0 .. {}", level, highest_level)};
    }
}

Level assess_level(const Evidence& e) {
    const Machine& m = e.machine;
    if (m.place == Place::xen_dom0) return dom0_level(e);
    if (e.psp && !e.psp->genuine_device)
        return {.level = 0, .because = "/dev/sev answers, but was not made by this kernel's driver: an emulated PSP", .might_be_higher = {}};
    if (e.psp)
        return {.level = 2,
                .because =
                    m.place == Place::bare_metal ? "/dev/sev answers on bare metal" : "/dev/sev answers, as this machine's hypervisor presents it",
                .might_be_higher = {}};
    Level out{.level = 0,
              .because = m.place == Place::unknown
                             ? "it is not known where this runs"
                             : fmt::format("{} without a PSP that answers", m.place == Place::bare_metal ? "Linux on bare metal" : name(m.place)),
              .might_be_higher = {}};
    if (e.probe.platform_status.failed_with(13) || e.probe.platform_status.failed_with(1))
        out.might_be_higher = "/dev/sev is there, but not for this user";
    return out;
}

std::array<LayerResult, 6> assess_layers(const Evidence& e, const std::array<Feature, 5>& features) {
    const Feature& sev = features[2];
    const Machine& m = e.machine;
    const bool no_silicon = sev.silicon.no();
    const auto after_silicon = [&](Fact otherwise) { return no_silicon ? not_applicable("there is no SEV in silicon") : std::move(otherwise); };

    Fact psp = sev.initialised;
    if (psp.truth == Truth::not_applicable) psp = unknown(psp.because);
    // UNINIT firmware is there and answers; it is initialised by whoever uses it
    if (e.psp)
        psp = fact(true, fmt::format("the PSP answers, SEV API {}", e.psp->status.build.text()), "/dev/sev, PLATFORM_STATUS", Confidence::direct);
    if (e.psp && !(e.psp->genuine_device && m.place == Place::bare_metal)) psp.confidence = Confidence::reported;

    Fact xen = e.xen_sev;
    if (xen.truth == Truth::not_applicable)
        xen = m.place == Place::xen_guest                   ? unknown("this is a guest of Xen; dom0 has to be asked")
              : m.place == Place::virtual_machine && !e.psp ? unknown("this is a guest; its host has to be asked")
              : m.place == Place::unknown
                  ? unknown("it is not known where this runs")
                  : fact(false, "Xen is not running here, and no released Xen launches SEV guests", m.place_because, Confidence::inferred);

    Fact toolstack;
    if (e.probe.xen_toolstack_coco.value())
        toolstack = fact(*e.probe.xen_toolstack_coco.value(),
                         *e.probe.xen_toolstack_coco.value() ? "libxl has the coco setting"
                                                             : "libxl has no setting for SEV guests (as of the release this was built for)",
                         "libxl's header", Confidence::reported);
    else if (e.machine.place == Place::bare_metal || e.machine.place == Place::virtual_machine)
        toolstack = not_applicable("Xen comes first");
    else
        toolstack = unknown(printable(e.probe.xen_toolstack_coco.why_not()));

    return {LayerResult{Layer::silicon, sev.silicon},
            {Layer::bios, after_silicon(sev.enabled)},
            {Layer::psp, after_silicon(psp)},
            {Layer::xen, after_silicon(xen)},
            {Layer::toolstack, after_silicon(toolstack)},
            {Layer::guest_kernel, after_silicon(unknown("each guest's kernel must be made for SEV under Xen; no stock kernel is"))}};
}

} // namespace sev::probe
