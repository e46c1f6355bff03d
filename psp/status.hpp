// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sev::psp {

/// Status code of a SEV command, bits 15:0 of the command/response register. Source: SEV API (AMD 55766) section 4.4 and Linux psp-sev.h.
enum class Status : std::uint16_t {
    success = 0x00,
    invalid_platform_state = 0x01,
    invalid_guest_state = 0x02,
    invalid_config = 0x03,
    invalid_length = 0x04,
    already_owned = 0x05,
    invalid_certificate = 0x06,
    policy_failure = 0x07,
    inactive = 0x08,
    invalid_address = 0x09,
    bad_signature = 0x0A,
    bad_measurement = 0x0B,
    asid_owned = 0x0C,
    invalid_asid = 0x0D,
    wbinvd_required = 0x0E,
    df_flush_required = 0x0F,
    invalid_guest = 0x10,
    invalid_command = 0x11,
    active = 0x12,
    hwerror_platform = 0x13,
    hwerror_unsafe = 0x14,
    unsupported = 0x15,
    invalid_param = 0x16,
    resource_limit = 0x17,
    secure_data_invalid = 0x18,
    invalid_page_size = 0x19,
    invalid_page_state = 0x1A,
    invalid_mdata_entry = 0x1B,
    invalid_page_owner = 0x1C,
    aead_oflow = 0x1D,
    ring_buffer_exit = 0x1F,
};

struct StatusInfo {
    Status status;
    std::string_view name;   // "BAD_MEASUREMENT", the API's own word
    std::string_view cause;  // what makes the firmware say it
    std::string_view remedy; // what to do next
};
/// Every status the API defines, ascending.
std::span<const StatusInfo> all_statuses();
/// nullptr for a code the API does not define.
const StatusInfo* find_status(std::uint16_t code);
/// Finds by name, upper or lower case ("BAD_MEASUREMENT"), or by number ("0x0B", "11").
std::optional<Status> status_named(std::string_view text);
/// "BAD_MEASUREMENT (0x000B)"; "unknown status (0x1234)" for a code the API does not define.
std::string text(Status status);
/// "BAD_MEASUREMENT (0x000B): <cause>"; the message of the Error that `run` throws. The remedy becomes the Error's hint.
std::string describe(Status status);

} // namespace sev::psp
