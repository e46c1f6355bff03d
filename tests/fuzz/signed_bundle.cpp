// SPDX-License-Identifier: Apache-2.0
// A bundle's file, carried by anybody: bytes of anybody's, also past the signature, which a lying host can make.
#include "attest/judge_bundle.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace sev;
using namespace sev::attest;

/// tests/fixtures/attest/host.jwk
const HostKey& host() {
    static const HostKey key = HostKey::from_json(
        json::parse(
            R"({"kty":"EC","crv":"P-384","x":"pi3_ZI2t95lOdDQpm_quR5Rt6vZHVWP_RK39Pv5AiNMaY8VCpRD-Fc2SZ8yCyx5t",)"
            R"("y":"kRK0E6Kx84JQff4Ejq3E98QulMoOHP6BvFE5Unn0vhCjbgTMYmhYzNTWNfi77guY"})",
            "jwk"),
        "jwk");
    return key;
}

/// Holds a bundle against a policy that trusts nothing.
void judge(const SignedBundle& bundle, bool with_tik) {
    static const OwnerPolicy policy{};
    static const std::vector<Reference> references{{.name = "a", .digest = {}, .regions = {}, .secret_block = {}, .uncovered = {}}};
    BundleKnowledge known;
    if (with_tik) known.tik = psp::Tik::filled_by([](auto out) { std::ranges::fill(out, std::uint8_t{0}); });
    const Verdict verdict =
        judge_bundle(bundle, host(), std::move(known), {.policy = policy, .references = references}, parse_time("2026-06-01T00:00:00Z", "now"));
    fuzz::expect(!verdict.trusted(), "nothing that a fuzzer signs is trusted");
    fuzz::expect(verdict.checks.size() > 20, "all checks are made");
    render(verdict);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = as_text({data, size});
    looks_signed(text);
    fuzz::refuses_or_reads([&] { open_signed_bundle(text, host(), "bundle"); });
    // past the signature: what lies between the dots, and the text as it is
    std::string payload{text};
    if (const auto first = text.find('.'); first != std::string_view::npos)
        if (const auto bytes = try_unbase64url(text.substr(first + 1, text.find('.', first + 1) - first - 1))) payload = as_text(*bytes);
    fuzz::refuses_or_reads([&] {
        const auto bundle = read_message<SignedBundle>(payload, "bundle");
        fuzz::expect(read_message<SignedBundle>(bundle.to_json().dump(), "bundle") == bundle, "a bundle is the same after writing and reading");
        judge(bundle, false);
        judge(bundle, true);
    });
    return 0;
}
