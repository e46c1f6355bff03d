// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/kernel_hashes.hpp"

#include "base/crypto.hpp"
#include "tests/measure/support.hpp"

using namespace sev;
using namespace sev::measure;
using namespace sev::test;

namespace {

KernelHashes all() { return KernelHashes::of(sha256(as_bytes("a kernel")), sha256(as_bytes("a ramdisk")), "root=/dev/sda1 quiet"); }
std::string refusal(const ByteArray<KernelHashes::wire_size>& bytes) {
    return message_of([&] { return KernelHashes::parse(wire::view(bytes)); });
}

} // namespace

TEST_CASE("kernel hashes table: known answers from an independent script") {
    const auto& want = answers().at("kernel_hash_tables");
    CHECK(hex(all().serialize()) == want.at("all").get<std::string>());
    CHECK(hex(KernelHashes::of(sha256(as_bytes("a kernel")), std::nullopt, "").serialize()) == want.at("kernel_only").get<std::string>());
}

TEST_CASE("kernel hashes table: no ramdisk is the hash of nothing, no command line that of one NUL") {
    const KernelHashes hashes = KernelHashes::of(Digest{}, std::nullopt, "");
    CHECK(hex(hashes.initrd) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");  // FIPS 180-4, empty message
    CHECK(hex(hashes.cmdline) == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"); // printf '\0' | sha256sum
}

TEST_CASE("kernel hashes table: round trip; one flipped bit is refused outside the digests and changes them inside") {
    const auto bytes = all().serialize();
    CHECK(KernelHashes::parse(wire::view(bytes)) == all());
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
        auto flipped = bytes;
        flipped[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        const std::size_t at = bit / 8;
        const bool in_digest = (at >= 0x24 && at < 0x44) || (at >= 0x56 && at < 0x76) || (at >= 0x88 && at < 0xA8);
        if (in_digest) {
            const KernelHashes got = KernelHashes::parse(wire::view(flipped));
            CHECK(got != all());
            CHECK(got.serialize() == flipped);
        } else {
            CHECK(refusal(flipped).starts_with("kernel hashes table: "));
        }
    }
}

TEST_CASE("kernel hashes table: refusals name the field") {
    auto bytes = all().serialize();
    const auto with = [&](std::size_t at, std::uint8_t value) {
        auto changed = bytes;
        changed[at] = value;
        return refusal(changed);
    };
    CHECK(with(0x00, 0) == "kernel hashes table: 00h GUID is 9438d600-4f22-4cc9-b479-a793d411fd21, want 9438d606-4f22-4cc9-b479-a793d411fd21 "
                           "(table)");
    CHECK(with(0x10, 176) == "kernel hashes table: 10h length of table is 176, want 168");
    CHECK(with(0x22, 49) == "kernel hashes table: 22h length of cmdline is 49, want 50");
    CHECK(with(0x44, 0) == "kernel hashes table: 44h GUID is 44baf700-3a2f-4bd7-9af1-41e29169781d, want 44baf731-3a2f-4bd7-9af1-41e29169781d "
                           "(initrd)");
    CHECK(with(0x86, 0) == "kernel hashes table: 86h length of kernel is 0, want 50");
    CHECK(with(0xAF, 1) == "kernel hashes table: a8h padding is not zero");
    std::swap_ranges(bytes.begin() + 0x44, bytes.begin() + 0x76, bytes.begin() + 0x76); // the order is fixed
    CHECK(refusal(bytes).starts_with("kernel hashes table: 44h GUID is 4de79437-abd2-427f-b835-d5b172d2045b, want 44baf731"));
}

TEST_CASE("kernel hashes: a command line with a NUL inside is refused") {
    CHECK_THROWS_WITH_AS(static_cast<void>(KernelHashes::of(Digest{}, std::nullopt, std::string_view{"a\0b", 3})),
                         "kernel command line: NUL at byte 1 of 3, want none", Error);
}
