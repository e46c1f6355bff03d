// SPDX-License-Identifier: Apache-2.0
// The coco hypercall's layouts, against arguments that tests/fixtures/coco/make.py packed, through a hypervisor that is a function of the test.
#include "base/crypto.hpp"
#include "tests/coco/support.hpp"

using namespace sev;
using namespace sev::psp;
using namespace sev::psp::xen;
using namespace sev::test::coco;
using test::fixture;

namespace {

std::unique_ptr<Coco> vates(Fake& fake, Layout layout) {
    be_vates(fake);
    CocoProbe found = probe(fake, layout);
    REQUIRE(found.coco);
    fake.asked.clear();
    return std::move(found.coco);
}

Mnonce report_nonce() {
    Mnonce nonce{};
    const Bytes report = read_file(fixture("psp/report.bin"), 4096);
    std::copy_n(report.begin(), nonce.size(), nonce.begin());
    return nonce;
}

} // namespace

TEST_CASE("coco probe: stock Xen has no such hypercall, said in one line, and is asked nothing else") {
    Fake stock;
    const CocoProbe found = probe(stock, std::nullopt);
    CHECK(found.answer == CocoProbe::Answer::absent);
    CHECK(found.sentence == "this Xen has no coco hypercall (ENOSYS): guests can be measured and not encrypted, level L1");
    CHECK_FALSE(found.coco);
    REQUIRE(stock.asked.size() == 1);
    CHECK(stock.asked[0].argument == Bytes(64 * 1024, 0));
}

TEST_CASE("coco probe: a hypervisor that refuses is neither absent nor usable") {
    Fake fake;
    fake.replies[0] = {.error_number = EPERM, .bytes = {}};
    const CocoProbe found = probe(fake, std::nullopt);
    CHECK(found.answer == CocoProbe::Answer::refused);
    CHECK(found.sentence == "the coco hypercall is refused: Operation not permitted");
}

TEST_CASE("coco probe: the RFC is known by its 24 bytes and its lack of reports") {
    Fake fake;
    be_rfc(fake);
    const CocoProbe found = probe(fake, std::nullopt);
    REQUIRE(found.coco);
    CHECK(found.answer == CocoProbe::Answer::usable);
    CHECK(found.coco->layout() == Layout::rfc_2025_05);
    CHECK(found.coco->level() == 3);
    CHECK(found.sentence == "coco hypercall, layout rfc-2025-05: SEV with SEV-ES is supported, level L3");
    CHECK(*found.status == CocoStatus{.platform = Platform::amd_sev,
                                      .es = true,
                                      .snp = false,
                                      .tio = true,
                                      .supported = true,
                                      .unsafe = false,
                                      .features = 0xA5,
                                      .version_major = 0,
                                      .version_minor = 24,
                                      .version_build = std::nullopt,
                                      .owned = false});
    CHECK(probe(fake, Layout::rfc_2025_05).coco);
    const CocoProbe other = probe(fake, Layout::vates_b);
    CHECK(other.answer == CocoProbe::Answer::unknown);
    CHECK(other.sentence == "the coco hypercall has the layout rfc-2025-05, and the host's configuration names vates-b");
}

TEST_CASE("coco probe: Vates A and B look alike, so one must be named") {
    Fake fake;
    be_vates(fake);
    const CocoProbe unnamed = probe(fake, std::nullopt);
    CHECK(unnamed.answer == CocoProbe::Answer::unknown);
    CHECK_FALSE(unnamed.coco);
    CHECK(unnamed.sentence.find("name one") != std::string::npos);
    CHECK(probe(fake, Layout::rfc_2025_05).answer == CocoProbe::Answer::unknown);
    for (const Layout layout : {Layout::vates_a, Layout::vates_b}) {
        const CocoProbe found = probe(fake, layout);
        REQUIRE(found.coco);
        CHECK(found.coco->layout() == layout);
        CHECK(found.coco->level() == 5);
        CHECK(found.status->version_build == 15);
        CHECK(found.status->owned);
    }
}

TEST_CASE("coco probe: the SNP revision, an unknown size and a mixture are refused") {
    Fake snp;
    be_vates(snp);
    snp.replies[0x10000] = {.error_number = 0, .bytes = {}};
    CHECK(probe(snp, Layout::vates_b).answer == CocoProbe::Answer::unknown);
    CHECK(probe(snp, Layout::vates_b).sentence == "the coco hypercall is the revision with SEV-SNP operations, which this version does not speak");

    Fake bigger;
    be_vates(bigger);
    bigger.replies[0].bytes.resize(32, 0x5A);
    CHECK(probe(bigger, Layout::vates_b).sentence ==
          "the coco hypercall has an unknown layout: a status of 32 bytes with reports; known are 24 without and 28 with reports");
    Fake mixture;
    be_rfc(mixture);
    mixture.replies[2] = {.error_number = ENOENT, .bytes = {}};
    CHECK(probe(mixture, std::nullopt).answer == CocoProbe::Answer::unknown);
    Fake silent; // answers, and writes nothing
    silent.replies[0] = {.error_number = 0, .bytes = {}};
    CHECK(probe(silent, std::nullopt).answer == CocoProbe::Answer::unknown);
}

TEST_CASE("coco probe: what any layout shows is kept for who records it, and operation 3 is asked only where SEV is supported") {
    Fake stock;
    CHECK(probe(stock, std::nullopt).error_number == ENOSYS);

    Fake fake;
    be_vates(fake);
    fake.replies[3] = {.error_number = 0, .bytes = answer("certificates_b_answer")};
    const CocoProbe unnamed = probe(fake, std::nullopt);
    CHECK(unnamed.answer == CocoProbe::Answer::unknown);
    CHECK(unnamed.error_number == 0);
    CHECK(unnamed.status_bytes == answer("status_vates"));
    CHECK(unnamed.certificates_error == 0);
    fake.replies.erase(3);
    CHECK(probe(fake, std::nullopt).certificates_error == ENOSYS);

    for (const std::size_t at : {0U, 8U}) { // another platform; supported cleared
        Fake without;
        be_vates(without);
        without.replies[0].bytes[at] = 0;
        CHECK_FALSE(probe(without, Layout::vates_a).certificates_error.has_value());
        for (const Asked& each : without.asked) CHECK(each.operation != 3);
    }
}

TEST_CASE("coco probe: a size is found whatever the last field holds") {
    Fake fake;
    be_vates(fake);
    for (const int value : {0x00, 0xFF, 0x17}) {
        const auto last = static_cast<std::uint8_t>(value);
        fake.replies[0].bytes[24] = fake.replies[0].bytes[25] = fake.replies[0].bytes[26] = fake.replies[0].bytes[27] = last;
        CHECK(probe(fake, Layout::vates_a).answer == CocoProbe::Answer::usable);
    }
}

TEST_CASE("coco probe: no SEV, SEV switched off, another vendor") {
    const auto with_status = [](std::size_t at, std::uint8_t value) {
        Fake fake;
        be_rfc(fake);
        fake.replies[0].bytes[at] = value;
        CocoProbe found = probe(fake, std::nullopt);
        CHECK_FALSE(found.coco);
        CHECK(found.layout == Layout::rfc_2025_05);
        return found;
    };
    CHECK(with_status(0, 0).sentence == "coco hypercall, layout rfc-2025-05: the platform is not AMD SEV");
    CHECK(with_status(0, 2).answer == CocoProbe::Answer::unsupported);
    CHECK(with_status(8, 0).sentence == "coco hypercall, layout rfc-2025-05: SEV is not supported on this machine");
    CHECK(with_status(8, 2).sentence == "coco hypercall, layout rfc-2025-05: SEV is there and switched off as unsafe");
    Fake odd;
    be_rfc(odd);
    odd.replies[0].bytes[0] = 9;
    CHECK_THROWS_WITH_AS(probe(odd, std::nullopt), "coco status: 00h platform is 9, want 0 to 3", Error);
}

TEST_CASE("coco: every argument byte for byte") {
    Fake fake;
    const auto coco = vates(fake, Layout::vates_b);
    fake.replies = {{1, {}}, {4, {0, {}}}, {5, {}}, {6, {}}, {8, {}}, {9, {}}, {10, {}}};
    coco->prepare_initial_memory(7, 0x1000, 11776);
    CHECK(fake.asked.back().operation == 1);
    CHECK(fake.asked.back().argument == answer("prepare"));
    coco->finish_initial_memory(7);
    CHECK(fake.asked.back().operation == 8);
    CHECK(fake.asked.back().argument == answer("finish"));
    coco->set_secrets_area(7, Gpa{0x3E01000}, 8192);
    CHECK(fake.asked.back().operation == 10);
    CHECK(fake.asked.back().argument == answer("area"));

    ByteArray<0x34> header{};
    for (std::size_t i = 0; i < header.size(); ++i) header[i] = static_cast<std::uint8_t>(i);
    const Bytes packet(4096, 0xC3);
    coco->update_secret(7, Gpa{0x3E01000}, header, packet);
    CHECK(fake.asked.back().operation == 9);
    CHECK(fake.asked.back().argument == answer("secrets"));
    CHECK(fake.asked.back().pointed_to == std::vector<Bytes>{packet});
    CHECK_THROWS_WITH_AS(coco->update_secret(7, Gpa{0x3E01010}, header, packet),
                         "secret of 4096 bytes at 0x3e01010: want 1 to 4096 bytes inside one page", Error);
    CHECK_THROWS_AS(coco->update_secret(7, Gpa{0x3E01000}, header, Bytes(4112)), Error);
    CHECK_THROWS_AS(coco->update_secret(7, Gpa{0x3E01000}, header, {}), Error);

    coco->regenerate(Coco::Key::pek);
    CHECK(fake.asked.back().argument == answer("regenerate_pek"));
    coco->regenerate(Coco::Key::pdh);
    CHECK(fake.asked.back().operation == 5);
    CHECK(fake.asked.back().argument == answer("regenerate_pdh"));

    const Bytes chain = read_file(fixture("psp/chain_rsa2048.bin"), 1U << 20);
    const auto certificate = [&](std::size_t i) { return parse_sev_certificate(ByteView{chain}.subspan(i * 2084, 2084), "certificate"); };
    coco->import_certificates(certificate(1), certificate(2));
    CHECK(fake.asked.back().operation == 6);
    CHECK(hex(sha256(fake.asked.back().argument)) == text_answer("import_sha256"));
    fake.replies[4].bytes = {chain.begin() + 2084, chain.begin() + 2 * 2084};
    CHECK(coco->signing_request() == certificate(1));
}

TEST_CASE("coco: attestation reports in both layouts, and their nonce is held against the one asked for") {
    for (const auto& [layout, letter] : {std::pair{Layout::vates_a, 'a'}, std::pair{Layout::vates_b, 'b'}}) {
        Fake fake;
        const auto coco = vates(fake, layout);
        fake.replies[2] = {.error_number = 0, .bytes = answer(fmt::format("report_{}_answer", letter))};
        const AttestationReport report = coco->report(7, report_nonce());
        CHECK(fake.asked.back().argument == answer(fmt::format("report_{}_ask", letter)));
        const auto bytes = report.serialize();
        CHECK(Bytes(bytes.begin(), bytes.end()) == read_file(fixture("psp/report.bin"), 4096));
        CHECK_THROWS_AS(coco->report(7, Mnonce{}), Error);
    }
    Fake fake;
    const auto coco = vates(fake, Layout::vates_b);
    fake.replies[2] = {.error_number = 0, .bytes = answer("report_b_answer")};
    fake.replies[2].bytes[20] = 207;
    CHECK_THROWS_WITH_AS(coco->report(7, report_nonce()), "coco attestation report: 14h length is 207, want 208", Error);
}

TEST_CASE("coco: certificates and chip ids in both layouts, and no layout reads the other's answer") {
    for (const auto& [layout, own, other] : {std::tuple{Layout::vates_a, 'a', 'b'}, std::tuple{Layout::vates_b, 'b', 'a'}}) {
        Fake fake;
        const auto coco = vates(fake, layout);
        fake.replies[3] = {.error_number = 0, .bytes = answer(fmt::format("certificates_{}_answer", own))};
        const CocoCertificates got = coco->certificates();
        REQUIRE(fake.asked.size() == 1);
        CHECK(fake.asked.back().operation == 3);
        CHECK(hex(sha256(fake.asked.back().argument)) == text_answer("certificates_ask_sha256"));
        const auto certificate = [](std::size_t i) { return certificate_of("chain_rsa2048", i); };
        CHECK(got.certificates == PlatformCertificates{certificate(0), certificate(1), certificate(2), certificate(3)});
        REQUIRE(got.chips.size() == 2);
        for (std::size_t i = 0; i < 128; ++i) CHECK(got.chips[i / 64][i % 64] == i);

        const std::size_t sockets_at = layout == Layout::vates_a ? 0 : 128, chain_at = layout == Layout::vates_a ? 32 : 160;
        fake.replies[3].bytes[sockets_at] = 1;
        CHECK(coco->certificates().chips == std::vector<ChipId>{got.chips[0]});
        fake.replies[3].bytes[sockets_at] = 0; // a PSP without GET_ID
        CHECK(coco->certificates().chips.empty());
        fake.replies[3].bytes[sockets_at] = 3;
        CHECK_THROWS_WITH_AS(coco->certificates(),
                             fmt::format("the answer of coco operation 3: {:02X}h cpu_number is 3, want 0 to 2", sockets_at).c_str(), Error);
        fake.replies[3].bytes[sockets_at] = 2;
        fake.replies[3].bytes[chain_at] ^= 0x40; // version of the PDH certificate
        CHECK_THROWS_AS(coco->certificates(), Error);
        fake.replies[3].bytes = answer(fmt::format("certificates_{}_answer", other));
        CHECK_THROWS_AS(coco->certificates(), Error);
        fake.replies[3].bytes.clear(); // "success", and nothing written
        CHECK_THROWS_AS(coco->certificates(), Error);
    }
}

TEST_CASE("coco: each errno says what it means; what a layout lacks is refused without a call") {
    Fake fake;
    be_rfc(fake);
    const CocoProbe found = probe(fake, std::nullopt);
    REQUIRE(found.coco);
    fake.asked.clear();
    const std::string lacks = "layout rfc-2025-05 does not have it";
    const auto lacking = [&](const auto& run) {
        try {
            run();
            FAIL("no refusal");
        } catch (const Error& error) {
            CHECK(std::string{error.what()}.find(lacks) != std::string::npos);
        }
    };
    lacking([&] { found.coco->report(7, Mnonce{}); });
    lacking([&] { found.coco->finish_initial_memory(7); });
    lacking([&] { found.coco->certificates(); });
    lacking([&] { found.coco->signing_request(); });
    lacking([&] { found.coco->regenerate(Coco::Key::pek); });
    lacking([&] { found.coco->set_secrets_area(7, Gpa{}, 4096); });
    lacking([&] { found.coco->update_secret(7, Gpa{}, {}, Bytes(16)); });
    CHECK(fake.asked.empty());

    for (const auto& [error_number, words] : {std::pair{ENOENT, "there is no such domain"}, std::pair{EPERM, "only the hardware domain may ask"},
                                              std::pair{EOPNOTSUPP, "the domain is no coco domain"}, std::pair{EINVAL, "the hypervisor refused"}}) {
        fake.replies[1] = {.error_number = error_number, .bytes = {}};
        try {
            found.coco->prepare_initial_memory(7, 0, 1);
            FAIL("no refusal");
        } catch (const Error& error) {
            CHECK(std::string{error.what()}.starts_with("coco operation 1 (domain_prepare_initial_mem): "));
            CHECK(std::string{error.what()}.find(words) != std::string::npos);
            CHECK_FALSE(error.hint().empty());
        }
    }
}

TEST_CASE("coco layouts have names") {
    for (const Layout layout : {Layout::rfc_2025_05, Layout::vates_a, Layout::vates_b}) CHECK(layout_named(name(layout)) == layout);
    CHECK_FALSE(layout_named("snp"));
}

TEST_CASE("libxencall: without Xen, one line says what is missing; with it, the probe has its sentence") {
    try {
        const auto calls = open_xencall();
        REQUIRE(std::filesystem::exists("/dev/xen"));
        const CocoProbe found = probe(*calls, std::nullopt);
        CHECK_FALSE(found.sentence.empty());
        CHECK(found.sentence.find('\n') == std::string::npos);
    } catch (const Error& error) {
        const std::string text = error.what();
        CHECK((text.starts_with("libxencall.so.1 cannot be loaded") || text.starts_with("/dev/xen/hypercall: ")));
        CHECK(text.find('\n') == std::string::npos);
        CHECK_FALSE(error.hint().empty());
    }
}
