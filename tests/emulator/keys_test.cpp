// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "psp/chain.hpp"
#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;
using psp::Algorithm;
using psp::SevCertificate;
using psp::Usage;

namespace {

psp::Chain chain_of(Host& host) {
    const auto exported = host.certificates();
    psp::Chain chain = psp::parse_chain(exported.pdh + exported.chain, "export");
    CHECK(chain.cek->signatures == std::array<psp::SignatureSlot, 2>{}); // the signed one has to be fetched
    chain.cek = host.emulator->identity().cek;
    chain.ask = host.emulator->identity().ask;
    chain.ark = host.emulator->identity().ark;
    return chain;
}

SevCertificate csr(Host& host) {
    REQUIRE(host.command(CommandId::pek_csr, Raw{0x0C}.u64(0, blob_at).u32(8, 0x824)) == Status::success);
    CHECK(host.reply_u32(8) == 0x824);
    return psp::parse_sev_certificate(host.get(blob_at, 0x824), "CSR");
}

struct Owner384 {
    P384Key key = P384Key::generate();
    SevCertificate oca = make();
    SevCertificate make() const {
        SevCertificate certificate = psp::unsigned_certificate(Usage::oca, Algorithm::ecdsa_sha256, {0, 0}, key.public_point());
        psp::sign(certificate, 0, Usage::oca, key);
        return certificate;
    }
};

Status import(Host& host, const SevCertificate& pek, const SevCertificate& oca) {
    host.put(blob_at, pek.serialize());
    host.put(blob2_at, oca.serialize());
    return host.command(CommandId::pek_cert_import, Raw{0x1C}.u64(0, blob_at).u32(8, 0x824).u64(0x10, blob2_at).u32(0x18, 0x824));
}

} // namespace

TEST_CASE("the exported chain verifies to the emulator's own root, and to no other") {
    for (const auto& personality : psp::emulator::all_personalities()) {
        CAPTURE(std::string{personality.name});
        Host host{personality.name};
        host.start();
        const psp::Chain chain = chain_of(host);
        const psp::Root root{.label = "emulated", .product = personality.product, .fingerprint = chain.ark->fingerprint(), .amd = false};
        const auto verdict = psp::verify_chain(chain, {root});
        for (const auto& check : verdict.checks) CHECK_MESSAGE(check.passed, check.check << ": " << check.detail);
        CHECK(verdict.trusted());
        CHECK(verdict.emulated);
        CHECK_FALSE(psp::verify_chain(chain, psp::amd_roots()).trusted());
        CHECK(chain.ark->bits == personality.rsa_bits);
        CHECK(chain.pek->api == personality.build.api());
        CHECK(chain.pdh->api == personality.build.api());
    }
}

TEST_CASE("length queries: the wanted lengths come back, and nothing else happens") {
    Host host;
    host.start();
    const Bytes before = host.snapshot();
    CHECK(host.command(CommandId::pek_csr, Raw{0x0C}.u64(0, blob_at).u32(8, 0x823)) == Status::invalid_length);
    CHECK(host.reply_u32(8) == 0x824);
    for (const auto& [pdh, chain] : {std::pair{0U, 0U}, std::pair{0x824U, 0x186BU}, std::pair{0x823U, 0x186CU}}) {
        CHECK(host.command(CommandId::pdh_cert_export, Raw{0x1C}.u64(0, blob_at).u32(8, pdh).u64(0x10, blob2_at).u32(0x18,
                chain)) == Status::invalid_length);
        CHECK(host.reply_u32(8) == 0x824);
        CHECK(host.reply_u32(0x18) == 0x186C);
    }
    CHECK(host.command(CommandId::pdh_cert_export, Raw{0x1C}.u32(8, 0x824).u32(0xC, 1).u32(0x18, 0x186C)) == Status::invalid_param);
    CHECK(host.command(CommandId::pdh_cert_export, Raw{0x1C}.u64(0, tmr_at).u32(8, 0x824).u64(0x10, blob2_at).u32(0x18,
            0x186C)) == Status::invalid_address);
    CHECK(host.command(CommandId::pdh_cert_export, Raw{0x1C}.u64(0, blob_at).u32(8, 0x824).u64(0x10, ram_bytes - 0x1000).u32(0x18, 0x186C)) ==
          Status::invalid_address);
    CHECK(host.command(CommandId::pek_csr, Raw{0x0C}.u64(0, ram_bytes).u32(8, 0x824)) == Status::invalid_address);
    CHECK(host.snapshot() == before);
    CHECK(host.command(CommandId::pdh_cert_export, Raw{0x1C}.u64(0, blob_at).u32(8, 0x4000).u64(0x10, blob2_at).u32(0x18,
            0x4000)) == Status::success);
    CHECK(host.reply_u32(8) == 0x824);
    CHECK(host.reply_u32(0x18) == 0x186C);
}

TEST_CASE("PDH_GEN renews the PDH alone; PEK_GEN renews OCA, PEK and PDH; both survive a power cycle") {
    Host host;
    host.start();
    const auto first = chain_of(host);
    REQUIRE(host.command(CommandId::pdh_gen) == Status::success);
    const auto second = chain_of(host);
    CHECK(second.pdh != first.pdh);
    CHECK(second.pek == first.pek);
    CHECK(second.oca == first.oca);
    REQUIRE(host.command(CommandId::pek_gen) == Status::success);
    const auto third = chain_of(host);
    CHECK(third.pdh != second.pdh);
    CHECK(third.pek != second.pek);
    CHECK(third.oca != second.oca);
    CHECK(third.cek == first.cek);
    CHECK(psp::all_passed(psp::verify_platform_part(third)));
    host.emulator->reset();
    host.start();
    CHECK(chain_of(host) == third);
}

TEST_CASE("PEK_CSR: the PEK with both signature slots empty") {
    Host host;
    host.start();
    const SevCertificate request = csr(host);
    const auto chain = chain_of(host);
    CHECK(request.signed_bytes() == chain.pek->signed_bytes());
    CHECK(request.signatures == std::array<psp::SignatureSlot, 2>{});
}

TEST_CASE("PEK_CERT_IMPORT: the platform becomes its owner's, for good, until PEK_GEN") {
    Host host;
    host.start();
    const auto before = chain_of(host);
    Owner384 owner;
    SevCertificate pek = csr(host);
    const std::size_t slot = 1; // either will do
    psp::sign(pek, slot, Usage::oca, owner.key);
    REQUIRE(import(host, pek, owner.oca) == Status::success);
    CHECK(host.status()[3] == 1);
    const auto owned = chain_of(host);
    CHECK(owned.oca == owner.oca);
    CHECK(owned.pek->signed_bytes() == before.pek->signed_bytes());
    CHECK(owned.pek->signatures[1] == pek.signatures[1]);
    CHECK(owned.pek->signatures[0].usage == Usage::cek);
    CHECK(owned.pdh != before.pdh);
    const psp::Root root{.label = "emulated", .product = psp::Product::naples, .fingerprint = owned.ark->fingerprint(), .amd = false};
    CHECK(psp::verify_chain(owned, {root}).trusted());
    CHECK(import(host, pek, owner.oca) == Status::already_owned);
    host.emulator.reset(); // another process
    host.emulator = Emulator::open(host.state);
    CHECK(host.status()[3] == 0); // UNINIT
    host.start();
    CHECK(host.status()[3] == 1);
    CHECK(chain_of(host) == owned);
    REQUIRE(host.command(CommandId::pdh_gen) == Status::success);
    CHECK(psp::all_passed(psp::verify_platform_part(chain_of(host))));
    REQUIRE(host.command(CommandId::pek_gen) == Status::success);
    CHECK(host.status()[3] == 0);
    CHECK(chain_of(host).oca != owned.oca);
}

TEST_CASE("PEK_CERT_IMPORT: each bad input alone, and the platform stays as it was") {
    Host host;
    host.start();
    const auto before = chain_of(host);
    const Owner384 owner, other;
    SevCertificate pek = csr(host);
    psp::sign(pek, 0, Usage::oca, owner.key);
    using Change = std::function<void(SevCertificate&, SevCertificate&)>;
    const auto expect = [&](Status status, const char* what, const Change& change) {
        CAPTURE(what);
        SevCertificate a = pek, b = owner.oca;
        change(a, b);
        CHECK(import(host, a, b) == status);
        CHECK(host.status()[3] == 0);
    };
    using C = SevCertificate;
    expect(Status::invalid_certificate, "unsigned PEK", [](C& a, C&) { a.signatures = {}; });
    expect(Status::invalid_certificate, "PEK signed twice by the OCA", [](C& a, C&) { a.signatures[1] = a.signatures[0]; });
    expect(Status::invalid_certificate, "PEK of another platform", [&](C& a, C&) { a.key = other.key.public_point(); });
    expect(Status::invalid_certificate, "PEK with another API version", [](C& a, C&) { a.api.minor ^= 1; });
    expect(Status::invalid_certificate, "PEK that says PDH", [](C& a, C&) { a.usage = Usage::pdh; });
    expect(Status::invalid_certificate, "signature by a CEK", [](C& a, C&) { a.signatures[0].usage = Usage::cek; });
    expect(Status::invalid_certificate, "signature of another algorithm", [](C& a, C&) { a.signatures[0].algorithm = Algorithm::ecdsa_sha384; });
    expect(Status::invalid_certificate, "OCA that says PEK", [](C&, C& b) { b.usage = Usage::pek; });
    expect(Status::invalid_certificate, "OCA for key agreement", [](C&, C& b) { b.algorithm = Algorithm::ecdh_sha256; });
    expect(Status::invalid_certificate, "unsigned OCA", [](C&, C& b) { b.signatures = {}; });
    expect(Status::invalid_certificate, "OCA off the curve", [](C&, C& b) { std::get<P384Point>(b.key).x[47] ^= 1; });
    expect(Status::bad_signature, "PEK signed by another", [&](C& a, C&) { psp::sign(a, 0, Usage::oca, other.key); });
    expect(Status::bad_signature, "a bit of the PEK's signature", [](C& a, C&) { a.signatures[0].bytes[5] ^= 1; });
    expect(Status::bad_signature, "a bit of the OCA's signature", [](C&, C& b) { b.signatures[0].bytes[5] ^= 1; });
    expect(Status::bad_signature, "another OCA", [&](C&, C& b) { b = other.oca; });

    host.put(blob_at, pek.serialize());
    const auto raw_import = [&](std::uint32_t pek_length, std::uint32_t reserved, std::uint64_t oca_at, std::uint32_t oca_length) {
        return host.command(CommandId::pek_cert_import,
                            Raw{0x1C}.u64(0, blob_at).u32(8, pek_length).u32(0xC, reserved).u64(0x10, oca_at).u32(0x18, oca_length));
    };
    host.put(blob2_at, owner.oca.serialize());
    CHECK(raw_import(0x824, 1, blob2_at, 0x824) == Status::invalid_param);
    CHECK(raw_import(0x823, 0, blob2_at, 0x824) == Status::invalid_length);
    CHECK(raw_import(0x824, 0, blob2_at, 0) == Status::invalid_length);
    CHECK(raw_import(0x824, 0, ram_bytes - 4, 0x824) == Status::invalid_address);
    host.ram.bytes()[blob2_at] = 2; // VERSION
    CHECK(raw_import(0x824, 0, blob2_at, 0x824) == Status::invalid_certificate);
    CHECK(chain_of(host) == before);
    CHECK(import(host, pek, owner.oca) == Status::success);
}

TEST_CASE("the CEK comes of the chip's secret, as computed with Python") {
    const auto answers = json::parse(read_text(fixture("emulator/answers.json"), 1U << 20), "answers").at("cek");
    const auto secret = unhex<32>(answers.at("chip_secret").get<std::string>());
    const psp::emulator::Chip chip{.personality = psp::emulator::find_personality("epyc-3151"),
                                   .ids = {},
                                   .secret = psp::emulator::ChipSecret{secret},
                                   .ark = {},
                                   .ask = {},
                                   .cek = {}};
    CHECK(hex(chip.cek_key().public_point().x) == answers.at("x").get<std::string>());
    CHECK(hex(chip.cek_key().public_point().y) == answers.at("y").get<std::string>());
}
