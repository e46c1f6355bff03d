// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "base/error.hpp"
#include "base/wire.hpp"
#include "psp/command_id.hpp"
#include "psp/physical_memory.hpp"

namespace sev::psp::emulator {

/// The Trusted Memory Region of a platform initialised with SEV-ES: nobody else's business.
struct Tmr {
    std::uint64_t start = 0, length_bytes = 0;
    bool touches(std::uint64_t at, std::uint64_t size_bytes) const noexcept { return at < start + length_bytes && start < at + size_bytes; }
};

/// One command on its way through the emulator: its command buffer, read once, and the memory that it names.
class Invocation {
public:
    static constexpr std::size_t max_buffer_bytes = 0x34;

    Invocation(PhysicalMemory& memory, std::uint64_t c_bit_mask) : memory_{memory}, c_bit_mask_{c_bit_mask} {}

    void protect(const std::optional<Tmr>& tmr) { tmr_ = tmr; }
    /// Reads the command buffer. False when it is not there.
    bool open(SystemAddress at, std::size_t size_bytes) {
        require(size_bytes <= max_buffer_bytes, "a command buffer fits");
        live_ = memory_at(raw(at), size_bytes);
        std::ranges::copy(live_, copy_.begin());
        return live_.size() == size_bytes;
    }

    std::uint32_t u32(std::size_t at) const { return static_cast<std::uint32_t>(number(at, 4)); }
    std::uint64_t u64(std::size_t at) const { return number(at, 8); }
    ByteView bytes(std::size_t at, std::size_t length_bytes) const { return ByteView{copy_}.subspan(at, length_bytes); }
    /// Writes an output field of the command buffer.
    void put(std::size_t at, ByteView value) {
        require(at + value.size() <= live_.size(), "an output field lies in the command buffer");
        std::ranges::copy(value, live_.begin() + static_cast<std::ptrdiff_t>(at));
    }
    void put_u32(std::size_t at, std::uint32_t value) { put(at, wire::le32_bytes(value)); }

    /// The address in the field at `at`, without the C-bit.
    SystemAddress address(std::size_t at) const { return SystemAddress{u64(at) & ~c_bit_mask_}; }
    /// What the address field at `at` points to: empty (INVALID_ADDRESS) when it is not all mapped, not aligned, or touches the TMR.
    std::span<std::uint8_t> target(std::size_t at, std::uint64_t length_bytes, std::uint64_t align_bytes = 1) const {
        return u64(at) % align_bytes == 0 ? memory_at(u64(at), length_bytes) : std::span<std::uint8_t>{};
    }
    std::span<std::uint8_t> memory_at(std::uint64_t at, std::uint64_t length_bytes) const {
        at &= ~c_bit_mask_;
        if (length_bytes == 0 || at + length_bytes < at || (tmr_ && tmr_->touches(at, length_bytes))) return {};
        return memory_.at(SystemAddress{at}, length_bytes);
    }

private:
    std::uint64_t number(std::size_t at, std::size_t size_bytes) const {
        require(at + size_bytes <= live_.size(), "a field lies in its command buffer");
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < size_bytes; ++i) value |= std::uint64_t{copy_[at + i]} << (8 * i);
        return value;
    }
    PhysicalMemory& memory_;
    std::uint64_t c_bit_mask_;
    std::optional<Tmr> tmr_;
    std::span<std::uint8_t> live_;
    ByteArray<max_buffer_bytes> copy_{};
};

} // namespace sev::psp::emulator
