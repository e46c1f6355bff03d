// SPDX-License-Identifier: Apache-2.0
// A chip that its owner pins by the CEK, because AMD's endorsement is not to be had: what the pin stands in for, and what it does not.
#include "tests/psp/test_chain.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;
using sev::test::failed;
using sev::test::Names;
using sev::test::TestChain;

namespace {

/// PDH, PEK, OCA and the unsigned CEK, as a platform exports them.
Chain exported(TestChain& test) {
    Chain chain = test.sign();
    chain.ark.reset();
    chain.ask.reset();
    chain.cek->signatures = {};
    return chain;
}
Root pin(const Chain& chain) {
    return {.label = "board 7", .product = Product::naples, .fingerprint = chain.cek->fingerprint(), .amd = false, .pinned_cek = true};
}

template <class Change>
Names failures_under_pin(Change&& change) {
    TestChain test;
    Chain chain = exported(test);
    const Root root = pin(chain);
    change(chain, test);
    const ChainVerdict verdict = verify_chain(chain, {root});
    CHECK(verdict.trusted() == failed(verdict.checks).empty());
    return failed(verdict.checks);
}

const Names without_endorsement{"chain.ark.present", "chain.ask.present", "chain.cek.signature_by_ask"};

} // namespace

TEST_CASE("pinned CEK: stands in for ARK and ASK, and the verdict says so") {
    TestChain test;
    const Chain chain = exported(test);
    const ChainVerdict verdict = verify_chain(chain, {pin(chain)});
    CHECK(failed(verdict.checks) == Names{});
    CHECK(verdict.trusted());
    REQUIRE(verdict.root);
    CHECK(verdict.root->pinned_cek);
    CHECK_FALSE(verdict.root->amd);
    const auto check = std::ranges::find(verdict.checks, "chain.cek.pinned", &Check::check);
    REQUIRE(check != verdict.checks.end());
    CHECK(check->detail.starts_with("endorsement: pinned by the owner as \"board 7\", not AMD's"));
}

TEST_CASE("pinned CEK: without its pin, or under another, nothing is trusted") {
    TestChain test;
    const Chain chain = exported(test);
    CHECK(failed(verify_chain(chain, amd_roots()).checks) == without_endorsement);
    Root other = pin(chain);
    other.fingerprint[0] ^= 1;
    CHECK(failed(verify_chain(chain, {other}).checks) == without_endorsement);
    Root as_ark = pin(chain);
    as_ark.pinned_cek = false; // the CEK's fingerprint, but named as an ARK's
    CHECK(failed(verify_chain(chain, {as_ark}).checks) == without_endorsement);
}

TEST_CASE("pinned CEK: a pin is no root for an ARK of that fingerprint, nor for a chain that brings an endorsement") {
    TestChain test;
    const Chain whole = test.sign();
    const Root ark_as_pin{.label = "x", .product = Product::naples, .fingerprint = whole.ark->fingerprint(), .amd = false, .pinned_cek = true};
    CHECK(failed(verify_chain(whole, {ark_as_pin}).checks) == Names{"chain.ark.root"});
    CHECK(failed(verify_chain(whole, {pin(whole)}).checks) == Names{"chain.ark.root"});
    CHECK(verify_chain(whole, {pin(whole), test.roots().front()}).trusted()); // by its root
    CHECK_FALSE(verify_chain(whole, {pin(whole), test.roots().front()}).root->pinned_cek);
    CHECK_FALSE(failures_under_pin([&](Chain& c, TestChain&) { c.ask = whole.ask; }).empty());
    CHECK_FALSE(failures_under_pin([&](Chain& c, TestChain&) { c.ark = whole.ark; }).empty());
}

TEST_CASE("pinned CEK: everything below it is judged as ever") {
    CHECK(failures_under_pin([](Chain& c, TestChain&) { c.pek.reset(); }) == Names{"chain.pek.present", "chain.pdh.signature_by_pek"});
    CHECK(failures_under_pin([](Chain& c, TestChain&) { c.pdh.reset(); }) == Names{"chain.pdh.present"});
    CHECK(failures_under_pin([](Chain& c, TestChain&) { c.pek->signatures[1].bytes[3] ^= 1; }) == Names{"chain.pek.signature_by_cek"});
    CHECK(failures_under_pin([](Chain& c, TestChain&) { c.pdh->signatures[0].bytes[3] ^= 1; }) == Names{"chain.pdh.signature_by_pek"});
    CHECK(failures_under_pin([](Chain& c, TestChain&) { c.cek.reset(); }) ==
          Names{"chain.ark.present", "chain.ask.present", "chain.cek.present", "chain.pek.signature_by_cek"});
}

TEST_CASE("pinned CEK: bytes that nothing verifies are not tolerated") {
    CHECK(failures_under_pin([](Chain& c, TestChain& test) {
              TestChain::sign_by_ask(*c.cek, 0);
              static_cast<void>(test);
          }) == Names{"chain.cek.slots"});
    CHECK(failures_under_pin([](Chain& c, TestChain&) { c.cek->signatures[1].bytes[511] = 1; }) == Names{"chain.cek.slots"});
    // a changed key or version is another fingerprint
    CHECK(failures_under_pin([](Chain& c, TestChain&) { c.cek->api.minor ^= 1; }).size() >= without_endorsement.size());
}

TEST_CASE("pinned CEK: a certificate of another use does not become a CEK by being pinned") {
    TestChain test;
    Chain chain = exported(test);
    chain.cek->usage = Usage::oca;
    CHECK_FALSE(verify_chain(chain, {pin(chain)}).trusted());
}
