// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/program/instance.hpp"

#include <unistd.h>

#include <fmt/format.h>

#include "attest/owner/program/commands.hpp"
#include "attest/sign_jws.hpp"

namespace sev::attest::owner {
namespace {

constexpr std::size_t key_limit_bytes = 16 * 1024;

std::unique_ptr<Store> open_store(const OwnerConfig& config, const P384Key& key) {
    StoreOptions options{.owner = owner_key(key).thumbprint(), .signer = head_signer(key), .sign_every = config.audit_sign_every};
    if (const auto* sqlite = std::get_if<OwnerConfig::SqliteStore>(&config.store)) return open_sqlite_store(sqlite->file, std::move(options));
    const auto& postgresql = std::get<OwnerConfig::PostgresqlStore>(config.store);
    return open_postgresql_store(postgresql.connection, postgresql.schema, std::move(options));
}

std::unique_ptr<PolicyShelf> open_shelf(const OwnerConfig& config, Store& store, const SealKeys& keys) {
    return config.policies.in_store ? policy_store(store, keys, config.policies.folder) : policy_folder(config.policies.folder);
}

} // namespace

P384Key load_owner_key(const Path& path) {
    expect_private(path);
    const SecretBytes bytes = read_secret(path, key_limit_bytes);
    if (as_text(bytes.reveal()).starts_with("-----BEGIN")) return P384Key::from_pem(bytes.reveal(), path.string());
    return P384Key::from_der(bytes.reveal(), path.string());
}

Instance::Instance(const cli::Arguments& given, std::shared_ptr<SessionTimes> times)
    : times_{std::move(times)}, config_path_{given.text_if("--config").value_or(std::string{default_config})},
      config_{OwnerConfig::load(config_path_)}, key_{load_owner_key(config_.key)},
      seal_keys_{SealKeys::load(config_.seal_keys)}, store_{open_store(config_, key_)}, policies_{open_shelf(config_, *store_, seal_keys_)},
      service_{{.key = key_,
                .policies = policies_,
                .store = *store_,
                .seal_keys = seal_keys_,
                .clients = config_.clients,
                .limits = {.caps = config_.limits.sessions, .session_lifetime = config_.limits.session_lifetime},
                .build = "sev-owner " XEN_SEV_VERSION,
                .times = times_.get()}} {}

Time now() { return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now()); }

AuditEvent operator_event(std::string_view event, std::string detail) {
    AuditEvent out;
    out.event = event;
    out.channel = fmt::format("operator:uid:{}", getuid());
    out.detail = std::move(detail);
    return out;
}

} // namespace sev::attest::owner
