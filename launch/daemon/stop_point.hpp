// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <csignal>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

namespace sev::daemon {

/// For tests of what a killed daemon leaves behind: kills this process, as kill -9 does, when it comes to a named point. Empty: never. The program
/// takes a point only with the emulated PSP. Points: "state:NAME" (the state is journaled, nothing of it done), "before:COMMAND" and "after:COMMAND"
/// of the launch's PSP commands; after LAUNCH_START, and before the handle is journaled; "guest:let-run" (it runs, and the journal has it as
/// starting).
class StopPoint {
public:
    explicit StopPoint(std::string point = {}) : point_{std::move(point)} {}
    void at(std::string_view kind, std::string_view name) const {
        if (!point_.empty() && point_.size() == kind.size() + name.size() + 1 && point_.starts_with(kind) && point_.ends_with(name))
            ::kill(::getpid(), SIGKILL);
    }
    static std::vector<std::string> all();

private:
    std::string point_;
};

} // namespace sev::daemon
