// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/owner_channel.hpp"

#include <cerrno>
#include <cstring>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.hpp"

namespace sev::daemon {
namespace {

namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds first_pause{200}, longest_pause{5'000};
constexpr std::size_t head_limit_bytes = 16 * 1024;

Fd connect_unix(const Path& path) {
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    struct sockaddr_un address {};
    address.sun_family = AF_UNIX;
    const std::string text = path.string();
    if (!fd || text.size() >= sizeof address.sun_path)
        throw Error{Fault::network, fmt::format("{}: {}", printable(text), fd ? "path is too long for a socket" : std::strerror(errno))};
    text.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) != 0)
        throw Error{Fault::network, fmt::format("{}: {}", printable(text), std::strerror(errno))};
    return fd;
}

void pause(std::chrono::milliseconds length, const Cancel& cancel) {
    struct pollfd entry {.fd = cancel.fd(), .events = POLLIN, .revents = 0};
    if (::poll(&entry, 1, static_cast<int>(length.count())) == 1) throw Error{Fault::network, "called off"};
}

} // namespace

std::string read_http_answer(std::string_view text) {
    http::response_parser<http::string_body> parser;
    parser.header_limit(head_limit_bytes);
    parser.body_limit(attest::ExchangeAnswer::wire_limit_bytes);
    parser.eager(true);
    boost::system::error_code error;
    while (!error && !text.empty() && !parser.is_done()) {
        const std::size_t used = parser.put(boost::asio::buffer(text.data(), text.size()), error);
        if (used == 0 && !error) break;
        text.remove_prefix(used);
    }
    if (!error && !parser.is_done() && parser.got_some()) parser.put_eof(error);
    if (error || !parser.is_done() || !text.empty())
        throw Error{Fault::network, fmt::format("what came is no whole HTTP answer: {}", error ? error.message() : "it ends too early or goes on")};
    const auto& answer = parser.get();
    const auto field = answer[http::field::content_type];
    const std::string_view type = std::string_view{field.data(), field.size()}.substr(0, std::string_view{field.data(), field.size()}.find(';'));
    if (answer.result_int() != 200) {
        std::string detail;
        try {
            if (type == "application/problem+json")
                detail = json::parse(answer.body(), "problem", {.bytes = 64 * 1024, .depth = 8}).value("detail", "");
        } catch (const std::exception&) {
            // a problem that cannot be read says nothing
        }
        throw Error{Fault::network, fmt::format("HTTP status {}{}{}", answer.result_int(), detail.empty() ? "" : ": ", printable(detail, 512))};
    }
    if (type != "application/jose") throw Error{Fault::network, fmt::format("answer is of type {}, want application/jose", printable(type, 64))};
    return answer.body();
}

std::string OwnerChannel::carry(const std::string& name, const Owner& owner, const std::string& request, Clock::time_point until,
                                const Cancel& cancel) const {
    const TransferLimits limits{.answer_bytes = attest::ExchangeAnswer::wire_limit_bytes + head_limit_bytes, .until = until};
    if (const auto* channel = std::get_if<Owner::UnixChannel>(&owner.channel)) {
        const std::string text = fmt::format("POST /v1/exchange HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: "
                                             "application/jose\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                                             request.size(), request);
        return read_http_answer(transfer(connect_unix(channel->path), text, limits, cancel));
    }
    if (!spawner_) throw Error{Fault::network, "commands cannot be run here"};
    std::string answer = spawner_->exchange(name, request, limits, cancel);
    while (answer.ends_with('\n')) answer.pop_back();
    return answer;
}

attest::ExchangeAnswer OwnerChannel::ask(const std::string& name, const Owner& owner, const MakeRequest& make_request, const Again& again,
                                         const Cancel& cancel) const {
    const auto until = Clock::now() + owner.deadline;
    auto length = first_pause;
    for (;;) {
        std::string trouble;
        try {
            const std::string request = make_request();
            auto answer = attest::open_answer(carry(name, owner, request, until, cancel), request, owner.key);
            const auto* said = std::get_if<attest::ExchangeTrouble>(&answer.body);
            if (!said) return answer;
            if (!said->retry) throw Error{Fault::malformed, fmt::format("owner {}: {}", name, printable(said->message, 1024))};
            trouble = said->message;
        } catch (const Error& error) {
            if (error.fault() != Fault::network || cancel.called() || Clock::now() + length >= until) {
                Error out = error;
                if (error.fault() == Fault::network) out.prepend(fmt::format("owner {}", name));
                throw out;
            }
            trouble = error.what();
        }
        if (Clock::now() + length >= until)
            throw Error{Fault::network, fmt::format("owner {}: no answer before the deadline: {}", name, printable(trouble, 512))};
        again(trouble);
        pause(length, cancel);
        length = std::min(2 * length, longest_pause);
    }
}

} // namespace sev::daemon
