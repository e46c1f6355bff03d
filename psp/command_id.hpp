// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sev::psp {

/// SEV command ids. Source: Linux psp-sev.h and AMD sev-tool sevapi.h.
enum class CommandId : std::uint32_t {
    init = 0x01,
    shutdown = 0x02,
    platform_reset = 0x03,
    platform_status = 0x04,
    pek_gen = 0x05,
    pek_csr = 0x06,
    pek_cert_import = 0x07,
    pdh_cert_export = 0x08,
    pdh_gen = 0x09,
    df_flush = 0x0A,
    download_firmware = 0x0B,
    get_id = 0x0C,
    init_ex = 0x0D,
    nop = 0x0E,
    ring_buffer = 0x0F,
    decommission = 0x20,
    activate = 0x21,
    deactivate = 0x22,
    guest_status = 0x23,
    copy = 0x24,
    activate_ex = 0x25,
    launch_start = 0x30,
    launch_update_data = 0x31,
    launch_update_vmsa = 0x32,
    launch_measure = 0x33,
    launch_secret = 0x34,
    launch_finish = 0x35,
    attestation = 0x36,
    send_start = 0x40,
    send_update_data = 0x41,
    send_update_vmsa = 0x42,
    send_finish = 0x43,
    send_cancel = 0x44,
    receive_start = 0x50,
    receive_update_data = 0x51,
    receive_update_vmsa = 0x52,
    receive_finish = 0x53,
    dbg_decrypt = 0x60,
    dbg_encrypt = 0x61,
    swap_out = 0x70,
    swap_in = 0x71,
};

struct CommandInfo {
    CommandId id;
    std::string_view name;    // "LAUNCH_START"
    std::uint32_t buffer_size; // bytes of the command buffer, 0 for none
};
std::span<const CommandInfo> all_commands();
const CommandInfo* find_command(std::uint32_t id);
/// By name of either case, or by number.
std::optional<CommandId> command_named(std::string_view text);

} // namespace sev::psp
