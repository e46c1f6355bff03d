// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/bytes.hpp"

namespace sev::psp::emulator {

/// The memory of the program that made an ioctl, as a driver sees it: copied in and copied out, never mapped. Behind it stands another process or the
/// kernel.
class UserMemory {
public:
    enum class Access {
        done,
        fault, // not mapped, or not for this: EFAULT
        again, // the transport must fetch what was asked for first; the ioctl is then run again from the start
    };
    virtual ~UserMemory() = default;
    virtual Access read(std::uint64_t address, std::span<std::uint8_t> out) = 0;
    /// Announces that a part of these `length_bytes` will be written. All announcements and reads come before the firmware is called.
    virtual Access announce(std::uint64_t address, std::uint32_t length_bytes) = 0;
    /// Writes within what was announced.
    virtual Access write(std::uint64_t address, ByteView bytes) = 0;
};

} // namespace sev::psp::emulator
