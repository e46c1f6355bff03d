// SPDX-License-Identifier: Apache-2.0
// The shared test vectors: certificates of real platforms, and values computed by other implementations. Skipped aloud when absent.
#include "base/json.hpp"
#include "psp/keys.hpp"
#include "psp/roots.hpp"
#include "psp/structures.hpp"
#include "tests/psp/test_chain.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;
using sev::test::failed;
using sev::test::Names;
using sev::test::vector_file;

namespace {

std::string text(const json::Value& value) { return value.get<std::string>(); }
std::uint32_t code(const json::Value& value) { return static_cast<std::uint32_t>(std::stoul(text(value), nullptr, 16)); }
template <std::size_t Size>
ByteArray<Size> array(const json::Value& value) {
    return unhex<Size>(text(value));
}

std::optional<json::Value> vector_json(std::string_view name) {
    const auto path = vector_file(name);
    if (!path) return std::nullopt;
    return json::parse(read_text(*path, 1U << 20), name);
}
std::optional<Bytes> vector_bytes(std::string_view name) {
    const auto path = vector_file(name);
    if (!path) return std::nullopt;
    return read_file(*path, 1U << 20);
}

void ca_fields(const json::Value& known, const Bytes& raw_certificate) {
    const CaCertificate certificate = parse_ca_certificate(raw_certificate, "CA certificate");
    CHECK(raw_certificate.size() == known["size"].get<std::size_t>());
    CHECK(certificate.serialize() == raw_certificate);
    CHECK(hex(certificate.key_id) == text(known["key_id"]));
    CHECK(hex(certificate.certifying_id) == text(known["certifying_id"]));
    CHECK(raw(certificate.usage) == code(known["key_usage"]));
    CHECK(certificate.bits == known["modulus_bits"].get<std::uint32_t>());
    CHECK(hex(certificate.public_key().modulus) == text(known["modulus_be_hex"]));
    CHECK(certificate.signed_bytes().size() == known["signed_bytes"][1].get<std::size_t>());
    CHECK(hex(hash(certificate.hash(), certificate.signed_bytes())) == text(known["signed_digest"]["hex"]));
    CHECK(hex(sha256(raw_certificate)) == text(known["file_sha256"]));
}

void slot_fields(const json::Value& known, const SignatureSlot& slot) {
    CHECK(raw(slot.usage) == code(known["usage"]));
    CHECK(raw(slot.algorithm) == code(known["algo"]));
    if (known.contains("r_be_hex")) {
        const auto signature = ecdsa_from_wire(slot.bytes);
        REQUIRE(signature.has_value());
        CHECK(hex(signature->r) == text(known["r_be_hex"]));
        CHECK(hex(signature->s) == text(known["s_be_hex"]));
    }
}

void sev_fields(const json::Value& known, const Bytes& raw_certificate) {
    const SevCertificate certificate = parse_sev_certificate(raw_certificate, "SEV certificate");
    CHECK(std::ranges::equal(certificate.serialize(), raw_certificate));
    CHECK(certificate.api == ApiVersion{.major = known["api_major"].get<std::uint8_t>(), .minor = known["api_minor"].get<std::uint8_t>()});
    CHECK(raw(certificate.usage) == code(known["pubkey_usage"]));
    CHECK(raw(certificate.algorithm) == code(known["pubkey_algo"]));
    REQUIRE(certificate.point() != nullptr);
    CHECK(hex(certificate.point()->x) == text(known["qx_be_hex"]));
    CHECK(hex(certificate.point()->y) == text(known["qy_be_hex"]));
    CHECK(hex(certificate.fingerprint()) == text(known["body_sha256"]));
    CHECK(hex(sha384(certificate.signed_bytes())) == text(known["body_sha384"]));
    slot_fields(known["sig1"], certificate.signatures[0]);
    slot_fields(known["sig2"], certificate.signatures[1]);
}

bool valid_in(const SevCertificate& child, std::size_t slot, const Chain& chain, const std::string& parent) {
    if (parent == "ask") return signature_valid(child, child.signatures[slot], *chain.ask);
    const SevCertificate& signer = parent == "oca" ? *chain.oca : parent == "cek" ? *chain.cek : parent == "pek" ? *chain.pek : *chain.pdh;
    return signature_valid(child, child.signatures[slot], signer);
}

} // namespace

TEST_CASE("vectors: AMD's ARK and ASK of five products parse to the known fields and are the pinned roots") {
    for (const Root& root : amd_roots()) {
        const std::string folder = fmt::format("certs/{}", name(root.product));
        const auto known = vector_json(folder + (root.product == Product::naples ? "/chain.json" : "/ca.json"));
        if (!known) continue;
        const Bytes raw_ark = vector_bytes(folder + "/ark.cert").value(), raw_ask = vector_bytes(folder + "/ask.cert").value();
        ca_fields((*known)["ark"], raw_ark);
        ca_fields((*known)["ask"], raw_ask);
        const CaCertificate ark = parse_ca_certificate(raw_ark, "ARK"), ask = parse_ca_certificate(raw_ask, "ASK");
        CHECK(ark.fingerprint() == root.fingerprint);
        CHECK(ark.key_id == ids_of(root.product).ark);
        CHECK(ask.key_id == ids_of(root.product).ask);
        CHECK(signature_valid(ark, ark));
        CHECK(signature_valid(ask, ark));
        CHECK_FALSE(signature_valid(ark, ask));

        Bytes both = raw_ask;
        both.insert(both.end(), raw_ark.begin(), raw_ark.end());
        const Chain chain = parse_chain(both, "ASK and ARK");
        CHECK(failed(verify_chain(chain, amd_roots()).checks) ==
              Names{"chain.cek.present", "chain.oca.present", "chain.pek.present", "chain.pdh.present"});
    }
}

TEST_CASE("vectors: the Naples ARK as published, without its signature, is completed to the whole one") {
    const auto cut = vector_bytes("certs/naples/ark.cert.truncated"), whole = vector_bytes("certs/naples/ark.cert");
    if (!cut || !whole) return;
    const CaCertificate ark = parse_ca_certificate(*cut, "ARK");
    CHECK_FALSE(ark.signature.has_value());
    CHECK(ark.serialize() == *cut);
    CHECK(completed(ark).serialize() == *whole);
    CHECK(completed(ark) == parse_ca_certificate(*whole, "ARK"));
    CHECK(completed(ark).fingerprint() == ark.fingerprint());
}

TEST_CASE("vectors: complete chains of a Naples and a Rome host") {
    for (const std::string product : {"naples", "rome"}) {
        const auto known = vector_json("certs/" + product + "/chain.json");
        if (!known) continue;
        Bytes raw_chain;
        for (const std::string certificate : {"pdh", "pek", "oca", "cek", "ask", "ark"}) {
            const Bytes one = vector_bytes("certs/" + product + "/" + certificate + ".cert").value();
            if (certificate != "ask" && certificate != "ark") sev_fields((*known)[certificate], one);
            raw_chain.insert(raw_chain.end(), one.begin(), one.end());
        }
        const Chain chain = parse_chain(raw_chain, product);
        CHECK(chain.serialize() == raw_chain);
        const ChainVerdict verdict = verify_chain(chain, amd_roots());
        CHECK(failed(verdict.checks) == Names{});
        CHECK(verdict.trusted());
        CHECK_FALSE(verdict.emulated);
        REQUIRE(verdict.root.has_value());
        CHECK(name(verdict.root->product) == product);
        CHECK(verdict.root->amd);
        CHECK(all_passed(verify_platform_part(chain)));

        CHECK_FALSE(verify_chain(chain, {amd_roots().back()}).trusted()); // another product's root does not help

        for (const auto& one : (*known)["verify"]) {
            const std::string child = text(one["child"]), parent = text(one["parent"]);
            const bool want = one["valid"].get<bool>();
            if (child == "ark" || child == "ask") {
                CHECK(signature_valid(child == "ark" ? *chain.ark : *chain.ask, parent == "ark" ? *chain.ark : *chain.ask) == want);
                continue;
            }
            const SevCertificate& certificate = child == "oca" ? *chain.oca : child == "cek" ? *chain.cek : child == "pek" ? *chain.pek : *chain.pdh;
            for (std::size_t slot = 0; slot < 2; ++slot) {
                const bool here = want && one["signature_slot"].get<std::size_t>() == slot + 1;
                CHECK_MESSAGE(valid_in(certificate, slot, chain, parent) == here, product << " " << child << " by " << parent);
            }
        }
        if (product == "naples") { // as AMD publishes the ARK
            raw_chain.resize(9744);
            CHECK(verify_chain(parse_chain(raw_chain, product), amd_roots()).trusted());
        }
    }
}

TEST_CASE("vectors: stand-in platform: owner's part valid, the CEK not endorsed") {
    const auto keys = vector_json("platform_keys/keys.json");
    if (!keys) return;
    Bytes raw_chain;
    for (const std::string certificate : {"pdh", "pek", "oca", "cek"}) {
        const Bytes one = vector_bytes("platform_keys/" + certificate + ".cert").value();
        const auto key = P384Key::from_scalar(array<48>((*keys)["private_scalars_be_hex"][certificate]));
        CHECK(*parse_sev_certificate(one, certificate).point() == key.public_point());
        raw_chain.insert(raw_chain.end(), one.begin(), one.end());
    }
    CHECK(hex(sha256(ByteView{raw_chain}.subspan(2084))) == text((*keys)["pdh_cert_export"]["chain_sha256"]));
    const Chain chain = parse_chain(raw_chain, "stand-in");
    CHECK(failed(verify_platform_part(chain)) == Names{});
    CHECK(failed(verify_chain(chain, amd_roots()).checks) == Names{"chain.ark.present", "chain.ask.present", "chain.cek.signature_by_ask"});
}

TEST_CASE("vectors: key derivation and HMAC") {
    const auto known = vector_json("crypto/kdf_hmac.json");
    if (!known) return;
    for (const auto& one : (*known)["cases"]) {
        const Bytes key = *try_unhex(text(one["key_hex"]));
        if (text(one["fn"]) == "kdf") {
            REQUIRE(one["out_bits"] == 128);
            CHECK(hex(kdf<MasterSecret>(key, text(one["label"]), *try_unhex(text(one["context_hex"]))).reveal()) == text(one["expected_hex"]));
        } else {
            CHECK(hex(hmac_sha256(key, {*try_unhex(text(one["data_hex"]))})) == text(one["expected_hex"]));
        }
    }
}

TEST_CASE("vectors: sessions, from both ends") {
    for (const std::string file : {"session_zero", "naples_pdh", "standin_pdh"}) {
        const auto known = vector_json("session/" + file + ".json");
        if (!known) continue;
        const json::Value& expected = (*known)["expected"];
        SecretBytes z;
        if (file == "session_zero") {
            z = SecretBytes{*try_unhex(text((*known)["z_hex"]))};
        } else {
            const auto godh_key = P384Key::from_scalar(array<48>((*known)["godh_private_scalar_be_hex"]));
            const SevCertificate pdh = parse_sev_certificate(vector_bytes(text((*known)["pdh_cert"])).value(), "PDH");
            const Bytes raw_godh = vector_bytes("session/" + text((*known)["godh_cert"])).value();
            const SevCertificate godh = unsigned_certificate(Usage::pdh, Algorithm::ecdh_sha256, {}, godh_key.public_point());
            CHECK(std::ranges::equal(godh.serialize(), raw_godh));
            CHECK(hex(sha256(as_bytes(base64(raw_godh)))) == text(expected["godh_b64_sha256"]));
            z = godh_key.ecdh(*pdh.point());
            CHECK(hex(z.reveal()) == text(expected["z_be_hex"]));
            if (file == "standin_pdh") {
                const auto keys = vector_json("platform_keys/keys.json").value();
                const auto pdh_key = P384Key::from_scalar(array<48>(keys["private_scalars_be_hex"]["pdh"]));
                CHECK(equal_in_constant_time(pdh_key.ecdh(*godh.point()).reveal(), z.reveal()));
            }
        }
        const auto nonce = array<16>((*known)["nonce_hex"]);
        const SessionKeys keys = derive_session_keys(z.reveal(), nonce);
        CHECK(hex(keys.master.reveal()) == text(expected["master_secret_hex"]));
        CHECK(hex(keys.kek.reveal()) == text(expected["kek_hex"]));
        CHECK(hex(keys.kik.reveal()) == text(expected["kik_hex"]));
        const Policy policy{(*known)["policy"].get<std::uint32_t>()};
        const SessionBlob blob = wrap_session(keys, nonce, array<16>((*known)["wrap_iv_hex"]), Tek{array<16>((*known)["tek_hex"])},
                                              Tik{array<16>((*known)["tik_hex"])}, policy);
        CHECK(hex(blob.wrap_tk) == text(expected["wrap_tk_hex"]));
        CHECK(hex(blob.wrap_mac) == text(expected["wrap_mac_hex"]));
        CHECK(hex(blob.policy_mac) == text(expected["policy_mac_hex"]));
        if (expected.contains("session_blob_hex")) CHECK(hex(blob.serialize()) == text(expected["session_blob_hex"]));
        CHECK(unwrap_session(keys, blob, policy).has_value());
    }
}

TEST_CASE("vectors: launch measurements of sev-tool and sevctl") {
    const auto known = vector_json("measurement/launch_measure.json");
    if (!known) return;
    for (const auto& one : (*known)["cases"]) {
        const Build build{.major = one["api_major"].get<std::uint8_t>(),
                          .minor = one["api_minor"].get<std::uint8_t>(),
                          .build = one["build_id"].get<std::uint8_t>()};
        const Digest measure = expected_measurement(Tik{array<16>(one["tik_hex"])}, build, Policy{one["policy"].get<std::uint32_t>()},
                                                    array<32>(one["digest_hex"]), array<16>(one["mnonce_hex"]));
        CHECK(hex(measure) == text(one["measure_hex"]));
    }
}

TEST_CASE("vectors: attestation report accepted by sev-tool") {
    const auto known = vector_json("attestation/report1.json");
    if (!known) return;
    const Bytes raw_report = vector_bytes("attestation/report1.bin").value();
    const AttestationReport report = AttestationReport::parse(wire::exactly<AttestationReport::wire_size>(raw_report, "report"));
    const SevCertificate pek = parse_sev_certificate(vector_bytes("platform_keys/pek.cert").value(), "PEK");
    CHECK(std::ranges::equal(report.serialize(), raw_report));
    CHECK(hex(report.mnonce) == text((*known)["mnonce_hex"]));
    CHECK(hex(report.launch_digest) == text((*known)["launch_digest_hex"]));
    CHECK(report.policy.value == (*known)["policy"].get<std::uint32_t>());
    CHECK(report.signed_by(pek));
    AttestationReport flipped = report;
    flipped.policy.value ^= 1;
    CHECK_FALSE(flipped.signed_by(pek));
}

TEST_CASE("vectors: secret packets of sevctl: header and ciphertext") {
    const auto known = vector_json("secret/launch_secret.json");
    if (!known) return;
    const Bytes measured = unbase64(text((*known)["launch_measure_blob_b64"]), "measurement");
    const LaunchMeasurement measurement = LaunchMeasurement::parse(wire::exactly<LaunchMeasurement::wire_size>(measured, "measurement"));
    const auto tik = Tik{array<16>((*known)["tik_hex"])};
    for (const auto& one : (*known)["cases"]) {
        const Bytes raw_header = unbase64(text(one["header_b64"]), "header"), data = unbase64(text(one["payload_b64"]), "payload");
        const PacketHeader header = PacketHeader::parse(wire::exactly<PacketHeader::wire_size>(raw_header, "header"));
        CHECK(std::ranges::equal(header.serialize(), raw_header));
        CHECK(base64(header.iv) == text((*known)["iv_b64"]));
        CHECK(secret_packet_mac(tik, {.major = 0, .minor = 24}, header.flags, header.iv, data, measurement.measure) == header.mac);
        Bytes clear(data.size());
        aes128_ctr(array<16>((*known)["tek_hex"]), header.iv, data, clear);
        CHECK(hex(clear) == text(one["plaintext_table_hex"]));
    }
}
