// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/record.hpp"

#include <array>

#include <fmt/format.h>

#include "attest/protocol/exchange.hpp"
#include "base/error.hpp"

namespace sev::daemon {
namespace {

constexpr std::array<std::string_view, 13> names{"accepted", "opening", "session", "loading", "judging",   "releasing", "starting",
                                                 "running",  "ending",  "refused", "failed",  "cancelled", "destroyed"};

} // namespace

std::string_view name(State state) { return names.at(static_cast<std::size_t>(state)); }

std::optional<State> state_named(std::string_view text) {
    for (std::size_t i = 0; i < names.size(); ++i)
        if (names[i] == text) return static_cast<State>(i);
    return std::nullopt;
}

LaunchRequest LaunchRequest::parse(std::string_view text) {
    const json::Value value = json::parse(text, "launch request", {.bytes = limit_bytes, .depth = 8});
    json::Object object{value, "launch request"};
    LaunchRequest out;
    out.name = attest::checked_name(object.string("name"), "launch request: name");
    out.owner = attest::checked_policy_name(object.string("owner"), "launch request: owner");
    out.policy = attest::checked_policy_name(object.string("policy"), "launch request: policy");
    out.guest = object.at("guest");
    if (!out.guest.is_object() || !out.guest.contains("kind") || !out.guest["kind"].is_string())
        object.refuse("guest", "is no object with a \"kind\"");
    if (object.has("evidence")) {
        const auto kind = attest::evidence_kind_named(object.string("evidence"));
        if (!kind) object.refuse("evidence", "is not known, want \"measurement\" or \"report\"");
        out.evidence = *kind;
    }
    object.done();
    return out;
}

std::string Record::reversal() const {
    if (has_ended(state)) return "nothing";
    std::string out = state == State::accepted ? "" : "destroy the guest";
    if (handle != psp::GuestHandle{}) out += fmt::format("{}DEACTIVATE and DECOMMISSION guest {}", out.empty() ? "" : ", ", psp::raw(handle));
    if (asid != psp::Asid{}) out += fmt::format("{}ASID {} back after WBINVD and DF_FLUSH", out.empty() ? "" : ", ", psp::raw(asid));
    return out;
}

json::Value Record::to_json(bool whole) const {
    json::Value out{{"id", id},
                    {"name", request.name},
                    {"owner", request.owner},
                    {"policy", request.policy},
                    {"guest", request.guest},
                    {"evidence", attest::name(request.evidence)},
                    {"state", name(state)},
                    {"ended", has_ended(state)},
                    {"reason", reason},
                    {"level", level},
                    {"level_text", attest::level_text(level)},
                    {"emulated", emulated},
                    {"created", attest::text(created)},
                    {"updated", attest::text(updated)}};
    if (asid != psp::Asid{}) out["asid"] = psp::raw(asid);
    if (handle != psp::GuestHandle{}) out["handle"] = psp::raw(handle);
    if (session) out["session"] = hex(*session);
    if (!whole) return out;
    if (verdict) out["verdict"] = *verdict;
    json::Value list = json::Value::array();
    for (const Step& step : steps) list.push_back({{"at", attest::text(step.at)}, {"step", step.step}, {"detail", step.detail}});
    out["steps"] = std::move(list);
    return out;
}

} // namespace sev::daemon
