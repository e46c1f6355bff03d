// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/relay/exchange.hpp"
#include "attest/relay/fetch.hpp"
#include "attest/relay/program/curl_http.hpp"

namespace sev::relay {

/// What an administrator may set for good: JSON, format "xen-sev/relay", every key optional, unknown keys refused. docs/schemas/relay.schema.json.
/// `cek_url`, `ca_url` (patterns as endorsement::Servers has them), `proxy`, `no_proxy`, `cacert`, `cache`, `deadline_seconds`, `missing_hours`; and
/// of the guest owner's service `owner_url`, `owner_cacert`, `owner_cert`, `owner_key`, `owner_deadline_seconds`.
struct Configuration {
    static constexpr std::string_view format = "xen-sev/relay";
    static constexpr std::size_t limit_bytes = 64 << 10;
    Settings settings;
    Network network;
    Path cache; // empty: the default
    OwnerService owner;
    Path owner_ca_file; // empty: network.ca_file
    /// Reads a file over the values that are set already. Throws Error{Fault::malformed} with file, key, got and want.
    void read(const Path& path);
};

/// Reads "LABEL:PRODUCT:FINGERPRINT", the label of one character or more. Throws Error{Fault::usage}.
psp::Root parse_root(std::string_view text);

} // namespace sev::relay
