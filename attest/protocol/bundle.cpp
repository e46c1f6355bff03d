// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/bundle.hpp"

namespace sev::attest {

Bundle Bundle::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    Bundle out{.platform = PlatformEvidence::from_json(object.at("platform"), object.what() + ": platform"),
               .offer = SessionOffer::from_json(object.at("offer"), object.what() + ": offer"),
               .launch = LaunchEvidence::from_json(object.at("launch"), object.what() + ": launch")};
    object.done();
    return out;
}

json::Value Bundle::to_json() const {
    json::Value out = with_format(format, version);
    out["platform"] = platform.to_json();
    out["offer"] = offer.to_json();
    out["launch"] = launch.to_json();
    return out;
}

} // namespace sev::attest
