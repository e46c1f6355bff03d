// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/machine.hpp"

/// Which command is legal when. Source: SEV API (AMD 55766) chapters 5 and 6, as AMD sev-tool's tests and Linux' drivers have it.
namespace sev::psp::emulator {
namespace {

template <class... State>
constexpr std::uint8_t bits(State... states) {
    return static_cast<std::uint8_t>(((1U << raw(states)) | ...));
}

constexpr std::uint8_t in_uninit = bits(PlatformState::uninit), in_init = bits(PlatformState::init), in_working = bits(PlatformState::working);
constexpr std::uint8_t initialised = in_init | in_working, any_platform = in_uninit | initialised;

constexpr std::uint8_t lupdate = bits(GuestState::launch_update), lsecret = bits(GuestState::launch_secret), running = bits(GuestState::running);
constexpr std::uint8_t sent = bits(GuestState::sent);
constexpr std::uint8_t present = lupdate | lsecret | running | bits(GuestState::send_update, GuestState::receive_update);

} // namespace

std::span<const Machine::Rule> Machine::rules() {
    using M = Machine;
    using enum Lock;
    static constexpr std::array all{
        Rule{.id = CommandId::init, .platform = in_uninit, .reserved = {{{0x04, 4}}}, .lock = exclusive, .run = &M::init},
        Rule{.id = CommandId::shutdown, .platform = any_platform, .lock = exclusive, .run = &M::shutdown},
        Rule{.id = CommandId::platform_reset, .platform = in_uninit, .lock = exclusive, .run = &M::platform_reset},
        Rule{.id = CommandId::platform_status, .platform = any_platform, .run = &M::platform_status},
        Rule{.id = CommandId::pek_gen, .platform = in_init, .lock = exclusive, .run = &M::pek_gen},
        Rule{.id = CommandId::pek_csr, .platform = in_init, .lock = shared, .run = &M::pek_csr}, // WORKING too on newer firmware: execute()
        Rule{.id = CommandId::pek_cert_import, .platform = in_init, .reserved = {{{0x0C, 4}}}, .lock = exclusive, .run = &M::pek_cert_import},
        Rule{.id = CommandId::pdh_cert_export, .platform = initialised, .reserved = {{{0x0C, 4}}}, .lock = shared, .run = &M::pdh_cert_export},
        Rule{.id = CommandId::pdh_gen, .platform = initialised, .lock = exclusive, .run = &M::pdh_gen},
        Rule{.id = CommandId::df_flush, .platform = initialised, .run = &M::df_flush},
        Rule{.id = CommandId::download_firmware, .platform = in_uninit, .run = &M::download_firmware},
        Rule{.id = CommandId::get_id, .platform = any_platform, .run = &M::get_id},
        Rule{.id = CommandId::init_ex, .platform = in_uninit, .reserved = {{{0x14, 4}}}, .lock = exclusive, .run = &M::init_ex},
        Rule{.id = CommandId::nop, .platform = any_platform, .run = &M::nop},
        Rule{.id = CommandId::decommission,
             .platform = in_working,
             .run_on_guest = &M::decommission,
             .guest = present | sent,
             .activity = Activity::inactive},
        Rule{.id = CommandId::activate, .platform = in_working, .run_on_guest = &M::activate, .guest = present, .activity = Activity::inactive},
        Rule{.id = CommandId::deactivate, .platform = in_working, .run_on_guest = &M::deactivate, .guest = present | sent},
        Rule{.id = CommandId::guest_status, .platform = initialised, .run_on_guest = &M::guest_status, .guest = present | sent},
        Rule{.id = CommandId::copy, .platform = in_working, .run_on_guest = &M::copy, .guest = present},
        Rule{.id = CommandId::activate_ex,
             .platform = in_working,
             .run_on_guest = &M::activate_ex,
             .handle_at = 0x04,
             .guest = present,
             .activity = Activity::inactive},
        Rule{.id = CommandId::launch_start, .platform = initialised, .reserved = {{{0x14, 4}}}, .lock = shared, .run = &M::launch_start},
        Rule{.id = CommandId::launch_update_data,
             .platform = in_working,
             .reserved = {{{0x04, 4}}},
             .run_on_guest = &M::launch_update_data,
             .guest = lupdate,
             .activity = Activity::active},
        Rule{.id = CommandId::launch_update_vmsa,
             .platform = in_working,
             .reserved = {{{0x04, 4}}},
             .run_on_guest = &M::launch_update_vmsa,
             .guest = lupdate,
             .activity = Activity::active,
             .needs = Needs::es},
        Rule{.id = CommandId::launch_measure,
             .platform = in_working,
             .reserved = {{{0x04, 4}}},
             .run_on_guest = &M::launch_measure,
             .guest = lupdate},
        Rule{.id = CommandId::launch_secret,
             .platform = in_working,
             .reserved = {{{0x04, 4}, {0x14, 4}, {0x24, 4}}},
             .run_on_guest = &M::launch_secret,
             .guest = lsecret,
             .activity = Activity::active},
        Rule{.id = CommandId::launch_finish, .platform = in_working, .run_on_guest = &M::launch_finish, .guest = lsecret},
        Rule{.id = CommandId::attestation,
             .platform = in_working,
             .reserved = {{{0x04, 4}}},
             .run_on_guest = &M::attestation,
             .guest = lsecret | running},
        Rule{.id = CommandId::dbg_decrypt,
             .platform = in_working,
             .reserved = {{{0x04, 4}}},
             .run_on_guest = &M::dbg_decrypt,
             .guest = present | sent,
             .activity = Activity::active,
             .needs = Needs::debugging},
        Rule{.id = CommandId::dbg_encrypt,
             .platform = in_working,
             .reserved = {{{0x04, 4}}},
             .run_on_guest = &M::dbg_encrypt,
             .guest = present | sent,
             .activity = Activity::active,
             .needs = Needs::debugging},
    };
    return all;
}

const Machine::Rule& Machine::rule_of(CommandId id) {
    const auto found = std::ranges::find(rules(), id, &Rule::id);
    require(found != rules().end(), "every command that is there has a rule");
    return *found;
}

} // namespace sev::psp::emulator
