// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "launch/daemon/configuration.hpp"
#include "launch/daemon/transfer.hpp"

namespace sev::daemon {

/// Runs the owners' channel commands in the daemon's place, so that the daemon itself may not exec anything. A process forked before the daemon gives
/// up its rights, which knows the commands of the configuration as it was then. It is told an owner's name, never a command line; other commands it
/// takes from the configuration file alone. Each command runs in a process group of its own, which is killed when its exchange is over, at its
/// deadline, and when the daemon dies.
class Spawner {
public:
    /// Forks. Before any thread is started. `loaded` is what `file` holds. Throws Error{Fault::system}.
    Spawner(Path file, const Configuration& loaded);
    Spawner(const Spawner&) = delete;
    Spawner& operator=(const Spawner&) = delete;
    ~Spawner();
    /// From now on the commands of `loaded`, which the process reads from the file for itself. Throws Error{Fault::system} that says why, and leaves
    /// the commands as they were, when it reads something else there or nothing.
    void reload(const Configuration& loaded) const;
    /// Runs the command of this owner's channel with `text` on its stdin and returns its stdout. Throws Error{Fault::network} as `transfer` does, and
    /// when the command ends with another status than 0. From any thread.
    std::string exchange(const std::string& owner, std::string_view text, const TransferLimits& limits, const Cancel& cancel) const;

private:
    Fd socket_;
    int process_ = -1;
};

} // namespace sev::daemon
