// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>

#include "attest/protocol/exchange.hpp"
#include "launch/daemon/configuration.hpp"
#include "launch/daemon/spawner.hpp"

namespace sev::daemon {

/// The way to the guest owners. What comes back is nothing until attest::open_answer has opened it under the pinned key. Thread-safe.
class OwnerChannel {
public:
    /// `spawner` may be null: then owners with a command channel cannot be asked.
    explicit OwnerChannel(const Spawner* spawner) : spawner_{spawner} {}

    /// Makes the request anew for each attempt: the nonce must be fresh.
    using MakeRequest = std::function<std::string()>;
    /// Heard before each further attempt: why the last one came to nothing.
    using Again = std::function<void(const std::string& reason)>;
    /// Asks until there is an answer, or the owner's deadline has passed. Attempts that brought no answer, and answers of trouble that say "retry",
    /// are followed by others. Throws Error{Fault::network} when it stays without one, Error{Fault::malformed} when what came is not the owner's
    /// answer to the request, and for an answer of trouble without "retry".
    attest::ExchangeAnswer ask(const std::string& name, const Owner& owner, const MakeRequest& make_request, const Again& again,
                               const Cancel& cancel) const;

private:
    std::string carry(const std::string& name, const Owner& owner, const std::string& request, std::chrono::steady_clock::time_point until,
                      const Cancel& cancel) const;
    const Spawner* spawner_;
};

/// The body of an HTTP/1.1 answer with status 200 and type application/jose. Throws Error{Fault::network} with what a problem says, or that it is no
/// such answer.
std::string read_http_answer(std::string_view text);

} // namespace sev::daemon
