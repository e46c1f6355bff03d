// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "psp/emulator/device_wire.hpp"
#include "psp/emulator/user_memory.hpp"

namespace sev::psp::emulator {

/// A conversation with one program about one ioctl, message by message.
class Channel {
public:
    virtual ~Channel() = default;
    /// False when the other end is gone or does not take the message in time.
    virtual bool send(ByteView message) = 0;
    /// The next message, at most `device_wire::message_limit_bytes`; nullopt when the other end is gone or silent for too long.
    virtual std::optional<Bytes> receive() = 0;
};

/// The memory of a program at the other end of a channel. A program that answers wrongly, late or not at all has no memory any more: every later
/// access is a fault.
class RemoteMemory final : public UserMemory {
public:
    explicit RemoteMemory(Channel& channel) : channel_{channel} {}
    Access read(std::uint64_t address, std::span<std::uint8_t> out) override;
    Access announce(std::uint64_t, std::uint32_t) override { return Access::done; }
    Access write(std::uint64_t address, ByteView bytes) override;
    /// The program broke the protocol or is gone.
    bool broken() const noexcept { return broken_; }

private:
    Access ask(const device_wire::Header& header, ByteView payload, device_wire::Kind wanted, std::span<std::uint8_t> out);
    Channel& channel_;
    bool broken_ = false;
};

/// A message: header and payload.
Bytes device_message(const device_wire::Header& header, ByteView payload = {});

} // namespace sev::psp::emulator
