// SPDX-License-Identifier: Apache-2.0
// Every check of verify_chain has a test here in which it alone fails, or, where a failure of one makes another inevitable, the exact set.
#include "psp/roots.hpp"
#include "tests/psp/test_chain.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;
using sev::test::failed;
using sev::test::Names;
using sev::test::TestChain;

namespace {

Names failures(const TestChain& test, const Chain& chain) {
    const ChainVerdict verdict = verify_chain(chain, test.roots());
    CHECK(verdict.trusted() == failed(verdict.checks).empty());
    return failed(verdict.checks);
}

/// What fails after `change` was made before signing.
template <class Change>
Names failures_signed(Change&& change) {
    TestChain test;
    change(test.chain);
    return failures(test, test.sign());
}

/// What fails after `change` was made to a signed chain.
template <class Change>
Names failures_changed(Change&& change) {
    TestChain test;
    Chain chain = test.sign();
    change(chain);
    return failures(test, chain);
}

void break_signature(SignatureSlot& slot) { slot.bytes[5] ^= 0x10; }
void off_curve(SevCertificate& certificate) { std::get<P384Point>(certificate.key).y[47] ^= 0x01; }

/// A fixture chain under its own root, made by tests/fixtures/make_psp_vectors.py.
Names failures_of_fixture(const char* name) {
    const Chain chain = parse_chain(read_file(test::fixture(fmt::format("psp/chain_{}.bin", name)), 20'000), name);
    const ChainVerdict verdict = verify_chain(chain, {{.label = "fixture", .product = Product::naples, .fingerprint = chain.ark->fingerprint()}});
    CHECK(verdict.emulated);
    CHECK(verdict.trusted() == failed(verdict.checks).empty());
    return failed(verdict.checks);
}

} // namespace

TEST_CASE("verify_chain: a whole chain to the root that the caller names is trusted, and shows that it is emulated") {
    TestChain test;
    const ChainVerdict verdict = verify_chain(test.sign(), test.roots());
    CHECK(failed(verdict.checks) == Names{});
    CHECK(verdict.trusted());
    CHECK(verdict.emulated);
    REQUIRE(verdict.root.has_value());
    CHECK(verdict.root->label == "test root");
}

TEST_CASE("verify_chain: chains made by an independent implementation are trusted") {
    CHECK(failures_of_fixture("rsa2048") == Names{});
    CHECK(failures_of_fixture("rsa4096") == Names{}); // SHA-384, an OCA with ECDSA SHA-384, the CEK's signature in the first slot
    CHECK(failures_of_fixture("rsa_oca") == Names{});
}

TEST_CASE("verify_chain: the roots") {
    TestChain test;
    const Chain chain = test.sign();
    SUBCASE("an empty set of roots trusts nothing") {
        const ChainVerdict verdict = verify_chain(chain, {});
        CHECK(failed(verdict.checks) == Names{"chain.roots"});
        CHECK_FALSE(verdict.trusted());
        CHECK_FALSE(verdict.root.has_value());
    }
    SUBCASE("AMD's roots do not trust an emulated chain") {
        const ChainVerdict verdict = verify_chain(chain, amd_roots());
        CHECK(failed(verdict.checks) == Names{"chain.ark.root"});
        CHECK_FALSE(verdict.trusted());
        CHECK(verdict.emulated);
        CHECK_FALSE(verdict.root.has_value());
    }
    SUBCASE("a key of no known product is named as such") {
        test.chain.ark->key_id = test.chain.ark->certifying_id = test.chain.ask->certifying_id = test::filled<16>(0x77);
        const ChainVerdict verdict = verify_chain(test.sign(), amd_roots());
        CHECK(failed(verdict.checks) == Names{"chain.ark.root"});
        CHECK(verdict.checks[2].detail.find("of no known product") != std::string::npos);
        CHECK_FALSE(verdict.emulated);
    }
    SUBCASE("a key that claims to be AMD's is not") {
        test.chain.ark->key_id = test.chain.ark->certifying_id = test.chain.ask->certifying_id = naples_ark_key_id;
        const ChainVerdict verdict = verify_chain(test.sign(), amd_roots());
        CHECK(failed(verdict.checks) == Names{"chain.ark.root"});
        CHECK(verdict.checks[2].detail.find("claims to be AMD's naples") != std::string::npos);
    }
    SUBCASE("an empty chain fails every presence, even with roots") {
        const ChainVerdict verdict = verify_chain({}, amd_roots());
        CHECK(failed(verdict.checks) ==
              Names{"chain.ark.present", "chain.ask.present", "chain.cek.present", "chain.oca.present", "chain.pek.present", "chain.pdh.present"});
        CHECK_FALSE(verdict.trusted());
    }
}

TEST_CASE("verify_chain: a missing certificate fails its presence, and the signatures it should have made") {
    CHECK(failures_changed([](Chain& c) { c.ask.reset(); }) == Names{"chain.ask.present", "chain.cek.signature_by_ask"});
    CHECK(failures_changed([](Chain& c) { c.cek.reset(); }) == Names{"chain.cek.present", "chain.pek.signature_by_cek"});
    CHECK(failures_changed([](Chain& c) { c.oca.reset(); }) == Names{"chain.oca.present", "chain.pek.signature_by_oca"});
    CHECK(failures_changed([](Chain& c) { c.pek.reset(); }) == Names{"chain.pek.present", "chain.pdh.signature_by_pek"});
    CHECK(failures_changed([](Chain& c) { c.pdh.reset(); }) == Names{"chain.pdh.present"});

    TestChain test;
    Chain chain = test.sign();
    const auto roots = test.roots();
    chain.ark.reset();
    const ChainVerdict verdict = verify_chain(chain, roots);
    CHECK(failed(verdict.checks) == Names{"chain.ark.present", "chain.ask.signature_by_ark"});
    CHECK_FALSE(verdict.trusted());
}

TEST_CASE("verify_chain: usage of each link alone") {
    CHECK(failures_signed([](Chain& c) { c.ark->usage = Usage::ask; }) == Names{"chain.ark.usage"});
    CHECK(failures_signed([](Chain& c) { c.ask->usage = Usage::ark; }) == Names{"chain.ask.usage"});
    CHECK(failures_signed([](Chain& c) { c.cek->usage = Usage::pek; }) == Names{"chain.cek.usage"});
    CHECK(failures_signed([](Chain& c) { c.oca->usage = Usage::cek; }) == Names{"chain.oca.usage"});
    CHECK(failures_signed([](Chain& c) { c.pek->usage = Usage::pdh; }) == Names{"chain.pek.usage"});
    CHECK(failures_signed([](Chain& c) { c.pdh->usage = Usage::invalid; }) == Names{"chain.pdh.usage"});
}

TEST_CASE("verify_chain: algorithm of each link alone") {
    CHECK(failures_signed([](Chain& c) { c.cek->algorithm = Algorithm::ecdsa_sha384; }) == Names{"chain.cek.algorithm"});
    CHECK(failures_signed([](Chain& c) { c.pek->algorithm = Algorithm::ecdsa_sha384; }) == Names{"chain.pek.algorithm"});
    CHECK(failures_signed([](Chain& c) { c.pdh->algorithm = Algorithm::ecdsa_sha256; }) == Names{"chain.pdh.algorithm"});
    CHECK(failures_signed([](Chain& c) { c.oca->algorithm = Algorithm::ecdsa_sha384; }) == Names{}); // the owner's choice
    // A key agreement key signs nothing, so its signatures fall with it.
    CHECK(failures_signed([](Chain& c) { c.oca->algorithm = Algorithm::ecdh_sha256; }) ==
          Names{"chain.oca.algorithm", "chain.oca.signature_by_oca", "chain.pek.signature_by_oca"});
    // An algorithm of the other class than the key (such a certificate cannot come from bytes).
    CHECK(failures_signed([](Chain& c) { c.oca->algorithm = Algorithm::rsa_sha256; }) ==
          Names{"chain.oca.algorithm", "chain.oca.signature_by_oca", "chain.pek.signature_by_oca"});
}

TEST_CASE("verify_chain: a point off the curve; what its key should have signed falls with it") {
    CHECK(failures_signed([](Chain& c) { off_curve(*c.pdh); }) == Names{"chain.pdh.curve"});
    CHECK(failures_signed([](Chain& c) { off_curve(*c.cek); }) == Names{"chain.cek.curve", "chain.pek.signature_by_cek"});
    CHECK(failures_signed([](Chain& c) { off_curve(*c.pek); }) == Names{"chain.pek.curve", "chain.pdh.signature_by_pek"});
    CHECK(failures_signed([](Chain& c) { off_curve(*c.oca); }) ==
          Names{"chain.oca.curve", "chain.oca.signature_by_oca", "chain.pek.signature_by_oca"});
    CHECK(failures_signed([](Chain& c) { c.pdh->key = P384Point{}; }) == Names{"chain.pdh.curve"}); // no point at all
    CHECK(failures_signed([](Chain& c) {
              c.pdh->key = P384Point{.x = test::filled<48>(0xFF), .y = test::filled<48>(0xFF)}; // not below the field's prime
          }) == Names{"chain.pdh.curve"});
}

TEST_CASE("verify_chain: RSA keys alone; made elsewhere with exponent 3 and valid signatures") {
    CHECK(failures_of_fixture("ark_exponent_3") == Names{"chain.ark.rsa_key"});
    CHECK(failures_of_fixture("ask_exponent_3") == Names{"chain.ask.rsa_key"});
    CHECK(failures_of_fixture("oca_exponent_3") == Names{"chain.oca.rsa_key"});
}

TEST_CASE("verify_chain: RSA keys that no signature can come from are refused without a stumble") {
    const Names ark{"chain.ark.rsa_key", "chain.ark.signature_by_ark", "chain.ask.signature_by_ark"};
    CHECK(failures_signed([](Chain& c) { c.ark->modulus.back() &= 0x7F; }) == ark);
    CHECK(failures_signed([](Chain& c) { c.ark->modulus.front() &= 0xFE; }) == ark);
    CHECK(failures_signed([](Chain& c) { c.ark->modulus.clear(); }) == ark);
    CHECK(failures_signed([](Chain& c) { c.ark->exponent.assign(256, 0); }) == ark);
    CHECK(failures_signed([](Chain& c) { c.ark->modulus.assign(4096, 0xFF); }) == ark);
    CHECK(failures_signed([](Chain& c) { c.ark->exponent.resize(255); }) == Names{"chain.ark.rsa_key"}); // the same number in a field of another size
    // The size decides the hash, so the signatures fall too.
    CHECK(failures_signed([](Chain& c) { c.ark->bits = 0; }) == ark);
    CHECK(failures_signed([](Chain& c) { c.oca->key = RsaCertificateKey{}; }) ==
          Names{"chain.oca.algorithm", "chain.oca.rsa_key", "chain.oca.signature_by_oca", "chain.pek.signature_by_oca"});
    CHECK(failures_signed([](Chain& c) { c.oca->key = RsaCertificateKey{.bits = 1U << 31, .exponent = {}, .modulus = {}}; }) ==
          Names{"chain.oca.algorithm", "chain.oca.rsa_key", "chain.oca.signature_by_oca", "chain.pek.signature_by_oca"});
}

TEST_CASE("verify_chain: key ids and certifying ids alone") {
    CHECK(failures_signed([](Chain& c) { c.ark->certifying_id[0] ^= 1; }) == Names{"chain.ark.certifying_id"});
    CHECK(failures_signed([](Chain& c) { c.ask->certifying_id[15] ^= 0x80; }) == Names{"chain.ask.certifying_id"});

    TestChain test; // under a root that is AMD's, both KEY_IDs must be the product's
    const ProductIds& naples = ids_of(Product::naples);
    test.chain.ark->key_id = test.chain.ark->certifying_id = test.chain.ask->certifying_id = naples.ark;
    test.chain.ask->key_id = naples.ask;
    const auto failures_as_amd = [&] { return failed(verify_chain(test.sign(), test.roots(true)).checks); };
    CHECK(failures_as_amd() == Names{});
    test.chain.ask->key_id = ids_of(Product::rome).ask;
    CHECK(failures_as_amd() == Names{"chain.ask.key_id"});
    test.chain.ask->key_id = naples.ask;
    test.chain.ark->key_id = test.chain.ark->certifying_id = test.chain.ask->certifying_id = ids_of(Product::rome).ark;
    CHECK(failures_as_amd() == Names{"chain.ark.key_id"});
}

TEST_CASE("verify_chain: each signature alone") {
    CHECK(failures_changed([](Chain& c) { c.ark->signature->at(7) ^= 1; }) == Names{"chain.ark.signature_by_ark"});
    CHECK(failures_changed([](Chain& c) { c.ark->signature.reset(); }) == Names{"chain.ark.signature_by_ark"});
    CHECK(failures_changed([](Chain& c) { c.ask->signature->at(255) ^= 1; }) == Names{"chain.ask.signature_by_ark"});
    CHECK(failures_changed([](Chain& c) { c.ask->signature->push_back(0); }) == Names{"chain.ask.signature_by_ark"});
    CHECK(failures_changed([](Chain& c) { break_signature(c.cek->signatures[0]); }) == Names{"chain.cek.signature_by_ask"});
    CHECK(failures_changed([](Chain& c) { break_signature(c.oca->signatures[0]); }) == Names{"chain.oca.signature_by_oca"});
    CHECK(failures_changed([](Chain& c) { break_signature(c.pek->signatures[0]); }) == Names{"chain.pek.signature_by_oca"});
    CHECK(failures_changed([](Chain& c) { break_signature(c.pek->signatures[1]); }) == Names{"chain.pek.signature_by_cek"});
    CHECK(failures_changed([](Chain& c) { break_signature(c.pdh->signatures[0]); }) == Names{"chain.pdh.signature_by_pek"});
    // Absent, of another algorithm, or with bytes where a signature has none.
    CHECK(failures_changed([](Chain& c) { c.cek->signatures[0] = {}; }) == Names{"chain.cek.signature_by_ask"});
    CHECK(failures_changed([](Chain& c) { c.cek->signatures[0].algorithm = Algorithm::rsa_sha384; }) == Names{"chain.cek.signature_by_ask"});
    CHECK(failures_changed([](Chain& c) { c.pdh->signatures[0].algorithm = Algorithm::ecdsa_sha384; }) == Names{"chain.pdh.signature_by_pek"});
    CHECK(failures_changed([](Chain& c) { c.pdh->signatures[0].bytes[511] = 1; }) == Names{"chain.pdh.signature_by_pek"});
    CHECK(failures_changed([](Chain& c) { c.cek->signatures[0].bytes[256] = 1; }) == Names{"chain.cek.signature_by_ask"});
    CHECK(failures_changed([](Chain& c) { c.pdh->signatures[0].bytes = {}; }) == Names{"chain.pdh.signature_by_pek"}); // r = s = 0
}

TEST_CASE("verify_chain: slots: each signer once, nothing else, and what is empty is empty") {
    CHECK(failures_changed([](Chain& c) { std::swap(c.pek->signatures[0], c.pek->signatures[1]); }) == Names{}); // either order
    CHECK(failures_changed([](Chain& c) { c.cek->signatures[1].bytes[100] = 1; }) == Names{"chain.cek.slots"});
    CHECK(failures_changed([](Chain& c) { c.oca->signatures[1].algorithm = Algorithm::ecdsa_sha256; }) == Names{"chain.oca.slots"});
    CHECK(failures_changed([](Chain& c) { c.pdh->signatures[1] = c.pdh->signatures[0]; }) == Names{"chain.pdh.slots"}); // the same one twice
    CHECK(failures_changed([](Chain& c) { c.cek->signatures[1] = c.pdh->signatures[0]; }) == Names{"chain.cek.slots"}); // somebody else's
    CHECK(failures_changed([](Chain& c) { c.pek->signatures[1] = c.pek->signatures[0]; }) == Names{"chain.pek.slots", "chain.pek.signature_by_cek"});
    CHECK(failures_changed([](Chain& c) { c.oca->signatures[1].usage = Usage::ark; }) == Names{"chain.oca.slots"}); // all zero bytes say ARK
}

TEST_CASE("verify_chain: another platform's certificate in place of each") {
    TestChain test, other;
    other.sign();
    const auto with = [&](auto member) {
        Chain chain = test.sign();
        chain.*member = other.chain.*member;
        return failures(test, chain);
    };
    CHECK(with(&Chain::pdh) == Names{"chain.pdh.signature_by_pek"});
    CHECK(with(&Chain::pek) == Names{"chain.pek.signature_by_oca", "chain.pek.signature_by_cek", "chain.pdh.signature_by_pek"});
    CHECK(with(&Chain::oca) == Names{"chain.pek.signature_by_oca"});
    CHECK(with(&Chain::cek) == Names{"chain.pek.signature_by_cek"});
}

TEST_CASE("verify_platform_part: judges OCA, PEK by OCA and PDH, and leaves the CEK aside") {
    TestChain test;
    Chain chain = test.sign();
    chain.ark.reset();
    chain.ask.reset();
    chain.cek.reset();
    CHECK(failed(verify_platform_part(chain)) == Names{});
    CHECK(all_passed(verify_platform_part(chain)));

    Chain broken = chain;
    broken.pek->signatures[1] = {}; // not endorsed: not judged here
    CHECK(failed(verify_platform_part(broken)) == Names{});
    broken.pek->signatures[1] = chain.pdh->signatures[0];
    CHECK(failed(verify_platform_part(broken)) == Names{"chain.pek.slots"});
    broken = chain;
    break_signature(broken.pek->signatures[0]);
    CHECK(failed(verify_platform_part(broken)) == Names{"chain.pek.signature_by_oca"});
    CHECK(failed(verify_platform_part({})) == Names{"chain.oca.present", "chain.pek.present", "chain.pdh.present"});
}

TEST_CASE("verify_chain: a failed check says which link, which field, what was got and wanted") {
    TestChain test;
    test.chain.pek->usage = Usage::oca;
    test.chain.ask->certifying_id = test::filled<16>(0xAB);
    const ChainVerdict verdict = verify_chain(test.sign(), test.roots());
    const auto detail = [&](std::string_view check) {
        const auto found = std::ranges::find(verdict.checks, check, &Check::check);
        REQUIRE(found != verdict.checks.end());
        return found->detail;
    };
    CHECK(detail("chain.pek.usage") == "008h PUBKEY_USAGE is 0x1001 (OCA), want 0x1002 (PEK)");
    CHECK(detail("chain.ask.certifying_id") ==
          "14h CERTIFYING_ID is abababababababababababababababab, want 78656e2d7365762d656d756c61746564 (KEY_ID of the ARK)");
}
