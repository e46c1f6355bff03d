// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/thread_pool.hpp>

#include "base/service/server.hpp"

/// Inside base/service/: what one server holds. All but what says otherwise is touched by the I/O thread alone.
namespace sev::service {

/// One connection, as the table of connections knows it.
struct Connection {
    std::string key; // whose it is: "uid:0", "address:127.0.0.1"
    bool waiting = true; // for a whole request: may be pushed out
    std::chrono::steady_clock::time_point since{};
    std::function<void()> close;    // tears the socket down; its coroutine then ends
    std::function<void()> end_stream; // set while it is an event stream
};

struct ServerState {
    ServerState(std::vector<Route> routes, Limits its_limits, Log& its_log) : router{std::move(routes)}, limits{its_limits}, log{its_log} {}

    struct UnixListener {
        boost::asio::local::stream_protocol::acceptor acceptor;
        std::optional<Path> path; // removed at the end: ours
    };
    struct TlsListener {
        boost::asio::ip::tcp::acceptor acceptor;
        TlsFiles files;
        std::shared_ptr<boost::asio::ssl::context> context; // under `tls_mutex`
    };

    /// Makes room for a connection of `key`, by pushing out the one that has waited longest. False when there is none to push out.
    bool make_room(const std::string& key);
    std::shared_ptr<Connection> enter(std::string key, std::function<void()> close);
    void leave(const std::shared_ptr<Connection>& connection);
    /// Nothing new, nothing idle; what is at work goes on.
    void begin_drain();

    boost::asio::awaitable<void> accept_unix(UnixListener& listener);
    boost::asio::awaitable<void> accept_tls(TlsListener& listener);
    boost::asio::awaitable<void> serve_unix(boost::asio::local::stream_protocol::socket socket);
    boost::asio::awaitable<void> serve_tls(boost::asio::ip::tcp::socket socket, std::shared_ptr<boost::asio::ssl::context> context,
                                           std::optional<std::vector<Digest>> clients);

    Router router;
    Limits limits;
    Log& log;
    ServerCounters counters;
    boost::asio::io_context io{1};
    std::optional<boost::asio::thread_pool> workers, workers_apart;
    std::thread thread;
    std::list<UnixListener> unix_listeners;
    std::mutex tls_mutex;
    std::list<TlsListener> tls_listeners;
    std::list<std::shared_ptr<Connection>> connections;
    bool draining = false;
    std::mutex idle_mutex; // guards `open`, for who waits outside the I/O thread
    std::condition_variable idle;
    std::size_t open = 0;
    bool draining_seen = false;
};

} // namespace sev::service
