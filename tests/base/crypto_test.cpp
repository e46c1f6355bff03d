// SPDX-License-Identifier: Apache-2.0
#include "base/crypto.hpp"
#include "base/json.hpp"
#include "tests/support.hpp"

using namespace sev;
using test::fixture;

namespace {
const json::Value& vectors() {
    static const json::Value value = json::parse(read_text(fixture("base_vectors.json"), 1 << 20), "base_vectors.json");
    return value;
}
std::string text(const json::Value& value) { return value.get<std::string>(); }
P384Point point(const json::Value& value) { return {.x = unhex<48>(text(value["x"])), .y = unhex<48>(text(value["y"]))}; }
Bytes message_hash(Hash which) { return hash(which, as_bytes(text(vectors()["message"]))); }
} // namespace

TEST_CASE("SHA-256 and SHA-384: FIPS 180 example \"abc\", also in pieces") {
    CHECK(hex(sha256(as_bytes("abc"))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hex(Sha256{}.update(as_bytes("a")).update(as_bytes("")).update(as_bytes("bc")).finish()) == hex(sha256(as_bytes("abc"))));
    CHECK(hex(sha384(as_bytes("abc"))) == "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7");
}

TEST_CASE("hmac_sha256: RFC 4231 test cases 1, 2 and 6, and parts are concatenated") {
    CHECK(hex(hmac_sha256(test::filled<20>(0x0b), {as_bytes("Hi There")})) == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    CHECK(hex(hmac_sha256(as_bytes("Jefe"), {as_bytes("what do ya want "), as_bytes("for nothing?")})) ==
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    CHECK(hex(hmac_sha256(test::filled<131>(0xaa), {as_bytes("Test Using Larger Than Block-Size Key - Hash Key First")})) ==
          "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST_CASE("aes128_ctr: NIST SP 800-38A F.5.1, also in place") {
    const auto key = unhex<16>("2b7e151628aed2a6abf7158809cf4f3c"), iv = unhex<16>("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    auto data = unhex<32>("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    aes128_ctr(key, iv, data, data);
    CHECK(hex(data) == "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff");
}

TEST_CASE("aes128_ctr: the counter is one 128-bit big-endian integer") {
    // The second block under an all-ones IV is encrypted with counter 0: the carry runs through all 16 bytes.
    ByteArray<32> out{};
    ByteArray<16> from_zero{};
    const auto key = unhex<16>("2b7e151628aed2a6abf7158809cf4f3c");
    aes128_ctr(key, test::filled<16>(0xFF), ByteArray<32>{}, out);
    aes128_ctr(key, ByteArray<16>{}, ByteArray<16>{}, from_zero);
    CHECK(hex(ByteView{out}.subspan(16)) == hex(from_zero));
}

TEST_CASE("P-384: RFC 6979 A.2.6, key and SHA-256 signature of \"sample\"") {
    const auto key =
        P384Key::from_scalar(unhex<48>("6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5"));
    const P384Point expected{
        .x = unhex<48>("ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13"),
        .y = unhex<48>("8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720")};
    CHECK(key.public_point() == expected);
    const P384Signature signature{
        .r = unhex<48>("21b13d1e013c7fa1392d03c5f99af8b30c570c6f98d4ea8e354b63a21d3daa33bde1e888e63355d92fa2b3c36d8fb2cd"),
        .s = unhex<48>("f3aa443fb107745bf4bd77cb3891674632068a10ca67e3d45db2266fa7d1feebefdc63eccd1ac42ec0cb8668a4fa0ab0")};
    CHECK(ecdsa_verify(expected, sha256(as_bytes("sample")), signature));
    CHECK_FALSE(ecdsa_verify(expected, sha256(as_bytes("Sample")), signature));
}

TEST_CASE("P-384: keys, signatures and ECDH of Python's cryptography") {
    const auto& ec = vectors()["ec"];
    const auto key = P384Key::from_scalar(unhex<48>(text(ec["scalar"])));
    CHECK(key.public_point() == point(ec["point"]));
    CHECK(ecdsa_verify(point(ec["point"]), message_hash(Hash::sha384), {.r = unhex<48>(text(ec["r"])), .s = unhex<48>(text(ec["s"]))}));
    const SecretBytes z = key.ecdh(point(ec["peer"]));
    CHECK(hex(z.reveal()) == text(ec["z"]));
    CHECK(z.reveal()[0] == 0); // the vector was chosen so: the leading zero byte is kept
    CHECK(hex(key.to_der().reveal()) == text(ec["der"]));
    CHECK(hex(key.scalar().reveal()) == text(ec["scalar"]));
    for (const char* form : {"der", "pkcs8"}) CHECK(P384Key::from_der(*try_unhex(text(ec[form])), form).public_point() == point(ec["point"]));
}

TEST_CASE("P-384: our own signatures verify, and every changed part does not") {
    const auto key = P384Key::generate();
    const auto digest = sha256(as_bytes("x"));
    const auto good = key.sign(digest);
    CHECK(ecdsa_verify(key.public_point(), digest, good));
    auto other_digest = digest;
    other_digest[31] ^= 1;
    CHECK_FALSE(ecdsa_verify(key.public_point(), other_digest, good));
    auto bad_r = good, bad_s = good;
    bad_r.r[47] ^= 1;
    bad_s.s[0] ^= 0x80;
    CHECK_FALSE(ecdsa_verify(key.public_point(), digest, bad_r));
    CHECK_FALSE(ecdsa_verify(key.public_point(), digest, bad_s));
    CHECK_FALSE(ecdsa_verify(key.public_point(), digest, {}));
    CHECK_FALSE(ecdsa_verify(P384Key::generate().public_point(), digest, good));
}

TEST_CASE("P-384: points off the curve, infinity and bad scalars are refused") {
    auto point_off = P384Key::generate().public_point();
    CHECK(on_curve(point_off));
    point_off.y[47] ^= 1;
    CHECK_FALSE(on_curve(point_off));
    CHECK_FALSE(on_curve({}));
    CHECK_FALSE(on_curve({.x = test::filled<48>(0xFF), .y = test::filled<48>(0xFF)}));
    CHECK_FALSE(ecdsa_verify(point_off, sha256({}), {}));
    CHECK_THROWS_WITH_AS(P384Key::generate().ecdh(point_off), "ECDH: the peer's public point is not on P-384", Error);
    CHECK_THROWS_AS(P384Key::from_scalar(ByteArray<48>{}), Error);
    CHECK_THROWS_AS(P384Key::from_scalar(test::filled<48>(0xFF)), Error);
}

TEST_CASE("P-384: a key file of another kind is refused by name") {
    CHECK_THROWS_WITH_AS(P384Key::from_der(*try_unhex(text(vectors()["p256_der"])), "oca.key"),
                         "oca.key: curve is prime256v1, want secp384r1 (P-384)", Error);
    CHECK_THROWS_WITH_AS(P384Key::from_der(as_bytes("nonsense"), "oca.key"), "oca.key: no EC private key in DER form", Error);
    CHECK_THROWS_WITH_AS(P384Key::from_pem(as_bytes("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"), "oca.pem"),
                         "oca.pem: no EC private key in PEM form", Error);
}

TEST_CASE("RSA-PSS: signatures of Python's cryptography; salt must be as long as the hash") {
    const auto& rsa = vectors()["rsa"];
    const RsaPublicKey key{.modulus = *try_unhex(text(rsa["modulus"])), .exponent = {1, 0, 1}};
    const auto signature = *try_unhex(text(rsa["pss"]["sha256"]));
    CHECK(rsa_pss_verify(key, Hash::sha256, message_hash(Hash::sha256), signature));
    CHECK(rsa_pss_verify(key, Hash::sha384, message_hash(Hash::sha384), *try_unhex(text(rsa["pss"]["sha384"]))));
    CHECK_FALSE(rsa_pss_verify(key, Hash::sha384, message_hash(Hash::sha384), signature));
    CHECK_FALSE(rsa_pss_verify(key, Hash::sha256, message_hash(Hash::sha256), *try_unhex(text(rsa["pss_sha256_salt_20"]))));
    CHECK_FALSE(rsa_pss_verify(key, Hash::sha256, message_hash(Hash::sha256), ByteView{signature}.first(255)));
    CHECK_FALSE(rsa_pss_verify({.modulus = Bytes(256), .exponent = {1, 0, 1}}, Hash::sha256, message_hash(Hash::sha256), signature));
    CHECK_FALSE(rsa_pss_verify({.modulus = key.modulus, .exponent = {1}}, Hash::sha256, message_hash(Hash::sha256), signature));
    CHECK_FALSE(rsa_pss_verify({.modulus = key.modulus, .exponent = Bytes(512)}, Hash::sha256, message_hash(Hash::sha256), signature));
}

TEST_CASE("RSA: generated keys sign, verify and survive DER") {
    const auto key = RsaKey::generate(2048);
    const auto again = RsaKey::from_der(key.to_der().reveal(), "key");
    CHECK(again.public_key() == key.public_key());
    const auto digest = message_hash(Hash::sha256);
    CHECK(rsa_pss_verify(key.public_key(), Hash::sha256, digest, again.sign_pss(Hash::sha256, digest)));
    CHECK_THROWS_WITH_AS(RsaKey::from_der(as_bytes("x"), "key"), "key: no RSA private key in DER form", Error);
}

TEST_CASE("equal_in_constant_time: sizes and contents") {
    CHECK(equal_in_constant_time(test::filled<4>(1), test::filled<4>(1)));
    CHECK_FALSE(equal_in_constant_time(test::filled<4>(1), test::filled<4>(2)));
    CHECK_FALSE(equal_in_constant_time(test::filled<4>(1), test::filled<5>(1)));
}
