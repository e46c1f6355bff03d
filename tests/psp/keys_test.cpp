// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "psp/keys.hpp"
#include "psp/structures.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;
using sev::test::fixture;

static_assert(!std::is_copy_constructible_v<Tek> && !std::is_convertible_v<Tek, Tik> && !std::is_constructible_v<Tik, Tek>);
static_assert(!std::equality_comparable<MasterSecret>);

namespace {

json::Value known_answers() { return json::parse(read_text(fixture("psp/known_answers.json"), 1U << 20), "known answers"); }
std::string text(const json::Value& value) { return value.get<std::string>(); }
Bytes bytes(const json::Value& value) { return *try_unhex(text(value)); }
template <std::size_t Size>
ByteArray<Size> array(const json::Value& value) {
    return unhex<Size>(text(value));
}
Tek tek_of(const json::Value& value) { return Tek{array<16>(value)}; }
Tik tik_of(const json::Value& value) { return Tik{array<16>(value)}; }
Policy policy_of(const json::Value& value) { return Policy{value.get<std::uint32_t>()}; }

} // namespace

TEST_CASE("session: shared secret, keys and blob equal an independent implementation's, from both ends") {
    const auto known = known_answers();
    const auto pdh = P384Key::from_scalar(array<48>(known["pdh"]["scalar_be"]));
    REQUIRE(known["sessions"].size() == 2);
    for (const auto& session : known["sessions"]) {
        const SevCertificate godh = parse_sev_certificate(read_file(fixture("psp/" + text(session["godh"])), 4096), "GODH");
        REQUIRE(godh.point() != nullptr);
        const SecretBytes z = pdh.ecdh(*godh.point());
        CHECK(hex(z.reveal()) == text(session["z"]));
        const SessionKeys keys = derive_session_keys(z.reveal(), array<16>(session["nonce"]));
        CHECK(hex(keys.master.reveal()) == text(session["master_secret"]));
        CHECK(hex(keys.kek.reveal()) == text(session["kek"]));
        CHECK(hex(keys.kik.reveal()) == text(session["kik"]));

        const Policy policy = policy_of(session["policy"]);
        const SessionBlob blob = wrap_session(keys, array<16>(session["nonce"]), array<16>(session["wrap_iv"]), tek_of(session["tek"]),
                                              tik_of(session["tik"]), policy);
        CHECK(hex(blob.serialize()) == text(session["blob"]));
        CHECK(SessionBlob::parse(wire::view(array<0x80>(session["blob"]))) == blob);

        const auto transport = unwrap_session(keys, blob, policy);
        REQUIRE(transport.has_value());
        CHECK(hex(transport->tek.reveal()) == text(session["tek"]));
        CHECK(hex(transport->tik.reveal()) == text(session["tik"]));
    }
    CHECK(text(known["sessions"][1]["z"]).starts_with("00")); // leading zeros are kept
}

TEST_CASE("unwrap_session: another policy, key or any flipped bit of what is bound gives nothing") {
    const auto session = known_answers()["sessions"][0];
    const SessionKeys keys = derive_session_keys(bytes(session["z"]), array<16>(session["nonce"]));
    const Policy policy = policy_of(session["policy"]);
    ByteArray<0x80> raw_blob = array<0x80>(session["blob"]);
    CHECK_FALSE(unwrap_session(keys, SessionBlob::parse(wire::view(raw_blob)), Policy{policy.value ^ 1}).has_value());
    const SessionKeys others = derive_session_keys(test::filled<48>(1), array<16>(session["nonce"]));
    CHECK_FALSE(unwrap_session(others, SessionBlob::parse(wire::view(raw_blob)), policy).has_value());
    // NONCE (00h..0Fh) is bound by the key derivation. A flipped WRAP_IV garbles TEK and TIK: in its effect on TIK POLICY_MAC sees it.
    for (std::size_t bit = 8 * 0x10; bit < 8 * raw_blob.size(); ++bit) {
        raw_blob[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        CHECK_FALSE(unwrap_session(keys, SessionBlob::parse(wire::view(raw_blob)), policy).has_value());
        raw_blob[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    }
    for (std::size_t bit = 0; bit < 8 * 0x10; ++bit) {
        auto nonce = array<16>(session["nonce"]);
        nonce[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        const SessionKeys flipped = derive_session_keys(bytes(session["z"]), nonce);
        CHECK_FALSE(unwrap_session(flipped, SessionBlob::parse(wire::view(raw_blob)), policy).has_value());
    }
}

TEST_CASE("expected_measurement: known answers before and after API 0.17, computed independently with Python's hmac") {
    const auto known = known_answers();
    REQUIRE(known["measurements"].size() >= 7);
    for (const auto& one : known["measurements"]) {
        const Digest measure = expected_measurement(tik_of(one["tik"]), Build::parse(text(one["build"]), "build"), policy_of(one["policy"]),
                                                    array<32>(one["digest"]), array<16>(one["mnonce"]));
        CHECK_MESSAGE(hex(measure) == text(one["measure"]), text(one["build"]));
    }
}

TEST_CASE("secret_packet_mac: known answers, and each input matters") {
    const auto known = known_answers();
    for (const auto& one : known["packets"]) {
        const auto raw_header = array<0x34>(one["header"]);
        const PacketHeader header = PacketHeader::parse(wire::view(raw_header));
        CHECK(header.serialize() == raw_header);
        CHECK(header.flags == one["flags"].get<std::uint32_t>());
        const ApiVersion api{.major = one["api_major"].get<std::uint8_t>(), .minor = one["api_minor"].get<std::uint8_t>()};
        const Bytes data = bytes(one["data"]);
        const Digest measure = array<32>(one["measure"]);
        const Tik tik = tik_of(one["tik"]);
        CHECK(secret_packet_mac(tik, api, header.flags, header.iv, data, measure) == header.mac);
        CHECK(secret_packet_mac(tik, api, header.flags ^ 1, header.iv, data, measure) != header.mac);
        CHECK(secret_packet_mac(tik, api, header.flags, test::filled<16>(0), data, measure) != header.mac);
        CHECK(secret_packet_mac(tik, api, header.flags, header.iv, ByteView{data}.first(data.size() - 1), measure) != header.mac);
        const bool bound = api >= ApiVersion{.major = 0, .minor = 17};
        CHECK((secret_packet_mac(tik, api, header.flags, header.iv, data, test::filled<32>(0)) != header.mac) == bound);
    }
}

TEST_CASE("PacketHeader: reserved flag bits are refused") {
    for (unsigned bit = 0; bit < 32; ++bit) {
        ByteArray<0x34> raw_header{};
        wire::put_le32<0x00>(wire::span(raw_header), 1U << bit);
        if (bit == 0) {
            CHECK(PacketHeader::parse(wire::view(raw_header)).flags == 1);
        } else {
            CHECK_THROWS_AS(PacketHeader::parse(wire::view(raw_header)), Error);
        }
    }
    ByteArray<0x34> raw_header{};
    raw_header[1] = 1;
    CHECK_THROWS_WITH_AS(PacketHeader::parse(wire::view(raw_header)), "packet header: 00h FLAGS is 0x100, want 0 or 1", Error);
}

TEST_CASE("AttestationReport: fields, round trip and signature of a report made by an independent implementation") {
    const Bytes raw_report = read_file(fixture("psp/report.bin"), 4096);
    const Bytes chain = read_file(fixture("psp/chain_rsa2048.bin"), 20'000);
    const SevCertificate pek = parse_sev_certificate(ByteView{chain}.subspan(2084, 2084), "PEK");
    const auto known = known_answers()["report"];
    const auto view = wire::exactly<AttestationReport::wire_size>(raw_report, "report");
    const AttestationReport report = AttestationReport::parse(view);
    CHECK(hex(report.mnonce) == text(known["mnonce"]));
    CHECK(hex(report.launch_digest) == text(known["launch_digest"]));
    CHECK(report.policy == policy_of(known["policy"]));
    CHECK(std::ranges::equal(report.serialize(), raw_report));
    CHECK(report.signed_by(pek));

    SevCertificate other = pek;
    other.usage = Usage::cek;
    CHECK_FALSE(report.signed_by(other));
    other = pek;
    other.algorithm = Algorithm::ecdsa_sha384;
    CHECK_FALSE(report.signed_by(other));
    other = pek;
    std::get<P384Point>(other.key).x[0] ^= 1;
    CHECK_FALSE(report.signed_by(other));
    other.key = RsaCertificateKey{};
    CHECK_FALSE(report.signed_by(other));
    CHECK_FALSE(report.signed_by(parse_sev_certificate(ByteView{chain}.first(2084), "PDH")));
}

TEST_CASE("AttestationReport: one flipped bit anywhere is refused, by parse or by the signature") {
    const Bytes raw_report = read_file(fixture("psp/report.bin"), 4096);
    const Bytes chain = read_file(fixture("psp/chain_rsa2048.bin"), 20'000);
    const SevCertificate pek = parse_sev_certificate(ByteView{chain}.subspan(2084, 2084), "PEK");
    std::size_t accepted = 0, refused_by_parse = 0;
    for (std::size_t bit = 0; bit < 8 * raw_report.size(); ++bit) {
        Bytes flipped = raw_report;
        flipped[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        try {
            if (AttestationReport::parse(wire::exactly<AttestationReport::wire_size>(flipped, "report")).signed_by(pek)) ++accepted;
        } catch (const Error&) {
            ++refused_by_parse;
        }
    }
    CHECK(accepted == 0);
    CHECK(refused_by_parse == 8 * (3 * 4 + 2 * 24)); // SIG_USAGE, SIG_ALGO, reserved, and what is beyond R and S
}

TEST_CASE("AttestationReport: the message says where") {
    const Bytes good = read_file(fixture("psp/report.bin"), 4096);
    const auto refusal = [&](std::size_t at, std::uint8_t value) {
        Bytes bad = good;
        bad[at] = value;
        std::string message;
        try {
            AttestationReport::parse(wire::exactly<AttestationReport::wire_size>(bad, "report"));
        } catch (const Error& error) {
            message = error.what();
        }
        return message;
    };
    CHECK(refusal(0x34, 3) == "attestation report: 34h SIG_USAGE is 0x1003, want 0x1002 (PEK)");
    CHECK(refusal(0x39, 1) == "attestation report: 38h SIG_ALGO is 0x102, want 0x2 (ECDSA SHA-256)");
    CHECK(refusal(0x3F, 1) == "attestation report: 3Ch reserved is 0x1000000, want 0");
    CHECK(refusal(0x40 + 48, 1) == "attestation report: 40h R is wider than the 48 bytes of P-384");
    CHECK(refusal(0x88 + 71, 1) == "attestation report: 88h S is wider than the 48 bytes of P-384");
}
