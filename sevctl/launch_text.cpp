// SPDX-License-Identifier: Apache-2.0
#include "sevctl/launch_text.hpp"

#include <functional>
#include <thread>

#include <fmt/format.h>

#include "attest/protocol/platform_evidence.hpp"
#include "attest/protocol/verdict.hpp"
#include "base/error.hpp"
#include "sevctl/answers.hpp"

namespace sev::cli {
namespace {

constexpr std::size_t columns = 80, step_indent = 24;
constexpr std::string_view what = "sevd's launch";

/// A text that is for people; a service that leaves it out says nothing there.
std::string text_of(const json::Value& object, std::string_view key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    return found != object.end() && found->is_string() ? printable(found->get<std::string>(), 4096) : std::string{};
}

/// One that must be there: what the answer means depends on it.
std::string needed_text(const json::Value& value, std::string_view key) {
    json::Object object{value, std::string{what}};
    return printable(object.string(key), 256);
}

std::uint64_t needed_number(const json::Value& value, std::string_view key) {
    json::Object object{value, std::string{what}};
    return object.number(key, UINT32_MAX);
}

std::string fact(std::string_view name, std::string_view value) { return wrapped(fmt::format("{:<12}", name), value, 12, columns); }

/// "LAUNCH_START            guest handle 1, policy …".
std::string step_line(std::string_view step, std::string_view detail) {
    std::string head = fmt::format("{:<{}}", printable(step, 64), step_indent);
    return detail.empty() ? head.substr(0, head.find_last_not_of(' ') + 1) + "\n" : wrapped(head, detail, step_indent, columns);
}

std::string verdict_text(const json::Value& verdict, attest::Detail detail) {
    if (verdict.is_object() && verdict.contains("platform_checks")) {
        std::string out = "the owner refused this platform:\n";
        for (const json::Value& check : verdict.at("platform_checks")) {
            json::Object object{check, "check"};
            const bool passed = object.boolean("passed");
            out += wrapped(fmt::format("  {} ", passed ? "pass" : "FAIL"), fmt::format("{}: {}", object.string("check"), object.string("detail")), 7,
                           columns);
        }
        return out;
    }
    return attest::render(attest::Verdict::from_json(verdict, "verdict"), columns, detail);
}

std::string level_word(const json::Value& launch) {
    return fmt::format("L{}{}", needed_number(launch, "level"), launch_is_emulated(launch) ? " emulated" : "");
}

} // namespace

std::string launch_state(const json::Value& launch) { return needed_text(launch, "state"); }
std::string launch_name(const json::Value& launch) { return needed_text(launch, "name"); }
bool launch_has_ended(const json::Value& launch) { return json::Object{launch, std::string{what}}.boolean("ended"); }
bool launch_is_emulated(const json::Value& launch) { return json::Object{launch, std::string{what}}.boolean("emulated"); }
Answer launch_answer(const json::Value& launch) { return launch_state(launch) == "running" ? Answer::yes : Answer::no; }

std::string launch_line(const json::Value& launch) {
    const std::string reason = text_of(launch, "reason");
    return wrapped(fmt::format("{:>5}  {:<10} {:<11} ", needed_number(launch, "id"), launch_state(launch), level_word(launch)),
                   launch_name(launch) + (reason.empty() ? "" : ": " + reason), 30, columns);
}

std::string launch_text(const json::Value& launch) {
    std::string out = fact("launch", fmt::format("{} \"{}\"", needed_number(launch, "id"), launch_name(launch)));
    const std::string reason = text_of(launch, "reason");
    out += fact("state", launch_state(launch) + (reason.empty() ? "" : ": " + reason));
    out += fact("level", attest::level_text(static_cast<unsigned>(std::min<std::uint64_t>(needed_number(launch, "level"), attest::highest_level))));
    if (launch_is_emulated(launch)) out += fact("PSP", "EMULATED: not AMD hardware, proves nothing about this machine");
    out += fact("owner", fmt::format("{}, policy \"{}\"", text_of(launch, "owner"), text_of(launch, "policy")));
    if (launch.contains("session")) out += fact("session", text_of(launch, "session"));
    out += fact("created", fmt::format("{}, last change {}", text_of(launch, "created"), text_of(launch, "updated")));
    if (launch.contains("steps")) {
        out += "\n";
        for (const json::Value& step : launch.at("steps")) out += step_line(text_of(step, "step"), text_of(step, "detail"));
    }
    if (launch.contains("verdict")) out += "\n" + verdict_text(launch.at("verdict"), attest::Detail::all);
    return out;
}

std::optional<std::string> event_line(const client::Event& event) {
    if (event.type != "launch") return std::nullopt;
    const json::Value value = json::parse(event.data, "sevd's event", {.bytes = client::EventReader::line_limit_bytes, .depth = 8});
    checked_event(value);
    const std::string head = fmt::format("{} {:>5} {:<10} ", text_of(value, "at"), needed_number(value, "launch"), needed_text(value, "state"));
    const std::string step = text_of(value, "step");
    std::string said = step.empty() ? text_of(value, "reason") : fmt::format("{} {}", step, text_of(value, "detail"));
    if (said.empty()) said = text_of(value, "name");
    return wrapped(head, said, 38, columns);
}

namespace {

/// Hands every event of this launch to `take` until the launch runs or has ended; then what sevd says of it.
json::Value until_settled(const Service& daemon, std::uint64_t id, std::chrono::milliseconds timeout,
                          const std::function<void(const json::Value&)>& take) {
    const std::string target = fmt::format("/v1/launches/{}", id);
    const auto end = std::chrono::steady_clock::now() + timeout;
    std::uint64_t last_id = 0; // from the beginning of what sevd still remembers, so that no step before our first question is missed
    const auto hear = [&](const client::Event& event) {
        last_id = event.id;
        if (event.type != "launch") return true;
        const json::Value value = json::parse(event.data, "sevd's event", {.bytes = client::EventReader::line_limit_bytes, .depth = 8});
        checked_event(value);
        if (needed_number(value, "launch") != id) return true;
        take(value);
        return !(text_of(value, "step").empty() && (launch_state(value) == "running" || launch_has_ended(value)));
    };
    // Many who ask again and again would take sevd's time from the launches themselves.
    constexpr std::chrono::milliseconds longest_pause{2000};
    for (std::chrono::milliseconds pause{100};; pause = std::min(2 * pause, longest_pause)) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
        if (left > std::chrono::milliseconds{0})
            daemon.client().listen({.target = "/v1/events", .headers = {{"Last-Event-ID", std::to_string(last_id)}}}, left, hear,
                                   client::UnixClient::NoPlace::return_false);
        // What the events said is for eyes. The answer is what sevd says of the launch now.
        auto launch = daemon.get(target);
        if (!launch) throw Error{Fault::network, fmt::format("sevd does not know launch {} any more", id)};
        if (checked_launch(*launch).at("id") != id)
            throw Error{Fault::malformed, fmt::format("{}: id is {}, want {}", what, needed_number(*launch, "id"), id)};
        if (launch_state(*launch) == "running" || launch_has_ended(*launch)) return *std::move(launch);
        if (std::chrono::steady_clock::now() >= end)
            throw Error{Fault::network, fmt::format("launch {} is {}, and the time to wait for it is over", id, launch_state(*launch)),
                        fmt::format("sevctl launches watch {}", id)};
        std::this_thread::sleep_for(pause); // sevd was started anew, has no place for us, or we were too slow
    }
}

} // namespace

json::Value settled(const Service& daemon, std::uint64_t id, std::chrono::milliseconds timeout) {
    return until_settled(daemon, id, timeout, [](const json::Value&) {});
}

Answer follow(const Service& daemon, std::uint64_t id, std::chrono::milliseconds timeout, Console& console, attest::Detail detail) {
    std::string last_state;
    const json::Value launch = until_settled(daemon, id, timeout, [&](const json::Value& value) {
        const std::string state = launch_state(value), step = text_of(value, "step");
        if (!step.empty()) console.print(step_line(step, text_of(value, "detail")));
        else if (state != last_state) console.print(step_line(state, text_of(value, "reason")));
        console.finish(); // live: also through a pipe
        last_state = state;
    });
    if (launch.contains("verdict")) console.print("\n" + verdict_text(launch.at("verdict"), detail));
    const std::string reason = text_of(launch, "reason");
    console.print("\n" + wrapped(fmt::format("launch {}: ", id), launch_state(launch) + (reason.empty() ? "" : ": " + reason), 4, columns));
    return launch_answer(launch);
}

} // namespace sev::cli
