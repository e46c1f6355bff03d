// SPDX-License-Identifier: Apache-2.0
#include "psp/types.hpp"

#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::psp {
namespace {

/// Digits of one base and nothing else; nullopt otherwise or above `max`.
std::optional<std::uint32_t> number(std::string_view text, int base, std::uint32_t max) {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size() || value > max) return std::nullopt;
    return value;
}

constexpr std::array<std::pair<std::uint32_t, std::string_view>, 6> policy_bits{{
    {Policy::nodbg, "NODBG"},
    {Policy::noks, "NOKS"},
    {Policy::es, "ES"},
    {Policy::nosend, "NOSEND"},
    {Policy::domain, "DOMAIN"},
    {Policy::sev, "SEV"},
}};

constexpr std::array<std::pair<Product, std::string_view>, 5> products{{
    {Product::naples, "naples"},
    {Product::rome, "rome"},
    {Product::milan, "milan"},
    {Product::genoa, "genoa"},
    {Product::turin, "turin"},
}};

} // namespace

std::string ApiVersion::text() const { return fmt::format("{}.{}", major, minor); }

std::string Build::text() const { return fmt::format("{}.{}.{}", major, minor, build); }

Build Build::parse(std::string_view text, std::string_view what) {
    const auto refuse = [&] {
        return Error{Fault::malformed,
                     fmt::format("{}: \"{}\" is no firmware version, want MAJOR.MINOR.BUILD such as 0.17.48, each 0..255", what, printable(text))};
    };
    std::array<std::uint8_t, 3> parts{};
    std::string_view rest = text;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const std::size_t dot = rest.find('.');
        const bool last = i + 1 == parts.size();
        if (last != (dot == std::string_view::npos)) throw refuse();
        const auto value = number(rest.substr(0, dot), 10, 255);
        if (!value) throw refuse();
        parts[i] = static_cast<std::uint8_t>(*value);
        if (!last) rest.remove_prefix(dot + 1);
    }
    return {.major = parts[0], .minor = parts[1], .build = parts[2]};
}

std::string Policy::text() const {
    std::string bits;
    for (const auto& [bit, bit_name] : policy_bits) {
        if (has(bit)) bits += fmt::format("{}{}", bits.empty() ? "" : " ", bit_name);
    }
    if ((value & reserved) != 0) bits += fmt::format("{}reserved bits 0x{:04x}", bits.empty() ? "" : " ", value & reserved);
    if (bits.empty()) bits = "no restriction";
    const ApiVersion api = minimum_api();
    if (api == ApiVersion{}) return fmt::format("0x{:08x}: {}, any firmware API", value, bits);
    return fmt::format("0x{:08x}: {}, firmware API {} or newer", value, bits, api.text());
}

Policy Policy::parse(std::string_view text, std::string_view what) {
    const bool is_hex = text.starts_with("0x") || text.starts_with("0X");
    const auto value = is_hex ? number(text.substr(2), 16, std::numeric_limits<std::uint32_t>::max())
                              : number(text, 10, std::numeric_limits<std::uint32_t>::max());
    if (!value) {
        throw Error{Fault::usage,
                    fmt::format("{}: \"{}\" is no policy, want a 32-bit number, decimal or 0x and hexadecimal digits", what, printable(text))};
    }
    return Policy{*value};
}

std::string_view name(PlatformState state) {
    switch (state) {
    case PlatformState::uninit: return "UNINIT";
    case PlatformState::init: return "INIT";
    case PlatformState::working: return "WORKING";
    }
    return "undefined";
}

std::string_view name(GuestState state) {
    switch (state) {
    case GuestState::invalid: return "INVALID";
    case GuestState::launch_update: return "LUPDATE";
    case GuestState::launch_secret: return "LSECRET";
    case GuestState::running: return "RUNNING";
    case GuestState::send_update: return "SUPDATE";
    case GuestState::receive_update: return "RUPDATE";
    case GuestState::sent: return "SENT";
    }
    return "undefined";
}

std::string_view name(Product product) {
    for (const auto& [known, known_name] : products) {
        if (known == product) return known_name;
    }
    return "undefined";
}

std::optional<Product> product_named(std::string_view name) {
    for (const auto& [known, known_name] : products) {
        if (known_name == name) return known;
    }
    return std::nullopt;
}

} // namespace sev::psp
