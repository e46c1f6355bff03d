// SPDX-License-Identifier: Apache-2.0
#include "attest/relay/exchange.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <poll.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::relay {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

Milliseconds left_until(Steady::time_point end) { return std::chrono::duration_cast<Milliseconds>(end - Steady::now()); }

/// An owner's service says why in RFC 9457's "title" or "detail"; what it says is for people and decides nothing.
std::string said_with(const Response& response) {
    if (response.content_type != "application/problem+json" && response.content_type != "application/json" && response.content_type != "text/plain")
        return {};
    return response.body.empty() ? std::string{} : ": " + printable(as_text(response.body), 400);
}

[[noreturn]] void refuse(const std::string& url, const Response& response) {
    const std::string hint =
        response.status == 401 || response.status == 403 ? "the owner does not know this client certificate: see --cert and --key" : "";
    throw Error{Fault::network, fmt::format("{}: answered with status {}{}", url, response.status, said_with(response)), hint};
}

} // namespace

void check_owner_url(std::string_view url) {
    const auto refuse_url = [&](std::string_view why) {
        throw Error{Fault::usage, fmt::format("owner's URL {}: {}", url.empty() ? "is empty" : printable(url), why),
                    "such as https://owner.example:8443"};
    };
    constexpr std::string_view scheme = "https://";
    if (!url.starts_with(scheme)) refuse_url("want one that begins with https://");
    const std::string_view rest = url.substr(scheme.size());
    if (rest.empty() || rest.front() == '/' || rest.front() == ':') refuse_url("has no host");
    if (rest.find_first_of("@?#") != std::string_view::npos) refuse_url("has credentials, a query or a fragment, which it must not");
    if (!std::ranges::all_of(rest, [](char c) { return c > 0x20 && c < 0x7F && c != '\\' && c != '"'; }))
        refuse_url("has a character that no URL has");
}

Bytes carry(Http& http, const OwnerService& owner, ByteView request, Steady::time_point began, const std::function<void(Milliseconds)>& sleep) {
    check_owner_url(owner.url);
    std::string url = owner.url;
    while (url.ends_with('/')) url.pop_back();
    url += "/v1/exchange";
    const auto end = began + owner.deadline;
    for (std::string last;;) {
        const Milliseconds left = left_until(end);
        if (left <= Milliseconds{0})
            throw Error{Fault::network, fmt::format("{}: no answer within {} ms{}", url, owner.deadline.count(), last.empty() ? "" : ": " + last)};
        auto answer = http.post(url, request, exchange_answer_limit_bytes, left);
        if (auto* response = std::get_if<Response>(&answer)) {
            if (response->status != 200) refuse(url, *response);
            if (response->content_type != "application/jose")
                throw Error{Fault::network,
                            fmt::format("{}: answered with type {}, want application/jose", url,
                                        response->content_type.empty() ? "none" : printable(response->content_type)),
                            "a proxy or login page may stand between"};
            if (response->body.empty()) throw Error{Fault::network, fmt::format("{}: the answer is empty", url)};
            return std::move(response->body);
        }
        const auto& none = std::get<NoAnswer>(answer);
        // a request that may have arrived is not sent again: the owner would take it for a second step of one session
        if (none.sent || !none.worth_retrying || left_until(end) <= owner.connect_again)
            throw Error{Fault::network, fmt::format("{}: {}", url, none.reason), none.hint};
        last = none.reason;
        sleep(owner.connect_again);
    }
}

Bytes read_request(int descriptor, std::size_t limit_bytes, Milliseconds deadline) {
    const auto end = Steady::now() + deadline;
    Bytes out;
    std::array<std::uint8_t, 65536> piece{};
    for (;;) {
        const Milliseconds left = left_until(end);
        if (left <= Milliseconds{0})
            throw Error{Fault::network, fmt::format("request: {} bytes and no end within {} ms", out.size(), deadline.count())};
        pollfd waiting{.fd = descriptor, .events = POLLIN, .revents = 0};
        const int ready = ::poll(&waiting, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 60'000)));
        if (ready < 0 && errno != EINTR) throw Error{Fault::system, fmt::format("request: {}", std::strerror(errno))};
        if (ready <= 0) continue;
        const ssize_t count = ::read(descriptor, piece.data(), piece.size());
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (count < 0) throw Error{Fault::system, fmt::format("request: {}", std::strerror(errno))};
        if (count == 0) break;
        if (static_cast<std::size_t>(count) > limit_bytes - out.size())
            throw Error{Fault::malformed, fmt::format("request: more than {} bytes", limit_bytes)};
        out.insert(out.end(), piece.begin(), piece.begin() + count);
    }
    if (out.empty()) throw Error{Fault::malformed, "request: nothing came", "send one request on standard input, and end it"};
    return out;
}

} // namespace sev::relay
