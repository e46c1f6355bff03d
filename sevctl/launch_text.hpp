// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/protocol/verdict.hpp"
#include "sevctl/service.hpp"

/// sevd's launches (docs/sevd.openapi.json) as text for people. Everything in them is made printable.
namespace sev::cli {

std::string launch_state(const json::Value& launch);
std::string launch_name(const json::Value& launch);
bool launch_has_ended(const json::Value& launch);
bool launch_is_emulated(const json::Value& launch);
/// Yes when, and only when, its state is "running".
Answer launch_answer(const json::Value& launch);

/// Number, state, level, name, reason: at most 80 columns.
std::string launch_line(const json::Value& launch);
/// All of it: facts, steps, verdict.
std::string launch_text(const json::Value& launch);
/// One event of /v1/events for eyes, or nullopt when it says nothing of a launch.
std::optional<std::string> event_line(const client::Event& event);

/// Prints a launch's steps as they come, until it runs or has ended or the time is over; then its verdict. Throws Error{Fault::network} when the time
/// is over.
Answer follow(const Service& daemon, std::uint64_t id, std::chrono::milliseconds timeout, Console& console, attest::Detail detail);
/// Waits likewise, and says nothing.
json::Value settled(const Service& daemon, std::uint64_t id, std::chrono::milliseconds timeout);

} // namespace sev::cli
