// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <string>

#include "base/file.hpp"

namespace sev::daemon {

/// Calls a wait off, from any thread.
class Cancel {
public:
    Cancel();
    void now() noexcept;
    bool called() const noexcept;
    /// Readable once it is called.
    int fd() const noexcept { return event_.get(); }

private:
    Fd event_;
};

struct TransferLimits {
    std::size_t answer_bytes;
    std::chrono::steady_clock::time_point until;
};

/// Writes `text` to `to`, non-blocking, and reads from `from` to its end; both may be one socket. When `to` is another descriptor it is closed once
/// all is written. Throws Error{Fault::network} that says whether the deadline passed, the answer is too long, the other end is gone, or the wait was
/// called off.
std::string transfer(Fd to, Fd from, std::string_view text, const TransferLimits& limits, const Cancel& cancel);
std::string transfer(Fd socket, std::string_view text, const TransferLimits& limits, const Cancel& cancel);

} // namespace sev::daemon
