// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/protocol/bundle.hpp"
#include "attest/protocol/jws.hpp"

namespace sev::attest {

/// A host's public key, as a JWK: the same form as an owner's. Whoever judges a host's bundles pins it.
using HostKey = OwnerKey;

/// One launch's bundle in one file that can be carried anywhere: a JWS (compact, ES384) under the host's key. The protected header names media type
/// and version ("typ"). The signature says which host collected the bundle and that nobody changed it since; it attests nothing, since the host is
/// the party that is judged. The three times are the host's clock's.
/// Payload: JSON, format "xen-sev/signed-bundle", docs/schemas/signed-bundle.schema.json.
struct SignedBundle {
    static constexpr std::string_view format = "xen-sev/signed-bundle";
    static constexpr unsigned version = 1;
    static constexpr std::string_view jws_type = "vnd.xen-sev.bundle+jws;version=1";
    static constexpr std::size_t limit_bytes = Bundle::limit_bytes + 4096;
    static constexpr std::size_t wire_limit_bytes = (limit_bytes + 2) / 3 * 4 + 4096; // base64url, with header and signature

    std::uint64_t launch = 0; // the host's number of it, from 1
    std::string state;        // of the launch when the bundle was collected, as the host calls it: "running", "refused" …
    std::string collector;    // the program that signed: "sevd 1.2.3"
    Time created_at{}, measured_at{}, collected_at{};
    Bundle bundle;

    static SignedBundle from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const SignedBundle&, const SignedBundle&) = default;
};

/// Whether a text begins as a compact JWS does, and not as a JSON object: which of the two forms a bundle's file has.
bool looks_signed(std::string_view text);

/// open_signed_bundle is the one way to a signed bundle from outside: verifies the JWS under the pinned key (one line feed at its end is let pass),
/// then reads it strictly. Throws Error{Fault::malformed} with `what`: too long, another type, version or key, a signature that does not verify.
SignedBundle open_signed_bundle(std::string_view wire, const HostKey& host, std::string_view what);

} // namespace sev::attest
