// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/launch_evidence.hpp"

#include "base/error.hpp"

namespace sev::attest {

std::string_view name(EvidenceKind kind) {
    switch (kind) {
    case EvidenceKind::measurement: return "measurement";
    case EvidenceKind::report: return "report";
    }
    return "undefined";
}

std::optional<EvidenceKind> evidence_kind_named(std::string_view wanted) {
    for (const auto kind : {EvidenceKind::measurement, EvidenceKind::report})
        if (name(kind) == wanted) return kind;
    return std::nullopt;
}

LaunchEvidence LaunchEvidence::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    LaunchEvidence out;
    out.session_id = object.hex<16>("session_id");
    out.launch_name = checked_name(object.string("launch_name"), object.what() + ": launch_name");
    out.policy = {static_cast<std::uint32_t>(object.number("policy", UINT32_MAX))};
    out.build = psp::Build::parse(object.string("build", 16), object.what() + ": build");
    if (object.has("measurement") == object.has("report")) object.refuse("measurement", "and report: want exactly one of them");
    if (object.has("measurement")) {
        ByteArray<psp::LaunchMeasurement::wire_size> bytes{};
        base64_exactly(object, "measurement", bytes);
        out.proof = psp::LaunchMeasurement::parse(wire::view(bytes));
    } else {
        ByteArray<psp::AttestationReport::wire_size> bytes{};
        base64_exactly(object, "report", bytes);
        out.proof = within(object.what() + ": report", [&] { return psp::AttestationReport::parse(wire::view(bytes)); });
    }
    if (const json::Value* descriptor = object.find("descriptor"))
        out.descriptor = LaunchDescriptor::from_json(*descriptor, object.what() + ": descriptor");
    object.done();
    return out;
}

json::Value LaunchEvidence::to_json() const {
    json::Value out = with_format(format, version);
    out["session_id"] = hex(session_id);
    out["launch_name"] = launch_name;
    out["policy"] = policy.value;
    out["build"] = build.text();
    if (const auto* measurement = std::get_if<psp::LaunchMeasurement>(&proof)) out["measurement"] = base64(measurement->serialize());
    if (const auto* report = std::get_if<psp::AttestationReport>(&proof)) out["report"] = base64(report->serialize());
    if (descriptor) out["descriptor"] = descriptor->to_json();
    return out;
}

} // namespace sev::attest
