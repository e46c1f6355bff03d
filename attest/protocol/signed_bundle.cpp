// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/signed_bundle.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest {

SignedBundle SignedBundle::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    const auto time = [&](const char* key) { return parse_time(object.string(key, 64), fmt::format("{}: {}", what, key)); };
    SignedBundle out;
    out.launch = object.number("launch", INT64_MAX);
    if (out.launch == 0) object.refuse("launch", "is 0, want a launch's number, from 1");
    out.state = checked_name(object.string("state"), object.what() + ": state");
    out.collector = checked_name(object.string("collector"), object.what() + ": collector");
    out.created_at = time("created_at");
    out.measured_at = time("measured_at");
    out.collected_at = time("collected_at");
    out.bundle = Bundle::from_json(object.at("bundle"), object.what() + ": bundle");
    object.done();
    return out;
}

json::Value SignedBundle::to_json() const {
    json::Value out = with_format(format, version);
    out["launch"] = launch;
    out["state"] = state;
    out["collector"] = collector;
    out["created_at"] = text(created_at);
    out["measured_at"] = text(measured_at);
    out["collected_at"] = text(collected_at);
    out["bundle"] = bundle.to_json();
    return out;
}

bool looks_signed(std::string_view text) { return text.starts_with("eyJ"); } // base64url of {"

SignedBundle open_signed_bundle(std::string_view wire, const HostKey& host, std::string_view what) {
    if (wire.ends_with('\n')) wire.remove_suffix(1);
    if (wire.size() > SignedBundle::wire_limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, want at most {}", what, wire.size(), SignedBundle::wire_limit_bytes)};
    return read_message<SignedBundle>(verify_jws(wire, host, SignedBundle::jws_type, what), what);
}

} // namespace sev::attest
