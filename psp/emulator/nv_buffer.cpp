// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/nv_buffer.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::string_view magic = "SEV-EMU1";
constexpr std::size_t iv_at = 0x10, mac_at = 0x20, payload_at = 0x40, mac_bytes = 32;
using NvKey = Secret<struct NvKeyTag, 32>;

NvKey nv_key(const Chip& chip, std::string_view label) {
    return NvKey::filled_by([&](std::span<std::uint8_t, 32> out) {
        Digest key = hmac_sha256(chip.secret.reveal(), {as_bytes(label)});
        std::ranges::copy(key, out.begin());
        OPENSSL_cleanse(key.data(), key.size());
    });
}

Digest mac_of(NvView buffer, const Chip& chip) {
    return hmac_sha256(nv_key(chip, "xen-sev emulator nv mac").reveal(),
                       {buffer.first<mac_at>(), ByteArray<mac_bytes>{}, buffer.subspan<payload_at>()});
}

void crypt(const Chip& chip, ByteView iv, ByteView in, std::span<std::uint8_t> out) {
    aes128_ctr(nv_key(chip, "xen-sev emulator nv encryption").reveal().first<16>(), iv.first<16>(), in, out);
}

} // namespace

NvContent read_nv(NvView buffer, const Chip& chip) {
    // a copy: what is authenticated is what is read, whoever writes to the memory meanwhile
    const Bytes copy{buffer.begin(), buffer.end()};
    const NvView v{copy};
    if (std::ranges::all_of(v, [](std::uint8_t b) { return b == 0xFF; })) return {.valid = true, .keys = nullptr};
    if (!equal_in_constant_time(mac_of(v, chip), v.subspan<mac_at, mac_bytes>())) return {};
    try {
        Cursor header{v.first(iv_at), "NV buffer"};
        if (as_text(header.take(magic.size(), "magic")) != magic || header.le32("LENGTH") != PlatformKeys::wire_size) return {};
        SecretBytes payload{PlatformKeys::wire_size};
        crypt(chip, v.subspan<iv_at, 16>(), v.subspan(payload_at, payload.size()), payload.writable());
        Cursor from{payload.reveal(), "NV buffer"};
        auto keys = std::make_shared<const PlatformKeys>(PlatformKeys::parse(from));
        if (keys->inconsistency(chip.cek)) return {};
        return {.valid = true, .keys = std::move(keys)};
    } catch (const Error& error) {
        // authentic bytes of another layout are as bad as corrupt ones; anything else is not about the buffer
        if (error.fault() != sev::Fault::malformed) throw;
        return {};
    }
}

void write_nv(NvSpan buffer, const Chip& chip, const PlatformKeys& keys, const Random& random) {
    Bytes out(buffer.size(), 0xFF);
    SecretBytes payload{PlatformKeys::wire_size};
    Writer secret_part{payload.writable()};
    keys.serialize(secret_part);
    secret_part.done();
    ByteArray<16> iv{};
    random(iv, "NV IV");
    Writer{out}.bytes(as_bytes(magic)).le32(PlatformKeys::wire_size).le32(0).bytes(iv).bytes(ByteArray<mac_bytes>{});
    crypt(chip, iv, payload.reveal(), std::span{out}.subspan(payload_at, payload.size()));
    const Digest mac = mac_of(NvView{out}, chip);
    std::ranges::copy(mac, out.begin() + mac_at);
    std::ranges::copy(out, buffer.begin());
}

void erase_nv(NvSpan buffer) { std::ranges::fill(buffer, std::uint8_t{0xFF}); }

} // namespace sev::psp::emulator
