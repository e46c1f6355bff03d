// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/protocol/launch_evidence.hpp"
#include "attest/protocol/platform_evidence.hpp"
#include "attest/protocol/session_offer.hpp"

namespace sev::attest {

/// Everything a guest owner needs to judge a launch offline, but for its own keys and policy: what `sevctl judge` reads.
/// JSON: format "xen-sev/bundle", with the three messages whole; docs/schemas/bundle.schema.json.
struct Bundle {
    static constexpr std::string_view format = "xen-sev/bundle";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = PlatformEvidence::limit_bytes + SessionOffer::limit_bytes + LaunchEvidence::limit_bytes;

    PlatformEvidence platform;
    SessionOffer offer;
    LaunchEvidence launch;

    static Bundle from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const Bundle&, const Bundle&) = default;
};

} // namespace sev::attest
