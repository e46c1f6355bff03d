// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <variant>

#include "attest/protocol/launch_descriptor.hpp"
#include "psp/structures.hpp"

namespace sev::attest {

enum class EvidenceKind { measurement, report };
std::string_view name(EvidenceKind kind); // "measurement", "report"
std::optional<EvidenceKind> evidence_kind_named(std::string_view name);

/// What the host hands over after LAUNCH_MEASURE: MEASURE‖MNONCE, or a PEK-signed attestation report that bears the offer's `report_nonce`.
/// JSON: format "xen-sev/launch-evidence", with exactly one of "measurement" (48 bytes base64) and "report" (208 bytes base64);
/// docs/schemas/launch-evidence.schema.json.
struct LaunchEvidence {
    static constexpr std::string_view format = "xen-sev/launch-evidence";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = LaunchDescriptor::limit_bytes + 16 * 1024;

    SessionId session_id{};
    std::string launch_name;
    psp::Policy policy;
    psp::Build build; // of the firmware that launched the guest
    std::variant<psp::LaunchMeasurement, psp::AttestationReport> proof;
    std::optional<LaunchDescriptor> descriptor;

    EvidenceKind kind() const noexcept { return proof.index() == 0 ? EvidenceKind::measurement : EvidenceKind::report; }
    static LaunchEvidence from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const LaunchEvidence&, const LaunchEvidence&) = default;
};

} // namespace sev::attest
