// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "ovmf-measure/xen/config_readers.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/reference_store.hpp"
#include "sevctl/xen_domain.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{domid_option, reference_store_option, json_option};

json::Value regions_json(const measure::XenMeasurement& measured) {
    json::Value out = json::Value::array();
    for (const auto& region : measured.regions)
        out.push_back({{"label", region.label},
                       {"gpa", fmt::format("{:#x}", region.gpa.value_or(0))},
                       {"length", region.length_bytes},
                       {"sha256", hex(region.sha256)}});
    return out;
}

/// What a PVH guest is when its toolstack process builds it first, or later: the other of the two than `captured`.
json::Value other_build(const measure::XenImage& first, measure::XenBuild captured) {
    const bool later = captured == measure::XenBuild::first;
    const auto measured = measure::measure(later ? first.later_build().value() : first, measure::XenOrder::ascending_gfn);
    return {{"build", measure::name(later ? measure::XenBuild::later : measure::XenBuild::first)},
            {"launch_digest", hex(measured.digest)},
            {"regions", regions_json(measured)}};
}

Answer run(const Arguments& given, Console& console) {
    LookedAtDomain looked = look_at_domain(given);
    const std::string name = fmt::format("domain {}", looked.state.domid);
    launch::xen::Prepared prepared{measure::read_libxl_json(looked.domain->config(), name),
                                   looked.toolstack->version(),
                                   {.hvmloader = {}, .ovmf = {}, .seabios = {}, .references = reference_store(given)}};
    const measure::XenImage predicted = prepared.image(); // as its process's first build
    launch::xen::Capture capture{prepared, *looked.domain, *looked.memory, looked.state.domid};
    const auto differences = capture.differences();
    const measure::XenMeasurement measured = capture.measure();

    if (console.json()) {
        json::Value result = result_of(given);
        result["domid"] = looked.state.domid;
        result["uuid"] = looked.state.uuid;
        result["kind"] = attest::name(prepared.kind());
        result["equal"] = differences.empty();
        result["differences"] = differences;
        result["launch_digest"] = hex(measured.digest);
        result["regions"] = regions_json(measured);
        if (differences.empty() && predicted.type == measure::XenGuestType::pvh) {
            result["build"] = measure::name(prepared.image().build);
            result["other_build"] = other_build(predicted, prepared.image().build);
        }
        result["slots"] = json::Value::array();
        for (const auto& slot : prepared.slots())
            result["slots"].push_back({{"name", slot.name}, {"gpa", fmt::format("{:#x}", psp::raw(slot.gpa))}, {"length", slot.length_bytes}});
        console.print(result);
        return differences.empty() ? Answer::yes : Answer::no;
    }
    std::string text = fmt::format("{}: launch digest of its pages {}\n", name, hex(measured.digest));
    for (const auto& region : measured.regions)
        text += fmt::format("  {:<14} {:>12} {:>10}  {}\n", region.label, fmt::format("{:#x}", region.gpa.value_or(0)), region.length_bytes,
                            hex(region.sha256));
    for (const auto& slot : prepared.slots())
        text += fmt::format("  slot {:<9} {:>12} {:>10}\n", slot.name, fmt::format("{:#x}", psp::raw(slot.gpa)), slot.length_bytes);
    for (const std::string& one : differences) text += fmt::format("differs: {}\n", one);
    text += differences.empty() ? "as its configuration says, byte for byte; nothing of it is encrypted\n" : "not what its configuration says\n";
    console.print(text);
    return differences.empty() ? Answer::yes : Answer::no;
}

} // namespace

const Command capture_command{
    .name = "capture",
    .summary = "hold a paused Xen domain against what its configuration says",
    .text = "Predicts the initial memory of a domain from its configuration and files, maps exactly those pages of the paused domain, and compares "
            "them byte by byte, and the "
            "registers of its vCPUs, its memory size and its state. What differs is named by range, page and content. Changes nothing. Exit status "
            "1: something differs.",
    .example = "sevctl capture --domid 7",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
