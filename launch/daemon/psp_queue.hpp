// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "psp/firmware.hpp"

namespace sev::daemon {

/// How the PSP is, as far as its last commands tell.
struct PspHealth {
    enum class State { answering, silent, failing } state = State::answering;
    std::string detail; // "LAUNCH_MEASURE has had no answer for 12 s"; empty while it answers
};

/// One PSP behind one queue: commands of all launches go to it one at a time, each with a deadline that counts from when the PSP gets it. A command
/// without an answer makes the PSP `silent`: commands behind it and new ones fail at once, until it answers again. HWERROR makes it `failing` until a
/// command succeeds. Thread-safe.
class PspQueue final : public psp::Firmware {
public:
    /// Hears of a LAUNCH_START that succeeded after everybody had given it up: the guest context is nobody's.
    using Orphan = std::function<void(psp::GuestHandle)>;
    PspQueue(std::shared_ptr<psp::Firmware> firmware, std::chrono::milliseconds deadline);
    /// A command without an answer is not waited for: its thread, and with it the firmware object, is left behind.
    ~PspQueue() override;

    /// Throws Error{Fault::firmware} "no answer within 30000 ms" or "the PSP does not answer: …".
    psp::Status issue(psp::CommandId id, psp::Call& call) override;
    void flush_caches() override;
    std::string_view backend() const noexcept override;

    PspHealth health() const;
    void on_orphan(Orphan orphan);
    /// What is counted for metrics: commands by outcome.
    struct Counts {
        std::uint64_t commands = 0, refused = 0, unanswered = 0;
        double busy_seconds = 0;
    };
    Counts counts() const;

private:
    struct Shared;
    struct Job;
    void submit(const std::shared_ptr<Job>& job);
    std::shared_ptr<Shared> shared_;
};

} // namespace sev::daemon
