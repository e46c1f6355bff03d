// SPDX-License-Identifier: Apache-2.0
#include "psp/command.hpp"

namespace sev::psp {
namespace {

/// A command buffer under construction, in the order and with the offsets of the API's tables; what is not set stays zero.
template <std::size_t Size>
class Layout {
public:
    template <std::size_t At>
    Layout& u32(std::uint32_t value) {
        wire::put_le32<At>(wire::span(bytes_), value);
        return *this;
    }
    template <std::size_t At>
    Layout& u64(std::uint64_t value) {
        wire::put_le64<At>(wire::span(bytes_), value);
        return *this;
    }
    template <std::size_t At, std::size_t Length>
    Layout& bytes(const ByteArray<Length>& value) {
        wire::put_bytes<At>(wire::span(bytes_), value);
        return *this;
    }
    /// What the firmware reads: address field at AddressAt, length field at LengthAt.
    template <std::size_t AddressAt, std::size_t LengthAt>
        requires(AddressAt + 8 <= Size && LengthAt + 4 <= Size)
    Layout& in(Bytes data) {
        blobs_.push_back({.direction = Blob::Direction::in, .address_at = AddressAt, .length_at = LengthAt, .data = std::move(data)});
        return *this;
    }
    /// Room for what the firmware writes.
    template <std::size_t AddressAt, std::size_t LengthAt>
        requires(AddressAt + 8 <= Size && LengthAt + 4 <= Size)
    Layout& out(std::size_t length_bytes) {
        blobs_.push_back({.direction = Blob::Direction::out, .address_at = AddressAt, .length_at = LengthAt, .data = Bytes(length_bytes)});
        return *this;
    }
    Call call() { return {.buffer = {bytes_.begin(), bytes_.end()}, .blobs = std::move(blobs_)}; }

private:
    ByteArray<Size> bytes_{};
    std::vector<Blob> blobs_;
};

template <class Bytelike>
Bytes to_bytes(const Bytelike& from) {
    return {from.begin(), from.end()};
}

Call handle_only(GuestHandle guest) { return Layout<0x04>{}.u32<0x00>(raw(guest)).call(); }

const Bytes& output(const Call& call, std::size_t index) {
    require(index < call.blobs.size() && call.blobs[index].direction == Blob::Direction::out, "a reply is read from an output of its command");
    return call.blobs[index].data;
}

constexpr std::size_t certificate_size = SevCertificate::wire_size;
constexpr std::size_t platform_chain_size = 3 * certificate_size;

} // namespace

Call Init::encode() const {
    Layout<0x14> layout;
    layout.u32<0x00>(es ? 1 : 0);
    if (es) layout.u64<0x08>(raw(tmr)).u32<0x10>(tmr_length_bytes);
    return layout.call();
}
Nothing Init::decode(const Call&) { return {}; }

Call Shutdown::encode() const { return {}; }
Nothing Shutdown::decode(const Call&) { return {}; }

Call PlatformReset::encode() const { return {}; }
Nothing PlatformReset::decode(const Call&) { return {}; }

Call GetPlatformStatus::encode() const { return Layout<PlatformStatus::wire_size>{}.call(); }
PlatformStatus GetPlatformStatus::decode(const Call& call) {
    return PlatformStatus::parse(wire::exactly<PlatformStatus::wire_size>(call.buffer, "status"));
}

Call PekGen::encode() const { return {}; }
Nothing PekGen::decode(const Call&) { return {}; }

Call PekCsr::encode() const { return Layout<0x0C>{}.out<0x00, 0x08>(certificate_size).call(); }
SevCertificate PekCsr::decode(const Call& call) { return parse_sev_certificate(output(call, 0), "PEK certificate signing request"); }

Call PekCertImport::encode() const {
    return Layout<0x1C>{}.in<0x00, 0x08>(to_bytes(pek.serialize())).in<0x10, 0x18>(to_bytes(oca.serialize())).call();
}
Nothing PekCertImport::decode(const Call&) { return {}; }

Call PdhCertExport::encode() const { return Layout<0x1C>{}.out<0x00, 0x08>(certificate_size).out<0x10, 0x18>(platform_chain_size).call(); }
PlatformCertificates PdhCertExport::decode(const Call& call) {
    const auto chain = wire::exactly<platform_chain_size>(output(call, 1), "PEK, OCA and CEK certificates");
    return {
        .pdh = parse_sev_certificate(output(call, 0), "PDH certificate"),
        .pek = parse_sev_certificate(wire::part<0, certificate_size>(chain), "PEK certificate"),
        .oca = parse_sev_certificate(wire::part<certificate_size, certificate_size>(chain), "OCA certificate"),
        .cek = parse_sev_certificate(wire::part<2 * certificate_size, certificate_size>(chain), "CEK certificate"),
    };
}

Call PdhGen::encode() const { return {}; }
Nothing PdhGen::decode(const Call&) { return {}; }

Call DfFlush::encode() const { return {}; }
Nothing DfFlush::decode(const Call&) { return {}; }

Call GetId::encode() const {
    if (sockets < 1 || sockets > 8) throw Error{Fault::usage, fmt::format("{} sockets, want 1..8", sockets)};
    return Layout<0x0C>{}.out<0x00, 0x08>(sockets * sizeof(ChipId)).call();
}
std::vector<ChipId> GetId::decode(const Call& call) {
    const Bytes& ids = output(call, 0);
    if (ids.empty() || ids.size() % sizeof(ChipId) != 0) {
        throw Error{Fault::malformed, fmt::format("chip ids: {} bytes, want 64 for each socket", ids.size())};
    }
    std::vector<ChipId> out(ids.size() / sizeof(ChipId));
    for (std::size_t i = 0; i < out.size(); ++i) std::ranges::copy(ByteView{ids}.subspan(i * sizeof(ChipId), sizeof(ChipId)), out[i].begin());
    return out;
}

Call Decommission::encode() const { return handle_only(guest); }
Nothing Decommission::decode(const Call&) { return {}; }

Call Activate::encode() const { return Layout<0x08>{}.u32<0x00>(raw(guest)).u32<0x04>(raw(asid)).call(); }
Nothing Activate::decode(const Call&) { return {}; }

Call Deactivate::encode() const { return handle_only(guest); }
Nothing Deactivate::decode(const Call&) { return {}; }

Call GetGuestStatus::encode() const { return Layout<GuestStatus::wire_size>{}.u32<0x00>(raw(guest)).call(); }
GuestStatus GetGuestStatus::decode(const Call& call) {
    return GuestStatus::parse(wire::exactly<GuestStatus::wire_size>(call.buffer, "status"));
}

Call LaunchStart::encode() const {
    if (godh.has_value() != session.has_value()) {
        throw Error{Fault::usage, fmt::format("a {} without a {}, want both or neither", godh ? "guest owner certificate" : "session",
                                              godh ? "session" : "guest owner certificate")};
    }
    Layout<0x24> layout;
    layout.u32<0x00>(raw(share_with)).u32<0x04>(policy.value);
    if (godh) layout.in<0x08, 0x10>(to_bytes(godh->serialize())).in<0x18, 0x20>(to_bytes(*session));
    return layout.call();
}
GuestHandle LaunchStart::decode(const Call& call) {
    const std::uint32_t handle = wire::le32<0x00>(wire::exactly<0x24>(call.buffer, "reply"));
    if (handle == 0) throw Error{Fault::firmware, "00h HANDLE is 0 after success, want a guest's"};
    return GuestHandle{handle};
}

Call LaunchUpdateData::encode() const {
    return Layout<0x14>{}.u32<0x00>(raw(guest)).u64<0x08>(raw(at)).u32<0x10>(length_bytes).call();
}
Nothing LaunchUpdateData::decode(const Call&) { return {}; }

Call LaunchUpdateVmsa::encode() const {
    return Layout<0x14>{}.u32<0x00>(raw(guest)).u64<0x08>(raw(at)).u32<0x10>(length_bytes).call();
}
Nothing LaunchUpdateVmsa::decode(const Call&) { return {}; }

Call LaunchMeasure::encode() const { return Layout<0x14>{}.u32<0x00>(raw(guest)).out<0x08, 0x10>(LaunchMeasurement::wire_size).call(); }
LaunchMeasurement LaunchMeasure::decode(const Call& call) {
    return LaunchMeasurement::parse(wire::exactly<LaunchMeasurement::wire_size>(output(call, 0), "measurement"));
}

Call LaunchSecret::encode() const {
    if (data.size() > UINT32_MAX) throw Error{Fault::usage, fmt::format("secret: {} bytes, more than a 32-bit length can say", data.size())};
    return Layout<0x34>{}
        .u32<0x00>(raw(guest))
        .in<0x08, 0x10>(to_bytes(header))
        .u64<0x18>(raw(at))
        .u32<0x20>(static_cast<std::uint32_t>(data.size()))
        .in<0x28, 0x30>(data)
        .call();
}
Nothing LaunchSecret::decode(const Call&) { return {}; }

Call LaunchFinish::encode() const { return handle_only(guest); }
Nothing LaunchFinish::decode(const Call&) { return {}; }

Call Attestation::encode() const {
    return Layout<0x24>{}.u32<0x00>(raw(guest)).out<0x08, 0x20>(AttestationReport::wire_size).bytes<0x10>(mnonce).call();
}
AttestationReport Attestation::decode(const Call& call) {
    return AttestationReport::parse(wire::exactly<AttestationReport::wire_size>(output(call, 0), "attestation report"));
}

Call DbgDecrypt::encode() const {
    return Layout<0x1C>{}.u32<0x00>(raw(guest)).u64<0x08>(raw(from)).u64<0x10>(raw(to)).u32<0x18>(length_bytes).call();
}
Nothing DbgDecrypt::decode(const Call&) { return {}; }

Call DbgEncrypt::encode() const {
    return Layout<0x1C>{}.u32<0x00>(raw(guest)).u64<0x08>(raw(from)).u64<0x10>(raw(to)).u32<0x18>(length_bytes).call();
}
Nothing DbgEncrypt::decode(const Call&) { return {}; }

} // namespace sev::psp
