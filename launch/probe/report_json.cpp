// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/report.hpp"

namespace sev::probe {
namespace {

json::Value text_or_null(const Reading<std::string>& reading) { return reading.value() ? json::Value(*reading.value()) : json::Value(nullptr); }
json::Value text_or_null(const std::string& text) { return text.empty() ? json::Value(nullptr) : json::Value(text); }

json::Value to_json(const Fact& fact) {
    return {{"truth", name(fact.truth)}, {"because", fact.because}, {"source", text_or_null(fact.source)}, {"confidence", name(fact.confidence)}};
}

std::string_view result_of(const Fact& fact) {
    switch (fact.truth) {
    case Truth::yes: return "pass";
    case Truth::no: return "fail";
    case Truth::unknown: return "unknown";
    case Truth::not_applicable: return "not applicable";
    }
    return "unknown";
}

json::Value cpuid_of(const Machine& m) {
    if (!m.encryption) return nullptr;
    const EncryptionLeaf& leaf = *m.encryption;
    return {{"c_bit", leaf.c_bit},
            {"address_bits_lost", leaf.address_bits_lost},
            {"asids", leaf.asids},
            {"min_sev_asid", leaf.min_sev_asid},
            {"sev_asids", leaf.sev_asids()},
            {"sev_es_asids", leaf.es_asids()},
            {"vmpls", leaf.vmpls},
            {"source", m.cpuid_source},
            {"confidence", name(m.cpuid_confidence)}};
}

json::Value psp_of(const Probe& probe, const Report& report) {
    if (!report.psp) return nullptr;
    const psp::PlatformStatus& s = report.psp->status;
    return {{"api_major", s.build.major},
            {"api_minor", s.build.minor},
            {"build", s.build.build},
            {"state", psp::name(s.state)},
            {"owner", s.externally_owned ? "external" : "self"},
            {"sev_es", s.es_configured},
            {"guests", s.guest_count},
            {"emulated", !report.psp->genuine_device},
            {"chip_id", probe.chip_id.value() ? json::Value(hex(*probe.chip_id.value())) : json::Value(nullptr)}};
}

json::Value coco_of(const Report& report) {
    if (!report.coco) return nullptr;
    return {{"platform", report.coco->platform},
            {"platform_flags", report.coco->platform_flags},
            {"flags", report.coco->flags},
            {"supported", report.coco->is_sev() && report.coco->supported()}};
}

json::Value dom0_of(const Machine& m) {
    if (m.place != Place::xen_dom0) return nullptr;
    return m.dom0 == Dom0Kind::pv ? "PV" : m.dom0 == Dom0Kind::pvh ? "PVH" : "unknown";
}

} // namespace

void add_json(json::Value& out, const Probe& probe, const Report& report) {
    const Machine& m = report.machine;
    out["probe"] = {
        {"tool", probe.tool}, {"recorded", text_or_null(probe.recorded)}, {"constructed", probe.constructed}, {"note", text_or_null(probe.note)}};
    out["notes"] = report.notes;
    out["host"] = {{"place", name(m.place)},
                   {"because", m.place_because},
                   {"dom0", dom0_of(m)},
                   {"hypervisor", text_or_null(m.hypervisor)},
                   {"kernel", text_or_null(probe.kernel_release)},
                   {"cpu_vendor", text_or_null(m.vendor)},
                   {"cpu", text_or_null(m.brand)},
                   {"microcode", text_or_null(probe.cpu_microcode)},
                   {"system_vendor", text_or_null(probe.dmi_system_vendor)},
                   {"product", text_or_null(probe.dmi_product_name)},
                   {"board_vendor", text_or_null(probe.dmi_board_vendor)},
                   {"board", text_or_null(probe.dmi_board_name)},
                   {"bios_vendor", text_or_null(probe.dmi_bios_vendor)},
                   {"bios_version", text_or_null(probe.dmi_bios_version)},
                   {"bios_date", text_or_null(probe.dmi_bios_date)}};
    out["level"] = {{"level", report.level.level},
                    {"text", level_text(report.level.level)},
                    {"because", report.level.because},
                    {"might_be_higher", text_or_null(report.level.might_be_higher)},
                    {"encrypts_guests", report.level.level >= first_encrypting_level}};
    json::Value features = json::Value::array();
    for (const Feature& f : report.features)
        features.push_back({{"name", f.name},
                            {"state", f.state()},
                            {"silicon", to_json(f.silicon)},
                            {"enabled", to_json(f.enabled)},
                            {"initialised", to_json(f.initialised)},
                            {"usable", to_json(f.usable)}});
    out["features"] = std::move(features);
    out["cpuid"] = cpuid_of(m);
    out["psp"] = psp_of(probe, report);
    out["coco"] = coco_of(report);
    json::Value layers = json::Value::array();
    for (const LayerResult& one : report.layers) {
        json::Value layer = {{"layer", name(one.layer)}};
        layer.update(to_json(one.fact));
        layers.push_back(std::move(layer));
    }
    out["layers"] = std::move(layers);
    const LayerResult* const missing = report.first_missing();
    out["first_missing_layer"] = missing ? json::Value(name(missing->layer)) : json::Value(nullptr);
    json::Value checks = json::Value::array();
    for (const CheckResult& one : report.checks)
        checks.push_back({{"id", one.info->id},
                          {"title", one.info->title},
                          {"result", result_of(one.fact)},
                          {"because", one.fact.because},
                          {"source", text_or_null(one.fact.source)},
                          {"confidence", name(one.fact.confidence)},
                          {"expected", one.expected},
                          {"remedy", one.fact.no() || one.fact.unknown() ? json::Value(one.remedy) : json::Value(nullptr)},
                          {"page", "docs/checks/" + std::string{one.info->id} + ".md"}});
    out["checks"] = std::move(checks);
}

} // namespace sev::probe
