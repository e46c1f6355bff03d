// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/protocol/jws.hpp"

namespace sev::attest {

/// The public half of the guest owner's signing key.
OwnerKey owner_key(const P384Key& key);

/// Compact JWS over `payload`, ES384, with "typ" `type` and the signer's thumbprint as "kid".
std::string sign_jws(const P384Key& key, std::string_view type, std::string_view payload);

} // namespace sev::attest
