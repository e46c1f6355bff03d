// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/session_times.hpp"

#include <algorithm>
#include <ctime>

namespace sev::attest::owner {
namespace {

constexpr std::chrono::seconds jitter{2}; // between reading one clock and the other, and of slewing

} // namespace

SessionTimes::Steady SessionTimes::boot_clock() {
    timespec at{};
    ::clock_gettime(CLOCK_BOOTTIME, &at);
    return std::chrono::seconds{at.tv_sec} + std::chrono::nanoseconds{at.tv_nsec};
}

SessionTimes::SessionTimes(Time now, Clock clock) : clock_{std::move(clock)}, anchor_{.created = now, .expires = now, .begun = clock_()} {}

Time SessionTimes::undisturbed(const Life& life) const { return life.created + std::chrono::floor<std::chrono::seconds>(clock_() - life.begun); }

void SessionTimes::opened(const SessionId& id, Time created, Time expires) {
    const std::scoped_lock lock{mutex_};
    lives_.insert_or_assign(id, Life{.created = created, .expires = expires, .begun = clock_()});
}

Time SessionTimes::time_of(const SessionId& id, Time now) const {
    const std::scoped_lock lock{mutex_};
    const auto found = lives_.find(id);
    return found == lives_.end() ? now : undisturbed(found->second);
}

void SessionTimes::taken(const SessionId& id) {
    const std::scoped_lock lock{mutex_};
    lives_.erase(id);
}

SessionTimes::Cleaning SessionTimes::cleaning(Time now) {
    const std::scoped_lock lock{mutex_};
    const Steady at = clock_();
    Cleaning out{.by = now};
    const auto off = now - undisturbed(anchor_);
    if (!holding_ && std::chrono::abs(off) > jitter) {
        out.set_by = off;
        holding_ = true;
        hold_until_ = at;
        for (const auto& [id, life] : lives_) hold_until_ = std::max<Steady>(hold_until_, life.begun + (life.expires - life.created));
    }
    if (holding_ && at < hold_until_) {
        out.by = std::min(now, undisturbed(anchor_));
        return out;
    }
    holding_ = false;
    anchor_ = {.created = now, .expires = now, .begun = at};
    return out;
}

void SessionTimes::cleaned(Time by) {
    const std::scoped_lock lock{mutex_};
    std::erase_if(lives_, [&](const auto& entry) { return entry.second.expires <= by; });
}

std::size_t SessionTimes::size() const {
    const std::scoped_lock lock{mutex_};
    return lives_.size();
}

} // namespace sev::attest::owner
