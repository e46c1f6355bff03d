// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/record.hpp"
#include "launch/xen/wanted.hpp"
#include "tests/fuzz/fuzz.hpp"

/// The body of POST /v1/launches: what parses can be shown, and shows the same request.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    std::optional<daemon::LaunchRequest> request;
    try {
        request = daemon::LaunchRequest::parse(as_text({data, size}));
    } catch (const Error&) {
        return 0;
    }
    daemon::Record record;
    record.request = *request;
    const json::Value shown = record.to_json(true);
    json::Value again = json::Value::object();
    for (const char* key : {"name", "owner", "policy", "guest", "evidence"}) again[key] = shown.at(key);
    fuzz::expect(daemon::LaunchRequest::parse(again.dump()) == *request, "a launch shows the request it was asked with");
    if (request->guest.at("kind") != "xen") return 0;
    std::optional<launch::xen::WantedDomain> wanted;
    try {
        wanted = launch::xen::WantedDomain::parse(request->guest);
    } catch (const Error&) {
        return 0;
    }
    fuzz::expect(launch::xen::WantedDomain::parse(wanted->to_json()) == *wanted, "a Xen domain that was asked for is asked for the same way");
    return 0;
}
