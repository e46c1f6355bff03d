// SPDX-License-Identifier: Apache-2.0
#include "attest/smbios_secret.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/error.hpp"
#include "ovmf-measure/slot.hpp"

namespace sev::attest {
namespace {

using measure::SmbiosSlot;

constexpr std::string_view prefix = "io.systemd.credential.binary:";
constexpr std::size_t credential_limit = 254; // the count is one byte, and a filler may follow
constexpr char filler = '.';

std::size_t base64_size(std::size_t bytes) { return (bytes + 2) / 3 * 4; }
std::size_t string_size(const SmbiosCredential& one) { return prefix.size() + one.name.size() + 1 + base64_size(one.data.size()); }

/// Base64 straight into the slot, so that no copy in the clear is left behind. Returns what is left of `out`.
std::span<std::uint8_t> put_base64(std::span<std::uint8_t> out, ByteView data) {
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::size_t at = 0;
    for (std::size_t i = 0; i < data.size(); i += 3) {
        const std::size_t have = std::min<std::size_t>(3, data.size() - i);
        std::uint32_t group = std::uint32_t{data[i]} << 16;
        if (have > 1) group |= std::uint32_t{data[i + 1]} << 8;
        if (have > 2) group |= data[i + 2];
        for (unsigned digit = 0; digit < 4; ++digit)
            out[at++] = static_cast<std::uint8_t>(digit <= have ? digits[group >> (18 - 6 * digit) & 63] : '=');
        OPENSSL_cleanse(&group, sizeof group);
    }
    return out.subspan(at);
}

std::span<std::uint8_t> put_text(std::span<std::uint8_t> out, std::string_view text) {
    std::ranges::copy(text, out.begin());
    return out.subspan(text.size());
}

} // namespace

std::string checked_credential_name(std::string name) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    };
    if (name.empty() || name.size() > 255 || name == "." || name == ".." || !std::ranges::all_of(name, allowed))
        throw Error{Fault::usage, fmt::format("credential name \"{}\": want 1 to 255 letters, digits and . _ -", printable(name))};
    return name;
}

SecretBytes build_smbios_secret(std::span<const SmbiosCredential> credentials, std::size_t slot_bytes) {
    if (credentials.empty()) throw Error{Fault::usage, "SMBIOS secret: no credential, want at least one"};
    if (credentials.size() > credential_limit)
        throw Error{Fault::usage, fmt::format("SMBIOS secret: {} credentials, want at most {}", credentials.size(), credential_limit)};
    if (slot_bytes < SmbiosSlot::least_bytes || slot_bytes > SmbiosSlot::limit_bytes || slot_bytes % 16 != 0)
        throw Error{Fault::usage, fmt::format("SMBIOS secret: a slot of {} bytes, want a multiple of 16 from {} to {}", slot_bytes,
                                              SmbiosSlot::least_bytes, SmbiosSlot::limit_bytes)};
    std::set<std::string> names;
    std::size_t text_bytes = 0; // strings with their NULs
    for (const SmbiosCredential& one : credentials) {
        if (!names.insert(checked_credential_name(one.name)).second)
            throw Error{Fault::usage, fmt::format("SMBIOS secret: credential \"{}\" stands twice", one.name)};
        text_bytes += string_size(one) + 1;
    }
    const std::size_t room = slot_bytes - SmbiosSlot::header_bytes - 1; // for strings with their NULs; the last byte is the second NUL
    if (text_bytes > room)
        throw Error{Fault::usage,
                    fmt::format("SMBIOS secret: needs a slot of {} bytes, and this one has {}",
                                (text_bytes + SmbiosSlot::header_bytes + 1 + 15) / 16 * 16, slot_bytes),
                    fmt::format("make it anew: sevctl slot smbios --length {}", text_bytes - 1)};
    std::size_t rest = room - text_bytes;
    const bool space = rest == 1; // an empty string would end the structure: a space more after the base64, which its readers skip
    const Bytes fresh = measure::make_smbios_slot(slot_bytes - SmbiosSlot::overhead_bytes);
    SecretBytes out{fresh};
    auto at = out.writable().subspan(SmbiosSlot::header_bytes);
    for (std::size_t i = 0; i < credentials.size(); ++i) {
        at = put_text(put_text(put_text(at, prefix), credentials[i].name), "=");
        at = put_base64(at, credentials[i].data.reveal());
        if (space && i + 1 == credentials.size()) at = put_text(at, " ");
        at = put_text(at, std::string_view{"\0", 1});
    }
    if (space) rest = 0;
    if (rest > 0) {
        std::ranges::fill(at.first(rest - 1), static_cast<std::uint8_t>(filler));
        at[rest - 1] = 0;
        at = at.subspan(rest);
    }
    require(at.size() == 1, "an SMBIOS secret fills its slot");
    at[0] = 0;
    out.writable()[SmbiosSlot::count_at] = static_cast<std::uint8_t>(credentials.size() + (rest > 0 ? 1 : 0));
    return out;
}

} // namespace sev::attest
