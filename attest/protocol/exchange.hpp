// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <variant>
#include <vector>

#include "attest/protocol/jws.hpp"
#include "attest/protocol/launch_evidence.hpp"
#include "attest/protocol/platform_evidence.hpp"
#include "attest/protocol/secret_packet_message.hpp"
#include "attest/protocol/session_offer.hpp"
#include "attest/protocol/verdict.hpp"

/// The two steps between a host's daemon and a guest owner's service, each one request and one signed answer. Whoever carries them (a relay, qrexec,
/// a socket) is trusted with nothing: the answer names the SHA-256 of the very request it answers, whose nonce nobody else drew, and bears the
/// signature of the owner's key that the host has pinned. So a replayed, swapped, mixed or invented answer does not open; what is left to a carrier
/// is to delay or to deny.
namespace sev::attest {

/// Draws nothing by itself: the host fills it from the system's random numbers, for each request anew.
using RequestNonce = ByteArray<16>;

/// Name of a guest owner's policy: 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot. Throws Error{Fault::malformed} that names `what`.
std::string checked_policy_name(std::string name, std::string_view what);

/// Step 1, host → owner: "make a session for this launch on this platform".
/// JSON: format "xen-sev/session-request", docs/schemas/session-request.schema.json.
struct SessionRequest {
    static constexpr std::string_view format = "xen-sev/session-request";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = PlatformEvidence::limit_bytes + 4096;

    RequestNonce nonce{}; // 32 hex digits
    std::string launch_name;
    std::string policy; // which of the owner's policies is to judge
    PlatformEvidence platform;

    static SessionRequest from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const SessionRequest&, const SessionRequest&) = default;
};

/// Step 2, host → owner: "judge what was launched in that session".
/// JSON: format "xen-sev/judgement-request", docs/schemas/judgement-request.schema.json.
struct JudgementRequest {
    static constexpr std::string_view format = "xen-sev/judgement-request";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = LaunchEvidence::limit_bytes + 4096;

    RequestNonce nonce{};
    LaunchEvidence launch;

    static JudgementRequest from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const JudgementRequest&, const JudgementRequest&) = default;
};

using ExchangeRequest = std::variant<SessionRequest, JudgementRequest>;
constexpr std::size_t exchange_request_limit_bytes = JudgementRequest::limit_bytes;
/// Reads either request by its "format". Throws Error{Fault::malformed}.
ExchangeRequest read_exchange_request(std::string_view text, std::string_view what);

/// Answer to step 1 when the platform is not one the owner launches on: every check, as in a verdict. At least one failed.
struct PlatformRefusal {
    std::string launch_name;
    std::vector<psp::Check> checks;
    friend bool operator==(const PlatformRefusal&, const PlatformRefusal&) = default;
};

/// Answer to step 2. Packets only with a trusted verdict; `attestation_result` is the verdict as a signed EAR (JWT), for third parties.
struct JudgementAnswer {
    static constexpr std::size_t packet_limit = 1024;
    Verdict verdict;
    std::vector<SecretPacketMessage> packets;
    std::string attestation_result; // may be empty
    friend bool operator==(const JudgementAnswer&, const JudgementAnswer&) = default;
};

/// Answer to either step when there is neither yes nor no: the request was refused or could not be worked on.
struct ExchangeTrouble {
    std::string message; // one line of printable text, at most 1024 bytes
    bool retry = false;  // the same launch may ask again, with a new request
    friend bool operator==(const ExchangeTrouble&, const ExchangeTrouble&) = default;
};

/// What an owner answers. JSON: format "xen-sev/exchange-answer", "request" (64 hex digits: SHA-256 of the request's bytes), "answered_at", and
/// exactly one of "offer", "refusal", "judgement", "trouble"; docs/schemas/exchange-answer.schema.json. On the wire it is the payload of a compact
/// JWS of type `jws_type`.
struct ExchangeAnswer {
    static constexpr std::string_view format = "xen-sev/exchange-answer";
    static constexpr unsigned version = 1;
    static constexpr std::string_view jws_type = "xen-sev-answer+jwt";
    static constexpr std::size_t limit_bytes = 6 * 1024 * 1024; // as JSON
    static constexpr std::size_t wire_limit_bytes = limit_bytes / 3 * 4 + 2048; // as JWS

    Digest request{};
    Time answered_at{};
    std::variant<SessionOffer, PlatformRefusal, JudgementAnswer, ExchangeTrouble> body;

    static ExchangeAnswer from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const ExchangeAnswer&, const ExchangeAnswer&) = default;
};

/// open_answer is the host's one way to an answer: verifies the JWS under the pinned key, then that it answers `request_text`, byte for byte, then
/// that its kind fits the request's, and that it is about the same launch and session. Throws Error{Fault::malformed} with the first of these that
/// fails.
ExchangeAnswer open_answer(std::string_view wire, std::string_view request_text, const OwnerKey& owner);

} // namespace sev::attest
