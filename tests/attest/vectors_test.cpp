// SPDX-License-Identifier: Apache-2.0
// The shared test vectors, whose origins are AMD's sev-tool and virtee's sev and sevctl, through the guest owner's functions.
#include "attest/secret_packet.hpp"
#include "attest/secret_table.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;

namespace {

json::Value vector_json(const Path& path) { return json::parse(read_text(path, 1U << 20), path.string()); }

} // namespace

TEST_CASE("vectors: sessions towards a Naples PDH and a stand-in, GODH and blob byte for byte") {
    for (const char* name : {"naples_pdh", "standin_pdh"}) {
        const auto file = test::vector_file(fmt::format("session/{}.json", name));
        if (!file) return;
        CAPTURE(name);
        const json::Value answer = vector_json(*file);
        const auto pdh = psp::parse_sev_certificate(read_file(test::vector_file(test::string_of(answer, "pdh_cert")).value(), 4096), "PDH");
        const CreatedSession made = create_session_from(pdh, psp::Policy{answer.at("policy").get<std::uint32_t>()}, name,
                                                        {.godh = P384Key::from_scalar(test::hex_of<48>(answer, "godh_private_scalar_be_hex")),
                                                         .nonce = test::hex_of<16>(answer, "nonce_hex"),
                                                         .wrap_iv = test::hex_of<16>(answer, "wrap_iv_hex"),
                                                         .tek = test::key_of<psp::Tek>(answer, "tek_hex"),
                                                         .tik = test::key_of<psp::Tik>(answer, "tik_hex"),
                                                         .id = {},
                                                         .report_nonce = {}});
        CHECK(hex(made.offer.session) == test::string_of(answer.at("expected"), "session_blob_hex"));
        CHECK(hex(made.offer.godh) ==
              hex(read_file(test::vector_file(fmt::format("session/{}", test::string_of(answer, "godh_cert"))).value(), 4096)));
    }
}

TEST_CASE("vectors: sevctl's secret tables and packets, header and payload byte for byte") {
    const auto file = test::vector_file("secret/launch_secret.json");
    if (!file) return;
    const json::Value answer = vector_json(*file);
    const Bytes blob = unbase64(test::string_of(answer, "launch_measure_blob_b64"), "blob"), iv = unbase64(test::string_of(answer, "iv_b64"), "iv");
    const auto measurement = psp::LaunchMeasurement::parse(wire::exactly<48>(blob, "blob"));
    std::size_t compared = 0;
    for (const json::Value& one : answer.at("cases")) {
        std::vector<SecretEntry> entries;
        for (const json::Value& entry : one.at("entries"))
            entries.push_back({.guid = measure::Guid::parse(test::string_of(entry, "guid")).value(),
                               .data = SecretBytes{as_bytes(test::string_of(entry, "data_ascii"))}});
        const SecretBytes table = build_secret_table(entries);
        if (one.contains("plaintext_table_hex")) CHECK(hex(table.reveal()) == test::string_of(one, "plaintext_table_hex"));
        const SealedPacket packet =
            seal_for_measurement(test::key_of<psp::Tek>(answer, "tek_hex"), test::key_of<psp::Tik>(answer, "tik_hex"), {.major = 0, .minor = 17},
                                 measurement.measure, table.reveal(), wire::bytes<0, 16>(wire::exactly<16>(iv, "iv")));
        CHECK(base64(packet.header.serialize()) == test::string_of(one, "header_b64"));
        CHECK(base64(packet.data) == test::string_of(one, "payload_b64"));
        ++compared;
    }
    CHECK(compared > 0);
}

TEST_CASE("vectors: launch measurements of sev-tool and sevctl are what judge expects") {
    const auto file = test::vector_file("measurement/launch_measure.json");
    if (!file) return;
    const json::Value answer = vector_json(*file);
    for (const json::Value& one : answer.at("cases")) {
        test::FixtureLaunch launch;
        launch.tik = test::hex_of<16>(one, "tik_hex");
        launch.facts.policy = launch.bundle.launch.policy = psp::Policy{one.at("policy").get<std::uint32_t>()};
        launch.set_build({.major = one.at("api_major").get<std::uint8_t>(),
                          .minor = one.at("api_minor").get<std::uint8_t>(),
                          .build = one.at("build_id").get<std::uint8_t>()});
        launch.bundle.launch.proof =
            psp::LaunchMeasurement{.measure = test::hex_of<32>(one, "measure_hex"), .mnonce = test::hex_of<16>(one, "mnonce_hex")};
        launch.references.at(0).digest = test::hex_of<32>(one, "digest_hex");
        launch.policy.minimum_build = {};
        launch.policy.required_bits = 0;
        launch.policy.accepted_advisories = {"DEBUG-ALLOWED"};
        CHECK(test::failed(launch.judge().verdict.checks) == "");
        launch.references.at(0).digest[31] ^= 1;
        CHECK(test::failed(launch.judge().verdict.checks) == "launch.digest");
    }
}

TEST_CASE("vectors: the attestation report that sev-tool accepts") {
    const auto file = test::vector_file("attestation/report1.json");
    if (!file) return;
    const json::Value answer = vector_json(*file);
    const auto folder = test::vector_file("platform_keys").value();
    const auto certificate = [&](const char* name) { return psp::parse_sev_certificate(read_file(folder / name, 4096), name); };
    psp::Chain chain;
    chain.pdh = certificate("pdh.cert"), chain.pek = certificate("pek.cert"), chain.oca = certificate("oca.cert"),
    chain.cek = certificate("cek.cert");
    const Bytes bytes = read_file(test::vector_file("attestation/report1.bin").value(), 4096);
    test::FixtureLaunch launch;
    launch.use_report();
    launch.bundle.platform.chain = chain.serialize();
    launch.bundle.launch.proof = psp::AttestationReport::parse(wire::exactly<208>(bytes, "report"));
    launch.facts.report_nonce = test::hex_of<16>(answer, "mnonce_hex");
    launch.facts.policy = launch.bundle.launch.policy = psp::Policy{answer.at("policy").get<std::uint32_t>()};
    launch.references.at(0).digest = test::hex_of<32>(answer, "launch_digest_hex");
    const Verdict verdict = launch.judge().verdict;
    for (const char* name : {"report.signature", "report.nonce", "report.policy", "launch.digest"}) {
        CAPTURE(name);
        CHECK(test::find_check(verdict.checks, name)->passed);
    }
    CHECK_FALSE(verdict.trusted()); // nobody endorsed the stand-in platform
}
