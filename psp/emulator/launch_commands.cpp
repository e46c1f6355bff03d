// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/certificate_input.hpp"
#include "psp/emulator/choices.hpp"
#include "psp/emulator/guest_memory.hpp"
#include "psp/emulator/machine.hpp"
#include "psp/structures.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::uint32_t page_bytes = 0x1000;

template <std::size_t Size>
ByteArray<Size> copied(ByteView memory) {
    ByteArray<Size> out{};
    require(memory.size() == Size, "an input's size was checked");
    std::ranges::copy(memory, out.begin());
    return out;
}

/// Only the key of the guest owner's certificate is used; nobody checks its signature. Source: AMD sev-tool, sevctl.
bool usable_godh(const SevCertificate& godh) {
    return godh.usage == Usage::pdh && (godh.algorithm == Algorithm::ecdh_sha256 || godh.algorithm == Algorithm::ecdh_sha384) && godh.point() &&
           on_curve(*godh.point());
}

} // namespace

/// Lengths, addresses, certificate and MACs of a session. Source: SEV API (AMD 55766), LAUNCH_START.
Status Machine::open_session(Invocation& in, Policy policy, std::optional<TransportKeys>& out) {
    if (in.u32(0x10) != SevCertificate::wire_size || in.u32(0x20) != SessionBlob::wire_size) return Status::invalid_length;
    const auto godh_bytes = in.target(0x08, SevCertificate::wire_size), session_bytes = in.target(0x18, SessionBlob::wire_size);
    if (godh_bytes.empty() || session_bytes.empty()) return Status::invalid_address;
    const auto godh = certificate_input(godh_bytes);
    if (!godh || !usable_godh(*godh)) return Status::invalid_certificate;
    const auto raw_session = copied<SessionBlob::wire_size>(session_bytes);
    const SessionBlob session = SessionBlob::parse(wire::view(raw_session));
    const SecretBytes z = keys()->pdh->ecdh(*godh->point());
    out = unwrap_session(derive_session_keys(z.reveal(), session.nonce), session, policy);
    return out ? Status::success : Status::bad_measurement;
}

Status Machine::launch_start(Invocation& in) {
    const GuestHandle share_with{in.u32(0x00)};
    const Policy policy{in.u32(0x04)};
    std::optional<MemoryKey> key;
    std::optional<KeyGroup> group;
    bool sharing_allowed = true;
    if (raw(share_with) != 0) {
        const std::shared_ptr<Guest> other = find_guest(share_with);
        if (!other) return Status::invalid_guest;
        const std::lock_guard lock{other->mutex};
        if (!other->key) return Status::invalid_guest; // gone meanwhile
        sharing_allowed = other->policy == policy && !policy.has(Policy::noks);
        key = other->key->shared();
        group = other->group;
    }
    if ((policy.value & Policy::reserved) != 0 || api() < policy.minimum_api() || !sharing_allowed) return Status::policy_failure;
    {
        const std::lock_guard state{state_};
        if (policy.wants_es() && !es_) return Status::policy_failure;
        if (guests_.size() >= options_.max_guests) return Status::resource_limit;
    }
    std::optional<TransportKeys> transport;
    if (in.u64(0x08) != 0) {
        if (const Status opened = open_session(in, policy, transport); opened != Status::success) return opened;
    } else {
        transport = TransportKeys{.tek = Tek::filled_by([&](std::span<std::uint8_t> out) { draw(out, "TEK"); }),
                                  .tik = Tik::filled_by([&](std::span<std::uint8_t> out) { draw(out, "TIK"); })};
    }
    if (!key)
        key = MemoryKey{.vek = Vek::filled_by([&](std::span<std::uint8_t> out) { draw(out, "VEK"); }),
                        .tweak = VekTweak::filled_by([&](std::span<std::uint8_t> out) { draw(out, "VEK tweak"); })};
    const auto guest = std::make_shared<Guest>(policy, *std::move(key), *std::move(transport));

    const std::lock_guard state{state_};
    if (guests_.size() >= options_.max_guests) return Status::resource_limit; // others may have been faster
    guest->group = group ? *group : KeyGroup{next_group_++};
    while (next_handle_ == 0 || guests_.contains(next_handle_)) ++next_handle_;
    guest->handle = GuestHandle{next_handle_++};
    guests_.emplace(raw(guest->handle), guest);
    pstate_ = PlatformState::working;
    in.put_u32(0x00, raw(guest->handle));
    return Status::success;
}

Status Machine::launch_update_data(Invocation& in, Guest& guest) {
    const std::uint32_t length = in.u32(0x10);
    if (length == 0 || length % MemoryCipher::block_bytes != 0) return Status::invalid_length;
    const auto memory = in.target(0x08, length, MemoryCipher::block_bytes);
    if (memory.empty()) return Status::invalid_address;
    measure_and_encrypt(guest.running_digest, cipher_of(guest), in.address(0x08), memory);
    note_loaded(guest, in.address(0x08), length);
    return Status::success;
}

Status Machine::launch_update_vmsa(Invocation& in, Guest& guest) {
    if (in.u32(0x10) != page_bytes) return Status::invalid_length;
    const auto memory = in.target(0x08, page_bytes, page_bytes);
    if (memory.empty()) return Status::invalid_address;
    measure_and_encrypt(guest.running_digest, cipher_of(guest), in.address(0x08), memory);
    note_loaded(guest, in.address(0x08), page_bytes);
    return Status::success;
}

Status Machine::launch_measure(Invocation& in, Guest& guest) {
    if (in.u32(0x10) < LaunchMeasurement::wire_size) {
        in.put_u32(0x10, LaunchMeasurement::wire_size);
        return Status::invalid_length;
    }
    const auto out = in.target(0x08, LaunchMeasurement::wire_size);
    if (out.empty()) return Status::invalid_address;
    LaunchMeasurement measurement;
    draw(measurement.mnonce, "MNONCE");
    guest.launch_digest = guest.running_digest.finish();
    measurement.measure =
        expected_measurement(guest.transport->tik, chip_.personality->build, guest.policy, guest.launch_digest, measurement.mnonce);
    guest.measure = measurement.measure;
    guest.state = GuestState::launch_secret;
    std::ranges::copy(measurement.serialize(), out.begin());
    in.put_u32(0x10, LaunchMeasurement::wire_size);
    return Status::success;
}

Status Machine::launch_secret(Invocation& in, Guest& guest) {
    const std::uint32_t guest_length = in.u32(0x20), transport_length = in.u32(0x30);
    if (in.u32(0x10) != PacketHeader::wire_size || guest_length == 0 || guest_length % MemoryCipher::block_bytes != 0 ||
        guest_length > choices::max_secret_bytes || transport_length != guest_length)
        return Status::invalid_length;
    const auto header_bytes = in.target(0x08, PacketHeader::wire_size);
    const auto to = in.target(0x18, guest_length, MemoryCipher::block_bytes), from = in.target(0x28, transport_length);
    if (header_bytes.empty() || to.empty() || from.empty()) return Status::invalid_address;
    const auto raw_header = copied<PacketHeader::wire_size>(header_bytes);
    const std::uint32_t flags = wire::le32<0x00>(wire::view(raw_header));
    if ((flags & ~choices::packet_compressed) != 0) return Status::invalid_param;
    if ((flags & choices::packet_compressed) != 0) return Status::unsupported;
    const PacketHeader header = PacketHeader::parse(wire::view(raw_header));
    SecretBytes data{from};
    const Digest mac = secret_packet_mac(guest.transport->tik, api(), header.flags, header.iv, data.reveal(), guest.measure);
    if (!equal_in_constant_time(mac, header.mac)) return Status::bad_measurement;
    aes128_ctr(guest.transport->tek.reveal(), header.iv, data.reveal(), data.writable());
    write_encrypted(cipher_of(guest), in.address(0x18), data.reveal(), to);
    note_loaded(guest, in.address(0x18), guest_length);
    return Status::success;
}

void Machine::note_loaded(Guest& guest, SystemAddress at, std::uint64_t length_bytes) const {
    if (options_.plain_after_finish) guest.loaded.add(raw(at), length_bytes);
}

bool Machine::decrypt_loaded(Invocation& in, Guest& guest) const {
    const auto memory_of = [&in](const auto& piece) { return in.memory_at(piece.first, piece.second - piece.first); };
    const auto& pieces = guest.loaded.pieces();
    if (std::ranges::any_of(pieces, [&](const auto& piece) { return memory_of(piece).empty(); })) return false;
    for (const auto& piece : pieces) read_decrypted(cipher_of(guest), SystemAddress{piece.first}, memory_of(piece), memory_of(piece));
    return true;
}

Status Machine::launch_finish(Invocation& in, Guest& guest) {
    if (options_.plain_after_finish) {
        if (!decrypt_loaded(in, guest)) return Status::invalid_address;
        guest.loaded.clear();
        guest.plain = true;
    }
    guest.transport.reset();
    guest.state = GuestState::running;
    return Status::success;
}

Status Machine::attestation(Invocation& in, Guest& guest) {
    if (in.u32(0x20) < AttestationReport::wire_size) {
        in.put_u32(0x20, AttestationReport::wire_size);
        return Status::invalid_length;
    }
    const auto out = in.target(0x08, AttestationReport::wire_size);
    if (out.empty()) return Status::invalid_address;
    AttestationReport report{.mnonce = copied<16>(in.bytes(0x10, 16)), .launch_digest = guest.launch_digest, .policy = guest.policy, .signature = {}};
    std::shared_ptr<const PlatformKeys> current;
    {
        const std::lock_guard state{state_};
        if (!is_registered(guest)) return Status::invalid_guest; // a SHUTDOWN took the keys meanwhile
        current = keys_;
    }
    report.signature = current->pek->sign(sha256(report.signed_bytes()));
    std::ranges::copy(report.serialize(), out.begin());
    in.put_u32(0x20, AttestationReport::wire_size);
    return Status::success;
}

} // namespace sev::psp::emulator
