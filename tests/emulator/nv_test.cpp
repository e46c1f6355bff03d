// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;

namespace {

constexpr std::size_t nv_bytes = 0x8000;

Raw good_init_ex(std::uint32_t flags = 1) {
    return Raw{0x24}.u32(0, 0x24).u32(4, flags).u64(8, tmr_at).u32(0x10, 0x10'0000).u64(0x18, nv_at).u32(0x20, nv_bytes);
}
Status init_ex(Host& host, const Raw& buffer = good_init_ex()) { return host.command(CommandId::init_ex, buffer); }
void shut_down(Host& host) { REQUIRE(host.command(CommandId::shutdown) == Status::success); }

} // namespace

TEST_CASE("INIT_EX: each bad field alone, and nothing changes") {
    Host host{"epyc-7003"};
    host.put(nv_at, Bytes(nv_bytes, 0xFF));
    const Bytes before = host.snapshot();
    CHECK(init_ex(host, good_init_ex().u32(0, 0x20)) == Status::invalid_length);
    CHECK(init_ex(host, good_init_ex().u32(4, 2)) == Status::invalid_param);
    CHECK(init_ex(host, good_init_ex().u32(0x14, 1)) == Status::invalid_param);
    CHECK(init_ex(host, good_init_ex().u32(0x10, 0x1000)) == Status::invalid_length);
    CHECK(init_ex(host, good_init_ex().u64(8, tmr_at + 0x1000)) == Status::invalid_address);
    CHECK(init_ex(host, good_init_ex().u32(0x20, 0x4000)) == Status::invalid_length);
    CHECK(init_ex(host, good_init_ex().u64(0x18, nv_at + 0x10)) == Status::invalid_address);
    CHECK(init_ex(host, good_init_ex().u64(0x18, ram_bytes - 0x1000)) == Status::invalid_address);
    CHECK(init_ex(host, good_init_ex().u64(0x18, tmr_at + 0x1000)) == Status::invalid_address); // inside the TMR
    CHECK(host.snapshot() == before);
    CHECK(init_ex(host) == Status::success);
    CHECK(host.status()[2] == 1);
    CHECK(host.status()[4] == 1);
}

TEST_CASE("INIT_EX keeps the keys in the NV buffer, and in it alone") {
    Host host{"epyc-7003"};
    host.start();
    const auto in_flash = host.certificates();
    shut_down(host);
    host.put(nv_at, Bytes(nv_bytes, 0xFF));
    REQUIRE(init_ex(host) == Status::success);
    const auto in_buffer = host.certificates();
    CHECK(in_buffer != in_flash);
    const Bytes saved = host.get(nv_at, nv_bytes);
    CHECK(std::search(saved.begin(), saved.end(), in_buffer.pdh.begin() + 0x14, in_buffer.pdh.begin() + 0x44) == saved.end()); // opaque
    shut_down(host);
    REQUIRE(init_ex(host) == Status::success);
    CHECK(host.certificates() == in_buffer);
    REQUIRE(host.command(CommandId::pdh_gen) == Status::success);
    CHECK(host.get(nv_at, nv_bytes) != saved);
    const auto renewed = host.certificates();
    shut_down(host);
    REQUIRE(init_ex(host) == Status::success);
    CHECK(host.certificates() == renewed);
    shut_down(host);
    host.put(nv_at, saved); // an older copy from the host's disk is good: there is no rollback protection to rely on
    REQUIRE(init_ex(host) == Status::success);
    CHECK(host.certificates() == in_buffer);
    shut_down(host);
    REQUIRE(host.command(CommandId::platform_reset) == Status::success); // after SHUTDOWN the buffer is still the one in use
    CHECK(host.get(nv_at, nv_bytes) == Bytes(nv_bytes, 0xFF));
    host.start();
    CHECK(host.certificates() == in_flash);
    host.emulator->reset();
    REQUIRE(host.command(CommandId::platform_reset) == Status::success); // after a power cycle it is the flash
    host.start();
    CHECK(host.certificates() != in_flash);
}

TEST_CASE("INIT_EX: a corrupt or foreign NV buffer is overwritten with FFh and SECURE_DATA_INVALID; the next one starts from empty") {
    Host host{"epyc-7003"}, foreign{"epyc-7002"};
    host.put(nv_at, Bytes(nv_bytes, 0xFF));
    REQUIRE(init_ex(host) == Status::success);
    const Bytes good = host.get(nv_at, nv_bytes);
    const auto keys = host.certificates();
    shut_down(host);
    const auto refused = [&](const Bytes& content) {
        host.put(nv_at, content);
        CHECK(init_ex(host) == Status::secure_data_invalid);
        CHECK(host.get(nv_at, nv_bytes) == Bytes(nv_bytes, 0xFF));
        CHECK(host.status()[2] == 0);
    };
    for (const std::size_t at : {0U, 8U, 0xCU, 0x10U, 0x20U, 0x3FU, 0x40U, 0x1900U, 0x7FFFU}) {
        CAPTURE(at);
        Bytes changed = good;
        changed[at] ^= 0x10;
        refused(changed);
    }
    refused(Bytes(nv_bytes));
    Bytes almost_erased(nv_bytes, 0xFF);
    almost_erased.back() = 0xFE;
    refused(almost_erased);
    foreign.put(nv_at, Bytes(nv_bytes, 0xFF));
    REQUIRE(init_ex(foreign, good_init_ex(0)) == Status::success);
    refused(foreign.get(nv_at, nv_bytes));
    REQUIRE(init_ex(host) == Status::success);
    CHECK(host.certificates() != keys);
}

TEST_CASE("ownership under INIT_EX lives in the NV buffer; a buffer that is gone is INVALID_ADDRESS, and the keys stay") {
    Host host{"epyc-7003"};
    host.put(nv_at, Bytes(nv_bytes, 0xFF));
    REQUIRE(init_ex(host, good_init_ex(0)) == Status::success);
    const auto before = host.certificates();
    Ram smaller{nv_at + 0x1000};
    CHECK(*host.emulator->execute(0x09, SystemAddress{0}, smaller, std::chrono::seconds{1}) == Status::invalid_address);
    CHECK(*host.emulator->execute(0x05, SystemAddress{0}, smaller, std::chrono::seconds{1}) == Status::invalid_address);
    CHECK(host.certificates() == before);
    CHECK(host.command(CommandId::pek_gen) == Status::success);
    CHECK(host.certificates() != before);
}
