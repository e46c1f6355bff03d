// SPDX-License-Identifier: Apache-2.0
#include <future>

#include "psp/roots.hpp"
#include "tests/psp/test_chain.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;
using sev::test::failed;

namespace {

Bytes whole_chain() { return read_file(test::fixture("psp/chain_rsa2048.bin"), 20'000); }
Bytes part(const Bytes& bytes, std::size_t at, std::size_t length) {
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    return {from, from + static_cast<std::ptrdiff_t>(length)};
}

} // namespace

TEST_CASE("parse_chain: each size it knows, and the same bytes back") {
    const Bytes whole = whole_chain(), large = read_file(test::fixture("psp/chain_rsa4096.bin"), 20'000);
    Bytes truncated = part(whole, 0, 9744); // without the ARK's signature, which only the Naples ARK may lack
    std::ranges::copy(naples_ark_key_id, truncated.begin() + 4 * 2084 + 832 + 0x04);
    for (const Bytes& bytes : {whole, large, truncated, part(whole, 0, 8336), part(whole, 2084, 6252), part(whole, 8336, 1664),
                               part(truncated, 8336, 1408), part(large, 8336, 3200), part(whole, 0, 2084), part(whole, 2084, 2084),
                               part(whole, 4168, 2084), part(whole, 6252, 2084)}) {
        const Chain chain = parse_chain(bytes, "chain");
        CHECK(chain.serialize() == bytes);
    }
    const Chain oca = parse_chain(part(whole, 4168, 2084), "OCA");
    CHECK(oca.oca.has_value());
    CHECK_FALSE(oca.pdh.has_value());
}

TEST_CASE("parse_chain: every other length is refused") {
    Bytes whole = whole_chain();
    whole.resize(12'000);
    const std::vector<std::size_t> known{2084, 6252, 8336, 9744, 10000, 11536, 1408, 1664, 3200};
    for (std::size_t length = 0; length < whole.size(); ++length) {
        if (std::ranges::find(known, length) != known.end()) continue;
        CHECK_THROWS_AS(parse_chain(ByteView{whole}.first(length), "chain"), Error);
    }
    CHECK_THROWS_WITH_AS(parse_chain({}, "chain"),
                         "chain: 0 bytes, want 2084 (one certificate), 6252 (PEK, OCA, CEK), 8336 (PDH, PEK, OCA, CEK), 9744, 10000 or 11536 (the "
                         "same with ASK and ARK), or 1408, 1664 or 3200 (ASK, ARK)",
                         Error);
}

TEST_CASE("parse_chain: a certificate in another's place is refused, with certificate, offset and field") {
    Bytes bytes = whole_chain();
    std::swap_ranges(bytes.begin(), bytes.begin() + 2084, bytes.begin() + 2084);
    CHECK_THROWS_WITH_AS(parse_chain(bytes, "chain"), "chain: PDH certificate: 008h PUBKEY_USAGE is 0x1002 (PEK), want 0x1003 (PDH)", Error);
    bytes = whole_chain();
    std::swap_ranges(bytes.begin() + 8336, bytes.begin() + 8336 + 832, bytes.begin() + 8336 + 832);
    CHECK_THROWS_WITH_AS(parse_chain(bytes, "chain"), "chain: ASK certificate: 24h KEY_USAGE is 0x0 (ARK), want 0x13 (ASK)", Error);
    bytes = whole_chain();
    bytes[4168] = 7;
    CHECK_THROWS_WITH_AS(parse_chain(bytes, "chain"), "chain: OCA certificate: 000h VERSION is 7, want 1", Error);
    bytes = part(whole_chain(), 0, 2084);
    bytes[8] = 0;
    CHECK_THROWS_WITH_AS(parse_chain(bytes, "file"), "file: 008h PUBKEY_USAGE is 0x1000 (none), want 0x1001..0x1004 (OCA, PEK, PDH, CEK)", Error);
    bytes = whole_chain(); // 10000 bytes in which the CA certificates say they are larger
    for (const std::size_t at : {8336U, 8336U + 832U}) bytes[at + 0x39] = bytes[at + 0x3D] = 0x10;
    CHECK_THROWS_AS(parse_chain(bytes, "chain"), Error);
}

TEST_CASE("Chain::serialize: a gap is our own mistake") {
    Chain chain = parse_chain(whole_chain(), "chain");
    CHECK(Chain{}.serialize().empty());
    chain.oca.reset();
    CHECK_THROWS_AS(chain.serialize(), Error);
    chain = parse_chain(whole_chain(), "chain");
    chain.pdh.reset(); // missing at an end is none
    chain.ark.reset();
    CHECK(chain.serialize().size() == 3 * 2084 + 832);
}

namespace {

/// How many single-bit flips of one certificate neither its parser nor any of `views` refuses. A view is a part of the good chain into which the
/// flipped certificate goes; it refuses when a check fails that passes without the flip. Cheap views come first: most flips need no signature check.
template <class Certificate, class Parse>
std::size_t accepted_flips(Bytes bytes, std::optional<Certificate> Chain::*member, Parse&& parse, const std::vector<Root>& roots,
                           std::vector<Chain> views) {
    const Certificate good = parse(bytes, "certificate");
    std::vector<test::Names> failed_before;
    for (Chain& view : views) {
        view.*member = good;
        failed_before.push_back(failed(verify_chain(view, roots).checks));
    }
    std::size_t accepted = 0;
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
        const auto flip = [&] { bytes[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8); };
        flip();
        try {
            const Certificate flipped = parse(bytes, "certificate");
            bool refused = false;
            for (std::size_t i = 0; i < views.size() && !refused; ++i) {
                views[i].*member = flipped;
                refused = failed(verify_chain(views[i], roots).checks) != failed_before[i];
            }
            if (!refused) ++accepted;
        } catch (const Error& error) {
            if (error.fault() != Fault::malformed) throw;
        }
        flip();
    }
    return accepted;
}

} // namespace

TEST_CASE("one flipped bit anywhere in a chain is refused, by parse or by verify") {
    const Bytes whole = whole_chain();
    const Chain good = parse_chain(whole, "chain");
    const std::vector<Root> roots{{.label = "fixture", .product = Product::naples, .fingerprint = good.ark->fingerprint()}};
    REQUIRE(verify_chain(good, roots).trusted());

    Chain alone, under_pek, under_oca, under_cek, under_ask, under_ark;
    under_pek.pek = good.pek;
    under_oca.oca = good.oca;
    under_cek.cek = good.cek;
    under_ask.ask = good.ask;
    under_ark.ark = good.ark;
    const auto sev = [&](std::size_t index, auto member, std::vector<Chain> views) {
        return std::async(std::launch::async, [=, &roots, bytes = part(whole, index * 2084, 2084)] {
            return accepted_flips(bytes, member, parse_sev_certificate, roots, views);
        });
    };
    const auto ca = [&](std::size_t index, auto member, std::vector<Chain> views) {
        return std::async(std::launch::async, [=, &roots, bytes = part(whole, 8336 + index * 832, 832)] {
            return accepted_flips(bytes, member, parse_ca_certificate, roots, views);
        });
    };
    auto pek = sev(1, &Chain::pek, {alone, under_cek, under_oca});
    auto oca = sev(2, &Chain::oca, {alone});
    auto pdh = sev(0, &Chain::pdh, {alone, under_pek});
    auto cek = sev(3, &Chain::cek, {alone, under_ask});
    auto ask = ca(0, &Chain::ask, {alone, under_ark});
    auto ark = ca(1, &Chain::ark, {alone});
    CHECK(pek.get() == 0);
    CHECK(oca.get() == 0);
    CHECK(pdh.get() == 0);
    CHECK(cek.get() == 0);
    CHECK(ask.get() == 0);
    CHECK(ark.get() == 0);
}
