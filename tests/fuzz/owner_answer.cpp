// SPDX-License-Identifier: Apache-2.0
// What a carrier hands to a host as an owner's answer, and what somebody shows as an attestation result: bytes of anybody's.
#include "attest/ear.hpp"
#include "attest/protocol/exchange.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace sev;
using namespace sev::attest;

/// The first owner of tests/fixtures/owner/answers.json.
const OwnerKey& owner() {
    static const OwnerKey key = OwnerKey::from_json(
        json::parse(
            R"({"kty":"EC","crv":"P-384","x":"dV3Nv5zvNxYVk0oHM6VT5eG9unYbFHuLI6sBjZ3CT4NK6Hxo7oGBP99tfREGHysu",")"
        R"("y":"n_i0IdvvOlVTxuHuy6mc9q0ATGKB2hpnVnaq514nVHJRMOUtAct3C_R0VVkq0kgw"})",
            "jwk"),
        "jwk");
    return key;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = as_text({data, size});
    fuzz::refuses_or_reads([&] { verify_jws(text, owner(), "test+jwt", "text"); });
    fuzz::refuses_or_reads([&] { open_answer(text, R"({"format":"xen-sev/session-request"})", owner()); });
    fuzz::refuses_or_reads([&] { read_attestation_result(text, owner(), "EAR"); });
    // past the signature, which no fuzzer makes
    fuzz::refuses_or_reads([&] {
        const auto answer = read_message<ExchangeAnswer>(text, "answer");
        fuzz::expect(read_message<ExchangeAnswer>(answer.to_json().dump(), "answer") == answer, "an answer is the same after writing and reading");
    });
    fuzz::refuses_or_reads([&] {
        const auto result = AttestationResult::from_json(json::parse(text, "EAR", {.bytes = AttestationResult::limit_bytes, .depth = 8}), "EAR");
        fuzz::expect(AttestationResult::from_json(result.to_json(), "EAR") == result, "a result is the same after writing and reading");
        fuzz::expect(!(result.trusted && !result.failed_checks.empty()), "a trusted result has no failed check");
        fuzz::expect(result.trusted || result.status == TrustTier::contraindicated, "what is not trusted is contraindicated");
        render(result);
    });
    return 0;
}
