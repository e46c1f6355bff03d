// SPDX-License-Identifier: Apache-2.0
#include "psp/keys.hpp"

namespace sev::psp {
namespace {

/// TEK‖TIK, as a session carries them.
using TransportPair = Secret<struct TransportPairTag, 32>;

constexpr bool is_before_0_17(ApiVersion api) { return api < ApiVersion{.major = 0, .minor = 17}; }

} // namespace

template <class Key>
    requires std::same_as<Key, MasterSecret> || std::same_as<Key, Kek> || std::same_as<Key, Kik>
Key kdf(ByteView key_in, std::string_view label, ByteView context) {
    constexpr auto counter = wire::le32_bytes(1);
    constexpr auto length_bits = wire::le32_bytes(8 * Key::size_bytes);
    constexpr ByteArray<1> separator{0x00};
    return Key::filled_by([&](std::span<std::uint8_t, Key::size_bytes> out) {
        Digest block = hmac_sha256(key_in, {counter, as_bytes(label), separator, context, length_bits});
        std::ranges::copy(std::span{block}.template first<Key::size_bytes>(), out.begin());
        OPENSSL_cleanse(block.data(), block.size());
    });
}
template MasterSecret kdf<MasterSecret>(ByteView, std::string_view, ByteView);
template Kek kdf<Kek>(ByteView, std::string_view, ByteView);
template Kik kdf<Kik>(ByteView, std::string_view, ByteView);

SessionKeys derive_session_keys(ByteView z, std::span<const std::uint8_t, 16> nonce) {
    MasterSecret master = kdf<MasterSecret>(z, "sev-master-secret", nonce);
    Kek kek = kdf<Kek>(master.reveal(), "sev-kek", {});
    Kik kik = kdf<Kik>(master.reveal(), "sev-kik", {});
    return {.master = std::move(master), .kek = std::move(kek), .kik = std::move(kik)};
}

SessionBlob SessionBlob::parse(wire::View<wire_size> v) {
    return {
        .nonce = wire::bytes<0x00, 16>(v),
        .wrap_tk = wire::bytes<0x10, 32>(v),
        .wrap_iv = wire::bytes<0x30, 16>(v),
        .wrap_mac = wire::bytes<0x40, 32>(v),
        .policy_mac = wire::bytes<0x60, 32>(v),
    };
}

ByteArray<SessionBlob::wire_size> SessionBlob::serialize() const {
    ByteArray<wire_size> out{};
    const auto v = wire::span(out);
    wire::put_bytes<0x00>(v, nonce);
    wire::put_bytes<0x10>(v, wrap_tk);
    wire::put_bytes<0x30>(v, wrap_iv);
    wire::put_bytes<0x40>(v, wrap_mac);
    wire::put_bytes<0x60>(v, policy_mac);
    return out;
}

SessionBlob wrap_session(const SessionKeys& keys, std::span<const std::uint8_t, 16> nonce, std::span<const std::uint8_t, 16> wrap_iv,
                         const Tek& tek, const Tik& tik, Policy policy) {
    const auto pair = TransportPair::filled_by([&](std::span<std::uint8_t, 32> out) {
        std::ranges::copy(tek.reveal(), out.begin());
        std::ranges::copy(tik.reveal(), out.begin() + 16);
    });
    SessionBlob blob;
    std::ranges::copy(nonce, blob.nonce.begin());
    std::ranges::copy(wrap_iv, blob.wrap_iv.begin());
    aes128_ctr(keys.kek.reveal(), wrap_iv, pair.reveal(), blob.wrap_tk);
    blob.wrap_mac = hmac_sha256(keys.kik.reveal(), {blob.wrap_tk});
    blob.policy_mac = hmac_sha256(tik.reveal(), {wire::le32_bytes(policy.value)});
    return blob;
}

std::optional<TransportKeys> unwrap_session(const SessionKeys& keys, const SessionBlob& blob, Policy policy) {
    if (!equal_in_constant_time(hmac_sha256(keys.kik.reveal(), {blob.wrap_tk}), blob.wrap_mac)) return std::nullopt;
    const auto pair = TransportPair::filled_by(
        [&](std::span<std::uint8_t, 32> out) { aes128_ctr(keys.kek.reveal(), blob.wrap_iv, blob.wrap_tk, out); });
    TransportKeys transport{.tek = Tek{pair.reveal().first<16>()}, .tik = Tik{pair.reveal().last<16>()}};
    const Digest policy_mac = hmac_sha256(transport.tik.reveal(), {wire::le32_bytes(policy.value)});
    if (!equal_in_constant_time(policy_mac, blob.policy_mac)) return std::nullopt;
    return transport;
}

Digest expected_measurement(const Tik& tik, Build build, Policy policy, const Digest& digest, const Mnonce& mnonce) {
    const ByteArray<4> context{0x04, build.major, build.minor, build.build};
    const ByteView prefix = is_before_0_17(build.api()) ? ByteView{} : ByteView{context};
    return hmac_sha256(tik.reveal(), {prefix, wire::le32_bytes(policy.value), digest, mnonce});
}

PacketHeader PacketHeader::parse(wire::View<wire_size> v) {
    const std::uint32_t flags = wire::le32<0x00>(v);
    if ((flags & ~std::uint32_t{1}) != 0) throw Error{Fault::malformed, fmt::format("packet header: 00h FLAGS is 0x{:x}, want 0 or 1", flags)};
    return {.flags = flags, .iv = wire::bytes<0x04, 16>(v), .mac = wire::bytes<0x14, 32>(v)};
}

ByteArray<PacketHeader::wire_size> PacketHeader::serialize() const {
    ByteArray<wire_size> out{};
    const auto v = wire::span(out);
    wire::put_le32<0x00>(v, flags);
    wire::put_bytes<0x04>(v, iv);
    wire::put_bytes<0x14>(v, mac);
    return out;
}

Digest secret_packet_mac(const Tik& tik, ApiVersion api, std::uint32_t flags, std::span<const std::uint8_t, 16> iv, ByteView data,
                         const Digest& measure) {
    if (data.size() > UINT32_MAX) throw Error{Fault::usage, fmt::format("secret packet: {} bytes, more than a 32-bit length can say", data.size())};
    constexpr ByteArray<1> context{0x01};
    const auto length = wire::le32_bytes(static_cast<std::uint32_t>(data.size()));
    const ByteView bound_to = is_before_0_17(api) ? ByteView{} : ByteView{measure};
    return hmac_sha256(tik.reveal(), {context, wire::le32_bytes(flags), iv, length, length, data, bound_to});
}

} // namespace sev::psp
