// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "launch/xen/starter.hpp"

namespace sev::launch::xen {

using Deadline = std::chrono::steady_clock::time_point;

/// A program that was started, to talk with. When this dies it sees the end of its input, and is not killed.
class Child {
public:
    Child(Starter& starter, const Path& program, const std::vector<std::string>& arguments);
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() = default;

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

private:
    bool fill(Deadline deadline, std::size_t limit_bytes);
    [[noreturn]] void ended();
    Path program_;
    Started started_;
    std::string pending_;
};

} // namespace sev::launch::xen
