// SPDX-License-Identifier: Apache-2.0
#include "attest/sign_jws.hpp"

namespace sev::attest {

OwnerKey owner_key(const P384Key& key) { return {key.public_point()}; }

std::string sign_jws(const P384Key& key, std::string_view type, std::string_view payload) {
    std::string input = jws_signing_input(owner_key(key), type, payload);
    const P384Signature signature = key.sign(sha384(as_bytes(input)));
    return with_signature(std::move(input), signature);
}

} // namespace sev::attest
