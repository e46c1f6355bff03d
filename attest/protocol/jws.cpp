// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/jws.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t header_limit_bytes = 1024;

ByteArray<48> coordinate(json::Object& object, std::string_view key) {
    const auto bytes = try_unbase64url(object.string(key, 128));
    if (!bytes || bytes->size() != 48) object.refuse(key, "is not base64url of 48 bytes");
    ByteArray<48> out{};
    std::ranges::copy(*bytes, out.begin());
    return out;
}

void expect(json::Object& object, std::string_view key, std::string_view want) {
    const std::string found = object.string(key, 128);
    if (found != want) object.refuse(key, fmt::format("is \"{}\", want \"{}\"", printable(found), want));
}

json::Value header_of(const OwnerKey& signer, std::string_view type) { return {{"alg", "ES384"}, {"kid", signer.thumbprint()}, {"typ", type}}; }

} // namespace

OwnerKey OwnerKey::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    if (object.has("d")) object.refuse("d", "is the private key, which must not be here; only x and y are for others");
    expect(object, "kty", "EC");
    expect(object, "crv", "P-384");
    OwnerKey out{{.x = coordinate(object, "x"), .y = coordinate(object, "y")}};
    if (object.has("alg")) expect(object, "alg", "ES384");
    if (object.has("use")) expect(object, "use", "sig");
    if (object.has("kid")) expect(object, "kid", out.thumbprint());
    object.done();
    if (!on_curve(out.point)) throw Error{Fault::malformed, fmt::format("{}: x and y are no point of P-384", what)};
    return out;
}

json::Value OwnerKey::to_json() const {
    return {{"kty", "EC"},  {"crv", "P-384"}, {"x", base64url(point.x)}, {"y", base64url(point.y)},
            {"use", "sig"}, {"alg", "ES384"}, {"kid", thumbprint()}};
}

std::string OwnerKey::thumbprint() const {
    // RFC 7638 section 3: the required members in alphabetical order, no white space
    const std::string canonical = fmt::format(R"({{"crv":"P-384","kty":"EC","x":"{}","y":"{}"}})", base64url(point.x), base64url(point.y));
    return base64url(sha256(as_bytes(canonical)));
}

std::string jws_signing_input(const OwnerKey& signer, std::string_view type, std::string_view payload) {
    return base64url(as_bytes(header_of(signer, type).dump())) + "." + base64url(as_bytes(payload));
}

std::string with_signature(std::string signing_input, const P384Signature& signature) {
    Bytes both{signature.r.begin(), signature.r.end()};
    both.insert(both.end(), signature.s.begin(), signature.s.end());
    return std::move(signing_input) + "." + base64url(both);
}

std::string verify_jws(std::string_view text, const OwnerKey& signer, std::string_view type, std::string_view what) {
    const auto refuse = [&](std::string_view problem) { throw Error{Fault::malformed, fmt::format("{}: {}", what, problem)}; };
    const std::size_t first = text.find('.'), last = text.rfind('.');
    if (first == std::string_view::npos || first == last) refuse("is no compact JWS: want three parts with a dot between them");
    if (first > header_limit_bytes) refuse(fmt::format("JWS header has {} bytes, want at most {}", first, header_limit_bytes));
    const auto header = try_unbase64url(text.substr(0, first));
    const auto payload = try_unbase64url(text.substr(first + 1, last - first - 1));
    const auto signature = try_unbase64url(text.substr(last + 1));
    if (!header || !payload || !signature) refuse("a part of the JWS is not base64url");
    if (signature->size() != 96) refuse(fmt::format("signature has {} bytes, want 96 (ES384)", signature->size()));

    const json::Value value = json::parse(as_text(*header), fmt::format("{}: JWS header", what), {.bytes = header_limit_bytes, .depth = 4});
    json::Object object{value, fmt::format("{}: JWS header", what)};
    expect(object, "alg", "ES384");
    expect(object, "typ", type);
    const std::string kid = object.string("kid", 128);
    object.done();
    if (kid != signer.thumbprint()) refuse(fmt::format("is signed by key {}, want the pinned {}", printable(kid), signer.thumbprint()));

    P384Signature parts;
    std::copy_n(signature->begin(), 48, parts.r.begin());
    std::copy_n(signature->begin() + 48, 48, parts.s.begin());
    if (!ecdsa_verify(signer.point, sha384(as_bytes(text.substr(0, last))), parts)) refuse("the signature does not verify under the pinned key");
    return std::string{as_text(*payload)};
}

} // namespace sev::attest
