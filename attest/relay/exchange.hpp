// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <functional>

#include "attest/relay/http.hpp"

namespace sev::relay {

/// Bounds of what is carried, generous: both ends hold the messages against their own, tighter ones.
inline constexpr std::size_t exchange_request_limit_bytes = 8 << 20, exchange_answer_limit_bytes = 12 << 20;

/// Where the guest owner's service is reached.
struct OwnerService {
    std::string url;                         // https://HOST[:PORT][/PREFIX]; "/v1/exchange" is added
    std::chrono::milliseconds deadline{std::chrono::seconds{60}}; // for everything together, the request's coming in included
    std::chrono::milliseconds connect_again{std::chrono::seconds{1}}; // pause before another attempt, when there was no connection
};

/// Throws Error{Fault::usage} unless it is an https URL with a host, without credentials, query and fragment.
void check_owner_url(std::string_view url);

/// carry takes one request to the guest owner and brings back the answer, as bytes: it reads neither, because it is trusted with neither. One POST.
/// It is repeated only while no connection could be made at all, so that no step is ever made twice by a relay. The deadline is counted from `began`.
/// Throws Error{Fault::network} when there is no answer within it, or one that cannot be an owner's: another status than 200, another type than
/// application/jose, more bytes than the limit.
Bytes carry(Http& http, const OwnerService& owner, ByteView request, std::chrono::steady_clock::time_point began,
            const std::function<void(std::chrono::milliseconds)>& sleep);

/// Reads standard input (or any descriptor) to its end: at most `limit_bytes`, until `deadline`. Throws Error{Fault::malformed} above the limit, for
/// nothing at all, and Error{Fault::network} when the sender does not end in time.
Bytes read_request(int descriptor, std::size_t limit_bytes, std::chrono::milliseconds deadline);

} // namespace sev::relay
