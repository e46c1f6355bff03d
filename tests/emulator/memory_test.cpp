// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;

namespace {

std::uint32_t active_guest(Host& host, std::uint32_t policy, std::uint32_t asid) {
    const std::uint32_t guest = host.launch(policy);
    REQUIRE(host.activate(guest, asid) == Status::success);
    return guest;
}

} // namespace

TEST_CASE("what the host sees: ciphertext that differs by address, by guest and by launch, block by block") {
    Host host;
    host.start();
    const std::uint32_t first = active_guest(host, 0, 9), second = active_guest(host, 0, 10);
    const std::size_t length = 0x3000;
    host.put(guest_at, Bytes(length));
    host.put(guest_at + length, Bytes(length));
    REQUIRE(host.update_data(first, guest_at, length) == Status::success);
    REQUIRE(host.update_data(first, guest_at + length, length) == Status::success);
    std::set<Bytes> blocks;
    for (std::size_t at = 0; at < 2 * length; at += 16) blocks.insert(host.get(guest_at + at, 16));
    CHECK(blocks.size() == 2 * length / 16); // equal plaintexts, no two equal ciphertexts
    const Bytes by_first = host.get(guest_at, length);
    host.put(guest_at, Bytes(length));
    REQUIRE(host.update_data(second, guest_at, length) == Status::success);
    CHECK(host.get(guest_at, length) != by_first);
    CHECK(host.guest_view(first, guest_at, length) != Bytes(length));
    CHECK(host.guest_view(second, guest_at, length) == Bytes(length));
    // one flipped bit of ciphertext garbles its block and no other: there is no integrity
    host.ram.bytes()[guest_at + 0x105] ^= 1;
    const Bytes seen = host.guest_view(second, guest_at, 0x200);
    CHECK(Bytes(seen.begin(), seen.begin() + 0x100) == Bytes(0x100));
    CHECK(Bytes(seen.begin() + 0x100, seen.begin() + 0x110) != Bytes(0x10));
    CHECK(Bytes(seen.begin() + 0x110, seen.end()) == Bytes(0xF0));
}

TEST_CASE("with encrypt_memory off the plaintext stays; measurement, secret and debug reads follow") {
    Options options;
    options.encrypt_memory = false;
    Host host{"epyc-3151", options};
    host.start();
    const Owner owner = Owner::make(host.certificates().pdh, 0);
    REQUIRE(host.launch_with(0, owner.godh, owner.session) == Status::success);
    const std::uint32_t guest = host.reply_u32(0);
    REQUIRE(host.activate(guest, 9) == Status::success);
    const Bytes data = pattern(0x9000, 4);
    host.put(guest_at, data);
    REQUIRE(host.update_data(guest, guest_at, 0x9000) == Status::success);
    CHECK(host.get(guest_at, data.size()) == data);
    REQUIRE(host.measure(guest) == Status::success);
    CHECK(host.get(blob_at, 32) == owner.expected_measure({0, 17, 48}, 0, sha256(data), host.get(blob_at + 32, 16)));
    const auto packet = owner.seal(pattern(48, 1), host.get(blob_at, 32));
    REQUIRE(host.secret(guest, packet.header, packet.data, guest_at + 0x100) == Status::success);
    CHECK(host.get(guest_at + 0x100, 48) == pattern(48, 1));
    CHECK(host.guest_view(guest, guest_at + 0x100, 48) == pattern(48, 1));
}

TEST_CASE("DBG_DECRYPT and DBG_ENCRYPT, within POLICY.NODBG; COPY: sizes, overlaps, each check") {
    Host host;
    host.start();
    const std::uint32_t open = active_guest(host, 0, 9), closed = active_guest(host, 1, 10);
    const Bytes data = pattern(0xC000, 8); // several chunks
    host.put(guest_at, data);
    REQUIRE(host.update_data(open, guest_at, 0xC000) == Status::success);
    const std::uint64_t to = guest_at + 0x10'0000;
    const auto debug = [&](CommandId id, std::uint32_t guest, std::uint64_t from, std::uint64_t target, std::uint32_t length) {
        return host.command(id, Raw{0x1C}.u32(0, guest).u64(8, from).u64(0x10, target).u32(0x18, length));
    };
    const auto copy = [&](std::uint64_t from, std::uint64_t target, std::uint32_t length) {
        return host.command(CommandId::copy, Raw{0x18}.u32(0, open).u32(4, length).u64(8, from).u64(0x10, target));
    };
    const Bytes before = host.snapshot(open);
    for (const CommandId id : {CommandId::dbg_decrypt, CommandId::dbg_encrypt}) {
        CHECK(debug(id, closed, guest_at, to, 16) == Status::policy_failure);
        CHECK(debug(id, open, guest_at, to, 0) == Status::invalid_length);
        CHECK(debug(id, open, guest_at, to, 15) == Status::invalid_length);
        CHECK(debug(id, open, guest_at + 1, to, 16) == Status::invalid_address);
        CHECK(debug(id, open, guest_at, to + 8, 16) == Status::invalid_address);
        CHECK(debug(id, open, ram_bytes - 16, to, 32) == Status::invalid_address);
        CHECK(debug(id, open, guest_at, ram_bytes - 16, 32) == Status::invalid_address);
        CHECK(debug(id, open, tmr_at, to, 16) == Status::invalid_address);
        CHECK(debug(id, open, guest_at, tmr_at, 16) == Status::invalid_address);
        CHECK(host.command(id, Raw{0x1C}.u32(0, open).u32(4, 1)) == Status::invalid_param);
    }
    CHECK(copy(guest_at, to, 0) == Status::invalid_length);
    CHECK(copy(guest_at, to, 40) == Status::invalid_length);
    CHECK(copy(guest_at + 4, to, 16) == Status::invalid_address);
    CHECK(copy(guest_at, tmr_at, 16) == Status::invalid_address);
    CHECK(copy(guest_at, ram_bytes, 16) == Status::invalid_address);
    CHECK(host.snapshot(open) == before);

    REQUIRE(debug(CommandId::dbg_decrypt, open, guest_at, to, 0xC000) == Status::success);
    CHECK(host.get(to, 0xC000) == data);
    REQUIRE(debug(CommandId::dbg_decrypt, open, guest_at + 0x30, to, 16) == Status::success);
    CHECK(host.get(to, 16) == Bytes(data.begin() + 0x30, data.begin() + 0x40));
    host.put(to, pattern(0x40, 3));
    REQUIRE(debug(CommandId::dbg_encrypt, open, to, guest_at + 0x5000, 0x40) == Status::success);
    CHECK(host.guest_view(open, guest_at + 0x5000, 0x40) == pattern(0x40, 3));
    CHECK(host.guest_view(open, guest_at + 0x5040, 0x40) == Bytes(data.begin() + 0x5040, data.begin() + 0x5080));

    for (const std::int64_t shift : {0x10'0000, 0x10, -0x10, 0x4010, -0x4010, 0}) { // far away, and overlapping both ways
        CAPTURE(shift);
        const std::uint64_t from = to + 0x8000, target = from + static_cast<std::uint64_t>(shift);
        host.put(to, data);
        if (target + 0xC000 > ram_bytes) continue;
        REQUIRE(debug(CommandId::dbg_encrypt, open, to, from, 0xC000) == Status::success); // itself an overlap
        CHECK(host.guest_view(open, from, 0xC000) == data);
        REQUIRE(copy(from, target, 0xC000) == Status::success);
        CHECK(host.guest_view(open, target, 0xC000) == data);
        CHECK(host.get(target, 0xC000) != data);
        REQUIRE(debug(CommandId::dbg_decrypt, open, target, target + 0x20, 0xC000) == Status::success);
        CHECK(host.get(target + 0x20, 0xC000) == data);
    }
}

TEST_CASE("the C-bit in an address is masked: the same memory, the same ciphertext") {
    Host host;
    host.start();
    const std::uint32_t guest = active_guest(host, 0, 9);
    const std::uint64_t c_bit = std::uint64_t{1} << 47;
    host.put(guest_at, pattern(64, 1));
    REQUIRE(host.update_data(guest, guest_at | c_bit, 64) == Status::success);
    CHECK(host.guest_view(guest, guest_at, 64) == pattern(64, 1));
    CHECK(host.update_data(guest, tmr_at | c_bit, 64) == Status::invalid_address);
}

TEST_CASE("read_as_guest: any start and length; memory that is not there") {
    Host host;
    host.start();
    const std::uint32_t guest = active_guest(host, 0, 9);
    const Bytes data = pattern(0x2000, 2);
    host.put(guest_at, data);
    REQUIRE(host.update_data(guest, guest_at, 0x2000) == Status::success);
    for (const auto& [at, length] : {std::pair{0U, 1U}, std::pair{15U, 2U}, std::pair{7U, 0x1FF0U}, std::pair{0x1FFFU, 1U}, std::pair{16U, 16U},
            std::pair{3U, 0U}})
        CHECK(host.guest_view(guest, guest_at + at, length) == Bytes(data.begin() + at, data.begin() + at + length));
    CHECK_THROWS_WITH_AS(host.guest_view(guest, ram_bytes - 8, 16), "this memory is not mapped", Error);
}
