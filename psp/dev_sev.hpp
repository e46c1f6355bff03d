// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/wire.hpp"

/// The binary interface of Linux's /dev/sev, as <linux/psp-sev.h> defines it for user space: one ioctl, whose argument names a command and the
/// address of its sub-structure. All structures are packed and little-endian. A test holds this file against the kernel's header where that is
/// installed.
namespace sev::psp::dev_sev {

/// SEV_ISSUE_CMD, _IOWR('S', 0, struct sev_issue_cmd).
inline constexpr std::uint32_t issue_command = 0xC0105300;
/// What `error` holds when the kernel never reached the firmware (SEV_RET_NO_FW_CALL).
inline constexpr std::uint32_t no_firmware_call = 0xFFFF'FFFF;
/// SEV_FW_BLOB_MAX_SIZE: the driver refuses longer certificates.
inline constexpr std::uint32_t blob_limit_bytes = 0x4000;
/// major:minor that the misc device has on most machines (the minor is handed out at run time).
inline constexpr unsigned misc_major = 10, usual_minor = 124;

enum class Command : std::uint32_t {
    factory_reset = 0,
    platform_status = 1,
    pek_gen = 2,
    pek_csr = 3,
    pdh_gen = 4,
    pdh_cert_export = 5,
    pek_cert_import = 6,
    get_id = 7, // deprecated: two ids of 64 bytes, without an address
    get_id2 = 8,
};
inline constexpr std::uint32_t last_command = 8;
/// "FACTORY_RESET" …; "command 9" for one that is not defined.
inline std::string name(Command command) {
    constexpr std::array<std::string_view, 9> names{"FACTORY_RESET",   "PLATFORM_STATUS", "PEK_GEN", "PEK_CSR", "PDH_GEN",
                                                    "PDH_CERT_EXPORT", "PEK_CERT_IMPORT", "GET_ID",  "GET_ID2"};
    const auto index = static_cast<std::uint32_t>(command);
    return index <= last_command ? std::string{names[index]} : fmt::format("command {}", index);
}

/// struct sev_issue_cmd, 16 bytes.
struct IssueCommand {
    static constexpr std::size_t wire_size = 0x10;
    Command command{};
    std::uint64_t data = 0;                // address of the sub-structure
    std::uint32_t error = no_firmware_call; // out: the firmware's status

    static constexpr IssueCommand parse(wire::View<wire_size> v) {
        return {.command = Command{wire::le32<0x00>(v)}, .data = wire::le64<0x04>(v), .error = wire::le32<0x0C>(v)};
    }
    constexpr ByteArray<wire_size> serialize() const {
        ByteArray<wire_size> out{};
        wire::put_le32<0x00>(wire::span(out), static_cast<std::uint32_t>(command));
        wire::put_le64<0x04>(wire::span(out), data);
        wire::put_le32<0x0C>(wire::span(out), error);
        return out;
    }
    friend bool operator==(const IssueCommand&, const IssueCommand&) = default;
};

/// A buffer of the caller: address, then length, 12 bytes. struct sev_user_data_pek_csr and struct sev_user_data_get_id2 are one of these.
struct Buffer {
    static constexpr std::size_t wire_size = 0x0C;
    std::uint64_t address = 0;
    std::uint32_t length_bytes = 0; // in; out: what the firmware wrote or wants

    static constexpr Buffer parse(wire::View<wire_size> v) { return {.address = wire::le64<0x00>(v), .length_bytes = wire::le32<0x08>(v)}; }
    constexpr ByteArray<wire_size> serialize() const {
        ByteArray<wire_size> out{};
        wire::put_le64<0x00>(wire::span(out), address);
        wire::put_le32<0x08>(wire::span(out), length_bytes);
        return out;
    }
    friend bool operator==(const Buffer&, const Buffer&) = default;
};

/// Two buffers without anything between them, 24 bytes: struct sev_user_data_pdh_cert_export (PDH, then chain) and struct
/// sev_user_data_pek_cert_import (PEK, then OCA). The firmware's own command buffers have a reserved word in between; these have not.
struct BufferPair {
    static constexpr std::size_t wire_size = 0x18;
    Buffer first, second;

    static constexpr BufferPair parse(wire::View<wire_size> v) {
        return {.first = Buffer::parse(wire::part<0x00, Buffer::wire_size>(v)), .second = Buffer::parse(wire::part<0x0C, Buffer::wire_size>(v))};
    }
    constexpr ByteArray<wire_size> serialize() const {
        ByteArray<wire_size> out{};
        wire::put_bytes<0x00>(wire::span(out), first.serialize());
        wire::put_bytes<0x0C>(wire::span(out), second.serialize());
        return out;
    }
    friend bool operator==(const BufferPair&, const BufferPair&) = default;
};

/// struct sev_user_data_status is PLATFORM_STATUS as the firmware gives it, struct sev_user_data_get_id two ids.
inline constexpr std::size_t status_size = 0x0C, get_id_size = 0x80;

} // namespace sev::psp::dev_sev
