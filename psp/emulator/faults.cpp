// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/faults.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace sev::psp::emulator {
namespace {

[[noreturn]] void refuse(std::string_view text, std::string_view problem) {
    throw Error{sev::Fault::usage, fmt::format("fault \"{}\": {}", printable(text), problem),
                "write COMMAND=STATUS or COMMAND=hang, then ,skip=N and ,count=N (0: for ever) as needed"};
}

std::uint32_t number(std::string_view text, std::string_view option, std::string_view digits) {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size())
        refuse(text, fmt::format("{} is \"{}\", want 0 to 4294967295", option, printable(digits)));
    return value;
}

/// Cuts off and returns what stands before the first comma.
std::string_view next_part(std::string_view& rest) {
    const std::size_t comma = rest.find(',');
    const std::string_view part = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    return part;
}

} // namespace

Fault Fault::parse(std::string_view text) {
    std::string_view rest = text;
    const std::string_view what = next_part(rest);
    const bool options_follow = what.size() != text.size();
    const std::size_t equals = what.find('=');
    if (equals == std::string_view::npos) refuse(text, "no \"=\" between command and status");
    const auto command = command_named(what.substr(0, equals));
    if (!command) refuse(text, fmt::format("unknown command \"{}\"", printable(what.substr(0, equals))));
    Fault fault{.command = *command, .status = std::nullopt};
    const std::string_view outcome = what.substr(equals + 1);
    if (outcome != "hang") {
        fault.status = status_named(outcome);
        if (!fault.status) refuse(text, fmt::format("unknown status \"{}\"", printable(outcome)));
    }
    if (options_follow && rest.empty()) refuse(text, "ends with a comma");
    while (!rest.empty()) {
        const std::string_view part = next_part(rest);
        if (part.starts_with("skip="))
            fault.skip = number(text, "skip", part.substr(5));
        else if (part.starts_with("count="))
            fault.count = number(text, "count", part.substr(6));
        else
            refuse(text, fmt::format("unknown option \"{}\"", printable(part)));
    }
    return fault;
}

void Faults::add(Fault fault) {
    const std::lock_guard lock{mutex_};
    faults_.push_back(fault);
    released_ = false;
}

void Faults::clear() {
    const std::lock_guard lock{mutex_};
    faults_.clear();
}

void Faults::release() {
    const std::lock_guard lock{mutex_};
    ++releases_;
    released_ = true;
    changed_.notify_all();
}

Faults::Decision Faults::next(std::uint32_t command) {
    const std::lock_guard lock{mutex_};
    Decision decision;
    for (std::size_t i = 0; i < faults_.size(); ++i) {
        Fault& fault = faults_[i];
        if (static_cast<std::uint32_t>(fault.command) != command) continue;
        if (fault.skip > 0) {
            --fault.skip;
            continue;
        }
        decision = {.hang = !fault.status, .status = fault.status};
        if (fault.count != 0 && --fault.count == 0) faults_.erase(faults_.begin() + static_cast<std::ptrdiff_t>(i));
        break;
    }
    return decision;
}

bool Faults::wait_released(std::chrono::milliseconds deadline) {
    // a deadline of "never" must not overflow the clock
    const auto wait = std::min<std::chrono::milliseconds>(deadline, std::chrono::hours{24 * 365});
    std::unique_lock lock{mutex_};
    const std::uint64_t before = releases_;
    return changed_.wait_for(lock, wait, [&] { return released_ || releases_ != before; });
}

} // namespace sev::psp::emulator
