// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "attest/protocol/launch_evidence.hpp"
#include "attest/protocol/message.hpp"
#include "psp/types.hpp"

namespace sev::daemon {

/// Where a launch is. Each is journaled before what it announces is done.
enum class State {
    accepted,  // an ASID is set aside; nothing else was done
    opening,   // the guest is taken hold of
    session,   // the owner is asked for a session
    loading,   // LAUNCH_START … LAUNCH_MEASURE
    judging,   // the owner is asked for its verdict
    releasing, // trusted: LAUNCH_SECRET, LAUNCH_FINISH
    starting,  // the guest is let run
    running,
    ending,    // guest and context are taken away
    // ends: nothing is left of it
    refused,   // the owner said no: of the platform or of the launch
    failed,
    cancelled, // called off before it ran
    destroyed, // ran, and was ended
};
std::string_view name(State state);
std::optional<State> state_named(std::string_view name);
constexpr bool has_ended(State state) { return state >= State::refused; }

struct Step {
    attest::Time at{};
    std::string step, detail;
    friend bool operator==(const Step&, const Step&) = default;
};

/// What a client asks for: POST /v1/launches. JSON: {"name", "owner", "policy", "guest": {"kind", …}, "evidence"?}; docs/sevd.openapi.json.
struct LaunchRequest {
    static constexpr std::size_t limit_bytes = 64 * 1024;
    std::string name, owner, policy;
    json::Value guest; // read by the GuestSource of its "kind"
    attest::EvidenceKind evidence = attest::EvidenceKind::measurement;
    /// Throws Error{Fault::malformed}.
    static LaunchRequest parse(std::string_view text);
    friend bool operator==(const LaunchRequest&, const LaunchRequest&) = default;
};

/// Everything that is known of one launch, and all that a restarted daemon needs to take it back.
struct Record {
    std::uint64_t id = 0;
    LaunchRequest request;
    json::Value identity; // GuestSource::Plan::identity
    State state = State::accepted;
    std::string reason; // of the state, for people
    attest::Time created{}, updated{};
    bool es = false;
    psp::Asid asid{};          // 0: none
    psp::GuestHandle handle{}; // 0: none
    std::optional<attest::SessionId> session;
    std::optional<json::Value> verdict; // the owner's, or the checks of its refusal of the platform
    std::vector<Step> steps;
    unsigned level = 0;
    bool emulated = false;

    /// One line for `state`'s reversal: what is to be taken back when the daemon finds the launch like this.
    std::string reversal() const;
    /// As GET /v1/launches/{id} shows it; without `whole`, as the list does: no steps, no verdict.
    json::Value to_json(bool whole) const;
};

} // namespace sev::daemon
