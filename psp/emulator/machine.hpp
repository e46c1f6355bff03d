// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <shared_mutex>
#include <unordered_map>

#include "psp/emulator/emulator.hpp"
#include "psp/emulator/guest.hpp"
#include "psp/emulator/invocation.hpp"
#include "psp/emulator/platform_keys.hpp"

namespace sev::psp::emulator {

/// The emulated firmware itself: states, keys, ASIDs and guests of one chip that is switched on. Files and faults are its owner's business.
/// Locks, in this order: `platform_` (commands that replace keys alone, commands that use them together), a guest's mutex, `state_` (briefly).
class Machine {
public:
    /// Puts the keys (none: null) into the flash; throws and changes nothing when it cannot.
    using Save = std::function<void(const PlatformKeys*)>;
    Machine(Chip chip, std::shared_ptr<const PlatformKeys> flash, Options options, Save save);

    Status execute(std::uint32_t command, SystemAddress buffer, PhysicalMemory& memory);
    void wbinvd();
    void reset();
    /// What a failing INIT does to flash content that it cannot use: erases it. Only in UNINIT.
    void lose_flash();
    void read_as_guest(GuestHandle handle, SystemAddress at, std::span<std::uint8_t> out, PhysicalMemory& memory);
    const Chip& chip() const noexcept { return chip_; }

private:
    using PlatformHandler = Status (Machine::*)(Invocation&);
    using GuestHandler = Status (Machine::*)(Invocation&, Guest&);
    enum class Lock { none, shared, exclusive };
    enum class Activity { any, active, inactive };
    enum class Needs { nothing, es, debugging }; // of the guest's policy
    struct Field {
        std::size_t at = 0, length_bytes = 0;
    };
    /// What is checked of a command before its own code sees it.
    struct Rule {
        CommandId id;
        std::uint8_t platform;           // bits by PlatformState
        std::array<Field, 3> reserved{}; // of the command buffer
        Lock lock = Lock::none;
        PlatformHandler run = nullptr;
        // commands on a guest:
        GuestHandler run_on_guest = nullptr;
        std::size_t handle_at = 0;
        std::uint8_t guest = 0;          // bits by GuestState
        Activity activity = Activity::any;
        Needs needs = Needs::nothing;
    };
    static std::span<const Rule> rules();
    static const Rule& rule_of(CommandId id);

    Status run_guest_command(const Rule& rule, Invocation& in);
    std::shared_ptr<Guest> find_guest(GuestHandle handle);
    /// Under `state_`: whether SHUTDOWN has not passed between.
    bool is_registered(const Guest& guest) const;
    void draw(std::span<std::uint8_t> out, std::string_view purpose);
    ApiVersion api() const noexcept { return chip_.personality->build.api(); }
    /// Under exclusive `platform_`: to the flash or, after INIT_EX, to the NV buffer. INVALID_ADDRESS when that is gone.
    Status store(std::shared_ptr<const PlatformKeys> keys, Invocation& in);
    Status store_and_use(PlatformKeys keys, Invocation& in);
    std::shared_ptr<const PlatformKeys> keys();
    void power_off_guests();

    // platform_commands.cpp
    struct InitFlags {
        bool es = false;
        std::optional<Tmr> tmr;
    };
    Status read_init_flags(Invocation& in, std::size_t flags_at, InitFlags& out);
    void enter_init(const InitFlags& flags, std::shared_ptr<const PlatformKeys> keys);
    Status init(Invocation& in);
    Status init_ex(Invocation& in);
    Status shutdown(Invocation& in);
    Status platform_reset(Invocation& in);
    Status platform_status(Invocation& in);
    Status df_flush(Invocation& in);
    Status download_firmware(Invocation& in);
    Status get_id(Invocation& in);
    Status nop(Invocation& in);
    // key_commands.cpp
    Status pek_gen(Invocation& in);
    Status pek_csr(Invocation& in);
    Status pek_cert_import(Invocation& in);
    Status pdh_cert_export(Invocation& in);
    Status pdh_gen(Invocation& in);
    // guest_commands.cpp
    Status decommission(Invocation& in, Guest& guest);
    Status activate(Invocation& in, Guest& guest);
    Status activate_ex(Invocation& in, Guest& guest);
    Status activate_on(Asid asid, Guest& guest);
    Status deactivate(Invocation& in, Guest& guest);
    Status guest_status(Invocation& in, Guest& guest);
    Status copy(Invocation& in, Guest& guest);
    Status dbg_decrypt(Invocation& in, Guest& guest);
    Status dbg_encrypt(Invocation& in, Guest& guest);
    // launch_commands.cpp
    Status launch_start(Invocation& in);
    Status open_session(Invocation& in, Policy policy, std::optional<TransportKeys>& out);
    Status launch_update_data(Invocation& in, Guest& guest);
    Status launch_update_vmsa(Invocation& in, Guest& guest);
    Status launch_measure(Invocation& in, Guest& guest);
    Status launch_secret(Invocation& in, Guest& guest);
    Status launch_finish(Invocation& in, Guest& guest);
    Status attestation(Invocation& in, Guest& guest);

    /// Key of the memory's cipher, or nullptr where memory stays as it is.
    MemoryCipher* cipher_of(Guest& guest) const noexcept { return options_.encrypt_memory && !guest.plain ? guest.cipher.get() : nullptr; }
    /// Notes memory that the launch has just encrypted.
    void note_loaded(Guest& guest, SystemAddress at, std::uint64_t length_bytes) const;
    /// LAUNCH_FINISH with Options::plain_after_finish. False, with nothing changed, when a part of the memory is not there any more.
    bool decrypt_loaded(Invocation& in, Guest& guest) const;

    const Chip chip_;
    const P384Key cek_;
    const Options options_;
    const Save save_;
    std::mutex random_mutex_;

    std::shared_mutex platform_;
    // guarded by platform_:
    std::shared_ptr<const PlatformKeys> flash_;
    std::optional<std::uint64_t> nv_at_; // address of the NV buffer, since INIT_EX

    std::mutex state_;
    // guarded by state_:
    PlatformState pstate_ = PlatformState::uninit;
    bool es_ = false;
    std::optional<Tmr> tmr_;
    std::shared_ptr<const PlatformKeys> keys_; // replaced only under exclusive platform_ too
    std::unordered_map<std::uint32_t, std::shared_ptr<Guest>> guests_;
    AsidTable asids_;
    std::uint32_t next_handle_;
    std::uint64_t next_group_ = 1;
};

} // namespace sev::psp::emulator
