// SPDX-License-Identifier: Apache-2.0
#include "base/client/unix_client.hpp"

#include <algorithm>
#include <optional>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

#include "base/error.hpp"
#include "base/json.hpp"

namespace sev::client {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Stream = beast::basic_stream<asio::local::stream_protocol>;
using Milliseconds = std::chrono::milliseconds;

constexpr std::uint32_t header_limit_bytes = 64 * 1024;
constexpr std::size_t problem_limit_bytes = 64 * 1024;

/// One connection, whose every operation ends by the deadline given at its start.
class Connection {
public:
    Connection(const Path& socket, Milliseconds deadline) : name_{socket.string()}, deadline_{deadline}, stream_{io_} {
        stream_.expires_after(deadline);
        if (name_.size() >= sizeof(sockaddr_un::sun_path))
            throw Error{Fault::usage, fmt::format("{}: {} bytes, too long for a socket's path", name_, name_.size())};
        const error_code error = wait([&](auto done) { stream_.async_connect(asio::local::stream_protocol::endpoint{name_}, done); });
        if (!error) return;
        if (error == asio::error::access_denied)
            throw Error{Fault::system, fmt::format("{}: permission denied", name_), "reading needs its group, changing needs root"};
        const bool absent = error == error_code{ENOENT, boost::system::system_category()} || error == asio::error::connection_refused;
        throw Error{Fault::network, fmt::format("{}: {}", name_, absent ? "nobody listens there" : error.message()),
                    absent ? "is the service running?" : ""};
    }

    void send(const Question& question) {
        http::request<http::string_body> request;
        request.method_string(question.method);
        request.target(question.target);
        request.version(11);
        request.set(http::field::host, "localhost");
        request.keep_alive(false);
        if (!question.content_type.empty()) request.set(http::field::content_type, question.content_type);
        for (const auto& [name, value] : question.headers) request.set(name, value);
        request.body() = question.body;
        if (!question.content_type.empty()) request.prepare_payload();
        // a service that refuses a body before it is read may close while we still write: its answer is there to be read all the same
        send_error_ = wait([&](auto done) { http::async_write(stream_, request, done); });
    }

    template <class Parser>
    void read_header(Parser& parser) {
        parser.header_limit(header_limit_bytes);
        check(wait([&](auto done) { http::async_read_header(stream_, buffer_, parser, done); }), "no answer");
    }
    template <class Parser>
    void read_rest(Parser& parser) {
        if (!parser.is_done()) check(wait([&](auto done) { http::async_read(stream_, buffer_, parser, done); }), "half an answer");
    }
    /// Some more of the body; false at its end.
    template <class Parser>
    error_code read_some(Parser& parser) {
        return wait([&](auto done) { http::async_read_some(stream_, buffer_, parser, done); });
    }
    [[noreturn]] void fail(const error_code& error, std::string_view what) const {
        if (error == beast::error::timeout) throw Error{Fault::network, fmt::format("{}: {} within {} ms", name_, what, deadline_.count())};
        if (error == http::error::body_limit) throw Error{Fault::network, fmt::format("{}: the answer's body is too long", name_)};
        if (send_error_) throw Error{Fault::network, fmt::format("{}: cannot send: {}", name_, send_error_.message())};
        throw Error{Fault::network, fmt::format("{}: {}: {}", name_, what,
                                                error == http::error::end_of_stream ? "the service closed the connection" : error.message())};
    }

private:
    template <class Start>
    error_code wait(Start start) {
        error_code out;
        start([&out](const error_code& error, auto...) { out = error; });
        io_.restart();
        io_.run();
        return out;
    }
    void check(const error_code& error, std::string_view what) const {
        if (error) fail(error, what);
    }

    std::string name_;
    Milliseconds deadline_;
    asio::io_context io_{1};
    Stream stream_;
    beast::flat_buffer buffer_{header_limit_bytes + 1024 * 1024};
    error_code send_error_;
};

std::string media_type(std::string_view text) {
    std::string out{text.substr(0, std::min(text.find(';'), text.size()))};
    while (out.ends_with(' ')) out.pop_back();
    std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return out;
}

template <class Parser>
std::string content_type_of(const Parser& parser) {
    const auto found = parser.get()[http::field::content_type];
    return media_type({found.data(), found.size()});
}

} // namespace

Answer UnixClient::ask(const Question& question, std::size_t limit_bytes, Milliseconds deadline) const {
    Connection connection{socket_, deadline};
    connection.send(question);
    http::response_parser<http::string_body> parser;
    parser.body_limit(limit_bytes);
    if (question.method == "HEAD") parser.skip(true);
    connection.read_header(parser);
    connection.read_rest(parser);
    return {.status = parser.get().result_int(), .content_type = content_type_of(parser), .body = std::move(parser.get().body())};
}

bool UnixClient::listen(const Question& question, Milliseconds deadline, const std::function<bool(const Event&)>& take, NoPlace no_place) const {
    Connection connection{socket_, deadline};
    connection.send(question);
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    connection.read_header(parser);
    const unsigned status = parser.get().result_int();
    std::string piece(16 * 1024, '\0');
    EventReader reader;
    std::string refusal;
    const bool events = status == 200 && content_type_of(parser) == "text/event-stream";
    while (!parser.is_done()) {
        parser.get().body() = {.data = piece.data(), .size = piece.size(), .more = true};
        const error_code error = connection.read_some(parser);
        const std::string_view got{piece.data(), piece.size() - parser.get().body().size};
        if (!events && refusal.size() < problem_limit_bytes) refusal += got;
        if (events)
            for (const Event& event : reader.feed(got))
                if (!take(event)) return true;
        if (!error || error == http::error::need_buffer) continue;
        if (!events) break;
        if (error == beast::error::timeout || error == http::error::end_of_stream || error == http::error::partial_message ||
            error == asio::error::connection_reset)
            return false;
        connection.fail(error, "event stream");
    }
    if (events || (status == 503 && no_place == NoPlace::return_false)) return false;
    const Problem problem = problem_of({.status = status, .content_type = content_type_of(parser), .body = std::move(refusal)});
    throw Error{Fault::network, fmt::format("{}: {}", socket_.string(), problem.detail), problem.hint};
}

Problem problem_of(const Answer& answer) {
    Problem out{.detail = fmt::format("status {}", answer.status), .hint = {}};
    if (answer.content_type != "application/problem+json" || answer.body.size() > problem_limit_bytes) return out;
    try {
        const json::Value value = json::parse(answer.body, "problem", {.bytes = problem_limit_bytes, .depth = 8});
        json::Object object{value, "problem"};
        if (object.has("detail")) out.detail = printable(object.string("detail"), 2000);
        else if (object.has("title")) out.detail = printable(object.string("title"), 200);
        if (object.has("hint")) out.hint = printable(object.string("hint"), 2000);
    } catch (const Error&) {
        // what says no reason in a form we read has its status left
    }
    return out;
}

} // namespace sev::client
