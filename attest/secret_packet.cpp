// SPDX-License-Identifier: Apache-2.0
#include "attest/secret_packet.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest {

SealedPacket seal_for_measurement(const psp::Tek& tek, const psp::Tik& tik, psp::ApiVersion api, const Digest& measure, ByteView plaintext,
                                  const std::optional<ByteArray<16>>& iv) {
    constexpr std::size_t limit = SecretPacketMessage::data_limit_bytes;
    if (plaintext.empty() || plaintext.size() > limit || plaintext.size() % 16 != 0)
        throw Error{Fault::usage, fmt::format("secret packet: {} bytes, want a multiple of 16 from 16 to {}", plaintext.size(), limit)};
    SealedPacket out;
    out.header.iv = iv ? *iv : random_array<16>();
    out.data.resize(plaintext.size());
    aes128_ctr(tek.reveal(), out.header.iv, plaintext, out.data);
    out.header.mac = psp::secret_packet_mac(tik, api, out.header.flags, out.header.iv, out.data, measure);
    return out;
}

SecretPacketMessage seal(const TrustedVerdict& trusted, const SecretPlace& place, ByteView plaintext) {
    require(trusted.keys_ != nullptr, "a trusted verdict that was moved from makes no packets");
    SealedPacket packet = seal_for_measurement(trusted.keys_->tek, trusted.keys_->tik, trusted.api_, trusted.measure_, plaintext);
    SecretPacketMessage out;
    out.session_id = trusted.facts_.id;
    out.slot = checked_name(place.slot, "secret slot");
    out.offset_bytes = place.offset_bytes;
    out.gpa = place.gpa;
    out.header = packet.header.serialize();
    out.data = std::move(packet.data);
    return out;
}

} // namespace sev::attest
