// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/machine.hpp"
#include "psp/emulator/nv_buffer.hpp"
#include "psp/structures.hpp"

namespace sev::psp::emulator {

/// FLAGS, and 4 bytes further TMR_PADDR and TMR_LENGTH, as INIT and INIT_EX have them. Source: SEV API (AMD 55766), INIT, INIT_EX.
Status Machine::read_init_flags(Invocation& in, std::size_t flags_at, InitFlags& out) {
    const std::size_t tmr_at = 0x08;
    const std::uint32_t flags = in.u32(flags_at);
    if ((flags & ~choices::init_flags) != 0) return Status::invalid_param;
    out.es = (flags & 1) != 0;
    if (!out.es) return Status::success;
    if (in.u32(tmr_at + 8) != choices::tmr_bytes) return Status::invalid_length;
    if (in.target(tmr_at, choices::tmr_bytes, choices::tmr_bytes).empty()) return Status::invalid_address;
    out.tmr = Tmr{.start = raw(in.address(tmr_at)), .length_bytes = choices::tmr_bytes};
    return Status::success;
}

void Machine::enter_init(const InitFlags& flags, std::shared_ptr<const PlatformKeys> keys) {
    const std::lock_guard state{state_};
    pstate_ = PlatformState::init;
    es_ = flags.es;
    tmr_ = flags.tmr;
    keys_ = std::move(keys);
    asids_.reset();
}

Status Machine::init(Invocation& in) {
    InitFlags flags;
    if (const Status read = read_init_flags(in, 0x00, flags); read != Status::success) return read;
    std::shared_ptr<const PlatformKeys> keys = flash_;
    if (!keys) {
        keys = std::make_shared<const PlatformKeys>(PlatformKeys::generate(api(), cek_));
        save_(keys.get());
        flash_ = keys;
    }
    nv_at_.reset();
    enter_init(flags, std::move(keys));
    return Status::success;
}

Status Machine::init_ex(Invocation& in) {
    const std::size_t nv_field = 0x18;
    if ((in.u32(0x04) & ~choices::init_flags) != 0) return Status::invalid_param;
    if (in.u32(0x00) != 0x24 || in.u32(0x20) != choices::nv_bytes) return Status::invalid_length;
    InitFlags flags;
    if (const Status read = read_init_flags(in, 0x04, flags); read != Status::success) return read;
    const auto nv = in.target(nv_field, choices::nv_bytes, choices::nv_align);
    const std::uint64_t nv_at = raw(in.address(nv_field));
    if (nv.empty() || (flags.tmr && flags.tmr->touches(nv_at, choices::nv_bytes))) return Status::invalid_address;
    const auto buffer = nv.first<choices::nv_bytes>();
    NvContent content = read_nv(buffer, chip_);
    if (!content.valid) {
        // so that the next INIT_EX starts from empty; Linux relies on it
        erase_nv(buffer);
        return Status::secure_data_invalid;
    }
    if (!content.keys) {
        content.keys = std::make_shared<const PlatformKeys>(PlatformKeys::generate(api(), cek_));
        write_nv(buffer, chip_, *content.keys, [this](std::span<std::uint8_t> out, std::string_view purpose) { draw(out, purpose); });
    }
    nv_at_ = nv_at;
    enter_init(flags, std::move(content.keys));
    return Status::success;
}

Status Machine::shutdown(Invocation&) {
    power_off_guests();
    return Status::success;
}

Status Machine::platform_reset(Invocation& in) { return store(nullptr, in); }

Status Machine::platform_status(Invocation& in) {
    PlatformStatus status{.build = chip_.personality->build};
    {
        const std::lock_guard state{state_};
        status.state = pstate_;
        // in UNINIT the other fields read 0
        status.externally_owned = keys_ && keys_->externally_owned();
        status.es_configured = es_;
        status.guest_count = static_cast<std::uint32_t>(guests_.size());
    }
    in.put(0x00, status.serialize());
    return Status::success;
}

Status Machine::df_flush(Invocation&) {
    const std::lock_guard state{state_};
    if (options_.automatic_wbinvd) asids_.wbinvd();
    return asids_.df_flush();
}

Status Machine::download_firmware(Invocation& in) {
    const std::uint32_t length = in.u32(0x08);
    if (length == 0 || length > choices::max_firmware_bytes(chip_.personality->product)) return Status::invalid_length;
    if (in.target(0x00, length, choices::firmware_align).empty()) return Status::invalid_address;
    return Status::unsupported;
}

Status Machine::get_id(Invocation& in) {
    const std::uint32_t id_bytes = sizeof(ChipId), length = in.u32(0x08);
    if (length < id_bytes) {
        in.put_u32(0x08, id_bytes);
        return Status::invalid_length;
    }
    const std::size_t count = std::min<std::size_t>(length / id_bytes, chip_.ids.size());
    const std::uint32_t written = static_cast<std::uint32_t>(count) * id_bytes;
    const auto out = in.target(0x00, written, choices::id_align);
    if (out.empty()) return Status::invalid_address;
    for (std::size_t i = 0; i < count; ++i) std::ranges::copy(chip_.ids[i], out.subspan(i * id_bytes).begin());
    in.put_u32(0x08, written);
    return Status::success;
}

Status Machine::nop(Invocation&) { return Status::success; }

} // namespace sev::psp::emulator
