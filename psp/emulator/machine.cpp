// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/machine.hpp"

#include <variant>

#include "psp/emulator/guest_memory.hpp"
#include "psp/emulator/nv_buffer.hpp"

namespace sev::psp::emulator {

Machine::Machine(Chip chip, std::shared_ptr<const PlatformKeys> flash, Options options, Save save)
    : chip_{std::move(chip)}, cek_{chip_.cek_key()}, options_{std::move(options)}, save_{std::move(save)}, flash_{std::move(flash)},
      asids_{*chip_.personality}, next_handle_{choices::first_handle} {}

/// The order of checks, the same for all commands: id, platform state, command buffer, reserved fields, handle, guest state, activity, policy; then,
/// in each command's own code, lengths, other addresses, certificates, MACs. Whatever fails, nothing has changed but the lengths that a query asks
/// for.
Status Machine::execute(std::uint32_t command, SystemAddress buffer, PhysicalMemory& memory) {
    const CommandInfo* info = find_command(command);
    if (!info || api() < choices::introduced_in(info->id)) return Status::invalid_command;
    if (choices::unsupported(info->id)) return Status::unsupported;
    const Rule& rule = rule_of(info->id);

    std::variant<std::monostate, std::shared_lock<std::shared_mutex>, std::unique_lock<std::shared_mutex>> lock;
    if (rule.lock == Lock::shared) lock = std::shared_lock{platform_};
    if (rule.lock == Lock::exclusive) lock = std::unique_lock{platform_};

    Invocation in{memory, std::uint64_t{1} << chip_.personality->c_bit};
    {
        const std::lock_guard state{state_};
        const bool also_working = rule.id == CommandId::pek_csr && api() >= choices::pek_csr_in_working_since && pstate_ == PlatformState::working;
        if ((rule.platform >> raw(pstate_) & 1) == 0 && !also_working) return Status::invalid_platform_state;
        in.protect(tmr_);
    }
    if (info->buffer_size > 0 && !in.open(buffer, info->buffer_size)) return Status::invalid_address;
    for (const Field& field : rule.reserved)
        if (!std::ranges::all_of(in.bytes(field.at, field.length_bytes), [](std::uint8_t b) { return b == 0; })) return Status::invalid_param;
    return rule.run ? (this->*rule.run)(in) : run_guest_command(rule, in);
}

Status Machine::run_guest_command(const Rule& rule, Invocation& in) {
    const std::shared_ptr<Guest> guest = find_guest(GuestHandle{in.u32(rule.handle_at)});
    if (!guest) return Status::invalid_guest;
    const std::lock_guard lock{guest->mutex};
    if (guest->state == GuestState::invalid) return Status::invalid_guest; // gone while this command waited for its turn
    if ((rule.guest >> raw(guest->state) & 1) == 0) return Status::invalid_guest_state;
    if (rule.activity == Activity::active && !guest->active()) return Status::inactive;
    if (rule.activity == Activity::inactive && guest->active()) return Status::active;
    if (rule.needs == Needs::es && !guest->policy.wants_es()) return Status::policy_failure;
    if (rule.needs == Needs::debugging && guest->policy.has(Policy::nodbg)) return Status::policy_failure;
    return (this->*rule.run_on_guest)(in, *guest);
}

std::shared_ptr<Guest> Machine::find_guest(GuestHandle handle) {
    const std::lock_guard state{state_};
    const auto found = guests_.find(raw(handle));
    return found == guests_.end() ? nullptr : found->second;
}

bool Machine::is_registered(const Guest& guest) const {
    const auto found = guests_.find(raw(guest.handle));
    return found != guests_.end() && found->second.get() == &guest;
}

void Machine::draw(std::span<std::uint8_t> out, std::string_view purpose) {
    const std::lock_guard lock{random_mutex_};
    options_.random(out, purpose);
}

std::shared_ptr<const PlatformKeys> Machine::keys() {
    const std::lock_guard state{state_};
    require(keys_ != nullptr, "an initialised platform has keys");
    return keys_;
}

Status Machine::store(std::shared_ptr<const PlatformKeys> keys, Invocation& in) {
    if (!nv_at_) {
        save_(keys.get());
        flash_ = std::move(keys);
        return Status::success;
    }
    const auto nv = in.memory_at(*nv_at_, choices::nv_bytes);
    if (nv.empty()) return Status::invalid_address;
    if (keys)
        write_nv(nv.first<choices::nv_bytes>(), chip_, *keys, [this](std::span<std::uint8_t> out, std::string_view purpose) { draw(out, purpose); });
    else
        erase_nv(nv.first<choices::nv_bytes>());
    return Status::success;
}

Status Machine::store_and_use(PlatformKeys keys, Invocation& in) {
    const auto shared = std::make_shared<const PlatformKeys>(std::move(keys));
    if (const Status stored = store(shared, in); stored != Status::success) return stored;
    const std::lock_guard state{state_};
    keys_ = shared;
    return Status::success;
}

void Machine::wbinvd() {
    const std::lock_guard state{state_};
    asids_.wbinvd();
}

void Machine::power_off_guests() {
    std::unordered_map<std::uint32_t, std::shared_ptr<Guest>> guests;
    {
        const std::lock_guard state{state_};
        guests.swap(guests_);
        pstate_ = PlatformState::uninit;
        es_ = false;
        tmr_.reset();
        keys_.reset();
    }
    // a command that is still at work on a guest finishes first; one that waits for the guest finds it gone
    for (const auto& [handle, guest] : guests) {
        const std::lock_guard lock{guest->mutex};
        guest->erase();
    }
}

void Machine::reset() {
    const std::unique_lock lock{platform_};
    power_off_guests();
    nv_at_.reset();
    const std::lock_guard state{state_};
    next_handle_ = choices::first_handle;
}

void Machine::lose_flash() {
    const std::unique_lock lock{platform_};
    {
        const std::lock_guard state{state_};
        if (pstate_ != PlatformState::uninit) return;
    }
    save_(nullptr);
    flash_.reset();
}

void Machine::read_as_guest(GuestHandle handle, SystemAddress at, std::span<std::uint8_t> out, PhysicalMemory& memory) {
    if (out.empty()) return;
    const std::shared_ptr<Guest> guest = find_guest(handle);
    if (!guest) throw Error{sev::Fault::usage, "no guest with this handle"};
    const std::lock_guard lock{guest->mutex};
    if (guest->state == GuestState::invalid) throw Error{sev::Fault::usage, "no guest with this handle"};
    // whole blocks around what was asked for
    const std::uint64_t first = raw(at) & ~std::uint64_t{15}, last = (raw(at) + out.size() + 15) & ~std::uint64_t{15};
    const auto cipher_text = memory.at(SystemAddress{first}, last - first);
    if (cipher_text.empty()) throw Error{sev::Fault::usage, "this memory is not mapped"};
    SecretBytes plain{cipher_text.size()};
    read_decrypted(cipher_of(*guest), SystemAddress{first}, cipher_text, plain.writable());
    std::ranges::copy(plain.reveal().subspan(raw(at) - first, out.size()), out.begin());
}

} // namespace sev::psp::emulator
