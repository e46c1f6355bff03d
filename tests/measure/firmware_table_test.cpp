// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/firmware_table.hpp"

#include "base/crypto.hpp"
#include "base/wire.hpp"
#include "ovmf-measure/variable_store.hpp"
#include "tests/measure/support.hpp"

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

namespace {

Bytes le32(std::uint32_t value) {
    const auto bytes = wire::le32_bytes(value);
    return {bytes.begin(), bytes.end()};
}
Bytes area(std::uint32_t base, std::uint32_t size_bytes) {
    Bytes out = le32(base);
    std::ranges::copy(le32(size_bytes), std::back_inserter(out));
    return out;
}

} // namespace

TEST_CASE("GUID: EFI byte order, both ways, and what is no GUID") {
    // The bytes of the footer GUID are written out in edk2's ResetVectorVtf0.nasm.inc.
    const auto guid = Guid::parse("96B582DE-1fb2-45f7-baea-a366c55a082d");
    REQUIRE(guid);
    CHECK(hex(guid->bytes) == "de82b596b21ff745baeaa366c55a082d");
    CHECK(guid->text() == "96b582de-1fb2-45f7-baea-a366c55a082d");
    CHECK(*guid == guid::table_footer);
    for (const char* text : {"", "96b582de-1fb2-45f7-baea-a366c55a082", "96b582de-1fb2-45f7-baea-a366c55a082d0",
                             "96b582de 1fb2-45f7-baea-a366c55a082d", "96b582de-1fb2-45f7-baea-a366c55a082g", "{6b582de-1fb2-45f7-baea-a366c55a082}",
                             "96b582de-1fb2-45f7-baeaaa366c55a082d"}) {
        CHECK_MESSAGE(!Guid::parse(text), text);
    }
}

TEST_CASE("GUIDs of the table: the text is that of edk2's sources") {
    const std::vector<std::pair<Guid, std::string>> known{{guid::sev_es_reset_block, "00f771de-1a7e-4fcb-890e-68c77e2fb44e"},
                                                          {guid::sev_secret_block, "4c2eb361-7d9b-4cc3-8081-127c90d3d294"},
                                                          {guid::sev_hash_table_block, "7255371f-3a3b-4b04-927b-1da6efa8d454"},
                                                          {guid::snp_metadata_offset, "dc886566-984a-4798-a75e-5585a7bf67cc"},
                                                          {guid::tdx_metadata_offset, "e47a6535-984a-4798-865e-4685a7bf8ec2"},
                                                          {guid::igvm_parameter_offset, "784fa70e-3176-4677-8a20-04b68699e374"}};
    for (const auto& [guid, text] : known) {
        CHECK(guid.text() == text);
        CHECK(Guid::parse(text) == guid);
        CHECK(!name(guid).empty());
    }
    CHECK(name(Guid{}).empty());
}

TEST_CASE("firmware table: images made by an independent script") {
    const FirmwareTable table = FirmwareTable::parse(image("full.fd"));
    CHECK(table.present);
    CHECK(table.ap_reset_address == 0x0080B004U);
    CHECK(table.secret_block == Area{0x810000, 0xC00});
    CHECK(table.hash_block == Area{0x810C00, 0x400});
    CHECK(table.snp_metadata_offset == 0x554U);
    CHECK(!table.tdx_metadata_offset);
    CHECK(!table.igvm_parameter_offset);
    REQUIRE(table.entries.size() == 5);
    CHECK(table.entries[4].guid.text() == "0a0b0c0d-0e0f-1011-1213-141516171819"); // unknown ones are kept
    CHECK(as_text(table.entries[4].data) == "future");
    // The SEV-ES reset block ends where the footer (18 bytes before the last 32) begins: 4 bytes data, 18 bytes length and GUID.
    CHECK(table.entries[0].file_offset == 4096 - 32 - 18 - 22);

    const FirmwareTable bare = FirmwareTable::parse(image("bare_reset_block.fd"));
    CHECK(!bare.present);
    CHECK(bare.bare_reset_block);
    CHECK(bare.need_ap_reset_address() == 0x00809004U);
    CHECK(!bare.hash_block);

    CHECK(FirmwareTable::parse(image("no_table.fd")).entries.empty());
    CHECK(FirmwareTable::parse(Bytes(49, 0)).entries.empty());
    CHECK(FirmwareTable::parse({}).entries.empty());
}

TEST_CASE("firmware table: vectors of real OVMF builds") {
    const auto vectors = vector_json("firmware/ovmf_tables.json");
    if (!vectors) return;
    for (const auto& [file, want] : vectors->at("files").items()) {
        const Bytes suffix = read_file(*vector_file("firmware/" + file), 1U << 20);
        CHECK(hex(sha256(suffix)) == want.at("sha256").get<std::string>());
        const FirmwareTable table = FirmwareTable::parse(suffix);
        CHECK(table.serialize().size() == want.at("table_len").get<std::size_t>());
        const auto& entries = want.at("entries_backwards");
        REQUIRE(table.entries.size() == entries.size());
        for (std::size_t i = 0; i < entries.size(); ++i) {
            CHECK(table.entries[i].guid.text() == entries[i].at("guid").get<std::string>());
            CHECK(hex(table.entries[i].data) == entries[i].at("data_hex").get<std::string>());
            CHECK(table.entries[i].file_offset == entries[i].at("data_file_offset").get<std::size_t>());
            CHECK(table.entries[i].data.size() + 18 == entries[i].at("entry_len").get<std::size_t>());
        }
    }
}

TEST_CASE("firmware table: this machine's OVMF has a reset block, and a hash block with base 0") {
    const Path path = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    if (!std::filesystem::exists(path)) {
        fmt::print("SKIPPED: {} is absent (Debian package ovmf)\n", path.string());
        return;
    }
    const MappedFile file{path};
    const FirmwareTable table = FirmwareTable::parse(file.bytes());
    CHECK(table.present);
    CHECK(table.need_ap_reset_address() != 0);
    CHECK_THROWS_WITH_AS(static_cast<void>(table.need_hash_block()),
                         "firmware: SEV hash table block (7255371f-3a3b-4b04-927b-1da6efa8d454) has base 0: this build does not support kernel "
                         "hashes", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(table.need_secret_block()),
                         "firmware: SEV secret block (4c2eb361-7d9b-4cc3-8081-127c90d3d294) has base 0: this build does not support launch "
                         "secrets", Error);
    CHECK(variable_stores(file.bytes()).empty());
}

TEST_CASE("firmware table: round trip") {
    for (const char* name : {"full.fd", "no_hashes.fd", "bare_reset_block.fd", "variables.fd"}) {
        const Bytes whole = image(name);
        const Bytes table = FirmwareTable::parse(whole).serialize();
        CHECK_MESSAGE(std::ranges::equal(table, ByteView{whole}.last(table.size() + 32).first(table.size())), name);
    }
    const Bytes empty = image_with({});
    CHECK(FirmwareTable::parse(empty).present);
    CHECK(FirmwareTable::parse(empty).entries.empty());
}

TEST_CASE("firmware table: the last part of an image reads the same, down to the table's own length") {
    const Bytes whole = image("full.fd");
    const FirmwareTable want = FirmwareTable::parse(whole);
    const std::size_t table_bytes = want.serialize().size();
    for (std::size_t length = 0; length < 400; ++length) {
        const ByteView part = ByteView{whole}.last(length);
        if (length >= table_bytes + 32) {
            CHECK(FirmwareTable::parse(part).need_hash_block() == want.need_hash_block());
        } else if (length >= 50) {
            CHECK(message_of([&] { return FirmwareTable::parse(part); }) ==
                  fmt::format("firmware GUID table: {:x}h length of the table is {}, more than the {} bytes of the image before its end", length - 50,
                              table_bytes, length - 32));
        } else {
            CHECK(!FirmwareTable::parse(part).present);
        }
    }
}

TEST_CASE("firmware table: a file that is cut at its end has no table") {
    const Bytes whole = image("full.fd");
    for (std::size_t length = 0; length < whole.size(); ++length) CHECK(!FirmwareTable::parse(ByteView{whole}.first(length)).present);
}

TEST_CASE("firmware table: one flipped bit is seen or changes exactly what it is in") {
    const Bytes whole = image("full.fd");
    const FirmwareTable want = FirmwareTable::parse(whole);
    const std::size_t begin = whole.size() - 32 - want.serialize().size();
    for (std::size_t bit = 8 * begin; bit < 8 * (whole.size() - 32); ++bit) {
        Bytes flipped = whole;
        flipped[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        try {
            const FirmwareTable got = FirmwareTable::parse(flipped);
            if (got.present) {
                CHECK(got.entries != want.entries);
                CHECK(std::ranges::equal(got.serialize(), ByteView{flipped}.subspan(begin, got.serialize().size())));
            }
        } catch (const Error& error) {
            CHECK(std::string_view{error.what()}.starts_with("firmware GUID table: "));
            CHECK(error.fault() == Fault::malformed);
        }
    }
}

TEST_CASE("firmware table: what is broken is said with offset and field") {
    const auto patched = [](std::size_t from_end, std::uint16_t value) {
        Bytes bytes = image("no_hashes.fd");
        bytes[bytes.size() - from_end] = static_cast<std::uint8_t>(value);
        bytes[bytes.size() - from_end + 1] = static_cast<std::uint8_t>(value >> 8);
        return message_of([&] { return FirmwareTable::parse(bytes); });
    };
    CHECK(patched(0x32, 0) == "firmware GUID table: fceh length of the table is 0, want 18 or more");
    CHECK(patched(0x32, 17) == "firmware GUID table: fceh length of the table is 17, want 18 or more");
    CHECK(patched(0x32, 0xFFFF) == "firmware GUID table: fceh length of the table is 65535, more than the 4064 bytes of the image before its end");
    CHECK(patched(0x32, 18) == "");         // a table without entries
    CHECK(patched(0x32, 18 + 17) == "firmware GUID table: fbdh 17 bytes before the first entry, fewer than the 18 that an entry has");
    CHECK(patched(0x44, 17) == "firmware GUID table: fbch length of SEV-ES reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e) is 17, want 18 or "
                               "more");
    CHECK(patched(0x44, 75) ==
          "firmware GUID table: fbch length of SEV-ES reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e) is 75, more than the 74 bytes left");

    CHECK(message_of([] { return FirmwareTable::parse(image_with({{guid::sev_es_reset_block, {1, 2, 3}}})); })
              .starts_with("firmware GUID table: SEV-ES reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e) with data at fb9h: "));
    CHECK(message_of([] { return FirmwareTable::parse(image_with({{guid::sev_hash_table_block, {1, 2, 3, 4, 5, 6, 7}}})); })
              .starts_with("firmware GUID table: SEV hash table block (7255371f-3a3b-4b04-927b-1da6efa8d454) with data at fb5h: "));
    CHECK(message_of([] { return FirmwareTable::parse(image_with({{guid::sev_es_reset_block, le32(1)}, {guid::sev_es_reset_block, le32(2)}})); }) ==
          "firmware GUID table: fa2h SEV-ES reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e) occurs twice");
}

TEST_CASE("firmware table: what is missing is said with what is there") {
    CHECK_THROWS_WITH_AS(static_cast<void>(FirmwareTable::parse(image("no_table.fd")).need_ap_reset_address()),
                         "firmware: SEV-ES reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e) is missing, needed for vCPUs other than the first "
                         "(SEV-ES); it has no GUID table at its end",
                         Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(FirmwareTable::parse(image("variables.fd")).need_hash_block()),
                         "firmware: SEV hash table block (7255371f-3a3b-4b04-927b-1da6efa8d454) is missing, needed for kernel hashes; "
                         "it has SEV-ES reset block",
                         Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(FirmwareTable::parse(image_with({})).need_secret_block()),
                         "firmware: SEV secret block (4c2eb361-7d9b-4cc3-8081-127c90d3d294) is missing, needed for launch secrets; "
                         "its GUID table is empty",
                         Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(FirmwareTable::parse(image_with({{guid::sev_es_reset_block, le32(0)}})).need_ap_reset_address()),
                         "firmware: SEV-ES reset block (00f771de-1a7e-4fcb-890e-68c77e2fb44e) has AP reset address 0, want the address "
                         "where vCPUs other than the first start",
                         Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(FirmwareTable::parse(image_with({{guid::sev_hash_table_block, area(0x810C00, 175)}})).need_hash_block()),
                         "firmware: SEV hash table block (7255371f-3a3b-4b04-927b-1da6efa8d454) has 175 bytes at 0x810c00, want 176 or more for "
                         "kernel hashes",
                         Error);
    CHECK(FirmwareTable::parse(image_with({{guid::sev_hash_table_block, area(0x810C00, 176)}})).need_hash_block() == Area{0x810C00, 176});
    const Bytes beyond = image_with({{guid::sev_secret_block, area(0xFFFFF000, 0x2000)}});
    CHECK_THROWS_WITH_AS(static_cast<void>(FirmwareTable::parse(beyond).need_secret_block()),
                         "firmware: SEV secret block (4c2eb361-7d9b-4cc3-8081-127c90d3d294) has 8192 bytes at 0xfffff000, which reach beyond 4 "
                         "GiB", Error);
}

TEST_CASE("firmware table: an entry too long for its length field is not written") {
    FirmwareTable table;
    table.entries.push_back({.guid = guid::sev_secret_block, .file_offset = 0, .data = Bytes(65535 - 17)});
    CHECK_THROWS_WITH_AS(static_cast<void>(table.serialize()),
                         "firmware GUID table: SEV secret block (4c2eb361-7d9b-4cc3-8081-127c90d3d294) has 65536 bytes, want 65535 or fewer", Error);
}

TEST_CASE("variable stores: found by header, not by GUID alone") {
    Bytes bytes = image("variables.fd");
    CHECK(variable_stores(bytes) == std::vector<VariableStore>{{.file_offset = 4096, .size_bytes = 8192}});
    bytes[4096 + 0x28] ^= 1; // "_FVH"
    CHECK(variable_stores(bytes).empty());
    CHECK(variable_stores(image("full.fd")).empty());
    const Path vars = "/usr/share/OVMF/OVMF_VARS_4M.fd";
    if (!std::filesystem::exists(vars)) {
        fmt::print("SKIPPED: {} is absent (Debian package ovmf)\n", vars.string());
        return;
    }
    const std::vector<VariableStore> found = variable_stores(MappedFile{vars}.bytes());
    REQUIRE(found.size() == 1);
    CHECK(found[0].file_offset == 0);
}
