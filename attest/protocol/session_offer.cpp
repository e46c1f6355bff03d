// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/session_offer.hpp"

namespace sev::attest {

SessionOffer SessionOffer::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    SessionOffer out;
    out.session_id = object.hex<16>("session_id");
    out.launch_name = checked_name(object.string("launch_name"), object.what() + ": launch_name");
    out.policy = {static_cast<std::uint32_t>(object.number("policy", UINT32_MAX))};
    base64_exactly(object, "godh", out.godh);
    base64_exactly(object, "session", out.session);
    out.report_nonce = object.hex<16>("report_nonce");
    object.done();
    return out;
}

json::Value SessionOffer::to_json() const {
    json::Value out = with_format(format, version);
    out["session_id"] = hex(session_id);
    out["launch_name"] = launch_name;
    out["policy"] = policy.value;
    out["godh"] = base64(godh);
    out["session"] = base64(session);
    out["report_nonce"] = hex(report_nonce);
    return out;
}

} // namespace sev::attest
