// SPDX-License-Identifier: Apache-2.0
#include "psp/command_id.hpp"

#include <algorithm>
#include <array>

#include "psp/name_lookup.hpp"

namespace sev::psp {
namespace {

constexpr std::array commands{
    CommandInfo{CommandId::init, "INIT", 0x14},
    CommandInfo{CommandId::shutdown, "SHUTDOWN", 0},
    CommandInfo{CommandId::platform_reset, "PLATFORM_RESET", 0},
    CommandInfo{CommandId::platform_status, "PLATFORM_STATUS", 0x0C},
    CommandInfo{CommandId::pek_gen, "PEK_GEN", 0},
    CommandInfo{CommandId::pek_csr, "PEK_CSR", 0x0C},
    CommandInfo{CommandId::pek_cert_import, "PEK_CERT_IMPORT", 0x1C},
    CommandInfo{CommandId::pdh_cert_export, "PDH_CERT_EXPORT", 0x1C},
    CommandInfo{CommandId::pdh_gen, "PDH_GEN", 0},
    CommandInfo{CommandId::df_flush, "DF_FLUSH", 0},
    CommandInfo{CommandId::download_firmware, "DOWNLOAD_FIRMWARE", 0x0C},
    CommandInfo{CommandId::get_id, "GET_ID", 0x0C},
    CommandInfo{CommandId::init_ex, "INIT_EX", 0x24},
    CommandInfo{CommandId::nop, "NOP", 0},
    CommandInfo{CommandId::ring_buffer, "RING_BUFFER", 0}, // no public source gives its buffer, and nobody here sends it
    CommandInfo{CommandId::decommission, "DECOMMISSION", 0x04},
    CommandInfo{CommandId::activate, "ACTIVATE", 0x08},
    CommandInfo{CommandId::deactivate, "DEACTIVATE", 0x04},
    CommandInfo{CommandId::guest_status, "GUEST_STATUS", 0x0D},
    CommandInfo{CommandId::copy, "COPY", 0x18},
    CommandInfo{CommandId::activate_ex, "ACTIVATE_EX", 0x18},
    CommandInfo{CommandId::launch_start, "LAUNCH_START", 0x24},
    CommandInfo{CommandId::launch_update_data, "LAUNCH_UPDATE_DATA", 0x14},
    CommandInfo{CommandId::launch_update_vmsa, "LAUNCH_UPDATE_VMSA", 0x14},
    CommandInfo{CommandId::launch_measure, "LAUNCH_MEASURE", 0x14},
    CommandInfo{CommandId::launch_secret, "LAUNCH_SECRET", 0x34},
    CommandInfo{CommandId::launch_finish, "LAUNCH_FINISH", 0x04},
    CommandInfo{CommandId::attestation, "ATTESTATION", 0x24},
    CommandInfo{CommandId::send_start, "SEND_START", 0x44},
    CommandInfo{CommandId::send_update_data, "SEND_UPDATE_DATA", 0x34},
    CommandInfo{CommandId::send_update_vmsa, "SEND_UPDATE_VMSA", 0x34},
    CommandInfo{CommandId::send_finish, "SEND_FINISH", 0x04},
    CommandInfo{CommandId::send_cancel, "SEND_CANCEL", 0x04},
    CommandInfo{CommandId::receive_start, "RECEIVE_START", 0x24},
    CommandInfo{CommandId::receive_update_data, "RECEIVE_UPDATE_DATA", 0x34},
    CommandInfo{CommandId::receive_update_vmsa, "RECEIVE_UPDATE_VMSA", 0x34},
    CommandInfo{CommandId::receive_finish, "RECEIVE_FINISH", 0x04},
    CommandInfo{CommandId::dbg_decrypt, "DBG_DECRYPT", 0x1C},
    CommandInfo{CommandId::dbg_encrypt, "DBG_ENCRYPT", 0x1C},
    CommandInfo{CommandId::swap_out, "SWAP_OUT", 0x28},
    CommandInfo{CommandId::swap_in, "SWAP_IN", 0x20},
};
static_assert(std::ranges::is_sorted(commands, {}, &CommandInfo::id));

} // namespace

std::span<const CommandInfo> all_commands() { return commands; }

const CommandInfo* find_command(std::uint32_t id) {
    const auto found = std::ranges::find(commands, CommandId{id}, &CommandInfo::id);
    return found == commands.end() ? nullptr : &*found;
}

std::optional<CommandId> command_named(std::string_view text) {
    for (const CommandInfo& info : commands) {
        if (same_name(text, info.name)) return info.id;
    }
    const auto id = code_number(text);
    if (!id || !find_command(*id)) return std::nullopt;
    return CommandId{*id};
}

} // namespace sev::psp
