// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "launch/daemon/launches.hpp"

/// Inside launch/daemon/.
namespace sev::daemon {

inline attest::Time now() { return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now()); }

/// A launch that has not ended, or whose end could not be journaled yet.
struct Launches::Live {
    mutable std::mutex mutex; // guards `record`
    Record record;
    Cancel cancel;
    launch::GuestSource* source = nullptr;
    std::unique_ptr<launch::Guest> guest;
    bool opened = false; // the source was asked for a guest: something of it may be there though `guest` is empty
    std::mutex guest_use; // held while a guest that runs is looked at, or is taken apart
    std::string unseen;   // guarded by guest_use: why nobody can tell whether it is there; empty when somebody can
    std::atomic<bool> vanished{false}; // it was looked at, and is not there any more
    std::optional<launch::Running> running;
    std::optional<launch::AsidPool::Stuck> unsure; // a context of an earlier run that the PSP neither showed nor denied
    bool holds_asid = false; // taken from the pool and not yet given to a guest context
    std::thread thread;
    std::atomic<bool> idle{true};    // no thread is at work on it
    std::atomic<bool> unsaved{false}; // its end is not in the journal
    std::atomic<bool> guest_left{false}; // its guest could not be destroyed: to be tried again, for the end below
    std::atomic<bool> leftover{false};   // of an earlier run, which could not be ended: to be tried again
    State end = State::destroyed;
    std::string end_reason;

    Record copy() const {
        const std::scoped_lock lock{mutex};
        return record;
    }
    ~Live() {
        if (thread.joinable()) thread.join();
    }
};

} // namespace sev::daemon
