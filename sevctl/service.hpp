// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/client/unix_client.hpp"
#include "base/json.hpp"
#include "console/command.hpp"

/// How commands talk to the house's services.
namespace sev::cli {

inline constexpr Argument daemon_socket_option{
    .name = "--socket", .kind = Kind::path, .metavar = "PATH", .help = "Where sevd listens. Default: /run/xen-sev/sevd.sock."};

/// sevd, or sev-owner, on its Unix socket: JSON in, JSON out. What it answers is read with limits, like everything from outside.
class Service {
public:
    /// `name` is for messages: "sevd".
    Service(std::string_view name, Path socket) : name_{name}, client_{std::move(socket)} {}
    /// Of daemon_socket_option.
    static Service daemon(const Arguments& given);

    /// nullopt for 404. Throws Error{Fault::network} that says why for any other status than 2xx, with the service's own words, and as
    /// UnixClient::ask.
    std::optional<json::Value> get(const std::string& target) const;
    /// Same for an answer of another type than JSON.
    std::optional<std::string> get_text(const std::string& target, std::string_view type, std::size_t limit_bytes) const;
    json::Value post(const std::string& target, const json::Value& body) const;
    /// nullopt for 404.
    std::optional<json::Value> remove(const std::string& target) const;
    const client::UnixClient& client() const noexcept { return client_; }

private:
    void expect(const client::Answer& answer, std::string_view type) const;
    json::Value read(const client::Answer& answer) const;
    std::string name_;
    client::UnixClient client_;
};

/// Text in lines of at most `columns`, broken at spaces (a longer word anywhere), all but the first indented. Made printable.
std::string wrapped(std::string_view first_indent, std::string_view text, std::size_t indent, std::size_t columns = 80);

} // namespace sev::cli
