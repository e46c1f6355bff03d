// SPDX-License-Identifier: Apache-2.0
// A chip that the owner pins by its CEK, because AMD's endorsement of it is not to be had.
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;
using sev::test::failed;

namespace {

/// The fixture's launch as a chip without an endorsement would show it: no ASK, no ARK, an unsigned CEK; and an owner who pins that CEK.
struct PinnedLaunch : test::FixtureLaunch {
    PinnedLaunch() {
        Bytes& chain = bundle.platform.chain;
        chain.resize(4 * 2084);
        for (std::size_t slot = 0; slot < 2; ++slot) {
            const std::size_t at = 3 * 2084 + 0x414 + slot * 0x208;
            std::fill_n(chain.begin() + static_cast<std::ptrdiff_t>(at), 0x208, std::uint8_t{0});
            chain.at(at + 1) = 0x10; // usage 0x1000: no signature
        }
        const auto cek = psp::parse_chain(chain, "chain").cek->fingerprint();
        policy.other_roots.clear();
        policy.pinned_chips = {{.label = "board 7", .product = psp::Product::naples, .cek = cek, .emulated = true}};
    }
};

} // namespace

TEST_CASE_FIXTURE(PinnedLaunch, "pinned chip: trusted, and named for what it is") {
    const Verdict verdict = judge().verdict;
    CHECK(failed(verdict.checks).empty());
    CHECK(verdict.trusted());
    CHECK(verdict.emulated);
    CHECK(verdict.root == "board 7 (CEK pinned by the owner, not AMD)");
    CHECK(test::find_check(verdict.checks, "platform.root_kind")->detail.starts_with("endorsement: pinned by the owner, not AMD"));
    CHECK(render(verdict).find("pinned by the owner") != std::string::npos);
}

TEST_CASE_FIXTURE(PinnedLaunch, "pinned chip: without the pin there is no trust") {
    policy.pinned_chips.clear();
    CHECK(failed(judge().verdict.checks).starts_with("chain.roots"));
    policy.amd_roots = {psp::Product::naples};
    CHECK(failed(judge().verdict.checks) == "chain.ark.present chain.ask.present chain.cek.signature_by_ask platform.root_kind platform.backend");
}

TEST_CASE_FIXTURE(PinnedLaunch, "pinned chip: another chip's pin does not help") {
    policy.pinned_chips.at(0).cek[0] ^= 1;
    CHECK(failed(judge().verdict.checks) == "chain.ark.present chain.ask.present chain.cek.signature_by_ask platform.root_kind platform.backend");
}

TEST_CASE_FIXTURE(PinnedLaunch, "pinned chip: the list of chips still decides") {
    policy.chips->clear();
    CHECK(failed(judge().verdict.checks) == "platform.chip");
}

TEST_CASE_FIXTURE(PinnedLaunch, "pinned chip: a host that says \"emulated\" is not believed to be hardware") {
    policy.pinned_chips.at(0).emulated = false;
    CHECK(failed(judge().verdict.checks).find("platform.backend") != std::string::npos);
}

TEST_CASE_FIXTURE(PinnedLaunch, "pinned chip: an emulated one supports level 1 at most, hardware by the owner's word more") {
    bundle.platform.level = 4;
    CHECK(judge_platform(policy, bundle.platform, now).level == 1);
    bundle.platform.backend = Backend::ccp;
    policy.pinned_chips.at(0).emulated = false;
    CHECK(judge_platform(policy, bundle.platform, now).level == 4);
}

TEST_CASE_FIXTURE(PinnedLaunch, "pinned chip: in the policy file, in its text, and in its lint") {
    const json::Value value = policy.to_json();
    CHECK(value.at("roots").at("pinned_chips").at(0).at("label") == "board 7");
    OwnerPolicy again = OwnerPolicy::from_json(value, "p", policy.base);
    CHECK(again == policy);
    CHECK(again.roots().size() == 1);
    CHECK(again.roots().at(0).pinned_cek);
    CHECK_FALSE(again.roots().at(0).amd);
    CHECK(show(policy).find("pinned by its CEK and not endorsed by AMD") != std::string::npos);
    const auto has = [&](std::string_view id) {
        const auto findings = lint(policy, now);
        return std::ranges::find(findings, id, &LintFinding::id) != findings.end();
    };
    CHECK(has("emulated-pin"));
    CHECK_FALSE(has("roots-empty"));
    policy.level = 4;
    CHECK(has("level-unreachable"));
    policy.pinned_chips.at(0).emulated = false;
    CHECK(has("pinned-chip"));
    CHECK_FALSE(has("level-unreachable"));

    const auto refused = [&](const char* key, const json::Value& wrong) {
        json::Value bad = value;
        bad["roots"]["pinned_chips"][0][key] = wrong;
        CHECK_THROWS_AS(OwnerPolicy::from_json(bad, "p", ""), Error);
    };
    refused("cek", "00");
    refused("product", "zen5");
    refused("emulated", 1);
    refused("label", "");
    refused("surplus", 1);
    for (const char* key : {"label", "product", "cek", "emulated"}) {
        json::Value bad = value;
        bad["roots"]["pinned_chips"][0].erase(key);
        CHECK_THROWS_AS(OwnerPolicy::from_json(bad, "p", ""), Error);
    }
    json::Value twice = value;
    twice["roots"]["pinned_chips"].push_back(value["roots"]["pinned_chips"][0]);
    CHECK_THROWS_AS(OwnerPolicy::from_json(twice, "p", ""), Error);
}
