// SPDX-License-Identifier: Apache-2.0
#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;

namespace {

constexpr std::uint32_t es = 4, nodbg = 1, noks = 2;

/// Commands on a guest, the guest states they are legal in (1 LUPDATE, 2 LSECRET, 3 RUNNING), and whether the guest must be active (A), inactive
/// (I), or either.
struct Legal {
    CommandId id;
    std::size_t buffer_bytes, handle_at;
    std::string_view states;
    char activity;
};
constexpr std::array legal{
    Legal{CommandId::decommission, 0x04, 0, "123", 'I'},     Legal{CommandId::activate, 0x08, 0, "123", 'I'},
    Legal{CommandId::deactivate, 0x04, 0, "123", ' '},       Legal{CommandId::guest_status, 0x0D, 0, "123", ' '},
    Legal{CommandId::copy, 0x18, 0, "123", ' '},             Legal{CommandId::activate_ex, 0x18, 4, "123", 'I'},
    Legal{CommandId::launch_update_data, 0x14, 0, "1", 'A'}, Legal{CommandId::launch_update_vmsa, 0x14, 0, "1", 'A'},
    Legal{CommandId::launch_measure, 0x14, 0, "1", ' '},     Legal{CommandId::launch_secret, 0x34, 0, "2", 'A'},
    Legal{CommandId::launch_finish, 0x04, 0, "2", ' '},      Legal{CommandId::attestation, 0x24, 0, "23", ' '},
    Legal{CommandId::dbg_decrypt, 0x1C, 0, "123", 'A'},      Legal{CommandId::dbg_encrypt, 0x1C, 0, "123", 'A'},
};

/// A new SEV guest on a new platform, in state 1, 2 or 3.
std::uint32_t guest_in(Host& host, char state, bool active) {
    REQUIRE(host.command(CommandId::shutdown) == Status::success);
    host.start();
    const std::uint32_t guest = host.launch(0);
    if (state > '1') REQUIRE(host.measure(guest) == Status::success);
    if (state > '2') REQUIRE(host.on_guest(CommandId::launch_finish, guest) == Status::success);
    if (active) REQUIRE(host.activate(guest, 200) == Status::success);
    return guest;
}

} // namespace

TEST_CASE("every guest command in every guest state, active and not: the API's status, and nothing changes when it is refused") {
    Host host{"epyc-7003"};
    for (const Legal& command : legal) {
        for (const char state : std::string_view{"123"}) {
            for (const bool active : {false, true}) {
                CAPTURE(static_cast<unsigned>(command.id));
                CAPTURE(state);
                CAPTURE(active);
                const std::uint32_t guest = guest_in(host, state, active);
                const Bytes before = host.snapshot(guest);
                CHECK(host.command(command.id, Raw{command.buffer_bytes}.u32(command.handle_at, guest + 1)) == Status::invalid_guest);
                CHECK(host.command(command.id, Raw{command.buffer_bytes}) == Status::invalid_guest); // handle 0
                CHECK(host.snapshot(guest) == before);
                const Status status = host.command(command.id, Raw{command.buffer_bytes}.u32(command.handle_at, guest));
                std::optional<Status> want;
                if (command.states.find(state) == std::string_view::npos)
                    want = Status::invalid_guest_state;
                else if (command.activity == 'A' && !active)
                    want = Status::inactive;
                else if (command.activity == 'I' && active)
                    want = Status::active;
                if (want) {
                    CHECK(status == *want);
                    CHECK(host.snapshot(guest) == before);
                } else {
                    CHECK(status != Status::invalid_guest_state);
                    CHECK(status != Status::inactive);
                    CHECK(status != Status::active);
                }
            }
        }
    }
}

TEST_CASE("ACTIVATE: the ES and the SEV-only pool, and an ASID that another guest has") {
    Host host;
    host.start();
    const std::uint32_t plain = host.launch(0), encrypted_state = host.launch(es), third = host.launch(0);
    for (const std::uint32_t asid : {0U, 1U, 8U, 16U, 0xFFFF'FFFFU}) CHECK(host.activate(plain, asid) == Status::invalid_asid);
    for (const std::uint32_t asid : {0U, 9U, 15U, 16U}) CHECK(host.activate(encrypted_state, asid) == Status::invalid_asid);
    CHECK(host.guest_status(plain)[4] == 0);
    CHECK(host.activate(plain, 9) == Status::success);
    CHECK(host.activate(third, 9) == Status::asid_owned);
    CHECK(host.activate(third, 15) == Status::success);
    CHECK(host.activate(encrypted_state, 8) == Status::success);
    CHECK(host.activate(plain, 10) == Status::active);
    Host rome{"epyc-7002"}; // no ASIDs for SEV-ES
    rome.start();
    const std::uint32_t guest = rome.launch(es);
    for (const std::uint32_t asid : {1U, 2U, 509U}) CHECK(rome.activate(guest, asid) == Status::invalid_asid);
    CHECK(rome.activate(rome.launch(0), 1) == Status::success);
    CHECK(rome.activate(rome.launch(0), 509) == Status::success);
}

TEST_CASE("WBINVD and DF_FLUSH: required after INIT and after DEACTIVATE, in this order") {
    Options options;
    options.automatic_wbinvd = false;
    Host host{"epyc-3151", options};
    REQUIRE(host.init() == Status::success);
    const std::uint32_t first = host.launch(0), second = host.launch(0);
    CHECK(host.activate(first, 9) == Status::wbinvd_required);
    CHECK(host.df_flush() == Status::wbinvd_required);
    host.emulator->wbinvd();
    CHECK(host.activate(first, 9) == Status::df_flush_required);
    CHECK(host.df_flush() == Status::success);
    CHECK(host.activate(first, 9) == Status::success);
    REQUIRE(host.on_guest(CommandId::deactivate, first) == Status::success);
    CHECK(host.on_guest(CommandId::deactivate, first) == Status::success); // of an inactive guest
    CHECK(host.activate(second, 9) == Status::wbinvd_required);
    CHECK(host.activate(second, 10) == Status::success); // another ASID was never used
    CHECK(host.df_flush() == Status::wbinvd_required);
    host.emulator->wbinvd();
    CHECK(host.activate(first, 9) == Status::df_flush_required);
    CHECK(host.df_flush() == Status::success);
    CHECK(host.df_flush() == Status::success);
    CHECK(host.activate(first, 9) == Status::success);
    REQUIRE(host.command(CommandId::shutdown) == Status::success);
    REQUIRE(host.init() == Status::success);
    CHECK(host.activate(host.launch(0), 11) == Status::wbinvd_required);

    Host automatic; // WBINVD comes by itself, DF_FLUSH never
    REQUIRE(automatic.init() == Status::success);
    const std::uint32_t guest = automatic.launch(0);
    CHECK(automatic.activate(guest, 9) == Status::df_flush_required);
    CHECK(automatic.df_flush() == Status::success);
    CHECK(automatic.activate(guest, 9) == Status::success);
}

TEST_CASE("DECOMMISSION: only inactive guests; the last one takes WORKING to INIT; a handle is not given out again at once") {
    Host host;
    host.start();
    const std::uint32_t first = host.launch(0), second = host.launch(0);
    CHECK(host.guest_count() == 2);
    REQUIRE(host.activate(first, 9) == Status::success);
    CHECK(host.on_guest(CommandId::decommission, first) == Status::active);
    REQUIRE(host.on_guest(CommandId::deactivate, first) == Status::success);
    CHECK(host.on_guest(CommandId::decommission, first) == Status::success);
    CHECK(host.on_guest(CommandId::decommission, first) == Status::invalid_guest);
    CHECK(host.status()[2] == 2);
    CHECK(host.on_guest(CommandId::decommission, second) == Status::success);
    CHECK(host.status()[2] == 1);
    CHECK(host.command(CommandId::guest_status, Raw{0x0D}.u32(0, second)) == Status::invalid_guest);
    const std::uint32_t third = host.launch(0);
    CHECK(third != first);
    CHECK(third != second);
}

TEST_CASE("sharing a VEK by HANDLE: same ciphertext, same ASID; refused by NOKS, by another policy, for a guest that is not there") {
    Host host;
    host.start();
    const std::uint32_t first = host.launch(0), closed = host.launch(noks), stranger = host.launch(0);
    const auto share = [&](std::uint32_t with, std::uint32_t policy) {
        return host.command(CommandId::launch_start, Raw{0x24}.u32(0, with).u32(4, policy));
    };
    const Bytes before = host.snapshot(first);
    CHECK(share(first, nodbg) == Status::policy_failure);
    CHECK(share(closed, noks) == Status::policy_failure);
    CHECK(share(4711, 0) == Status::invalid_guest);
    CHECK(host.snapshot(first) == before);
    const std::uint32_t second = host.launch(0, first);
    CHECK(second != first);
    CHECK(host.activate(first, 9) == Status::success);
    CHECK(host.activate(stranger, 9) == Status::asid_owned);
    CHECK(host.activate(second, 9) == Status::success);
    host.put(guest_at, pattern(64, 1));
    REQUIRE(host.update_data(first, guest_at, 64) == Status::success);
    CHECK(host.guest_view(second, guest_at, 64) == pattern(64, 1));
    CHECK(host.guest_view(stranger, guest_at, 64) != pattern(64, 1));
    REQUIRE(host.on_guest(CommandId::deactivate, first) == Status::success);
    REQUIRE(host.on_guest(CommandId::decommission, first) == Status::success);
    CHECK(host.activate(stranger, 9) == Status::asid_owned); // the second still has it
    CHECK(host.guest_view(second, guest_at, 64) == pattern(64, 1));
    REQUIRE(host.on_guest(CommandId::deactivate, second) == Status::success);
    CHECK(host.activate(stranger, 9) == Status::df_flush_required);
}

TEST_CASE("ACTIVATE_EX: its own fields, then as ACTIVATE") {
    Host host;
    host.start();
    const std::uint32_t guest = host.launch(0);
    const auto good = [&] { return Raw{0x18}.u32(0, 0x18).u32(4, guest).u32(8, 9).u32(0xC, 3).u64(0x10, blob_at); };
    const auto activate = [&](const Raw& buffer) { return host.command(CommandId::activate_ex, buffer); };
    const Bytes before = host.snapshot(guest);
    CHECK(activate(good().u32(0, 0x14)) == Status::invalid_length);
    CHECK(activate(good().u32(0xC, 0)) == Status::invalid_length);
    CHECK(activate(good().u32(0xC, 4097)) == Status::invalid_length);
    CHECK(activate(good().u64(0x10, blob_at + 2)) == Status::invalid_address);
    CHECK(activate(good().u64(0x10, ram_bytes - 8)) == Status::invalid_address);
    CHECK(activate(good().u32(8, 8)) == Status::invalid_asid);
    CHECK(activate(good().u32(4, guest + 1)) == Status::invalid_guest);
    CHECK(host.snapshot(guest) == before);
    CHECK(activate(good()) == Status::success);
    CHECK(host.guest_status(guest)[4] == 9);
}

TEST_CASE("guest contexts run out: RESOURCE_LIMIT, until one is decommissioned") {
    Options options;
    options.max_guests = 3;
    Host host{"epyc-3151", options};
    host.start();
    const std::uint32_t first = host.launch(0);
    host.launch(0);
    host.launch(0);
    CHECK(host.command(CommandId::launch_start, Raw{0x24}) == Status::resource_limit);
    CHECK(host.guest_count() == 3);
    REQUIRE(host.on_guest(CommandId::decommission, first) == Status::success);
    host.launch(0);
}

TEST_CASE("LAUNCH_UPDATE_DATA, _VMSA and LAUNCH_MEASURE: each check alone, and nothing changes") {
    Host host;
    host.start();
    const std::uint32_t plain = host.launch(0), guest = host.launch(es);
    REQUIRE(host.activate(plain, 9) == Status::success);
    REQUIRE(host.activate(guest, 1) == Status::success);
    const auto good = [&](std::uint32_t length) { return Raw{0x14}.u32(0, guest).u64(8, guest_at).u32(0x10, length); };
    const Bytes before = host.snapshot(guest);
    const auto data = [&](const Raw& buffer) { return host.command(CommandId::launch_update_data, buffer); };
    CHECK(data(good(32).u32(4, 1)) == Status::invalid_param);
    CHECK(data(good(0)) == Status::invalid_length);
    CHECK(data(good(8)) == Status::invalid_length);
    CHECK(data(good(24)) == Status::invalid_length);
    CHECK(data(good(32).u64(8, guest_at + 8)) == Status::invalid_address);
    CHECK(data(good(32).u64(8, ram_bytes - 16)) == Status::invalid_address);
    CHECK(data(good(0xFFFF'FFF0)) == Status::invalid_address);
    CHECK(data(good(32).u64(8, tmr_at - 16)) == Status::invalid_address);
    const auto vmsa = [&](const Raw& buffer) { return host.command(CommandId::launch_update_vmsa, buffer); };
    CHECK(vmsa(good(0x1000).u32(4, 1)) == Status::invalid_param);
    CHECK(vmsa(good(0x1000).u32(0, plain)) == Status::policy_failure);
    CHECK(vmsa(good(0x800)) == Status::invalid_length);
    CHECK(vmsa(good(0x2000)) == Status::invalid_length);
    CHECK(vmsa(good(0x1000).u64(8, guest_at + 0x800)) == Status::invalid_address);
    const auto measure = [&](const Raw& buffer) { return host.command(CommandId::launch_measure, buffer); };
    CHECK(measure(good(0x30).u32(4, 1)) == Status::invalid_param);
    CHECK(measure(good(0x2F)) == Status::invalid_length);
    CHECK(host.reply_u32(0x10) == 0x30);
    CHECK(measure(good(0x30).u64(8, ram_bytes - 0x2F)) == Status::invalid_address);
    CHECK(measure(good(0x30).u64(8, tmr_at + 0x1000)) == Status::invalid_address);
    CHECK(host.snapshot(guest) == before);
    CHECK(vmsa(good(0x1000)) == Status::success);
    CHECK(measure(good(0x1000)) == Status::success);
    CHECK(host.reply_u32(0x10) == 0x30); // what was written
}
