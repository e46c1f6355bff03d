// SPDX-License-Identifier: Apache-2.0
#include "attest/owner_policy.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    using attest::OwnerPolicy;
    std::optional<OwnerPolicy> policy;
    try {
        policy = OwnerPolicy::parse(as_text({data, size}), "policy", "");
    } catch (const Error&) {
        return 0;
    }
    const OwnerPolicy again = OwnerPolicy::parse(json::pretty(policy->to_json()), "policy", "");
    fuzz::expect(again == *policy, "a policy that parses is the same after writing and reading");
    fuzz::expect(attest::diff(*policy, again).empty(), "a policy does not differ from itself");
    attest::lint(*policy, attest::Time{});
    attest::show(*policy);
    return 0;
}
