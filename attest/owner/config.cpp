// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/config.hpp"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "attest/protocol/message.hpp"
#include "base/error.hpp"

namespace sev::attest::owner {
namespace {

Path path_from(json::Object& object, std::string_view key, const Path& folder) {
    const std::string text = object.string(key, 4096);
    if (text.empty() || text.find('\0') != std::string::npos) object.refuse(key, "is no path");
    return folder / text;
}

std::string text_from(json::Object& object, std::string_view key, std::size_t limit_bytes) { return checked_text(object, key, limit_bytes); }

double rate_from(json::Object& object, std::string_view key, double fallback) {
    if (!object.has(key)) return fallback;
    const json::Value& value = object.at(key);
    if (!value.is_number()) object.refuse(key, "is no number");
    const double rate = value.get<double>();
    if (!(rate >= 0.01 && rate <= 1e6)) object.refuse(key, "is out of range, want 0.01 to 1000000");
    return rate;
}

std::uint64_t at_least_one(json::Object& object, std::string_view key, std::uint64_t fallback, std::uint64_t max) {
    const std::uint64_t value = object.number_or(key, fallback, max);
    if (value == 0) object.refuse(key, fmt::format("is 0, want 1 to {}", max));
    return value;
}

Digest fingerprint_from(json::Object& object, std::string_view key) { return object.hex<32>(key); }

std::optional<std::vector<std::string>> policies_from(json::Object& object) {
    if (const json::Value& value = object.at("policies"); value.is_string()) {
        if (value.get<std::string>() != "any") object.refuse("policies", R"(is a text, want "any" or a list of policy names)");
        return std::nullopt;
    }
    std::vector<std::string> out;
    const json::Value& list = object.array("policies", OwnerConfig::list_limit);
    for (const json::Value& name : list) {
        if (!name.is_string()) object.refuse("policies", "has an element that is no text");
        out.push_back(checked_policy_name(name.get<std::string>(), object.what() + ": policies"));
    }
    return out;
}

Client client_from(json::Object object) {
    Client out;
    const int kinds = object.has("uid") + object.has("certificate") + object.has("stdio");
    if (kinds != 1) throw Error{Fault::malformed, fmt::format("{}: has {} of uid, certificate and stdio, want exactly one", object.what(), kinds)};
    if (object.has("uid")) out.channel = fmt::format("uid:{}", object.number("uid", UINT32_MAX));
    else if (object.has("stdio")) out.channel = "stdio:" + checked_name(object.string("stdio", 129), object.what() + ": stdio");
    else if (const json::Value& value = object.at("certificate"); value.is_string() && value.get<std::string>() == "any") out.channel = "cert:any";
    else out.channel = "cert:" + hex(fingerprint_from(object, "certificate"));
    if (object.has("label")) out.label = checked_name(object.string("label", 129), object.what() + ": label");
    out.policies = policies_from(object);
    object.done();
    return out;
}

Clients clients_from(json::Object& object) {
    std::vector<Client> out;
    std::set<std::string> channels;
    const json::Value& list = object.array("clients", OwnerConfig::list_limit);
    for (std::size_t i = 0; i < list.size(); ++i) {
        out.push_back(client_from({list[i], fmt::format("{}: clients[{}]", object.what(), i)}));
        if (!channels.insert(out.back().channel).second) object.refuse("clients", fmt::format("names {} twice", out.back().channel));
    }
    return Clients{std::move(out)};
}

unsigned mode_from(json::Object& object) {
    if (!object.has("mode")) return 0660;
    const std::string text = object.string("mode", 8);
    unsigned mode = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
    if (error != std::errc{} || end != text.data() + text.size() || mode > 0777)
        object.refuse("mode", fmt::format("is \"{}\", want an octal mode such as \"0660\"", printable(text)));
    return mode;
}

std::variant<OwnerConfig::UnixListener, OwnerConfig::HttpsListener> listener_from(json::Object object, const Path& folder) {
    if (object.has("unix") == object.has("https"))
        throw Error{Fault::malformed, fmt::format("{}: want exactly one of unix and https", object.what())};
    if (object.has("unix")) {
        OwnerConfig::UnixListener out{.path = path_from(object, "unix", folder),
                                      .mode = mode_from(object),
                                      .group = object.has("group") ? text_from(object, "group", 64) : std::string{}};
        object.done();
        return out;
    }
    OwnerConfig::HttpsListener out{.address = text_from(object, "https", 64),
                                   .port = static_cast<std::uint16_t>(object.number("port", 65535)),
                                   .certificate = path_from(object, "certificate", folder),
                                   .private_key = path_from(object, "private_key", folder),
                                   .client_ca = path_from(object, "client_ca", folder)};
    object.done();
    return out;
}

OwnerConfig::Viewers viewers_from(json::Object object) {
    OwnerConfig::Viewers out;
    if (object.has("uids"))
        for (const json::Value& uid : object.array("uids", OwnerConfig::list_limit)) {
            if (!uid.is_number_unsigned() || uid.get<std::uint64_t>() > UINT32_MAX) object.refuse("uids", "has an element that is no user id");
            out.uids.push_back(uid.get<std::uint32_t>());
        }
    if (object.has("certificates"))
        for (const json::Value& certificate : object.array("certificates", OwnerConfig::list_limit)) {
            if (!certificate.is_string()) object.refuse("certificates", "has an element that is no text");
            out.certificates.push_back(unhex<32>(certificate.get<std::string>(), object.what() + ": certificates"));
        }
    object.done();
    return out;
}

OwnerConfig::Limits limits_from(json::Object object) {
    OwnerConfig::Limits out;
    out.sessions.total = at_least_one(object, "sessions", out.sessions.total, 1'000'000);
    out.sessions.per_channel = at_least_one(object, "sessions_per_channel", out.sessions.per_channel, 1'000'000);
    out.session_lifetime = std::chrono::seconds{at_least_one(object, "session_seconds", 600, 7 * 24 * 3600)};
    out.requests_per_second = rate_from(object, "requests_per_second", out.requests_per_second);
    out.burst = rate_from(object, "burst", out.burst);
    if (out.burst < 1) object.refuse("burst", "is less than 1: no request would ever pass");
    out.connections = at_least_one(object, "connections", out.connections, 65536);
    out.connections_per_peer = at_least_one(object, "connections_per_peer", out.connections_per_peer, 65536);
    out.workers = at_least_one(object, "workers", out.workers, 256);
    out.deadline = std::chrono::seconds{at_least_one(object, "deadline_s", 10, 600)};
    out.keep_sessions = at_least_one(object, "keep_sessions", out.keep_sessions, 10'000'000);
    out.forget_after = std::chrono::hours{24 * static_cast<std::int64_t>(at_least_one(object, "forget_after_days", 90, 36'500))};
    object.done();
    return out;
}

std::variant<OwnerConfig::SqliteStore, OwnerConfig::PostgresqlStore> store_from(json::Object object, const Path& folder) {
    if (object.has("sqlite") == object.has("postgresql"))
        throw Error{Fault::malformed, fmt::format("{}: want exactly one of sqlite and postgresql", object.what())};
    if (object.has("sqlite")) {
        OwnerConfig::SqliteStore out{.file = path_from(object, "sqlite", folder)};
        object.done();
        return out;
    }
    OwnerConfig::PostgresqlStore out{.connection = text_from(object, "postgresql", 4096)};
    if (object.has("schema")) out.schema = text_from(object, "schema", 64);
    object.done();
    return out;
}

} // namespace

OwnerConfig OwnerConfig::from_json(const json::Value& value, std::string_view what, const Path& folder) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    OwnerConfig out;
    out.key = path_from(object, "key", folder);
    out.seal_keys = path_from(object, "seal_keys", folder);
    json::Object policies = object.object("policies");
    out.policies.in_store = policies.boolean_or("in_store", false);
    out.policies.folder = path_from(policies, "folder", folder);
    policies.done();
    out.store = store_from(object.object("store"), folder);
    const json::Value& listeners = object.array("listen", 16);
    for (std::size_t i = 0; i < listeners.size(); ++i)
        out.listen.push_back(listener_from({listeners[i], fmt::format("{}: listen[{}]", what, i)}, folder));
    out.clients = clients_from(object);
    if (object.has("viewers")) out.viewers = viewers_from(object.object("viewers"));
    if (object.has("limits")) out.limits = limits_from(object.object("limits"));
    out.audit_sign_every = at_least_one(object, "audit_sign_every", 256, 1'000'000);
    object.done();
    return out;
}

OwnerConfig OwnerConfig::parse(std::string_view text, std::string_view what, const Path& folder) {
    return from_json(json::parse(text, what, {.bytes = limit_bytes, .depth = 8}), what, folder);
}

OwnerConfig OwnerConfig::load(const Path& path) {
    const Path absolute = std::filesystem::absolute(path);
    return parse(read_text(path, limit_bytes), path.string(), absolute.parent_path());
}

} // namespace sev::attest::owner
