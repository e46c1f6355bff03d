// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/mailbox_transcript.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "psp/command_id.hpp"

namespace sev::psp::emulator {
namespace {

struct Field {
    CommandId command;
    std::string_view name;
    std::size_t at, size_bytes;
    bool hexadecimal = false;
};

// Source: SEV API (AMD 55766), the buffer of each command.
constexpr std::array fields{
    Field{CommandId::init, "flags", 0x00, 4, true},
    Field{CommandId::init, "tmr_address", 0x08, 8, true},
    Field{CommandId::init, "tmr_length", 0x10, 4},
    Field{CommandId::init_ex, "flags", 0x04, 4, true},
    Field{CommandId::init_ex, "tmr_address", 0x08, 8, true},
    Field{CommandId::init_ex, "tmr_length", 0x10, 4},
    Field{CommandId::init_ex, "nv_address", 0x18, 8, true},
    Field{CommandId::init_ex, "nv_length", 0x20, 4},
    Field{CommandId::platform_status, "api_major", 0x00, 1},
    Field{CommandId::platform_status, "api_minor", 0x01, 1},
    Field{CommandId::platform_status, "state", 0x02, 1},
    Field{CommandId::platform_status, "owner", 0x03, 1},
    Field{CommandId::platform_status, "config", 0x04, 2, true},
    Field{CommandId::platform_status, "build", 0x07, 1},
    Field{CommandId::platform_status, "guests", 0x08, 4},
    Field{CommandId::pek_csr, "address", 0x00, 8, true},
    Field{CommandId::pek_csr, "length", 0x08, 4},
    Field{CommandId::pek_cert_import, "pek_address", 0x00, 8, true},
    Field{CommandId::pek_cert_import, "pek_length", 0x08, 4},
    Field{CommandId::pek_cert_import, "oca_address", 0x10, 8, true},
    Field{CommandId::pek_cert_import, "oca_length", 0x18, 4},
    Field{CommandId::pdh_cert_export, "pdh_address", 0x00, 8, true},
    Field{CommandId::pdh_cert_export, "pdh_length", 0x08, 4},
    Field{CommandId::pdh_cert_export, "chain_address", 0x10, 8, true},
    Field{CommandId::pdh_cert_export, "chain_length", 0x18, 4},
    Field{CommandId::download_firmware, "address", 0x00, 8, true},
    Field{CommandId::download_firmware, "length", 0x08, 4},
    Field{CommandId::get_id, "address", 0x00, 8, true},
    Field{CommandId::get_id, "length", 0x08, 4},
    Field{CommandId::decommission, "handle", 0x00, 4},
    Field{CommandId::activate, "handle", 0x00, 4},
    Field{CommandId::activate, "asid", 0x04, 4},
    Field{CommandId::activate_ex, "handle", 0x04, 4},
    Field{CommandId::activate_ex, "asid", 0x08, 4},
    Field{CommandId::deactivate, "handle", 0x00, 4},
    Field{CommandId::guest_status, "handle", 0x00, 4},
    Field{CommandId::guest_status, "policy", 0x04, 4, true},
    Field{CommandId::guest_status, "asid", 0x08, 4},
    Field{CommandId::guest_status, "state", 0x0C, 1},
    Field{CommandId::copy, "handle", 0x00, 4},
    Field{CommandId::copy, "length", 0x04, 4},
    Field{CommandId::launch_start, "handle", 0x00, 4},
    Field{CommandId::launch_start, "policy", 0x04, 4, true},
    Field{CommandId::launch_start, "godh_address", 0x08, 8, true},
    Field{CommandId::launch_start, "godh_length", 0x10, 4},
    Field{CommandId::launch_start, "session_address", 0x18, 8, true},
    Field{CommandId::launch_start, "session_length", 0x20, 4},
    Field{CommandId::launch_update_data, "handle", 0x00, 4},
    Field{CommandId::launch_update_data, "address", 0x08, 8, true},
    Field{CommandId::launch_update_data, "length", 0x10, 4},
    Field{CommandId::launch_update_vmsa, "handle", 0x00, 4},
    Field{CommandId::launch_update_vmsa, "address", 0x08, 8, true},
    Field{CommandId::launch_update_vmsa, "length", 0x10, 4},
    Field{CommandId::launch_measure, "handle", 0x00, 4},
    Field{CommandId::launch_measure, "address", 0x08, 8, true},
    Field{CommandId::launch_measure, "length", 0x10, 4},
    Field{CommandId::launch_secret, "handle", 0x00, 4},
    Field{CommandId::launch_secret, "header_address", 0x08, 8, true},
    Field{CommandId::launch_secret, "header_length", 0x10, 4},
    Field{CommandId::launch_secret, "guest_address", 0x18, 8, true},
    Field{CommandId::launch_secret, "guest_length", 0x20, 4},
    Field{CommandId::launch_secret, "transport_address", 0x28, 8, true},
    Field{CommandId::launch_secret, "transport_length", 0x30, 4},
    Field{CommandId::launch_finish, "handle", 0x00, 4},
    Field{CommandId::attestation, "handle", 0x00, 4},
    Field{CommandId::attestation, "address", 0x08, 8, true},
    Field{CommandId::attestation, "length", 0x20, 4},
    Field{CommandId::dbg_decrypt, "handle", 0x00, 4},
    Field{CommandId::dbg_decrypt, "from_address", 0x08, 8, true},
    Field{CommandId::dbg_decrypt, "to_address", 0x10, 8, true},
    Field{CommandId::dbg_decrypt, "length", 0x18, 4},
    Field{CommandId::dbg_encrypt, "handle", 0x00, 4},
    Field{CommandId::dbg_encrypt, "from_address", 0x08, 8, true},
    Field{CommandId::dbg_encrypt, "to_address", 0x10, 8, true},
    Field{CommandId::dbg_encrypt, "length", 0x18, 4},
};

std::optional<std::uint64_t> value_of(const Field& field, ByteView buffer) {
    if (field.at + field.size_bytes > buffer.size()) return std::nullopt;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < field.size_bytes; ++i) value |= std::uint64_t{buffer[field.at + i]} << (8 * i);
    return value;
}

std::string shown(const Field& field, std::uint64_t value) {
    return field.hexadecimal ? fmt::format("{:#x}", value) : fmt::format("{}", value);
}

} // namespace

std::string transcript_line(std::uint32_t command, ByteView before, ByteView after, std::optional<Status> status) {
    const CommandInfo* const info = find_command(command);
    std::string line = info ? std::string{info->name} : fmt::format("{:#x}", command);
    for (const Field& field : fields) {
        if (!info || field.command != info->id) continue;
        const auto was = value_of(field, before), is = value_of(field, after);
        if (!was || !is) continue;
        line += fmt::format(" {}={}", field.name, shown(field, *was));
        if (*was != *is) line += fmt::format("->{}", shown(field, *is));
    }
    if (!status) return line + " (hangs)";
    const StatusInfo* const known = find_status(static_cast<std::uint16_t>(*status));
    return line + " " + (known ? std::string{known->name} : fmt::format("{:#x}", static_cast<std::uint16_t>(*status)));
}

} // namespace sev::psp::emulator
