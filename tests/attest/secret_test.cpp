// SPDX-License-Identifier: Apache-2.0
#include "attest/secret_archive.hpp"
#include "attest/secret_packet.hpp"
#include "attest/secret_table.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;
using sev::test::FixtureLaunch;

namespace {

SecretEntry entry(std::string_view guid, ByteView data) { return {.guid = measure::Guid::parse(guid).value(), .data = SecretBytes{data}}; }
constexpr std::string_view luks = "736869e5-84f0-4973-92ec-06879ce3da0b";

std::vector<SecretFile> files(std::initializer_list<std::pair<std::string, std::string>> list) {
    std::vector<SecretFile> out;
    for (const auto& [name, data] : list) out.push_back({.name = name, .data = SecretBytes{as_bytes(data)}});
    return out;
}

/// What the PSP would find in a packet.
Bytes opened(const SecretPacketMessage& packet, const FixtureLaunch& launch) {
    const auto header = psp::PacketHeader::parse(wire::view(packet.header));
    const auto& measure = std::get<psp::LaunchMeasurement>(launch.bundle.launch.proof).measure;
    CHECK(psp::secret_packet_mac(psp::Tik{launch.tik}, launch.bundle.launch.build.api(), header.flags, header.iv, packet.data, measure) ==
          header.mac);
    Bytes plain(packet.data.size());
    aes128_ctr(launch.tek, header.iv, packet.data, plain);
    return plain;
}

} // namespace

TEST_CASE("secret table: equal to an independent implementation's, both ways") {
    for (const json::Value& answer : test::answers().at("tables")) {
        std::vector<SecretEntry> entries;
        for (const json::Value& one : answer.at("entries"))
            entries.push_back(entry(one.at(0).get<std::string>(), try_unhex(one.at(1).get<std::string>()).value()));
        const Bytes want = test::bytes_of(answer, "table");
        const SecretBytes made = build_secret_table(entries);
        CHECK(hex(made.reveal()) == hex(want));
        const auto read = parse_secret_table(want);
        REQUIRE(read.size() == entries.size());
        for (std::size_t i = 0; i < read.size(); ++i) {
            CHECK(read[i].guid == entries[i].guid);
            CHECK(hex(read[i].data.reveal()) == hex(entries[i].data.reveal()));
        }
    }
}

TEST_CASE("secret table: limits") {
    CHECK_THROWS_WITH_AS(build_secret_table({}), "secret table: no entry, want at least one", Error);
    std::vector<SecretEntry> entries;
    entries.push_back(entry(luks, Bytes(0x4000 - 40)));
    CHECK(build_secret_table(entries).size() == 0x4000);
    entries.push_back(entry(luks, {}));
    CHECK_THROWS_WITH_AS(build_secret_table(entries), "secret table: more than the limit of 16384 bytes", Error);
    entries.clear();
    entries.push_back(entry(luks, Bytes(0x4000 - 39)));
    CHECK_THROWS_AS(build_secret_table(entries), Error);
}

TEST_CASE("secret table: every truncation is refused, and whatever a flipped bit leaves valid is the same bytes again") {
    const Bytes table = test::bytes_of(test::answers().at("tables").at(2), "table");
    for (std::size_t length = 0; length < table.size(); ++length) CHECK_THROWS_AS(parse_secret_table(ByteView{table}.first(length)), Error);
    for (std::size_t bit = 0; bit < 8 * table.size(); ++bit) {
        Bytes changed = table;
        changed[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        std::vector<SecretEntry> entries;
        try {
            entries = parse_secret_table(changed);
        } catch (const Error&) {
            continue;
        }
        CHECK(hex(build_secret_table(entries).reveal()) == hex(changed));
    }
}

TEST_CASE("secret table: the message says where") {
    const Bytes good = test::bytes_of(test::answers().at("tables").at(0), "table"); // 20 + 27 bytes, padded to 48
    const auto changed = [&](std::size_t at, std::uint8_t value) {
        Bytes bytes = good;
        bytes.at(at) = value;
        return bytes;
    };
    CHECK_THROWS_WITH_AS(parse_secret_table(changed(0, 0)), doctest::Contains("GUID is not that of a secret table"), Error);
    CHECK_THROWS_WITH_AS(parse_secret_table(changed(16, 49)), doctest::Contains("length is 49, want 20 to 48"), Error);
    CHECK_THROWS_WITH_AS(parse_secret_table(changed(16, 19)), doctest::Contains("length is 19, want 20 to 48"), Error);
    CHECK_THROWS_WITH_AS(parse_secret_table(changed(16, 32)), doctest::Contains("table of length 32 takes 32 bytes, got 48"), Error);
    CHECK_THROWS_WITH_AS(parse_secret_table(changed(36, 19)), doctest::Contains("entry length is 19, want 20 to 27"), Error);
    CHECK_THROWS_WITH_AS(parse_secret_table(changed(36, 28)), doctest::Contains("entry length is 28, want 20 to 27"), Error);
    CHECK_THROWS_WITH_AS(parse_secret_table(changed(36, 26)), doctest::Contains("entry has 1 bytes left, want at least 20"), Error);
    CHECK_THROWS_WITH_AS(parse_secret_table(changed(47, 1)), doctest::Contains("padding is not zero"), Error);
    CHECK_THROWS_WITH_AS(parse_secret_table(Bytes(0x4010)), doctest::Contains("more than the limit of 16384"), Error);
}

TEST_CASE("secret archive: equal to one made by an independent implementation of newc") {
    const json::Value& answer = test::answers().at("archive");
    std::vector<SecretFile> list;
    for (const json::Value& one : answer.at("files"))
        list.push_back({.name = one.at(0).get<std::string>(), .data = SecretBytes{try_unhex(one.at(1).get<std::string>()).value()}});
    const SecretBytes made = build_secret_archive(list);
    CHECK(made.size() % 4096 == 0);
    CHECK(hex(made.reveal()) == test::string_of(answer, "archive"));
}

TEST_CASE("secret archive: bad names and sizes") {
    for (const char* name : {"", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a b", "ä", "a\nb", "TRAILER!!!"}) {
        CAPTURE(name);
        CHECK_THROWS_AS(build_secret_archive(files({{name, "x"}})), Error);
    }
    CHECK_THROWS_AS(build_secret_archive(files({{std::string(256, 'a'), "x"}})), Error);
    CHECK_NOTHROW(build_secret_archive(files({{std::string(255, 'a'), "x"}, {"...", "x"}, {".a", ""}})));
    CHECK_THROWS_WITH_AS(build_secret_archive({}), "secret archive: no file, want at least one", Error);
    CHECK_THROWS_WITH_AS(build_secret_archive(files({{"a", "x"}, {"a", "y"}})), "secret archive: file \"a\" stands twice", Error);
    CHECK_THROWS_WITH_AS(build_secret_archive(files({{"a", "x"}, {"a/b", "y"}})), "secret archive: \"a\" is a file and a folder", Error);
    CHECK_THROWS_WITH_AS(build_secret_archive(files({{"a", std::string(1U << 20, 'x')}})), "secret archive: more than the limit of 1048576 bytes",
                         Error);
}

TEST_CASE("seal_for_measurement: equal to an independent implementation's, before and after API 0.17") {
    for (const json::Value& answer : test::answers().at("packets")) {
        const std::string api = test::string_of(answer, "api");
        CAPTURE(api);
        const psp::Build build = psp::Build::parse(api + ".0", "api");
        const SealedPacket packet =
            seal_for_measurement(test::key_of<psp::Tek>(answer, "tek"), test::key_of<psp::Tik>(answer, "tik"), build.api(),
                                 test::hex_of<32>(answer, "measure"), test::bytes_of(answer, "plaintext"), test::hex_of<16>(answer, "iv"));
        CHECK(hex(packet.header.serialize()) == test::string_of(answer, "header"));
        CHECK(hex(packet.data) == test::string_of(answer, "data"));
    }
}

TEST_CASE("seal: sizes, a fresh IV each time, and a trusted verdict that was moved from makes nothing") {
    FixtureLaunch launch;
    Judgement judgement = launch.judge();
    REQUIRE(judgement.trusted.has_value());
    const SecretPlace place{.slot = "efi", .offset_bytes = 0, .gpa = {}};
    for (const std::size_t size : {0U, 1U, 15U, 17U, 0x4010U})
        CHECK_THROWS_WITH_AS(seal(*judgement.trusted, place, Bytes(size)),
                             fmt::format("secret packet: {} bytes, want a multiple of 16 from 16 to 16384", size).c_str(), Error);
    const SecretPacketMessage one = seal(*judgement.trusted, place, Bytes(0x4000)), two = seal(*judgement.trusted, place, Bytes(0x4000));
    CHECK(one.header != two.header);
    CHECK(one.data != two.data);
    CHECK(opened(one, launch) == Bytes(0x4000));
    CHECK(opened(two, launch) == Bytes(0x4000));
    CHECK(one.session_id == launch.facts.id);
    const TrustedVerdict moved = std::move(*judgement.trusted);
    CHECK_THROWS_AS(seal(*judgement.trusted, place, Bytes(16)), Error); // NOLINT: the moved-from state is what is tested
    CHECK_NOTHROW(seal(moved, place, Bytes(16)));
}

TEST_CASE("release_secrets: the table reaches the guest's firmware") {
    FixtureLaunch launch;
    const Judgement judgement = launch.judge();
    const auto packets = release_secrets(*judgement.trusted, launch.policy);
    REQUIRE(packets.size() == 1);
    CHECK(packets.at(0).slot == "efi");
    const auto entries = parse_secret_table(opened(packets.at(0), launch));
    REQUIRE(entries.size() == 1);
    CHECK(entries.at(0).guid.text() == luks);
    CHECK(as_text(entries.at(0).data.reveal()) == std::string_view{"correct horse battery staple\0", 29});
    CHECK(plan_release(*judgement.trusted, launch.policy).released == std::vector<std::string>{"disk key"});
}

TEST_CASE("release_secrets: files become an archive in whole pages") {
    FixtureLaunch launch;
    launch.policy.secrets.at(0).target = std::string{"keys/disk.key"};
    const Judgement judgement = launch.judge();
    const auto packets = release_secrets(*judgement.trusted, launch.policy);
    REQUIRE(packets.size() == 1);
    CHECK(packets.at(0).slot == "initrd");
    CHECK(packets.at(0).offset_bytes == 0);
    const Bytes archive = opened(packets.at(0), launch);
    CHECK(archive.size() == 4096);
    CHECK(as_text(archive).find("keys/disk.key") != std::string_view::npos);
    CHECK(as_text(archive).find("correct horse") != std::string_view::npos);
}

TEST_CASE("release_secrets: credentials become the content of an SMBIOS slot, in whole pages and a rest") {
    FixtureLaunch launch;
    launch.policy.secrets.at(0).target = SmbiosTarget{.credential = "disk.key", .slot_bytes = 4096 + 512};
    const Judgement judgement = launch.judge();
    const auto packets = release_secrets(*judgement.trusted, launch.policy);
    REQUIRE(packets.size() == 2);
    CHECK(packets.at(0).slot == "smbios");
    CHECK(packets.at(1).slot == "smbios");
    CHECK(packets.at(1).offset_bytes == 4096);
    Bytes content = opened(packets.at(0), launch);
    const Bytes rest = opened(packets.at(1), launch);
    CHECK(rest.size() == 512);
    content.insert(content.end(), rest.begin(), rest.end());
    CHECK(as_text(content).substr(9, 38) == "io.systemd.credential.binary:disk.key=");
    launch.policy.secrets.at(0).target = SmbiosTarget{.credential = "disk.key", .slot_bytes = 64};
    CHECK_THROWS_WITH_AS(release_secrets(*launch.judge().trusted, launch.policy), "SMBIOS secret: needs a slot of 96 bytes, and this one has 64",
                         Error);
}

TEST_CASE("release_secrets: each condition holds a secret back by itself") {
    const auto held = [](FixtureLaunch& launch) {
        const Judgement judgement = launch.judge();
        REQUIRE(judgement.trusted.has_value());
        CHECK(release_secrets(*judgement.trusted, launch.policy).empty());
        const ReleasePlan plan = plan_release(*judgement.trusted, launch.policy);
        CHECK(plan.released.empty());
        REQUIRE(plan.held.size() == 1);
        return plan.held.at(0).reason;
    };
    FixtureLaunch launch;
    launch.policy.secrets.at(0).references = {"other"};
    CHECK(held(launch) == "the launch is \"fixture image\", which the secret does not wait for");
    launch.policy.secrets.at(0).references = std::vector<std::string>{};
    CHECK(held(launch) == "the launch is \"fixture image\", which the secret does not wait for");
    launch = {};
    launch.policy.secrets.at(0).needs_es = true;
    CHECK(held(launch) == "the guest runs without SEV-ES");
    launch = {};
    launch.policy.secrets.at(0).level = 2;
    CHECK(held(launch) == "the launch has level 1, want at least 2");
    launch = {};
    launch.policy.secrets.at(0).references.reset();
    launch.policy.secrets.at(0).level = 0;
    CHECK(release_secrets(*launch.judge().trusted, launch.policy).size() == 1);
}

TEST_CASE("release_secrets: a table larger than the firmware's block, an empty and an unreadable secret: no packet leaves") {
    FixtureLaunch launch;
    launch.references.at(0).secret_block = measure::Area{.base = 0x810000, .size_bytes = 64};
    CHECK_THROWS_WITH_AS(release_secrets(*launch.judge().trusted, launch.policy), "secret table: 80 bytes, and the firmware's secret block holds 64",
                         Error);
    launch.references.at(0).secret_block = measure::Area{.base = 0x810000, .size_bytes = 80};
    CHECK(release_secrets(*launch.judge().trusted, launch.policy).at(0).gpa == psp::Gpa{0x810000});
    const test::TemporaryDirectory directory;
    launch.policy.base = directory.path();
    CHECK_THROWS_AS(release_secrets(*launch.judge().trusted, launch.policy), Error);
    write_file(directory / "disk.key", {}, Visibility::secret, Existing::refuse);
    CHECK_THROWS_AS(release_secrets(*launch.judge().trusted, launch.policy), Error);
}
