// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "psp/roots.hpp"
#include "tests/psp/test_chain.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;
using sev::test::fixture;
using sev::test::TestChain;

namespace {

Bytes fixture_chain() { return read_file(fixture("psp/chain_rsa2048.bin"), 20'000); }
Bytes pdh_bytes() {
    const Bytes chain = fixture_chain();
    return {chain.begin(), chain.begin() + 2084};
}
Bytes ca_bytes(std::size_t index) { // 0: ASK, 1: ARK
    const Bytes chain = fixture_chain();
    const auto at = chain.begin() + 4 * 2084 + static_cast<std::ptrdiff_t>(832 * index);
    return {at, at + 832};
}
Bytes to_bytes(const ByteArray<2084>& from) { return {from.begin(), from.end()}; }
Bytes with(Bytes bytes, std::size_t at, std::uint8_t value) {
    bytes.at(at) = value;
    return bytes;
}
json::Value known_answers() { return json::parse(read_text(fixture("psp/known_answers.json"), 1U << 20), "known answers"); }

} // namespace

TEST_CASE("SevCertificate: fields of a PDH made by an independent implementation") {
    const SevCertificate pdh = parse_sev_certificate(pdh_bytes(), "PDH certificate");
    const auto known = known_answers();
    CHECK(pdh.api == ApiVersion{.major = 0, .minor = 24});
    CHECK(pdh.usage == Usage::pdh);
    CHECK(pdh.algorithm == Algorithm::ecdh_sha256);
    REQUIRE(pdh.point() != nullptr);
    CHECK(hex(pdh.point()->x) == known["pdh"]["qx_be"].get<std::string>());
    CHECK(hex(pdh.point()->y) == known["pdh"]["qy_be"].get<std::string>());
    CHECK(pdh.signatures[0].usage == Usage::pek);
    CHECK(pdh.signatures[0].algorithm == Algorithm::ecdsa_sha256);
    CHECK(pdh.signatures[1] == SignatureSlot{});
    CHECK(hex(pdh.fingerprint()) == known["chains"]["rsa2048"]["pdh_fingerprint"].get<std::string>());
    CHECK(pdh.signature_by(Usage::pek) == &pdh.signatures[0]);
    CHECK(pdh.signature_by(Usage::oca) == nullptr);
    CHECK(pdh.signature_by(Usage::invalid) == nullptr); // an empty slot is nobody's signature
}

TEST_CASE("SevCertificate: what we write for a known key equals what an independent implementation wrote") {
    const auto known = known_answers();
    const auto key = P384Key::from_scalar(unhex<48>(known["pdh"]["scalar_be"].get<std::string>()));
    SevCertificate ours = unsigned_certificate(Usage::pdh, Algorithm::ecdh_sha256, {.major = 0, .minor = 24}, key.public_point());
    const SevCertificate theirs = parse_sev_certificate(pdh_bytes(), "PDH certificate");
    CHECK(ours.signed_bytes() == theirs.signed_bytes());
    ours.signatures = theirs.signatures; // ECDSA is randomised: only the slot's form can be compared
    CHECK(to_bytes(ours.serialize()) == pdh_bytes());
}

TEST_CASE("SevCertificate: round trip of EC and RSA keys") {
    const Bytes chain = read_file(fixture("psp/chain_rsa_oca.bin"), 20'000);
    for (std::size_t i = 0; i < 4; ++i) {
        const ByteView one = ByteView{chain}.subspan(i * 2084, 2084);
        const SevCertificate certificate = parse_sev_certificate(one, "certificate");
        CHECK(std::ranges::equal(certificate.serialize(), one));
        CHECK((certificate.point() == nullptr) == (certificate.usage == Usage::oca));
    }
}

TEST_CASE("SevCertificate: every other length is refused, with the length wanted") {
    const Bytes whole = pdh_bytes();
    for (std::size_t length = 0; length < whole.size(); ++length) {
        CHECK_THROWS_AS(parse_sev_certificate(ByteView{whole}.first(length), "PDH certificate"), Error);
    }
    CHECK_THROWS_WITH_AS(parse_sev_certificate(ByteView{whole}.first(2000), "PDH certificate"), "PDH certificate: 2000 bytes, want 2084", Error);
    Bytes longer = whole;
    longer.push_back(0);
    CHECK_THROWS_WITH_AS(parse_sev_certificate(longer, "PDH certificate"), "PDH certificate: 2085 bytes, want 2084", Error);
}

TEST_CASE("SevCertificate: what other tools leave in the reserved bytes after a key is kept, and the signature covers it") {
    for (const std::size_t at : {0x0A4U, 0x200U, 0x413U}) {
        const Bytes bytes = with(pdh_bytes(), at, 0x5A);
        const SevCertificate certificate = parse_sev_certificate(bytes, "PDH");
        CHECK(std::ranges::equal(certificate.serialize(), bytes));
        CHECK(certificate != parse_sev_certificate(pdh_bytes(), "PDH"));
        CHECK(certificate.fingerprint() != parse_sev_certificate(pdh_bytes(), "PDH").fingerprint());
    }
    // An OCA as virtee's sevctl makes it, with such bytes, verifies; one of them changed, it does not.
    const P384Key key = P384Key::generate();
    SevCertificate oca = unsigned_certificate(Usage::oca, Algorithm::ecdsa_sha256, {0, 0}, key.public_point());
    oca.after_key.fill(0xA5);
    sign(oca, 0, Usage::oca, key);
    SevCertificate read = parse_sev_certificate(oca.serialize(), "OCA");
    CHECK(signature_valid(read, read.signatures[0], read));
    read.after_key[879] ^= 1;
    CHECK_FALSE(signature_valid(read, read.signatures[0], read));
}

TEST_CASE("SevCertificate: undefined values and reserved bytes are refused, and the message says where") {
    const Bytes good = pdh_bytes();
    const auto refusal = [](const Bytes& bytes) {
        std::string message;
        try {
            parse_sev_certificate(bytes, "PDH");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::malformed);
            message = error.what();
        }
        return message;
    };
    CHECK(refusal(good).empty());
    CHECK(refusal(with(good, 0x000, 2)) == "PDH: 000h VERSION is 2, want 1");
    CHECK(refusal(with(good, 0x007, 1)) == "PDH: 006h reserved is 0x100, want 0");
    CHECK(refusal(with(good, 0x008, 5)) ==
          "PDH: 008h PUBKEY_USAGE is 0x1005, want 0x0 (ARK), 0x13 (ASK), 0x1000 (none) or 0x1001..0x1004 (OCA, PEK, PDH, CEK)");
    CHECK(refusal(with(good, 0x00C, 4)) == "PDH: 00Ch PUBKEY_ALGO is 0x4, want 0x0..0x3 or 0x101..0x103");
    CHECK(refusal(with(good, 0x00C, 0)) == "PDH: 00Ch PUBKEY_ALGO is 0x0 (none), want a key's algorithm");
    CHECK(refusal(with(good, 0x00C, 1)) == "PDH: 010h MODULUS_SIZE is 2 bits, want 2048 or 4096");
    CHECK(refusal(with(good, 0x010, 1)) == "PDH: 010h CURVE is 1, want 2 (P-384)");
    CHECK(refusal(with(good, 0x014 + 48, 1)) == "PDH: 014h QX is wider than the 48 bytes of P-384");
    CHECK(refusal(with(good, 0x05C + 71, 1)) == "PDH: 05Ch QY is wider than the 48 bytes of P-384");
    CHECK(refusal(with(good, 0x415, 0x20)).starts_with("PDH: 414h SIG1_USAGE is 0x2002, want"));
    CHECK(refusal(with(good, 0x418, 9)).starts_with("PDH: 418h SIG1_ALGO is 0x9, want"));
    CHECK(refusal(with(good, 0x61E, 1)).starts_with("PDH: 61Ch SIG2_USAGE is 0x11000, want"));
    CHECK(refusal(with(good, 0x623, 1)).starts_with("PDH: 620h SIG2_ALGO is 0x1000000, want"));
}

TEST_CASE("ecdsa_from_wire: refuses bytes beyond R and S, keeps what ecdsa_to_wire wrote") {
    const P384Signature signature{.r = test::filled<48>(0x12), .s = test::filled<48>(0xFE)};
    const ByteArray<512> wire = ecdsa_to_wire(signature);
    CHECK(ecdsa_from_wire(wire) == signature);
    for (const std::size_t at : {48U, 71U, 0x48U + 48U, 0x48U + 71U, 0x90U, 511U}) {
        ByteArray<512> bad = wire;
        bad[at] = 1;
        CHECK_FALSE(ecdsa_from_wire(bad).has_value());
    }
}

TEST_CASE("sign: fills the slot with a signature that verifies, and with nobody else's key") {
    const auto key = P384Key::generate(), stranger = P384Key::generate();
    const ApiVersion api{.major = 0, .minor = 24};
    SevCertificate oca = unsigned_certificate(Usage::oca, Algorithm::ecdsa_sha256, api, key.public_point());
    SevCertificate pek = unsigned_certificate(Usage::pek, Algorithm::ecdsa_sha256, api, stranger.public_point());
    sign(pek, 1, Usage::oca, key);
    CHECK(pek.signatures[0].empty());
    CHECK(signature_valid(pek, pek.signatures[1], oca));
    CHECK_FALSE(signature_valid(pek, pek.signatures[1], pek));
    CHECK_FALSE(signature_valid(pek, pek.signatures[0], oca)); // an empty slot
    oca.usage = Usage::cek;                                    // the slot names another usage than this parent's
    CHECK_FALSE(signature_valid(pek, pek.signatures[1], oca));
    CHECK_THROWS_AS(sign(pek, 2, Usage::oca, key), Error);
}

TEST_CASE("CaCertificate: round trip, fingerprint and fields of certificates made by an independent implementation") {
    const Bytes ask_raw = ca_bytes(0), ark_raw = ca_bytes(1);
    const CaCertificate ask = parse_ca_certificate(ask_raw, "ASK"), ark = parse_ca_certificate(ark_raw, "ARK");
    CHECK(ask.serialize() == ask_raw);
    CHECK(ark.serialize() == ark_raw);
    CHECK(ark.usage == Usage::ark);
    CHECK(ask.usage == Usage::ask);
    CHECK(ask.certifying_id == ark.key_id);
    CHECK(ark.key_id == emulated_ark_key_id);
    CHECK(ask.key_id == emulated_ask_key_id);
    CHECK(ark.bits == 2048);
    CHECK(ark.size_bytes() == 832);
    CHECK(ark.signed_bytes().size() == 576);
    CHECK(hex(ark.fingerprint()) == known_answers()["chains"]["rsa2048"]["root_fingerprint"].get<std::string>());
    CHECK(signature_valid(ask, ark));
    CHECK(signature_valid(ark, ark));
    CHECK_FALSE(signature_valid(ark, ask));

    const Bytes large = read_file(fixture("psp/chain_rsa4096.bin"), 20'000);
    const ParsedCa first = parse_ca_certificate_prefix(ByteView{large}.subspan(4 * 2084), "ASK");
    CHECK(first.used_bytes == 1600);
    CHECK(first.certificate.hash() == Hash::sha384);
    CHECK(first.certificate.algorithm() == Algorithm::rsa_sha384);
    const CaCertificate large_ark = parse_ca_certificate(ByteView{large}.subspan(4 * 2084 + 1600), "ARK");
    CHECK(signature_valid(first.certificate, large_ark));
    CHECK(hex(large_ark.fingerprint()) == known_answers()["chains"]["rsa4096"]["root_fingerprint"].get<std::string>());
}

TEST_CASE("CaCertificate: every truncated length is refused, and left-over bytes") {
    Bytes whole = ca_bytes(1);
    for (std::size_t length = 0; length < whole.size(); ++length) {
        CHECK_THROWS_AS(parse_ca_certificate(ByteView{whole}.first(length), "ARK"), Error);
    }
    CHECK_THROWS_WITH_AS(parse_ca_certificate(ByteView{whole}.first(576), "ARK"), "ARK: 240h SIGNATURE: 256 bytes wanted, 0 left", Error);
    whole.push_back(0);
    CHECK_THROWS_WITH_AS(parse_ca_certificate(whole, "ARK"), "ARK: 833 bytes, want 832 for a key of 2048 bits", Error);
}

TEST_CASE("CaCertificate: undefined values are refused, and the message says where") {
    const Bytes good = ca_bytes(1);
    const auto refusal = [](const Bytes& bytes) {
        std::string message;
        try {
            parse_ca_certificate(bytes, "ARK");
        } catch (const Error& error) {
            message = error.what();
        }
        return message;
    };
    CHECK(refusal(with(good, 0x00, 9)) == "ARK: 00h VERSION is 9, want 1");
    CHECK(refusal(with(good, 0x24, 0x10)) == "ARK: 24h KEY_USAGE is 0x10, want 0x0 (ARK) or 0x13 (ASK)");
    CHECK(refusal(with(good, 0x37, 1)) == "ARK: 28h reserved bytes are not zero");
    CHECK(refusal(with(good, 0x39, 0x18)) == "ARK: 38h PUBEXP_SIZE is 6144 bits, want 2048 or 4096");
    CHECK(refusal(with(good, 0x3D, 0x10)) == "ARK: 3Ch MODULUS_SIZE is 4096 bits, want 2048 as PUBEXP_SIZE");
}

TEST_CASE("CaCertificate: the end of input after the modulus is the Naples ARK's alone") {
    Bytes cut = ca_bytes(1);
    cut.resize(576);
    std::ranges::copy(naples_ark_key_id, cut.begin() + 0x04);
    const CaCertificate parsed = parse_ca_certificate(cut, "ARK");
    CHECK_FALSE(parsed.signature.has_value());
    CHECK(parsed.serialize() == cut);
    CHECK_FALSE(signature_valid(parsed, parsed)); // nothing to verify is not a success
    CHECK_FALSE(completed(parsed).signature.has_value()); // it bears the KEY_ID but is not AMD's certificate
    cut[0x24] = 0x13; // an ASK, even with that KEY_ID, has a signature
    CHECK_THROWS_AS(parse_ca_certificate(cut, "ASK"), Error);
}

TEST_CASE("amd_roots: one for each product, with names and KEY_IDs") {
    CHECK(amd_roots().size() == 5);
    for (const Root& root : amd_roots()) {
        CHECK(root.amd);
        CHECK(product_of(ids_of(root.product).ark) == root.product);
        CHECK(product_of(ids_of(root.product).ask) == root.product);
    }
    CHECK_FALSE(product_of(emulated_ark_key_id).has_value());
}
