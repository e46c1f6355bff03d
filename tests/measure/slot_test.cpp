// SPDX-License-Identifier: Apache-2.0
#include "base/crypto.hpp"
#include "base/json.hpp"
#include "ovmf-measure/slot.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::measure;

namespace {
json::Value answers() { return json::parse(read_text(test::fixture("slot/answers.json"), 1U << 20), "answers"); }
} // namespace

TEST_CASE("ramdisk slot: whole zero pages in front, and nothing else changes") {
    const Bytes ramdisk{0x1F, 0x8B, 8, 0, 1};
    for (const std::uint64_t pages : {1U, 2U, 256U}) {
        const Bytes made = add_ramdisk_slot(ramdisk, pages, "initrd.img");
        CHECK(made.size() == pages * 4096 + 5);
        CHECK(ramdisk_slot_pages(made) == pages);
        CHECK(std::equal(ramdisk.begin(), ramdisk.end(), made.end() - 5));
        CHECK(std::all_of(made.begin(), made.end() - 5, [](std::uint8_t byte) { return byte == 0; }));
    }
}

TEST_CASE("ramdisk slot: what is none") {
    CHECK(ramdisk_slot_pages({}) == 0);
    CHECK(ramdisk_slot_pages(Bytes{0x1F, 0x8B}) == 0);
    CHECK(ramdisk_slot_pages(Bytes(8192)) == 0); // zeros alone: no ramdisk follows
    Bytes almost(4097);
    almost[4095] = 1;
    CHECK(ramdisk_slot_pages(almost) == 0);
    almost[4095] = 0;
    almost[4096] = 1;
    CHECK(ramdisk_slot_pages(almost) == 1);
    CHECK_THROWS_WITH_AS(add_ramdisk_slot(almost, 1, "initrd.img"), "initrd.img: begins with 1 zero pages already, want a ramdisk without a slot",
                         Error);
    CHECK_THROWS_WITH_AS(add_ramdisk_slot({}, 1, "initrd.img"), "initrd.img: 0 bytes, want a ramdisk", Error);
    const Bytes ramdisk{1};
    CHECK_THROWS_WITH_AS(add_ramdisk_slot(ramdisk, 0, "initrd.img"), "initrd.img: a slot of 0 pages, want 1 to 256", Error);
    CHECK_THROWS_AS(add_ramdisk_slot(ramdisk, 257, "initrd.img"), Error);
}

TEST_CASE("SMBIOS slot: known files, made by tests/fixtures/slot/make.py") {
    CHECK(hex(make_smbios_slot(53)) == answers().at("slot_64").get<std::string>());
    CHECK(make_smbios_slot(53) == make_smbios_slot(38)); // rounded up to a multiple of 16 in all
    CHECK(hex(sha256(make_smbios_slot(501))) == answers().at("slot_512").get<std::string>());
    CHECK(smbios_slot(make_smbios_slot(501)) == SmbiosSlot{.file_bytes = 512});
    CHECK(SmbiosSlot{.file_bytes = 512}.string_bytes() == 501);
    CHECK(make_smbios_slot(0x8000 - 11).size() == 0x8000);
}

TEST_CASE("SMBIOS slot: anything else is none, byte for byte") {
    const Bytes good = make_smbios_slot(53);
    for (std::size_t i = 0; i < good.size(); ++i) {
        Bytes bad = good;
        bad[i] ^= 1;
        CHECK_FALSE(smbios_slot(bad));
        CHECK_FALSE(smbios_slot(ByteView{good}.first(i)));
    }
    CHECK_FALSE(smbios_slot(Bytes(1U << 20)));
    CHECK_THROWS_WITH_AS(make_smbios_slot(37), "SMBIOS slot for 37 bytes: want 38 to 32757", Error);
    CHECK_THROWS_AS(make_smbios_slot(0x8000), Error);
    CHECK_THROWS_AS(make_smbios_slot(~std::uint64_t{0}), Error);
}
