// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "psp/emulator/user_memory.hpp"

namespace sev::psp::emulator {

/// A piece of the caller's memory.
struct UserRange {
    std::uint64_t address = 0;
    std::uint32_t length_bytes = 0;
    friend bool operator==(const UserRange&, const UserRange&) = default;
};

/// The caller's memory in one round of an unrestricted CUSE ioctl. The kernel hands over only what the round before asked for, so the driver runs
/// from the start each time: a read beyond what is there is noted, and answered with `again` until the kernel has fetched it. What will be written
/// has to be named beforehand too, and is replaced as a whole: its present content is fetched like any input, so that the bytes that the firmware
/// leaves alone stay as they are.
///
/// Nothing happens before all is there: the driver reads and announces first. A caller that changes its own memory between rounds can mix up only its
/// own data.
class CuseMemory final : public UserMemory {
public:
    /// `input`: the bytes of the ranges that the last round asked for, in that order; empty in the first round.
    explicit CuseMemory(ByteView input) : input_{input} {}
    Access read(std::uint64_t address, std::span<std::uint8_t> out) override;
    Access announce(std::uint64_t address, std::uint32_t length_bytes) override;
    Access write(std::uint64_t address, ByteView bytes) override;

    /// What the kernel shall fetch, and what it shall replace, in the next round.
    const std::vector<UserRange>& inputs() const noexcept { return inputs_; }
    const std::vector<UserRange>& outputs() const noexcept { return outputs_; }
    /// The announced ranges one after the other as they shall be afterwards.
    const Bytes& output() const noexcept { return output_; }

private:
    /// The next `length_bytes` of the input; an empty view when they are not there.
    ByteView next(std::uint64_t address, std::size_t length_bytes);
    ByteView input_;
    std::size_t used_ = 0;
    std::vector<UserRange> inputs_, outputs_;
    Bytes output_;
};

} // namespace sev::psp::emulator
