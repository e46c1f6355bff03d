// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>

#include "base/file.hpp"
#include "base/service/log.hpp"
#include "base/service/router.hpp"

namespace sev::service {

/// What one server grants. Every wait has a deadline, every input a size.
struct Limits {
    std::size_t connections = 256;          // at a time
    std::size_t connections_per_peer = 128; // of one uid, or one address
    std::size_t streams = 32;               // of them, live event streams
    std::size_t header_bytes = 16 * 1024;   // request line and headers
    std::size_t requests_per_connection = 1000;
    std::size_t workers = 4;                // threads for handlers that may wait
    std::size_t workers_apart = 2;          // as many more, if a route wants them
    std::chrono::milliseconds handshake_deadline{5'000}, header_deadline{5'000}, body_deadline{10'000}, write_deadline{10'000}, idle_deadline{30'000};
    std::chrono::milliseconds heartbeat{15'000}; // a comment on an event stream that has nothing to say
};

/// A Unix socket of our own. A socket file that nobody answers is replaced.
struct UnixEndpoint {
    Path path;
    mode_t mode = 0660; // who may connect at all
    std::optional<gid_t> group;
};
/// A listening stream socket that somebody else made: systemd's socket activation. Unix only: TCP comes with TLS, from here.
struct InheritedEndpoint {
    Fd socket;
};
/// PEM files of a TLS 1.3 server. Clients need a certificate of `client_ca`; with `clients`, one of these fingerprints (SHA-256 of its DER) as well.
struct TlsFiles {
    Path certificate; // chain, server first
    Path key;
    Path client_ca;
    std::optional<std::vector<Digest>> clients;
};
struct TlsEndpoint {
    std::string address; // numeric: "127.0.0.1", "::1"
    std::uint16_t port = 0; // 0: any free one
    TlsFiles files;
};

/// For metrics; each only grows, but `open` and `streams`.
struct ServerCounters {
    std::atomic<std::uint64_t> accepted{0}, refused{0}, evicted{0}, requests{0}, bad_requests{0}, handshakes_failed{0}, deadlines{0}, open{0},
        streams{0};
};

struct ServerState;
class Metrics;

/// An HTTP/1.1 server on Unix sockets and on TCP with TLS 1.3 and client certificates. One thread does all I/O; handlers that may wait run on
/// workers. No pipelining: a connection whose client sends ahead is answered once and closed. When it is full, a newcomer takes the place of the
/// connection that has waited longest without having sent a whole request, so that clients which say nothing keep nobody out; when all are at work,
/// it is refused with 503. Exceptions of handlers end here: an Error becomes the problem that describes it, anything else 500.
class Server {
public:
    Server(std::vector<Route> routes, Limits limits, Log& log);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    /// As drain, without patience.
    ~Server();

    /// Binds and listens; before `start`. Throws Error{Fault::usage} when somebody else answers at the path, the path is no socket or too long, the
    /// inherited descriptor is no listening Unix stream socket; Error{Fault::system} otherwise. TLS files are read here: Error{Fault::malformed} or
    /// {Fault::system} names the file.
    void listen(UnixEndpoint endpoint);
    void listen(InheritedEndpoint endpoint);
    /// Returns the port.
    std::uint16_t listen(TlsEndpoint endpoint);
    /// Takes the TLS files of every TLS endpoint again (the same paths, new content); connections that stand keep what they have. Throws, and changes
    /// nothing, as `listen` does. Before `start` or after; from any thread.
    void reload_tls();
    /// Starts the threads.
    void start();
    /// No new connections; idle ones and event streams end; requests at work are waited for, at most for `patience`. True when all had ended by
    /// themselves.
    bool drain(std::chrono::milliseconds patience);
    /// The I/O thread turns: for the watchdog. False when it has not answered within `deadline`.
    bool alive(std::chrono::milliseconds deadline);
    const ServerCounters& counters() const noexcept;

private:
    std::unique_ptr<ServerState> state_;
};

/// Declares PROGRAM_http_total{what=…} and PROGRAM_http_connections, and fills them from the server's counters, which must outlive the metrics' last
/// text.
void count(Metrics& metrics, std::string_view program, const Server& server);

} // namespace sev::service
