// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/protocol/message.hpp"
#include "psp/certificate.hpp"
#include "psp/types.hpp"

namespace sev::attest {

/// What the guest owner gives the host for LAUNCH_START, good for one launch. Nothing in it is secret: TEK and TIK are wrapped in `session`.
/// JSON: format "xen-sev/session-offer", docs/schemas/session-offer.schema.json.
struct SessionOffer {
    static constexpr std::string_view format = "xen-sev/session-offer";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 16 * 1024;
    static constexpr std::size_t session_size = 0x80;

    SessionId session_id{};
    std::string launch_name;
    psp::Policy policy;                                // JSON: number 0 … 4294967295
    ByteArray<psp::SevCertificate::wire_size> godh{};  // base64
    ByteArray<session_size> session{};                 // base64
    psp::Mnonce report_nonce{};                        // MNONCE to ask an attestation report with; 32 hex digits

    static SessionOffer from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const SessionOffer&, const SessionOffer&) = default;
};

} // namespace sev::attest
