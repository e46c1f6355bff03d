// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "attest/owner/database.hpp"

namespace sev::attest::owner {

std::string table_statements(std::string_view blob_type) {
    // times are seconds since 1970; digests and ids are lower-case hex
    return fmt::format(R"(
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, channel TEXT NOT NULL, launch_name TEXT NOT NULL, policy_name TEXT NOT NULL,
    guest_policy BIGINT NOT NULL, report_nonce TEXT NOT NULL, pdh TEXT NOT NULL, snapshot TEXT NOT NULL,
    created_at BIGINT NOT NULL, expires_at BIGINT NOT NULL, ended_at BIGINT, platform TEXT NOT NULL, key_id TEXT, sealed_keys {0},
    result TEXT, attestation_result TEXT, packets BIGINT NOT NULL DEFAULT 0,
    CHECK (state IN ('open', 'taken', 'trusted', 'not-trusted', 'troubled', 'expired', 'refused')),
    CHECK (state = 'open' OR sealed_keys IS NULL));
CREATE INDEX sessions_open ON sessions (channel, expires_at) WHERE state = 'open';
CREATE INDEX sessions_created ON sessions (created_at);
CREATE TABLE documents (
    kind TEXT NOT NULL, name TEXT NOT NULL, key_id TEXT, sealed {0}, changed_at BIGINT NOT NULL, PRIMARY KEY (kind, name));
CREATE TABLE audit (seq BIGINT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE audit_head (one BIGINT PRIMARY KEY CHECK (one = 1), seq BIGINT NOT NULL, hash TEXT NOT NULL, signed_seq BIGINT NOT NULL);
INSERT INTO audit_head VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000', 0);
INSERT INTO meta VALUES ('schema', '1');
)",
                       blob_type);
}

std::int64_t SqlRow::integer(std::size_t at) const {
    if (const auto* value = std::get_if<std::int64_t>(&columns.at(at))) return *value;
    throw Error{Fault::system, fmt::format("store: column {} is no integer", at)};
}

const std::string& SqlRow::text(std::size_t at) const {
    if (const auto* value = std::get_if<std::string>(&columns.at(at))) return *value;
    throw Error{Fault::system, fmt::format("store: column {} is no text", at)};
}

std::string SqlRow::text_or_empty(std::size_t at) const { return null(at) ? std::string{} : text(at); }

Bytes SqlRow::blob(std::size_t at) const {
    if (null(at)) return {};
    if (const auto* value = std::get_if<Bytes>(&columns.at(at))) return *value;
    throw Error{Fault::system, fmt::format("store: column {} holds no bytes", at)};
}

} // namespace sev::attest::owner
