// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <variant>

#include "base/bytes.hpp"

namespace sev::relay {

/// What a server answered, whatever its status.
struct Response {
    unsigned status = 0;
    Bytes body;
    std::optional<std::string> retry_after; // value of the header
};
/// Why there is no answer.
struct NoAnswer {
    std::string reason, hint;
    bool worth_retrying = false; // no connection, a time-out: yes; a certificate that does not verify, a body that is too long: no
};

/// The network, so that a test can stand in for it.
class Http {
public:
    virtual ~Http() = default;
    /// One GET of an https URL. At most `limit_bytes` of body are taken; a longer one is NoAnswer. Returns within `timeout`. Throws Error{Fault::system}
    /// only for reasons of this machine.
    virtual std::variant<Response, NoAnswer> get(const std::string& url, std::size_t limit_bytes, std::chrono::milliseconds timeout) = 0;
};

} // namespace sev::relay
