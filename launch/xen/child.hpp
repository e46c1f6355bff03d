// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "base/file.hpp"

namespace sev::launch::xen {

using Deadline = std::chrono::steady_clock::time_point;

/// A program started with its stdin and stdout as one socket and stderr as a pipe, all ours; it inherits nothing else and leads a session of its own.
class Child {
public:
    /// Throws Error{Fault::system} "PROGRAM: No such file or directory".
    Child(const Path& program, const std::vector<std::string>& arguments);
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    /// Closes our ends, and takes its exit status if it has ended by then or does so soon; it is not killed.
    ~Child();

    /// Throws Error{Fault::system} when it does not read on before the deadline or is gone.
    void write(std::string_view text, Deadline deadline);
    /// One line without its end. Throws Error{Fault::system} for its end, a longer line, and at the deadline.
    std::string line(std::size_t limit_bytes, Deadline deadline);
    /// Everything until its end. Throws likewise.
    std::string all(std::size_t limit_bytes, Deadline deadline);
    /// No more input for it.
    void close_input();
    /// What it wrote to stderr so far, the last 4 KiB.
    std::string complaint();
    /// Exit status (128 + signal when killed). Throws Error{Fault::system} at the deadline.
    int wait(Deadline deadline);

private:
    bool fill(Deadline deadline, std::size_t limit_bytes);
    [[noreturn]] void ended();
    Path program_;
    int pid_ = -1;
    Fd socket_, error_pipe_;
    std::string pending_;
};

} // namespace sev::launch::xen
