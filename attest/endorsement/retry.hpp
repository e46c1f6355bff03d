// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <optional>
#include <string>

#include "base/json.hpp"

/// When a key server may be asked again.
namespace sev::endorsement {

using Time = std::chrono::sys_time<std::chrono::milliseconds>;
using Milliseconds = std::chrono::milliseconds;

/// "2026-01-02T03:04:05Z", for people.
std::string text(Time time);

/// A server's wish to be left alone is believed up to here: nothing a server says can lock us out for longer.
inline constexpr Milliseconds longest_wait = std::chrono::hours{24};
/// The longest time for which "there is no such endorsement" is believed.
inline constexpr Milliseconds longest_missing = std::chrono::hours{24 * 7};

/// The value of a Retry-After header: seconds, or an HTTP-date in each of the three forms that a recipient must read. Never before `now`, never later
/// than `now` + longest_wait; nullopt when it is neither. Source: RFC 9110 sections 10.2.3 and 5.6.7.
std::optional<Time> retry_after(std::string_view value, Time now);

/// How long to leave a server alone after its `failures`-th failure in a row (from 1): `first` doubled each time up to an hour, of which a random
/// part is taken, at least one half, so that many hosts do not come back together. `random` is from 0 up to 1.
Milliseconds back_off(unsigned failures, Milliseconds first, double random);

/// What is known of one server that failed; kept beside the cache so that every process obeys it. JSON, format "xen-sev/server-wait".
struct WaitNote {
    static constexpr std::string_view format = "xen-sev/server-wait";
    static constexpr std::size_t limit_bytes = 4096;
    std::string server; // "host:port"
    unsigned failures = 0;
    Time not_before{};
    std::string reason;
    /// Throws Error{Fault::malformed}.
    static WaitNote parse(std::string_view text, std::string_view what);
    std::string serialize() const;
    friend bool operator==(const WaitNote&, const WaitNote&) = default;
};

/// A server said that it has no such thing: not asked again before `ask_again`. JSON, format "xen-sev/endorsement-missing".
struct MissingNote {
    static constexpr std::string_view format = "xen-sev/endorsement-missing";
    static constexpr std::size_t limit_bytes = 4096;
    std::string subject; // "cek <128 hex>" or "ca <product>"
    std::string server;
    Time asked{}, ask_again{};
    std::string reason;
    static MissingNote parse(std::string_view text, std::string_view what);
    std::string serialize() const;
    friend bool operator==(const MissingNote&, const MissingNote&) = default;
};

} // namespace sev::endorsement
