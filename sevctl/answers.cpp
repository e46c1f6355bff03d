// SPDX-License-Identifier: Apache-2.0
#include "sevctl/answers.hpp"

#include <array>

#include <fmt/format.h>

#include "attest/protocol/platform_evidence.hpp"
#include "attest/protocol/verdict.hpp"
#include "base/error.hpp"

namespace sev::cli {
namespace {

constexpr std::size_t text_limit_bytes = 16 * 1024, list_limit = 100'000;
constexpr std::string_view owner = "sev-owner's answer";
constexpr std::array<std::string_view, 13> launch_states{"accepted",  "opening",  "session", "loading", "judging", "releasing", "starting",
                                                         "running",   "ending",   "refused", "failed",  "cancelled", "destroyed"};
constexpr std::ptrdiff_t first_end = 9; // of launch_states: from "refused" on a launch has ended
constexpr std::array<std::string_view, 7> session_states{"open", "taken", "trusted", "not-trusted", "troubled", "expired", "refused"};

template <class... Keys>
void texts(json::Object& object, Keys... keys) {
    (static_cast<void>(object.string(keys, text_limit_bytes)), ...);
}

/// A JSON number: what a schema calls an integer.
std::uint64_t integer(json::Object& object, std::string_view key, std::uint64_t min, std::uint64_t max) {
    if (object.has(key) && !object.at(key).is_number_integer()) object.refuse(key, "is no whole number");
    const std::uint64_t value = object.number(key, max);
    if (value < min) object.refuse(key, fmt::format("is {}, want {} … {}", value, min, max));
    return value;
}

std::string one_of(json::Object& object, std::string_view key, std::span<const std::string_view> known) {
    std::string found = object.string(key);
    if (std::ranges::find(known, found) == known.end())
        object.refuse(key, fmt::format("is \"{}\", want one of {}", printable(found), fmt::join(known, ", ")));
    return found;
}

void time(json::Object& object, std::string_view key) {
    static_cast<void>(attest::parse_time(object.string(key, 64), fmt::format("{}: {}", object.what(), key)));
}

void checks(const json::Value& list, const std::string& what) {
    for (std::size_t i = 0; i < list.size(); ++i) {
        json::Object check{list[i], fmt::format("{}[{}]", what, i)};
        texts(check, "check", "detail");
        static_cast<void>(check.boolean("passed"));
        check.done();
    }
}

/// {KEY: the checks of an owner's refusal of the platform}.
void refusal(const json::Value& value, const std::string& what, std::string_view key) {
    json::Object object{value, what};
    checks(object.array(key, attest::Verdict::check_limit), fmt::format("{}: {}", what, key));
    object.done();
}

/// Returns its state.
std::string session_summary(const json::Value& value, const std::string& what) {
    json::Object session{value, what};
    static_cast<void>(session.hex<16>("id"));
    std::string state = one_of(session, "state", session_states);
    texts(session, "launch_name", "policy", "channel");
    time(session, "created_at");
    time(session, "expires_at");
    if (session.has("ended_at")) time(session, "ended_at");
    integer(session, "packets", 0, 1024);
    session.done();
    return state;
}

} // namespace

const json::Value& checked_launch(const json::Value& launch, std::string_view what) {
    json::Object object{launch, std::string{what}};
    integer(object, "id", 1, INT64_MAX);
    texts(object, "name", "owner", "policy", "reason", "level_text");
    static_cast<void>(object.object("guest").string("kind"));
    static_cast<void>(one_of(object, "evidence", std::array<std::string_view, 2>{"measurement", "report"}));
    const std::string state = one_of(object, "state", launch_states);
    const bool ended = object.boolean("ended");
    if (ended != (std::ranges::find(launch_states, state) >= launch_states.begin() + first_end))
        object.refuse("ended", fmt::format("is {}, and the state is \"{}\"", ended, state));
    integer(object, "level", 0, attest::highest_level);
    static_cast<void>(object.boolean("emulated"));
    time(object, "created");
    time(object, "updated");
    for (const char* const key : {"asid", "handle"})
        if (object.has(key)) integer(object, key, 1, UINT32_MAX);
    if (object.has("session")) static_cast<void>(object.hex<16>("session"));
    if (object.has("verdict")) {
        const json::Value& verdict = object.at("verdict");
        if (verdict.is_object() && verdict.contains("platform_checks")) refusal(verdict, object.what() + ": verdict", "platform_checks");
        else static_cast<void>(attest::Verdict::from_json(verdict, object.what() + ": verdict"));
    }
    if (object.has("steps")) {
        const json::Value& steps = object.array("steps", list_limit);
        for (std::size_t i = 0; i < steps.size(); ++i) {
            json::Object step{steps[i], fmt::format("{}: steps[{}]", what, i)};
            time(step, "at");
            texts(step, "step", "detail");
            step.done();
        }
    }
    object.done();
    return launch;
}

const json::Value& checked_event(const json::Value& event) {
    json::Object object{event, "sevd's event"};
    integer(object, "launch", 1, INT64_MAX);
    texts(object, "name", "reason");
    one_of(object, "state", launch_states);
    static_cast<void>(object.boolean("ended"));
    time(object, "at");
    for (const char* const key : {"step", "detail"})
        if (object.has(key)) texts(object, key);
    object.done();
    return event;
}

const json::Value& checked_policies(const json::Value& answer) {
    json::Object object{answer, std::string{owner}};
    attest::expect_format(object, "xen-sev/owner-policies", 1);
    const json::Value& list = object.array("policies", list_limit);
    object.done();
    for (std::size_t i = 0; i < list.size(); ++i) {
        json::Object policy{list[i], fmt::format("{}: policies[{}]", owner, i)};
        texts(policy, "name");
        if (policy.has("problem")) {
            texts(policy, "problem");
            policy.done();
            continue;
        }
        texts(policy, "owner");
        static_cast<void>(policy.hex<32>("snapshot"));
        const json::Value& references = policy.array("references", list_limit);
        for (std::size_t j = 0; j < references.size(); ++j) {
            json::Object reference{references[j], fmt::format("{}: references[{}]", policy.what(), j)};
            texts(reference, "name");
            static_cast<void>(reference.hex<32>("digest"));
            reference.done();
        }
        policy.done();
    }
    return answer;
}

const json::Value& checked_audit_head(const json::Value& answer) {
    json::Object object{answer, std::string{owner}};
    attest::expect_format(object, "xen-sev/owner-audit-head", 1);
    integer(object, "records", 0, INT64_MAX);
    static_cast<void>(object.hex<32>("head"));
    object.done();
    return answer;
}

const json::Value& checked_sessions(const json::Value& answer) {
    json::Object object{answer, std::string{owner}};
    attest::expect_format(object, "xen-sev/owner-sessions", 1);
    const json::Value& list = object.array("sessions", list_limit);
    object.done();
    for (std::size_t i = 0; i < list.size(); ++i) session_summary(list[i], fmt::format("{}: sessions[{}]", owner, i));
    return answer;
}

const json::Value& checked_session(const json::Value& answer) {
    json::Object object{answer, std::string{owner}};
    attest::expect_format(object, "xen-sev/owner-session", 1);
    const std::string state = session_summary(object.at("session"), fmt::format("{}: session", owner)), result = fmt::format("{}: result", owner);
    static_cast<void>(attest::PlatformEvidence::from_json(object.at("platform"), fmt::format("{}: platform", owner)));
    if (object.has("result")) {
        if (state == "refused") refusal(object.at("result"), result, "checks");
        else static_cast<void>(attest::Verdict::from_json(object.at("result"), result));
    }
    if (object.has("attestation_result")) static_cast<void>(object.string("attestation_result", 256 * 1024));
    object.done();
    return answer;
}

} // namespace sev::cli
