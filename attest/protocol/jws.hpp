// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

#include "base/crypto.hpp"
#include "base/json.hpp"

/// Signed text in the field's standard form: JWS compact serialisation (RFC 7515) with ES384 (RFC 7518), which JWT and so EAR build on. No private
/// key is held here: a guest owner signs with its own (attest/sign_jws.hpp), a host with its own (launch/daemon/host_key.hpp).
namespace sev::attest {

/// A guest owner's identity: the public half of its P-384 signing key. JSON: a JWK (RFC 7517), {"kty":"EC","crv":"P-384","x":…,"y":…}, coordinates in
/// base64url of 48 bytes; "kid", "use" and "alg" may be there, and must then be right. "d", a private key, is refused by name.
struct OwnerKey {
    P384Point point;

    /// Throws Error{Fault::malformed} for another key type or curve, a point off the curve, an unknown key.
    static OwnerKey from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    /// RFC 7638: SHA-256 of the canonical JWK, in base64url; 43 characters. What people compare, and "kid" in what the key signed.
    std::string thumbprint() const;
    friend bool operator==(const OwnerKey&, const OwnerKey&) = default;
};

/// The protected header of what `signer` signs, and what its signature covers: base64url(header) "." base64url(payload).
std::string jws_signing_input(const OwnerKey& signer, std::string_view type, std::string_view payload);

/// The compact JWS of what was signed so: `signing_input` with the ES384 signature of its SHA-384 behind it.
std::string with_signature(std::string signing_input, const P384Signature& signature);

/// verify_jws returns the payload of a compact JWS that `signer` signed as `type` (the header's "typ"). The header must be exactly {alg: ES384, kid,
/// typ}: another algorithm, above all "none", another key or type, a header parameter nobody knows, and a signature that does not verify each throw
/// Error{Fault::malformed}.
std::string verify_jws(std::string_view text, const OwnerKey& signer, std::string_view type, std::string_view what);

} // namespace sev::attest
