// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/file.hpp"

namespace sev::launch::xen {

/// A program that was started: our end of the socket that is its stdin and stdout, and of the pipe that is its stderr. It inherits nothing else of
/// ours, not even the environment, and leads a session of its own.
struct Started {
    Fd socket, errors;
};

/// Starts programs. Thread-safe.
class Starter {
public:
    Starter() = default;
    Starter(const Starter&) = delete;
    Starter& operator=(const Starter&) = delete;
    virtual ~Starter() = default;
    /// Throws Error{Fault::system} "PROGRAM: No such file or directory".
    virtual Started start(const Path& program, const std::vector<std::string>& arguments) = 0;
};

/// Starts `program` as a child of this process, which does not wait for it. For a program that runs nothing else and ends soon after.
std::unique_ptr<Starter> direct_starter();

/// Starts programs from a process of its own, forked here and now, for a daemon that gives up exec. Call it before any thread is started. `allowed`
/// are the only programs it starts, whatever the daemon asks later. It ends with the daemon; what it started does not. Throws Error{Fault::system}.
std::unique_ptr<Starter> forked_starter(std::vector<Path> allowed);

} // namespace sev::launch::xen
