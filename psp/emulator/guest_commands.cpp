// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/choices.hpp"
#include "psp/emulator/guest_memory.hpp"
#include "psp/emulator/machine.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::uint64_t block = MemoryCipher::block_bytes;

bool whole_blocks(std::uint32_t length_bytes) { return length_bytes > 0 && length_bytes % block == 0; }

} // namespace

Status Machine::decommission(Invocation&, Guest& guest) {
    {
        const std::lock_guard state{state_};
        if (!is_registered(guest)) return Status::invalid_guest;
        guests_.erase(raw(guest.handle)); // the caller holds the guest itself
        if (guests_.empty()) pstate_ = PlatformState::init;
    }
    guest.erase();
    return Status::success;
}

Status Machine::activate_on(Asid asid, Guest& guest) {
    const std::lock_guard state{state_};
    if (!is_registered(guest)) return Status::invalid_guest;
    if (options_.automatic_wbinvd) asids_.wbinvd();
    if (const Status checked = asids_.check(asid, guest.policy.wants_es(), guest.group); checked != Status::success) return checked;
    asids_.install(asid, guest.group);
    guest.asid = asid;
    return Status::success;
}

Status Machine::activate(Invocation& in, Guest& guest) { return activate_on(Asid{in.u32(0x04)}, guest); }

Status Machine::activate_ex(Invocation& in, Guest& guest) {
    const std::uint32_t count = in.u32(0x0C);
    if (in.u32(0x00) != 0x18 || count == 0 || count > choices::max_apic_ids) return Status::invalid_length;
    if (in.target(0x10, std::uint64_t{4} * count, choices::apic_id_align).empty()) return Status::invalid_address;
    return activate_on(Asid{in.u32(0x08)}, guest);
}

Status Machine::deactivate(Invocation&, Guest& guest) {
    if (!guest.active()) return Status::success;
    const std::lock_guard state{state_};
    if (!is_registered(guest)) return Status::invalid_guest;
    asids_.release(guest.asid);
    guest.asid = Asid{};
    return Status::success;
}

Status Machine::guest_status(Invocation& in, Guest& guest) {
    in.put_u32(0x04, guest.policy.value);
    in.put_u32(0x08, raw(guest.asid));
    in.put(0x0C, ByteArray<1>{raw(guest.state)});
    return Status::success;
}

Status Machine::copy(Invocation& in, Guest& guest) {
    const std::uint32_t length = in.u32(0x04);
    if (!whole_blocks(length)) return Status::invalid_length;
    const auto from = in.target(0x08, length, block), to = in.target(0x10, length, block);
    if (from.empty() || to.empty()) return Status::invalid_address;
    move_encrypted(cipher_of(guest), in.address(0x08), from, in.address(0x10), to);
    return Status::success;
}

Status Machine::dbg_decrypt(Invocation& in, Guest& guest) {
    const std::uint32_t length = in.u32(0x18);
    if (!whole_blocks(length)) return Status::invalid_length;
    const auto from = in.target(0x08, length, block), to = in.target(0x10, length, block);
    if (from.empty() || to.empty()) return Status::invalid_address;
    read_decrypted(cipher_of(guest), in.address(0x08), from, to);
    return Status::success;
}

Status Machine::dbg_encrypt(Invocation& in, Guest& guest) {
    const std::uint32_t length = in.u32(0x18);
    if (!whole_blocks(length)) return Status::invalid_length;
    const auto from = in.target(0x08, length, block), to = in.target(0x10, length, block);
    if (from.empty() || to.empty()) return Status::invalid_address;
    write_encrypted(cipher_of(guest), in.address(0x10), from, to);
    return Status::success;
}

} // namespace sev::psp::emulator
