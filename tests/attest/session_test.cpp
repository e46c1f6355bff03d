// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "attest/secret_archive.hpp"
#include "attest/secret_table.hpp"
#include "attest/session.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;

template <class T>
concept Printable = requires(std::ostream& out, const T& value) { out << value; };
template <class T>
concept HasJson = requires(const T& value) { value.to_json(); };
template <class T>
constexpr bool secretive = !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> && std::is_nothrow_move_constructible_v<T> &&
                           !std::equality_comparable<T> && !Printable<T> && !HasJson<T>;
static_assert(secretive<Session>);
static_assert(secretive<psp::Tek> && secretive<psp::Tik> && secretive<psp::TransportKeys>);
static_assert(secretive<SecretEntry> && secretive<SecretFile>);
static_assert(!std::is_convertible_v<psp::Tek, psp::Tik> && !std::is_constructible_v<psp::Tik, const psp::Tek&>);

namespace {

SessionMaterial material(const json::Value& answer) {
    return {.godh = P384Key::from_scalar(test::hex_of<48>(answer, "godh_scalar")),
            .nonce = test::hex_of<16>(answer, "nonce"),
            .wrap_iv = test::hex_of<16>(answer, "wrap_iv"),
            .tek = test::key_of<psp::Tek>(answer, "tek"),
            .tik = test::key_of<psp::Tik>(answer, "tik"),
            .id = test::hex_of<16>(answer, "id"),
            .report_nonce = test::hex_of<16>(answer, "report_nonce")};
}

} // namespace

TEST_CASE("create_session: GODH certificate and blob equal an independent implementation's, for policies of 32 bits") {
    const psp::SevCertificate pdh = test::fixture_pdh();
    for (const json::Value& answer : test::answers().at("sessions")) {
        const psp::Policy policy{answer.at("policy").get<std::uint32_t>()};
        CAPTURE(policy.value);
        const CreatedSession made = create_session_from(pdh, policy, "vault", material(answer));
        CHECK(base64(made.offer.godh) == test::string_of(answer, "godh"));
        CHECK(base64(made.offer.session) == test::string_of(answer, "session"));
        CHECK(made.offer.policy == policy);
        CHECK(made.offer.launch_name == "vault");
        CHECK(made.session.facts() == facts_of(made.offer, pdh));
        CHECK(hex(made.session.tek().reveal()) == test::string_of(answer, "tek"));
        CHECK(hex(made.session.tik().reveal()) == test::string_of(answer, "tik"));
    }
}

TEST_CASE("create_session: nothing is the same twice, and the platform can unwrap it") {
    const P384Key pdh_key = P384Key::generate();
    const auto pdh = psp::unsigned_certificate(psp::Usage::pdh, psp::Algorithm::ecdh_sha256, {.major = 0, .minor = 17}, pdh_key.public_point());
    const psp::Policy policy{0x11000005};
    const CreatedSession one = create_session(pdh, policy, "a"), two = create_session(pdh, policy, "a");
    CHECK(one.offer.session_id != two.offer.session_id);
    CHECK(one.offer.report_nonce != two.offer.report_nonce);
    CHECK(one.offer.godh != two.offer.godh);
    const auto blob = psp::SessionBlob::parse(wire::view(one.offer.session)), other = psp::SessionBlob::parse(wire::view(two.offer.session));
    CHECK(blob.nonce != other.nonce);
    CHECK(blob.wrap_iv != other.wrap_iv);
    CHECK(hex(one.session.tek().reveal()) != hex(two.session.tek().reveal()));
    CHECK(hex(one.session.tik().reveal()) != hex(two.session.tik().reveal()));
    const auto godh = psp::parse_sev_certificate(one.offer.godh, "GODH");
    const auto keys = psp::derive_session_keys(pdh_key.ecdh(*godh.point()).reveal(), blob.nonce);
    const auto transport = psp::unwrap_session(keys, blob, policy);
    REQUIRE(transport.has_value());
    CHECK(hex(transport->tek.reveal()) == hex(one.session.tek().reveal()));
    CHECK(hex(transport->tik.reveal()) == hex(one.session.tik().reveal()));
    CHECK_FALSE(psp::unwrap_session(keys, blob, psp::Policy{0x11000004}).has_value());
}

TEST_CASE("create_session: a PDH that may not be used is refused, with offset and field") {
    const psp::SevCertificate good = test::fixture_pdh();
    const auto refused = [](psp::SevCertificate pdh, const char* message) {
        CHECK_THROWS_WITH_AS(create_session(pdh, psp::Policy{1}, "a"), message, Error);
    };
    auto pdh = good;
    pdh.usage = psp::Usage::pek;
    refused(pdh, "PDH certificate: 8h PUBKEY_USAGE is 0x1002 (PEK), want 0x1003 (PDH)");
    pdh = good;
    pdh.algorithm = psp::Algorithm::ecdsa_sha256;
    refused(pdh, "PDH certificate: Ch PUBKEY_ALGO is 0x0002 (ECDSA SHA-256), want 0x0003 (ECDH SHA-256)");
    pdh = good;
    pdh.key = psp::RsaCertificateKey{};
    refused(pdh, "PDH certificate: 10h PUBKEY is an RSA key, want a point on P-384");
    pdh = good;
    std::get<P384Point>(pdh.key).y[47] ^= 1;
    refused(pdh, "PDH certificate: 14h QX and 5Ch QY are no point on P-384");
    pdh.key = P384Point{};
    refused(pdh, "PDH certificate: 14h QX and 5Ch QY are no point on P-384");
    CHECK_THROWS_AS(create_session(good, psp::Policy{1}, ""), Error);
}

TEST_CASE("Session: good for one use") {
    Session session{{}, psp::Tek{test::filled<16>(1)}, psp::Tik{test::filled<16>(2)}};
    Session moved = std::move(session);
    CHECK(session.spent()); // NOLINT: the moved-from state is what is tested
    CHECK_THROWS_AS(session.tik(), Error);
    CHECK_THROWS_AS(session.tek(), Error);
    CHECK_THROWS_AS(session.facts(), Error);
    CHECK_THROWS_AS(session.spend(), Error);
    const psp::TransportKeys keys = moved.spend();
    CHECK(hex(keys.tik.reveal()) == "02020202020202020202020202020202");
    CHECK(moved.spent());
    CHECK_THROWS_WITH_AS(moved.spend(), "broken invariant: a session is used once", Error);
}

TEST_CASE("virtee's reading of a policy, from its source in Python") {
    for (const json::Value& answer : test::answers().at("virtee_policies")) {
        const psp::Policy policy{answer.at(0).get<std::uint32_t>()}, read{answer.at(1).get<std::uint32_t>()};
        CAPTURE(policy.value);
        CHECK(policy_as_virtee_reads_it(policy) == read);
        CHECK(virtee_policy_warning(policy).has_value() == (policy != read));
        // with the session at hand, the warning is about what its POLICY_MAC covers
        const psp::Tik tik{test::filled<16>(7)};
        psp::SessionBlob blob;
        blob.policy_mac = hmac_sha256(tik.reveal(), {wire::le32_bytes(read.value)});
        CHECK(virtee_policy_warning(policy, tik, blob).has_value() == (policy != read));
        blob.policy_mac = hmac_sha256(tik.reveal(), {wire::le32_bytes(policy.value)});
        CHECK_FALSE(virtee_policy_warning(policy, tik, blob).has_value());
    }
}
