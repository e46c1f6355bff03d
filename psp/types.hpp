// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.hpp"

namespace sev::psp {

/// Guest physical address, bytes.
enum class Gpa : std::uint64_t {};
/// Address in the space a `Firmware` transport understands: system physical for the PSP (real or emulated), bytes.
enum class SystemAddress : std::uint64_t {};
/// Handle of a guest context; 0 means none.
enum class GuestHandle : std::uint32_t {};
/// Address space identifier; 0 means inactive.
enum class Asid : std::uint32_t {};

template <class Id>
    requires std::is_enum_v<Id>
constexpr auto raw(Id id) noexcept {
    return static_cast<std::underlying_type_t<Id>>(id);
}
constexpr Gpa operator+(Gpa at, std::uint64_t bytes) noexcept { return Gpa{raw(at) + bytes}; }
constexpr SystemAddress operator+(SystemAddress at, std::uint64_t bytes) noexcept { return SystemAddress{raw(at) + bytes}; }

/// Version of the SEV API: PLATFORM_STATUS API_MAJOR and API_MINOR, the API fields of a certificate, bits 31:16 of a policy.
struct ApiVersion {
    std::uint8_t major = 0, minor = 0;
    friend auto operator<=>(const ApiVersion&, const ApiVersion&) = default;
    std::string text() const; // "0.17"
};

/// Version of a PSP's SEV firmware: exactly the three bytes that LAUNCH_MEASURE hashes.
struct Build {
    std::uint8_t major = 0, minor = 0, build = 0;
    friend auto operator<=>(const Build&, const Build&) = default;
    constexpr ApiVersion api() const noexcept { return {major, minor}; }
    std::string text() const; // "0.17.48", as sevctl prints it
    /// Reads "0.17.48". Throws Error{Fault::malformed}.
    static Build parse(std::string_view text, std::string_view what);
};

/// Guest policy, all 32 bits. Source: SEV API (AMD 55766) chapter 3.
struct Policy {
    static constexpr std::uint32_t nodbg = 1U << 0, noks = 1U << 1, es = 1U << 2, nosend = 1U << 3, domain = 1U << 4, sev = 1U << 5;
    static constexpr std::uint32_t reserved = 0x0000'FFC0;
    std::uint32_t value = 0;
    constexpr bool has(std::uint32_t bits) const noexcept { return (value & bits) == bits; }
    constexpr bool wants_es() const noexcept { return has(es); }
    /// Minimum firmware API: bits 23:16 major, bits 31:24 minor.
    constexpr ApiVersion minimum_api() const noexcept {
        return {static_cast<std::uint8_t>(value >> 16), static_cast<std::uint8_t>(value >> 24)};
    }
    friend bool operator==(const Policy&, const Policy&) = default;
    /// "0x11000005: NODBG ES, firmware API 0.17 or newer".
    std::string text() const;
    /// Reads a decimal or 0x-hexadecimal 32-bit number. Throws Error{Fault::usage}.
    static Policy parse(std::string_view text, std::string_view what);
};

/// PSTATE. Source: SEV API section 5.1.2.
enum class PlatformState : std::uint8_t { uninit = 0, init = 1, working = 2 };
/// GSTATE. Source: SEV API section 6.1.1.
enum class GuestState : std::uint8_t {
    invalid = 0,
    launch_update = 1,
    launch_secret = 2,
    running = 3,
    send_update = 4,
    receive_update = 5,
    sent = 6,
};
std::string_view name(PlatformState state); // "UNINIT" …
std::string_view name(GuestState state);    // "LUPDATE" …

/// The unique id of one socket's chip: GET_ID output, 64 bytes. As 128 lower-case hex digits it is the key for AMD's CEK server.
using ChipId = ByteArray<64>;

enum class Product : std::uint8_t { naples, rome, milan, genoa, turin };
std::string_view name(Product product); // "naples" …
std::optional<Product> product_named(std::string_view name);

/// MNONCE of a measurement or report.
using Mnonce = ByteArray<16>;

} // namespace sev::psp
