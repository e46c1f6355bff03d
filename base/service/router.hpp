// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/service/message.hpp"

namespace sev::service {

/// Where a handler runs: on the I/O thread, when it never waits; on a worker; or on a worker apart, which the others' requests, however many, never
/// keep busy: for what few may ask.
enum class Where { io_thread, worker, worker_apart };

/// One thing that can be asked for.
struct Route {
    std::string method;                // "GET", "POST", "DELETE"
    std::string path;                  // "/v1/launches/{id}": a name in braces takes one whole segment
    std::size_t body_limit_bytes = 0;  // decided, with `admit`, before any of the body is read
    std::string content_type;          // a body must be of this media type; empty: no body is expected
    Where where = Where::worker;
    /// Who may ask: nullopt lets in, an answer (403) turns away. Absent: everybody who could connect.
    std::function<std::optional<Response>(const Peer&)> admit;
    std::function<Response(const Request&)> handle;
};

/// What a request line leads to, before the body: a route with its parameters, or the answer that refuses it.
struct Match {
    const Route* route = nullptr;
    std::string path;
    std::map<std::string, std::string, std::less<>> parameters, query;
};

/// The routes of one server. Pure: no I/O.
class Router {
public:
    static constexpr std::size_t target_limit_bytes = 2048;
    /// Throws Error{Fault::bug} for two routes of the same method and path, or one without a handler.
    explicit Router(std::vector<Route> routes);
    /// Paths are exact: no trailing slash, no empty or dot segment, of letters, digits and "-._~" alone; others are 400. 404 for no such path, 405
    /// with Allow for another method.
    std::variant<Match, Response> find(std::string_view method, std::string_view target) const;
    const std::vector<Route>& routes() const noexcept { return routes_; }

private:
    std::vector<Route> routes_;
    std::vector<std::vector<std::string>> segments_;
};

} // namespace sev::service
