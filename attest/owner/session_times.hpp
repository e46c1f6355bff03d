// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <mutex>

#include "attest/protocol/message.hpp"

namespace sev::attest::owner {

/// How long the sessions of this process have lived, whatever is done to the clock meanwhile. A session made here expires after its lifetime as a
/// clock counts it that nobody can set (Linux' CLOCK_BOOTTIME): set forward, the time of day does not end it early, and set back, it does not
/// prolong it. Sessions of other instances, and of this one before it was started anew, are of the time of day. Thread-safe.
class SessionTimes {
public:
    using Steady = std::chrono::nanoseconds; // since some fixed moment
    using Clock = std::function<Steady()>;
    static Steady boot_clock();

    explicit SessionTimes(Time now, Clock clock = boot_clock);
    void opened(const SessionId& id, Time created, Time expires);
    /// What the time of day would be by now, for this session, had nobody set the clock since it was made; `now` for one that was not made here.
    Time time_of(const SessionId& id, Time now) const;
    void taken(const SessionId& id);

    struct Cleaning {
        Time by{};                      // what expired by this time has expired by either clock
        std::chrono::seconds set_by{0}; // said once: by how much the clock was set since the last time
    };
    /// For the store's cleaning, now and then: never later than either clock says while a session from before the clock was set may live.
    Cleaning cleaning(Time now);
    /// The store was cleaned by this time: what expired by then is not there any more.
    void cleaned(Time by);
    std::size_t size() const;

private:
    struct Life {
        Time created, expires;
        Steady begun;
    };
    Time undisturbed(const Life& life) const;
    Clock clock_;
    mutable std::mutex mutex_;
    std::map<SessionId, Life> lives_;
    Life anchor_; // of the process; `expires` is not used
    Steady hold_until_{0};
    bool holding_ = false;
};

} // namespace sev::attest::owner
