// SPDX-License-Identifier: Apache-2.0
// One connection: requests in, answers out, each wait under a deadline.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <fmt/format.h>

#include "base/service/listener.hpp"
#include "base/service/server_state.hpp"
#include "base/service/tls.hpp"

namespace sev::service {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using UnixStream = beast::basic_stream<asio::local::stream_protocol>;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;
using Parser = http::request_parser<http::string_body>;

constexpr std::size_t linger_bytes = 256 * 1024;
constexpr std::chrono::seconds linger_deadline{1};

std::string lower(std::string_view text) {
    std::string out{text};
    std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return out;
}

std::string media_type(std::string_view header) {
    std::string_view type = header.substr(0, header.find(';'));
    while (type.ends_with(' ')) type.remove_suffix(1);
    return lower(type);
}

std::string text_of(beast::string_view view) { return {view.data(), view.size()}; }

/// What a parser's error means for who sent it; nullopt when there is nobody left to tell.
std::optional<Response> explain(const error_code& error, const Limits& limits) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow)
        return problem(431, fmt::format("request line and headers of more than {} bytes", limits.header_bytes));
    if (error == beast::error::timeout) return problem(408, "the request did not arrive in time");
    if (error == http::error::bad_version) return problem(505, "want HTTP/1.1");
    if (error == http::error::body_limit) return problem(413, "the body is longer than what is taken here");
    if (error == http::error::end_of_stream || error == http::error::partial_message) return std::nullopt;
    if (error.category() == http::make_error_code(http::error::bad_method).category())
        return problem(400, fmt::format("this is no HTTP request: {}", error.message()));
    return std::nullopt;
}

template <class Stream>
class Conversation {
public:
    Conversation(ServerState& server, Stream& stream, Peer peer, std::shared_ptr<Connection> connection)
        : server_{server}, stream_{stream}, peer_{std::move(peer)}, connection_{std::move(connection)}, buffer_{server.limits.header_bytes + 1024} {}

    asio::awaitable<void> run();

private:
    void deadline(std::chrono::milliseconds in) { beast::get_lowest_layer(stream_).expires_after(in); }
    /// Waits for the first byte, then for the whole header. False: nothing came, or a refusal was sent; the connection ends.
    asio::awaitable<bool> read_header(Parser& parser, bool first);
    /// What refuses the request before any of its body is read.
    std::optional<Response> refuse_body(const Parser& parser, const Route& route) const;
    asio::awaitable<bool> read_body(Parser& parser, const Route& route);
    asio::awaitable<Response> handle(const Route& route, const Request& request);
    /// False when it could not be sent in time.
    asio::awaitable<bool> send(Response response, bool head, bool keep_alive);
    asio::awaitable<void> stream_events(std::shared_ptr<Subscription> subscription);
    /// Sends a refusal of something only half read, and reads on for a moment, so that the other end gets to see it.
    asio::awaitable<void> refuse(Response response);
    bool count_if_late(const error_code& error) {
        if (error == beast::error::timeout) ++server_.counters.deadlines;
        return static_cast<bool>(error);
    }

    ServerState& server_;
    Stream& stream_;
    Peer peer_;
    std::shared_ptr<Connection> connection_;
    beast::flat_buffer buffer_;
};

Response answer(const Route& route, const Request& request, Log& log) {
    try {
        return route.handle(request);
    } catch (const Error& error) {
        if (error.fault() == Fault::bug || error.fault() == Fault::system)
            log.error(error.what(), {{"method", request.method}, {"path", request.path}, {"peer", request.peer.channel()}});
        return problem(error);
    } catch (const std::exception& error) {
        log.error(error.what(), {{"method", request.method}, {"path", request.path}, {"peer", request.peer.channel()}});
        return problem(500, "an internal error; the log says more");
    }
}

asio::awaitable<Response> answer_on_worker(const Route& route, const Request& request, Log& log) { co_return answer(route, request, log); }

template <class Stream>
asio::awaitable<bool> Conversation<Stream>::read_header(Parser& parser, bool first) {
    error_code error;
    connection_->waiting = true;
    connection_->since = Clock::now();
    if (buffer_.size() == 0) {
        deadline(first ? server_.limits.header_deadline : server_.limits.idle_deadline);
        const std::size_t got = co_await stream_.async_read_some(buffer_.prepare(1024), asio::redirect_error(asio::use_awaitable, error));
        if (count_if_late(error)) co_return false;
        buffer_.commit(got);
        connection_->since = Clock::now();
    }
    deadline(server_.limits.header_deadline);
    co_await http::async_read_header(stream_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
    if (!error) co_return true;
    count_if_late(error);
    ++server_.counters.bad_requests;
    auto refusal = explain(error, server_.limits);
    // After its timeout a stream takes no more writes: the silent end is all that is left.
    if (refusal && error != beast::error::timeout) co_await refuse(*std::move(refusal));
    co_return false;
}

template <class Stream>
std::optional<Response> Conversation<Stream>::refuse_body(const Parser& parser, const Route& route) const {
    const auto length = parser.content_length();
    const bool has_body = parser.chunked() || (length && *length > 0);
    if (route.body_limit_bytes == 0) {
        if (has_body) return problem(413, "want a request without a body");
        return std::nullopt;
    }
    if (length && *length > route.body_limit_bytes)
        return problem(413, fmt::format("body of {} bytes, want at most {}", *length, route.body_limit_bytes));
    if (!parser.chunked() && !length) return problem(411, "want a body, with Content-Length or chunked");
    const std::string type = media_type(text_of(parser.get()[http::field::content_type]));
    if (!route.content_type.empty() && type != route.content_type) {
        return problem(415, fmt::format("Content-Type is \"{}\", want {}", printable(type, 64), route.content_type));
    }
    const std::string expect = lower(text_of(parser.get()[http::field::expect]));
    if (!expect.empty() && expect != "100-continue") return problem(417, fmt::format("Expect: {} is not known here", printable(expect, 64)));
    return std::nullopt;
}

template <class Stream>
asio::awaitable<bool> Conversation<Stream>::read_body(Parser& parser, const Route& route) {
    error_code error;
    deadline(server_.limits.body_deadline);
    if (!text_of(parser.get()[http::field::expect]).empty() && !parser.is_done()) {
        static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        co_await asio::async_write(stream_, asio::buffer(go_on), asio::redirect_error(asio::use_awaitable, error));
        if (count_if_late(error)) co_return false;
    }
    parser.body_limit(route.body_limit_bytes);
    if (!parser.is_done()) co_await http::async_read(stream_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
        connection_->waiting = false; // only now: who sends a body slowly keeps nobody out either, nor who is refused and does not go
        co_return true;
    }
    count_if_late(error);
    ++server_.counters.bad_requests;
    auto refusal = explain(error, server_.limits);
    if (refusal && error != beast::error::timeout) co_await refuse(*std::move(refusal));
    co_return false;
}

template <class Stream>
asio::awaitable<Response> Conversation<Stream>::handle(const Route& route, const Request& request) {
    beast::get_lowest_layer(stream_).expires_never();
    if (route.where == Where::io_thread) co_return answer(route, request, server_.log);
    auto& workers = route.where == Where::worker_apart ? server_.workers_apart : server_.workers;
    co_return co_await asio::co_spawn(workers->get_executor(), answer_on_worker(route, request, server_.log), asio::use_awaitable);
}

template <class Stream>
asio::awaitable<bool> Conversation<Stream>::send(Response response, bool head, bool keep_alive) {
    http::response<http::string_body> out{static_cast<http::status>(response.status), 11};
    out.reason(reason_phrase(response.status));
    out.set(http::field::content_type, response.content_type);
    out.set(http::field::cache_control, "no-store");
    out.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : response.headers) out.set(name, value);
    out.keep_alive(keep_alive);
    const std::size_t length = response.body.size();
    if (!head) out.body() = std::move(response.body);
    out.content_length(length);
    deadline(server_.limits.write_deadline);
    error_code error;
    co_await http::async_write(stream_, out, asio::redirect_error(asio::use_awaitable, error));
    co_return !count_if_late(error);
}

template <class Stream>
asio::awaitable<void> Conversation<Stream>::refuse(Response response) {
    const bool sent = co_await send(std::move(response), false, false);
    if (!sent) co_return;
    error_code error;
    beast::get_lowest_layer(stream_).expires_after(linger_deadline);
    if constexpr (std::is_same_v<Stream, UnixStream>) stream_.socket().shutdown(asio::socket_base::shutdown_send, error);
    std::array<char, 4096> thrown_away{};
    for (std::size_t total = 0; !error && total < linger_bytes;)
        total += co_await stream_.async_read_some(asio::buffer(thrown_away), asio::redirect_error(asio::use_awaitable, error));
}

template <class Stream>
asio::awaitable<void> Conversation<Stream>::stream_events(std::shared_ptr<Subscription> subscription) {
    static constexpr std::string_view head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    ++server_.counters.streams;
    const auto timer = std::make_shared<asio::steady_timer>(server_.io);
    const auto ended = std::make_shared<bool>(false);
    connection_->end_stream = [timer, ended] {
        *ended = true;
        timer->cancel();
    };
    const auto io = server_.io.get_executor();
    subscription->on_ready([timer, io] { asio::post(io, [timer] { timer->cancel(); }); });

    error_code error;
    std::string text = ": here\n\n";
    deadline(server_.limits.write_deadline);
    co_await asio::async_write(stream_, asio::buffer(head), asio::redirect_error(asio::use_awaitable, error));
    while (!error) {
        while (text.size() < 64 * 1024) {
            const auto event = subscription->take();
            if (!event) break;
            text += event->wire();
        }
        if (!text.empty()) {
            const std::string chunk = fmt::format("{:x}\r\n{}\r\n", text.size(), text);
            text.clear();
            deadline(server_.limits.write_deadline);
            co_await asio::async_write(stream_, asio::buffer(chunk), asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        if (*ended || subscription->ended()) break;
        beast::get_lowest_layer(stream_).expires_never();
        timer->expires_after(server_.limits.heartbeat);
        error_code woken;
        co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, woken));
        if (!woken) text = ": still here\n\n";
    }
    count_if_late(error);
    if (!error) {
        static constexpr std::string_view end = "0\r\n\r\n";
        deadline(server_.limits.write_deadline);
        co_await asio::async_write(stream_, asio::buffer(end), asio::redirect_error(asio::use_awaitable, error));
    }
    subscription->on_ready({});
    connection_->end_stream = {};
    --server_.counters.streams;
}

template <class Stream>
asio::awaitable<void> Conversation<Stream>::run() {
    for (std::size_t served = 0; served < server_.limits.requests_per_connection && !server_.draining; ++served) {
        Parser parser;
        parser.header_limit(static_cast<std::uint32_t>(server_.limits.header_bytes));
        parser.body_limit(boost::none); // decided by route, below
        const bool arrived = co_await read_header(parser, served == 0);
        if (!arrived) co_return;
        ++server_.counters.requests;
        auto found = server_.router.find(text_of(parser.get().method_string()), text_of(parser.get().target()));
        if (auto* refusal = std::get_if<Response>(&found)) {
            ++server_.counters.bad_requests;
            const bool more = parser.chunked() || parser.content_length().value_or(0) > 0 || !parser.get().keep_alive() || buffer_.size() > 0;
            if (more) {
                co_await refuse(std::move(*refusal));
                co_return;
            }
            const bool sent = co_await send(std::move(*refusal), parser.get().method() == http::verb::head, true);
            if (!sent) co_return;
            continue;
        }
        Match& match = std::get<Match>(found);
        std::optional<Response> refusal = match.route->admit ? match.route->admit(peer_) : std::nullopt;
        if (!refusal) refusal = refuse_body(parser, *match.route);
        if (refusal) {
            ++server_.counters.bad_requests;
            co_await refuse(*std::move(refusal));
            co_return;
        }
        const bool complete = co_await read_body(parser, *match.route);
        if (!complete) co_return;

        const bool head = parser.get().method() == http::verb::head;
        // A client that sends ahead is answered once: nothing of a second request is taken over into it.
        const bool keep_alive = parser.get().keep_alive() && buffer_.size() == 0 && served + 1 < server_.limits.requests_per_connection;
        Request request;
        request.method = text_of(parser.get().method_string());
        request.path = std::move(match.path);
        request.query = std::move(match.query);
        request.parameters = std::move(match.parameters);
        request.content_type = media_type(text_of(parser.get()[http::field::content_type]));
        request.last_event_id = text_of(parser.get()["Last-Event-ID"]);
        request.body = std::move(parser.get().body());
        request.peer = peer_;
        Response response = co_await handle(*match.route, request);
        if (response.events && !head) {
            if (server_.counters.streams >= server_.limits.streams) {
                co_await refuse(problem(503, fmt::format("{} event streams are open already", server_.limits.streams), "try again later"));
                co_return;
            }
            co_await stream_events(std::move(response.events));
            co_return;
        }
        const bool sent = co_await send(std::move(response), head, keep_alive && !server_.draining);
        if (!sent || !keep_alive) co_return;
    }
}

/// For a connection that there is no place for: one answer, not waited for.
void turn_away(int socket) {
    static constexpr std::string_view text =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: "
        "106\r\n\r\n"
        R"({"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections at once"})"
        "\n";
    [[maybe_unused]] const ssize_t sent = ::send(socket, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// After a failed accept: out of descriptors is waited out, not spun on.
asio::awaitable<void> rest(asio::io_context& io) {
    asio::steady_timer timer{io, std::chrono::milliseconds{50}};
    error_code ignored;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

} // namespace

asio::awaitable<void> ServerState::accept_unix(UnixListener& listener) {
    while (!draining) {
        error_code error;
        auto socket = co_await listener.acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (draining || error == asio::error::operation_aborted) co_return;
        if (error) {
            co_await rest(io);
            continue;
        }
        ++counters.accepted;
        asio::co_spawn(io, serve_unix(std::move(socket)), asio::detached);
    }
}

asio::awaitable<void> ServerState::serve_unix(asio::local::stream_protocol::socket socket) {
    Peer peer;
    try {
        peer.who = peer_process(socket.native_handle());
    } catch (const Error&) {
        co_return; // it has gone already
    }
    if (!make_room(peer.channel())) {
        ++counters.refused;
        turn_away(socket.native_handle());
        co_return;
    }
    UnixStream stream{std::move(socket)};
    const auto connection = enter(peer.channel(), [&stream] { stream.close(); });
    Conversation<UnixStream> conversation{*this, stream, std::move(peer), connection};
    try {
        co_await conversation.run();
    } catch (const std::exception& error) {
        log.error("connection ended", {{"reason", error.what()}, {"peer", connection->key}});
    }
    connection->close = [] {};
    leave(connection);
}

asio::awaitable<void> ServerState::accept_tls(TlsListener& listener) {
    while (!draining) {
        error_code error;
        auto socket = co_await listener.acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (draining || error == asio::error::operation_aborted) co_return;
        if (error) {
            co_await rest(io);
            continue;
        }
        ++counters.accepted;
        std::shared_ptr<asio::ssl::context> context;
        {
            const std::scoped_lock lock{tls_mutex};
            context = listener.context;
        }
        asio::co_spawn(io, serve_tls(std::move(socket), std::move(context), listener.files.clients), asio::detached);
    }
}

asio::awaitable<void> ServerState::serve_tls(asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> context,
                                             std::optional<std::vector<Digest>> clients) {
    error_code error;
    const auto remote = socket.remote_endpoint(error);
    if (error) co_return;
    const std::string key = "address:" + remote.address().to_string();
    if (!make_room(key)) {
        ++counters.refused;
        co_return;
    }
    socket.set_option(asio::ip::tcp::no_delay{true}, error);
    TlsStream stream{beast::tcp_stream{std::move(socket)}, *context};
    const auto connection = enter(key, [&stream] { beast::get_lowest_layer(stream).close(); });
    try {
        beast::get_lowest_layer(stream).expires_after(limits.handshake_deadline);
        co_await stream.async_handshake(asio::ssl::stream_base::server, asio::redirect_error(asio::use_awaitable, error));
        std::optional<Peer::Certificate> certificate;
        if (!error) certificate = client_certificate(stream.native_handle());
        const bool listed = certificate && (!clients || std::ranges::find(*clients, certificate->fingerprint) != clients->end());
        if (error || !certificate) {
            ++counters.handshakes_failed;
            log.info("TLS handshake failed", {{"peer", key}, {"reason", error ? last_tls_reason(error) : "no client certificate"}});
        } else if (!listed) {
            ++counters.handshakes_failed;
            log.warning("client certificate is not on the list",
                        {{"peer", key}, {"fingerprint", hex(certificate->fingerprint)}, {"subject", certificate->subject}});
        } else {
            Peer peer;
            peer.who = *std::move(certificate);
            Conversation<TlsStream> conversation{*this, stream, std::move(peer), connection};
            co_await conversation.run();
            beast::get_lowest_layer(stream).expires_after(linger_deadline);
            co_await stream.async_shutdown(asio::redirect_error(asio::use_awaitable, error));
        }
    } catch (const std::exception& failure) {
        log.error("connection ended", {{"reason", failure.what()}, {"peer", connection->key}});
    }
    connection->close = [] {};
    leave(connection);
}

} // namespace sev::service
