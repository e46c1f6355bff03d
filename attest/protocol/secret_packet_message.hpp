// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "attest/protocol/message.hpp"
#include "psp/types.hpp"

namespace sev::attest {

/// One sealed packet for LAUNCH_SECRET. `data` is ciphertext under the session's TEK; the host cannot open it, and it fits this launch alone.
/// The PSP does not authenticate where a packet goes, so `slot`, `offset` and `gpa` are directions for an honest host, no more.
/// JSON: format "xen-sev/secret-packet", docs/schemas/secret-packet.schema.json.
struct SecretPacketMessage {
    static constexpr std::string_view format = "xen-sev/secret-packet";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 64 * 1024;
    static constexpr std::size_t header_size = 0x34;
    static constexpr std::size_t data_limit_bytes = 0x4000; // LAUNCH_SECRET takes at most 16 KiB, a multiple of 16

    SessionId session_id{};
    std::string slot;                 // "efi" (firmware's secret block), "initrd" (zero pages before the ramdisk), or a region's label
    std::uint64_t offset_bytes = 0;   // from the slot's start, multiple of 16
    std::optional<psp::Gpa> gpa;      // where the slot's owner expects the packet; absent: the host knows the slot
    ByteArray<header_size> header{};  // base64
    Bytes data;                       // base64

    static SecretPacketMessage from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const SecretPacketMessage&, const SecretPacketMessage&) = default;
};

} // namespace sev::attest
