// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"
#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;

namespace {

enum class State { uninit, init, working };
constexpr std::array states{State::uninit, State::init, State::working};

/// The API's table of commands and platform states, typed from the specification once more: what the emulator is held against.
struct Legal {
    CommandId id;
    std::size_t buffer_bytes;
    std::string_view states; // of U, I, W
};
constexpr std::array legal{
    Legal{CommandId::init, 0x14, "U"},           Legal{CommandId::shutdown, 0, "UIW"},
    Legal{CommandId::platform_reset, 0, "U"},    Legal{CommandId::platform_status, 0x0C, "UIW"},
    Legal{CommandId::pek_gen, 0, "I"},           Legal{CommandId::pek_csr, 0x0C, "IW"},
    Legal{CommandId::pek_cert_import, 0x1C, "I"}, Legal{CommandId::pdh_cert_export, 0x1C, "IW"},
    Legal{CommandId::pdh_gen, 0, "IW"},          Legal{CommandId::df_flush, 0, "IW"},
    Legal{CommandId::download_firmware, 0x0C, "U"}, Legal{CommandId::get_id, 0x0C, "UIW"},
    Legal{CommandId::init_ex, 0x24, "U"},        Legal{CommandId::nop, 0, "UIW"},
    Legal{CommandId::decommission, 0x04, "W"},   Legal{CommandId::activate, 0x08, "W"},
    Legal{CommandId::deactivate, 0x04, "W"},     Legal{CommandId::guest_status, 0x0D, "IW"},
    Legal{CommandId::copy, 0x18, "W"},           Legal{CommandId::activate_ex, 0x18, "W"},
    Legal{CommandId::launch_start, 0x24, "IW"},  Legal{CommandId::launch_update_data, 0x14, "W"},
    Legal{CommandId::launch_update_vmsa, 0x14, "W"}, Legal{CommandId::launch_measure, 0x14, "W"},
    Legal{CommandId::launch_secret, 0x34, "W"},  Legal{CommandId::launch_finish, 0x04, "W"},
    Legal{CommandId::attestation, 0x24, "W"},    Legal{CommandId::dbg_decrypt, 0x1C, "W"},
    Legal{CommandId::dbg_encrypt, 0x1C, "W"},
};

void put_into(Host& host, State state) {
    REQUIRE(host.command(CommandId::shutdown) == Status::success);
    if (state != State::uninit) host.start();
    if (state == State::working) host.launch(0);
}

} // namespace

TEST_CASE("every command in every platform state: INVALID_PLATFORM_STATE exactly where the API forbids it, and then nothing changes") {
    Host host{"epyc-7003"};
    for (const Legal& command : legal) {
        for (const State state : states) {
            put_into(host, state);
            CAPTURE(static_cast<unsigned>(command.id));
            CAPTURE(static_cast<int>(state));
            const Bytes before = host.snapshot();
            const Status status = host.command(command.id, Raw{command.buffer_bytes});
            const bool allowed = command.states.find("UIW"[static_cast<std::size_t>(state)]) != std::string_view::npos;
            CHECK((status != Status::invalid_platform_state) == allowed);
            if (!allowed) CHECK(host.snapshot() == before);
            CHECK(psp::find_command(static_cast<std::uint32_t>(command.id))->buffer_size == command.buffer_bytes);
        }
    }
    CHECK(legal.size() + 12 == psp::all_commands().size()); // and the 12 that are not there, below
}

TEST_CASE("commands that are not there: SEND_*, RECEIVE_*, SWAP_* and RING_BUFFER are UNSUPPORTED in every state, unknown ids are INVALID_COMMAND") {
    Host host;
    for (const State state : states) {
        put_into(host, state);
        for (const std::uint32_t id : {0x0FU, 0x40U, 0x41U, 0x42U, 0x43U, 0x44U, 0x50U, 0x51U, 0x52U, 0x53U, 0x70U, 0x71U})
            CHECK(host.command_raw(id, Bytes(0x44)) == Status::unsupported);
        for (const std::uint32_t id : {0x00U, 0x10U, 0x1FU, 0x26U, 0x37U, 0x45U, 0x54U, 0x62U, 0x72U, 0x80U, 0x81U, 0xC7U, 0x101U, 0xFFFF'FFFFU})
            CHECK(host.command_raw(id, Bytes(0x44)) == Status::invalid_command);
    }
}

TEST_CASE("what a firmware version does not know yet is INVALID_COMMAND; PEK_CSR in WORKING came after 0.17") {
    Host naples;
    CHECK(naples.command(CommandId::init_ex, Raw{0x24}) == Status::invalid_command);
    CHECK(naples.command(CommandId::get_id, Raw{0x0C}) == Status::invalid_length);
    naples.start();
    CHECK(naples.command(CommandId::pek_csr, Raw{0x0C}) == Status::invalid_length);
    naples.launch(0);
    CHECK(naples.command(CommandId::pek_csr, Raw{0x0C}) == Status::invalid_platform_state);
}

TEST_CASE("INIT: each bad field alone, and the platform stays UNINIT") {
    Host host;
    const auto good = [] { return Raw{0x14}.u32(0, 1).u64(8, tmr_at).u32(0x10, 0x10'0000); };
    const Bytes before = host.snapshot();
    const auto init = [&](const Raw& buffer) { return host.command(CommandId::init, buffer); };
    CHECK(init(good().u32(0, 3)) == Status::invalid_param);
    CHECK(init(good().u32(0, 0x8000'0001)) == Status::invalid_param);
    CHECK(init(good().u32(4, 1)) == Status::invalid_param);
    CHECK(init(good().u32(0x10, 0xF'FFFF)) == Status::invalid_length);
    CHECK(init(good().u32(0x10, 0x20'0000)) == Status::invalid_length);
    CHECK(init(good().u32(0x10, 0)) == Status::invalid_length);
    CHECK(init(good().u64(8, tmr_at + 0x1000)) == Status::invalid_address);
    CHECK(init(good().u64(8, ram_bytes)) == Status::invalid_address);
    CHECK(init(good().u64(8, 0xFFFF'FFFF'FFF0'0000)) == Status::invalid_address);
    CHECK(host.snapshot() == before);
    CHECK(init(good().u32(0, 0).u64(8, 3).u32(0x10, 7)) == Status::success); // without ES the TMR does not matter
    CHECK(host.status() == Bytes{0, 17, 1, 0, 0, 0, 0, 48, 0, 0, 0, 0});
    CHECK(init(good()) == Status::invalid_platform_state);
}

TEST_CASE("a command buffer that is not there is INVALID_ADDRESS, after the platform state and before all else") {
    Host host;
    const auto at = [&](CommandId id, std::uint64_t address) {
        return *host.emulator->execute(static_cast<std::uint32_t>(id), SystemAddress{address}, host.ram, std::chrono::seconds{1});
    };
    CHECK(at(CommandId::launch_start, ram_bytes) == Status::invalid_platform_state);
    CHECK(at(CommandId::init, ram_bytes - 0x13) == Status::invalid_address);
    CHECK(at(CommandId::init, 0xFFFF'FFFF'FFFF'FFFF) == Status::invalid_address);
    CHECK(at(CommandId::nop, 0xFFFF'FFFF'FFFF'FFFF) == Status::success); // it has none
    host.start();
    CHECK(at(CommandId::platform_status, tmr_at) == Status::invalid_address);
    CHECK(at(CommandId::platform_status, tmr_at - 1) == Status::invalid_address);
    CHECK(at(CommandId::platform_status, tmr_at + 0xF'FFFF) == Status::invalid_address);
    CHECK(at(CommandId::platform_status, tmr_at - 0x0C) == Status::success);
    CHECK(at(CommandId::platform_status, tmr_at + 0x10'0000) == Status::success);
    CHECK(at(CommandId::platform_status, (std::uint64_t{1} << 47) + blob_at) == Status::success); // with the C-bit
    CHECK(host.get(blob_at, 3) == Bytes{0, 17, 1});
}

TEST_CASE("GET_ID: one id for each socket, as many as fit") {
    Host one, two{"epyc-7002"};
    for (const std::uint32_t length : {0U, 1U, 0x3FU}) {
        CHECK(two.command(CommandId::get_id, Raw{0x0C}.u64(0, blob_at).u32(8, length)) == Status::invalid_length);
        CHECK(two.reply_u32(8) == 0x40);
    }
    const Bytes before = two.snapshot();
    CHECK(two.command(CommandId::get_id, Raw{0x0C}.u64(0, blob_at + 4).u32(8, 0x40)) == Status::invalid_address);
    CHECK(two.command(CommandId::get_id, Raw{0x0C}.u64(0, ram_bytes - 0x40).u32(8, 0x80)) == Status::invalid_address);
    CHECK(two.snapshot() == before);
    REQUIRE(two.command(CommandId::get_id, Raw{0x0C}.u64(0, blob_at).u32(8, 0x40)) == Status::success);
    CHECK(two.reply_u32(8) == 0x40);
    const auto& first = two.emulator->identity().chip_id;
    CHECK(two.get(blob_at, 0x40) == Bytes(first.begin(), first.end()));
    CHECK(two.get(blob_at + 0x40, 0x40) == Bytes(0x40));
    REQUIRE(two.command(CommandId::get_id, Raw{0x0C}.u64(0, blob_at).u32(8, 0x80)) == Status::success);
    CHECK(two.reply_u32(8) == 0x80);
    CHECK(two.get(blob_at, 0x40) == Bytes(first.begin(), first.end()));
    CHECK(two.get(blob_at + 0x40, 0x40) != Bytes(0x40));
    REQUIRE(one.command(CommandId::get_id, Raw{0x0C}.u64(0, blob_at).u32(8, 0x80)) == Status::success);
    CHECK(one.reply_u32(8) == 0x40);
    CHECK(one.get(blob_at + 0x40, 0x40) == Bytes(0x40));
}

TEST_CASE("DOWNLOAD_FIRMWARE judges its image's length and address and then says that it cannot") {
    Host host;
    const auto load = [&](std::uint64_t at, std::uint32_t length) { return host.command(CommandId::download_firmware, Raw{0x0C}.u64(0, at).u32(8,
            length)); };
    CHECK(load(blob_at, 0) == Status::invalid_length);
    CHECK(load(blob_at, 0x1'0001) == Status::invalid_length);
    CHECK(load(blob_at + 16, 0x1000) == Status::invalid_address);
    CHECK(load(ram_bytes - 32, 64) == Status::invalid_address);
    CHECK(load(blob_at, 0x1'0000) == Status::unsupported);
}

TEST_CASE("SHUTDOWN from WORKING ends guests and state, not the keys; PLATFORM_RESET ends the keys") {
    Host host;
    host.start();
    const auto first = host.certificates();
    const std::uint32_t guest = host.launch(0);
    REQUIRE(host.activate(guest, 9) == Status::success);
    REQUIRE(host.command(CommandId::shutdown) == Status::success);
    CHECK(host.status() == Bytes{0, 17, 0, 0, 0, 0, 0, 48, 0, 0, 0, 0});
    REQUIRE(host.command(CommandId::shutdown) == Status::success);
    host.start();
    CHECK(host.certificates() == first);
    CHECK(host.command(CommandId::guest_status, Raw{0x0D}.u32(0, guest)) == Status::invalid_guest);
    CHECK(host.guest_count() == 0);
    REQUIRE(host.command(CommandId::shutdown) == Status::success);
    REQUIRE(host.command(CommandId::platform_reset) == Status::success);
    host.start();
    CHECK(host.certificates().pdh != first.pdh);
    CHECK(host.certificates().chain != first.chain);
}

TEST_CASE("personalities: what CPUID dumps of the real machines say") {
    CHECK(psp::emulator::all_personalities().size() == 3);
    CHECK(psp::emulator::find_personality("epyc-9004") == nullptr);
    const auto* naples = psp::emulator::find_personality("epyc-3151");
    REQUIRE(naples != nullptr);
    CHECK(naples->max_asid == 15);
    CHECK(naples->min_sev_asid == 9);
    const auto path = vector_file("platform/cpuid_8000001f.json");
    if (!path) return;
    const auto cases = json::parse(read_text(*path, 1U << 16), "cpuid").at("cases");
    for (std::size_t i = 0; i < 3; ++i) {
        const auto& real = cases.at(i);
        const auto& ours = psp::emulator::all_personalities()[i];
        CHECK(ours.max_asid == real.at("decoded").at("max_asid").get<unsigned>());
        CHECK(ours.c_bit == real.at("decoded").at("c_bit").get<unsigned>());
        CHECK(ours.address_reduction == real.at("decoded").at("phys_reduction").get<unsigned>());
        CHECK(ours.cpuid_8000001f_eax == std::stoul(real.at("eax").get<std::string>(), nullptr, 16));
        if (i > 0) CHECK(ours.min_sev_asid == real.at("decoded").at("min_sev_asid").get<unsigned>()); // the 3151's is a BIOS setting of ours
    }
}
