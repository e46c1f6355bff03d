// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "base/file.hpp"
#include "launch/daemon/transfer.hpp"

namespace sev::daemon {

/// Runs the owners' channel commands in the daemon's place, so that the daemon itself may not exec anything. A process forked before the daemon gives
/// up its rights; it is told an owner's name, never a command line, and reads the command from the configuration file itself. Each command runs in a
/// process group of its own, which is killed when its exchange is over, at its deadline, and when the daemon dies.
class Spawner {
public:
    /// Forks. Before any thread is started. Throws Error{Fault::system}.
    explicit Spawner(Path configuration);
    Spawner(const Spawner&) = delete;
    Spawner& operator=(const Spawner&) = delete;
    ~Spawner();
    /// Runs the command of this owner's channel with `text` on its stdin and returns its stdout. Throws Error{Fault::network} as `transfer` does, and
    /// when the command ends with another status than 0. From any thread.
    std::string exchange(const std::string& owner, std::string_view text, const TransferLimits& limits, const Cancel& cancel) const;

private:
    Fd socket_;
    int process_ = -1;
};

} // namespace sev::daemon
