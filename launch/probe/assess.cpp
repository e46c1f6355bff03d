// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "launch/probe/assess_parts.hpp"

namespace sev::probe {
namespace {

/// What the kernel of a guest says of itself.
bool inside_sev_guest(const Evidence& e) {
    if (e.machine.place != Place::virtual_machine && e.machine.place != Place::xen_guest) return false;
    const bool msr = e.probe.msr_sev_status.value() && (*e.probe.msr_sev_status.value() & 7) != 0;
    return msr || kernel_made_active(e.probe, "SEV");
}

std::vector<std::string> notes_of(const Evidence& e) {
    std::vector<std::string> out;
    if (e.probe.constructed) out.push_back("This bundle was constructed, not recorded on a machine: " + printable(e.probe.note, 600));
    if (inside_sev_guest(e)) {
        std::string kinds;
        if (const auto* const status = e.probe.msr_sev_status.value())
            for (const auto& [bit, kind] : {std::pair{0U, "SEV"}, {1U, "SEV-ES"}, {2U, "SEV-SNP"}})
                if ((*status >> bit & 1) != 0) kinds += fmt::format("{}{}", kinds.empty() ? "" : ", ", kind);
        out.push_back(fmt::format(
            "This is the inside of a guest that calls itself a SEV guest ({}). Only an attestation by its owner shows whether that is true.",
            kinds.empty() ? "kernel log" : "SEV_STATUS: " + kinds));
    }
    if (e.psp && !e.psp->genuine_device) out.push_back("/dev/sev is an emulated PSP: what it says proves nothing about this machine.");
    if (e.psp && e.psp->genuine_device && e.machine.place == Place::virtual_machine)
        out.push_back("/dev/sev is what this machine's hypervisor presents. Whether an AMD PSP stands behind it, only its certificate chain shows.");
    const auto* const instruction = e.probe.cpuid_instruction.value();
    const bool trap = instruction && instruction->highest(leaf_extended) != 0 && instruction->highest(leaf_extended) < leaf_encryption &&
                      std::ranges::any_of(instruction->leaves, [](const CpuidLeaf& leaf) { return leaf.leaf == leaf_encryption; });
    if (trap) out.push_back("The record holds a CPUID leaf 0x8000001f above the CPU's maximum. It is another leaf's data and is not believed.");
    if (e.machine.hygon)
        out.push_back("Hygon's CSV resembles SEV, but its keys and certificates are not AMD's; xen-sev neither launches nor verifies it.");
    return out;
}

} // namespace

std::string_view name(Layer layer) {
    switch (layer) {
    case Layer::silicon: return "silicon";
    case Layer::bios: return "BIOS";
    case Layer::psp: return "PSP firmware";
    case Layer::xen: return "Xen";
    case Layer::toolstack: return "toolstack";
    case Layer::guest_kernel: return "guest kernel";
    }
    return "unknown";
}

const Feature& Report::feature(std::string_view wanted) const {
    const auto found = std::ranges::find(features, wanted, &Feature::name);
    require(found != features.end(), "the feature is one of the five");
    return *found;
}

const CheckResult& Report::check(std::string_view id) const {
    const auto found = std::ranges::find_if(checks, [&](const CheckResult& one) { return one.info->id == id; });
    require(found != checks.end(), "every check has a result");
    return *found;
}

const LayerResult* Report::first_missing() const {
    const auto found = std::ranges::find_if(layers, [](const LayerResult& one) { return one.fact.no(); });
    return found == layers.end() ? nullptr : &*found;
}

Report assess(const Probe& probe) {
    Report out{.machine = machine_of(probe), .features = {}, .psp = {}, .coco = {}, .level = {}, .layers = {}, .checks = {}, .notes = {}};
    const Evidence evidence = gather(probe, out.machine);
    out.features = assess_features(evidence);
    out.psp = evidence.psp;
    out.coco = evidence.coco;
    out.level = assess_level(evidence);
    out.layers = assess_layers(evidence, out.features);
    out.checks = assess_checks(evidence, out.features);
    out.notes = notes_of(evidence);
    return out;
}

} // namespace sev::probe
