// SPDX-License-Identifier: Apache-2.0
#include "base/service/server.hpp"

#include <future>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "base/service/listener.hpp"
#include "base/service/metrics.hpp"
#include "base/service/server_state.hpp"
#include "base/service/tls.hpp"

namespace sev::service {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

Server::Server(std::vector<Route> routes, Limits limits, Log& log) : state_{std::make_unique<ServerState>(std::move(routes), limits, log)} {}

Server::~Server() { drain(std::chrono::milliseconds{0}); }

void Server::listen(UnixEndpoint endpoint) {
    Fd socket = listen_unix(endpoint);
    state_->unix_listeners.push_back({asio::local::stream_protocol::acceptor{state_->io}, endpoint.path});
    state_->unix_listeners.back().acceptor.assign(asio::local::stream_protocol{}, socket.release());
}

void Server::listen(InheritedEndpoint endpoint) {
    check_inherited(endpoint.socket);
    state_->unix_listeners.push_back({asio::local::stream_protocol::acceptor{state_->io}, std::nullopt});
    state_->unix_listeners.back().acceptor.assign(asio::local::stream_protocol{}, endpoint.socket.release());
}

std::uint16_t Server::listen(TlsEndpoint endpoint) {
    auto context = tls_context(endpoint.files);
    const std::string subject = fmt::format("{} port {}", printable(endpoint.address), endpoint.port);
    boost::system::error_code error;
    const auto address = asio::ip::make_address(endpoint.address, error);
    if (error) throw Error{Fault::usage, fmt::format("{}: is no numeric address", subject)};
    const asio::ip::tcp::endpoint at{address, endpoint.port};
    asio::ip::tcp::acceptor acceptor{state_->io};
    acceptor.open(at.protocol(), error);
    if (!error) acceptor.set_option(asio::ip::tcp::acceptor::reuse_address{true}, error);
    if (!error) acceptor.bind(at, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) throw Error{Fault::system, fmt::format("{}: {}", subject, error.message())};
    const std::uint16_t port = acceptor.local_endpoint().port();
    state_->tls_listeners.push_back({std::move(acceptor), std::move(endpoint.files), std::move(context)});
    return port;
}

void Server::reload_tls() {
    std::vector<std::shared_ptr<asio::ssl::context>> fresh;
    for (const auto& listener : state_->tls_listeners) fresh.push_back(tls_context(listener.files));
    const std::scoped_lock lock{state_->tls_mutex};
    std::size_t next = 0;
    for (auto& listener : state_->tls_listeners) listener.context = fresh[next++];
}

void Server::start() {
    require(!state_->thread.joinable() && !state_->draining, "a server is started once");
    state_->workers.emplace(state_->limits.workers);
    if (std::ranges::any_of(state_->router.routes(), [](const Route& route) { return route.where == Where::worker_apart; }))
        state_->workers_apart.emplace(state_->limits.workers_apart);
    for (auto& listener : state_->unix_listeners) asio::co_spawn(state_->io, state_->accept_unix(listener), asio::detached);
    for (auto& listener : state_->tls_listeners) asio::co_spawn(state_->io, state_->accept_tls(listener), asio::detached);
    state_->thread = std::thread{[this] {
        const auto work = asio::make_work_guard(state_->io);
        state_->io.run();
    }};
}

bool Server::drain(std::chrono::milliseconds patience) {
    if (!state_->thread.joinable()) {
        for (const auto& listener : state_->unix_listeners)
            if (listener.path) ::unlink(listener.path->c_str());
        state_->unix_listeners.clear();
        return true;
    }
    asio::post(state_->io, [this] { state_->begin_drain(); });
    bool all_ended = false;
    {
        std::unique_lock lock{state_->idle_mutex};
        all_ended = state_->idle.wait_for(lock, patience, [&] { return state_->draining_seen && state_->open == 0; });
    }
    if (!all_ended) {
        asio::post(state_->io, [this] {
            for (const auto& connection : state_->connections) connection->close();
        });
    }
    state_->workers->join(); // handlers have deadlines of their own
    if (state_->workers_apart) state_->workers_apart->join();
    // What a handler brought back must still pass the I/O thread, so that its coroutine ends there.
    {
        std::unique_lock lock{state_->idle_mutex};
        state_->idle.wait_for(lock, std::chrono::seconds{1}, [&] { return state_->open == 0; });
    }
    state_->io.stop();
    state_->thread.join();
    for (const auto& listener : state_->unix_listeners)
        if (listener.path) ::unlink(listener.path->c_str());
    return all_ended;
}

bool Server::alive(std::chrono::milliseconds deadline) {
    auto answered = std::make_shared<std::promise<void>>();
    auto answer = answered->get_future();
    asio::post(state_->io, [answered] { answered->set_value(); });
    return answer.wait_for(deadline) == std::future_status::ready;
}

const ServerCounters& Server::counters() const noexcept { return state_->counters; }

bool ServerState::make_room(const std::string& key) {
    const bool key_full =
        static_cast<std::size_t>(std::ranges::count(connections, key, [](const auto& c) { return c->key; })) >= limits.connections_per_peer;
    if (!key_full && connections.size() < limits.connections) return true;
    const std::shared_ptr<Connection>* oldest = nullptr;
    for (const auto& connection : connections) {
        if (!connection->waiting || (key_full && connection->key != key)) continue;
        if (!oldest || connection->since < (*oldest)->since) oldest = &connection;
    }
    if (!oldest) return false;
    ++counters.evicted;
    const std::shared_ptr<Connection> victim = *oldest; // `close` and `leave` may change the table
    victim->close();
    leave(victim);
    return true;
}

std::shared_ptr<Connection> ServerState::enter(std::string key, std::function<void()> close) {
    auto connection = std::make_shared<Connection>();
    connection->key = std::move(key);
    connection->since = Clock::now();
    connection->close = std::move(close);
    connections.push_back(connection);
    counters.open = connections.size();
    const std::scoped_lock lock{idle_mutex};
    ++open;
    return connection;
}

void ServerState::leave(const std::shared_ptr<Connection>& connection) {
    if (connections.remove(connection) == 0) return; // pushed out before
    counters.open = connections.size();
    const std::scoped_lock lock{idle_mutex};
    --open;
    idle.notify_all();
}

void ServerState::begin_drain() {
    draining = true;
    boost::system::error_code ignored;
    for (auto& listener : unix_listeners) listener.acceptor.close(ignored);
    for (auto& listener : tls_listeners) listener.acceptor.close(ignored);
    for (const auto& connection : connections) {
        if (connection->end_stream)
            connection->end_stream();
        else if (connection->waiting)
            connection->close();
    }
    const std::scoped_lock lock{idle_mutex};
    draining_seen = true;
    idle.notify_all();
}

void count(Metrics& metrics, std::string_view program, const Server& server) {
    const std::string total = fmt::format("{}_http_total", program), connections = fmt::format("{}_http_connections", program);
    metrics.declare_counter(total, "Connections and requests, by what became of them.");
    metrics.declare_gauge(connections, "Open connections.");
    metrics.on_collect([total, connections, &counters = server.counters()](Metrics& out) {
        const auto set = [&](const char* what, const std::atomic<std::uint64_t>& value) {
            out.set_counter(total, static_cast<double>(value.load()), {{"what", what}});
        };
        set("accepted", counters.accepted);
        set("refused", counters.refused);
        set("evicted", counters.evicted);
        set("requests", counters.requests);
        set("bad_requests", counters.bad_requests);
        set("handshakes_failed", counters.handshakes_failed);
        set("deadlines", counters.deadlines);
        out.set(connections, static_cast<double>(counters.open.load()));
    });
}

} // namespace sev::service
