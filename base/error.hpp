// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace sev {

/// Fault says whose turn it is: the caller's (usage), the sender's of some bytes (malformed), the PSP's (firmware),
/// the operating system's or OpenSSL's (system), the other end's of a connection (network), or ours (bug).
enum class Fault { usage, malformed, firmware, system, network, bug };

/// Error is the only exception type of the house. Nobody catches it to decide something; it ends at `main`, at a C ABI
/// function or at a network connection. The message names the subject, what was found and what was wanted; it never holds secret bytes.
class Error : public std::exception {
public:
    Error(Fault fault, std::string message, std::string hint = {})
        : fault_{fault}, message_{std::move(message)}, hint_{std::move(hint)} {}
    const char* what() const noexcept override { return message_.c_str(); }
    Fault fault() const noexcept { return fault_; }
    /// What the reader can do next; empty when there is nothing sensible to say.
    const std::string& hint() const noexcept { return hint_; }
    void prepend(std::string_view doing) { message_.insert(0, std::string{doing} + ": "); }

private:
    Fault fault_;
    std::string message_;
    std::string hint_;
};

/// Runs body; an Error that leaves it says what was being done.
template <class Body>
decltype(auto) within(std::string_view doing, Body&& body) {
    try {
        return std::forward<Body>(body)();
    } catch (Error& error) {
        error.prepend(doing);
        throw;
    }
}

/// A broken invariant is reported in release builds too.
inline void require(bool invariant, const char* what) {
    if (!invariant) throw Error{Fault::bug, std::string{"broken invariant: "} + what};
}

} // namespace sev
