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
    std::string content_type{};             // without parameters, lower case; empty when the server names none
};
/// Why there is no answer.
struct NoAnswer {
    std::string reason, hint;
    bool worth_retrying = false; // no connection, a time-out: yes; a certificate that does not verify, a body that is too long: no
    bool sent = true;            // the request may have reached the server; false only when there was no connection at all
};

/// The network, so that a test can stand in for it.
class Http {
public:
    virtual ~Http() = default;
    /// One GET of an https URL. At most `limit_bytes` of body are taken; a longer one is NoAnswer. Returns within `timeout`. Throws
    /// Error{Fault::system} only for reasons of this machine.
    virtual std::variant<Response, NoAnswer> get(const std::string& url, std::size_t limit_bytes, std::chrono::milliseconds timeout) = 0;
    /// One POST of `body` as application/json to an https URL: TLS 1.3, no redirect is followed, nothing is sent twice. Otherwise like `get`.
    virtual std::variant<Response, NoAnswer> post(const std::string& url, ByteView body, std::size_t limit_bytes,
                                                  std::chrono::milliseconds timeout) = 0;
};

} // namespace sev::relay
