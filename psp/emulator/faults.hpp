// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "psp/command_id.hpp"
#include "psp/status.hpp"

namespace sev::psp::emulator {

/// One injected fault: `command` answers `status`, or hangs when `status` is empty. `skip` matching commands pass first; then `count` fail (0: for
/// ever).
struct Fault {
    CommandId command{};
    std::optional<Status> status;
    std::uint32_t skip = 0;
    std::uint32_t count = 1;
    /// Reads "LAUNCH_START=BAD_MEASUREMENT", "PDH_GEN=hang", "ACTIVATE=0x0D,skip=2,count=0". Throws Error{Fault::usage}.
    static Fault parse(std::string_view text);
    friend bool operator==(const Fault&, const Fault&) = default;
};

/// The faults of one emulator. Thread-safe.
class Faults {
public:
    void add(Fault fault);
    void clear();
    /// Lets every hanging command answer (with the status it would have had), now and until the next `add`.
    void release();
    struct Decision {
        bool hang = false;
        std::optional<Status> status;
    };
    /// What is injected into this command; counts it. Of several faults for one command the first added that is due
    /// wins; those before it count the command as skipped.
    Decision next(std::uint32_t command);
    /// Waits for `release`; false when `deadline` passed first.
    bool wait_released(std::chrono::milliseconds deadline);

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Fault> faults_;
    std::uint64_t releases_ = 0;
    bool released_ = false;
};

} // namespace sev::psp::emulator
