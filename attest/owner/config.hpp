// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "attest/owner/clients.hpp"
#include "attest/owner/service.hpp"
#include "base/file.hpp"
#include "base/json.hpp"

namespace sev::attest::owner {

/// sev-owner's configuration. JSON, format "xen-sev/owner-config"; docs/schemas/owner-config.schema.json. Unknown keys are refused; nothing that lets
/// somebody in has a default. Paths are absolute, or relative to the configuration's folder.
struct OwnerConfig {
    static constexpr std::string_view format = "xen-sev/owner-config";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 256 * 1024;
    static constexpr std::size_t list_limit = 1024;

    struct UnixListener {
        Path path;
        unsigned mode = 0660;
        std::string group; // by name; empty: the process's own
        friend bool operator==(const UnixListener&, const UnixListener&) = default;
    };
    struct HttpsListener {
        std::string address;
        std::uint16_t port = 0;
        Path certificate, private_key, client_ca;
        friend bool operator==(const HttpsListener&, const HttpsListener&) = default;
    };
    struct SqliteStore {
        Path file;
        friend bool operator==(const SqliteStore&, const SqliteStore&) = default;
    };
    struct PostgresqlStore {
        std::string connection, schema = "xen_sev";
        friend bool operator==(const PostgresqlStore&, const PostgresqlStore&) = default;
    };
    struct Policies {
        bool in_store = false;
        Path folder; // of NAME.json, or what paths of stored policies are relative to
        friend bool operator==(const Policies&, const Policies&) = default;
    };
    struct Viewers { // of the web page, /metrics and the lists
        std::vector<std::uint32_t> uids;
        std::vector<Digest> certificates;
        friend bool operator==(const Viewers&, const Viewers&) = default;
    };
    struct Limits {
        SessionCaps sessions;
        std::chrono::seconds session_lifetime{600};
        double requests_per_second = 20, burst = 40; // of one channel
        std::uint64_t connections = 256, connections_per_peer = 128, workers = 4;
        std::chrono::seconds deadline{10}; // of a request's body
        std::uint64_t keep_sessions = 10'000;
        std::chrono::hours forget_after{24 * 90};
        friend bool operator==(const Limits& a, const Limits& b) {
            return a.sessions.total == b.sessions.total && a.sessions.per_channel == b.sessions.per_channel &&
                   a.session_lifetime == b.session_lifetime && a.requests_per_second == b.requests_per_second && a.burst == b.burst &&
                   a.connections == b.connections && a.connections_per_peer == b.connections_per_peer && a.workers == b.workers &&
                   a.deadline == b.deadline && a.keep_sessions == b.keep_sessions && a.forget_after == b.forget_after;
        }
    };

    Path key;       // the owner's P-384 signing key, DER or PEM, mode 0600
    Path seal_keys; // SealKeys
    Policies policies;
    std::variant<SqliteStore, PostgresqlStore> store;
    std::vector<std::variant<UnixListener, HttpsListener>> listen;
    Clients clients;
    Viewers viewers;
    Limits limits;
    std::uint64_t audit_sign_every = 256;

    /// Throws Error{Fault::malformed} with the key, got and want.
    static OwnerConfig from_json(const json::Value& value, std::string_view what, const Path& folder);
    static OwnerConfig parse(std::string_view text, std::string_view what, const Path& folder);
    static OwnerConfig load(const Path& path);
    friend bool operator==(const OwnerConfig&, const OwnerConfig&) = default;
};

} // namespace sev::attest::owner
