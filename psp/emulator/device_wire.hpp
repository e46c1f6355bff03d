// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

/// What a preloaded program and `sev-emulator` say to each other about one /dev/sev. Header only, without the rest of the house: it also lives inside
/// programs that nobody here wrote. One message is one packet of a Unix SOCK_SEQPACKET socket: 24 bytes of header, then for `data` and `write` the
/// payload.
///
/// The descriptor that the program holds is a connected socket, the *handle*: its first message is `open`, answered by `opened`. Each ioctl is one
/// message on the handle, with one end of a fresh socket pair in it; on that pair the emulator copies the program's memory in and out (`read` →
/// `data` or `fault`, `write` → `written` or `fault`) and ends with `done`. So threads, dup and fork need no lock: nothing is shared but the handle,
/// and on it packets are atomic.
namespace sev::psp::emulator::device_wire {

inline constexpr std::uint32_t magic = 0x56455358; // "XSEV", little-endian
inline constexpr std::uint16_t version = 1;
inline constexpr std::size_t header_size = 24;
inline constexpr std::uint32_t payload_limit_bytes = 0x4000; // the driver's limit of one certificate buffer
inline constexpr std::size_t message_limit_bytes = header_size + payload_limit_bytes;
inline constexpr std::uint32_t errno_limit = 4095;

enum class Kind : std::uint16_t {
    open = 1,  // number: 1 for write access, else 0
    opened,    // number: errno or 0
    ioctl,     // number: request, address: argument; with one descriptor
    read,      // address, length
    data,      // length, payload
    fault,     // the memory is not there: EFAULT
    write,     // address, length, payload
    written,
    done,      // number: errno or 0
};

struct Header {
    Kind kind{};
    std::uint32_t number = 0, length_bytes = 0;
    std::uint64_t address = 0;
};

constexpr bool has_payload(Kind kind) { return kind == Kind::data || kind == Kind::write; }

/// Writes the `header_size` bytes: magic, version, kind, number, length, address, all little-endian.
constexpr void serialize(const Header& header, std::uint8_t* out) {
    const auto put = [&out](std::uint64_t value, int size_bytes) {
        for (int i = 0; i < size_bytes; ++i) *out++ = static_cast<std::uint8_t>(value >> (8 * i));
    };
    put(magic, 4);
    put(version, 2);
    put(static_cast<std::uint16_t>(header.kind), 2);
    put(header.number, 4);
    put(header.length_bytes, 4);
    put(header.address, 8);
}

/// Reads one whole message of `size_bytes`. False for another magic or version, an undefined kind, a length above the limit or different from the
/// payload's, a number out of range, or a field set that this kind does not have.
constexpr bool parse(const std::uint8_t* message, std::size_t size_bytes, Header& header) {
    if (size_bytes < header_size || size_bytes > message_limit_bytes) return false;
    const auto get = [&message](int size) {
        std::uint64_t value = 0;
        for (int i = 0; i < size; ++i) value |= std::uint64_t{*message++} << (8 * i);
        return value;
    };
    if (get(4) != magic || get(2) != version) return false;
    const std::uint64_t kind = get(2);
    if (kind < static_cast<std::uint64_t>(Kind::open) || kind > static_cast<std::uint64_t>(Kind::done)) return false;
    header.kind = static_cast<Kind>(kind);
    header.number = static_cast<std::uint32_t>(get(4));
    header.length_bytes = static_cast<std::uint32_t>(get(4));
    header.address = get(8);
    if (header.length_bytes > payload_limit_bytes) return false;
    if (size_bytes - header_size != (has_payload(header.kind) ? header.length_bytes : 0)) return false;

    const bool has_length = has_payload(header.kind) || header.kind == Kind::read;
    const bool has_address = header.kind == Kind::ioctl || header.kind == Kind::read || header.kind == Kind::write;
    if ((!has_length && header.length_bytes != 0) || (!has_address && header.address != 0)) return false;
    switch (header.kind) {
    case Kind::open: return header.number <= 1;
    case Kind::opened:
    case Kind::done: return header.number <= errno_limit;
    case Kind::ioctl: return true;
    default: return header.number == 0;
    }
}

} // namespace sev::psp::emulator::device_wire
