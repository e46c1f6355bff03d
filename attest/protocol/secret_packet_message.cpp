// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/secret_packet_message.hpp"

#include <fmt/format.h>

namespace sev::attest {

SecretPacketMessage SecretPacketMessage::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    SecretPacketMessage out;
    out.session_id = object.hex<16>("session_id");
    out.slot = checked_name(object.string("slot"), object.what() + ": slot");
    out.offset_bytes = object.number("offset", UINT32_MAX);
    if (out.offset_bytes % 16 != 0) object.refuse("offset", fmt::format("is {}, want a multiple of 16", out.offset_bytes));
    if (object.has("gpa")) out.gpa = psp::Gpa{object.number("gpa", UINT64_MAX)};
    base64_exactly(object, "header", out.header);
    out.data = object.base64("data", data_limit_bytes);
    if (out.data.empty() || out.data.size() % 16 != 0)
        object.refuse("data", fmt::format("has {} bytes, want a multiple of 16 from 16 to {}", out.data.size(), data_limit_bytes));
    object.done();
    return out;
}

json::Value SecretPacketMessage::to_json() const {
    json::Value out = with_format(format, version);
    out["session_id"] = hex(session_id);
    out["slot"] = slot;
    out["offset"] = offset_bytes;
    if (gpa) out["gpa"] = fmt::format("0x{:x}", psp::raw(*gpa));
    out["header"] = base64(header);
    out["data"] = base64(data);
    return out;
}

} // namespace sev::attest
