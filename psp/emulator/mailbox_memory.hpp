// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/file.hpp"
#include "psp/physical_memory.hpp"

namespace sev::psp::emulator {

/// Where a PC has its RAM: from address 0 up to a hole for devices below 4 GiB, and what does not fit there from `above_start` on.
struct RamLayout {
    std::uint64_t below_bytes = 0, above_start = 0, above_bytes = 0;
};

/// The RAM of a virtual machine, shared through the file that backs it: the part below 4 GiB first, then the part above.
class MailboxMemory final : public PhysicalMemory {
public:
    /// Maps the file. Throws Error{Fault::malformed} for a layout that no machine has or that is not as large as the file, Error{Fault::system} when
    /// the file cannot be mapped or is none.
    MailboxMemory(const Path& file, const RamLayout& layout);
    MailboxMemory(const MailboxMemory&) = delete;
    MailboxMemory& operator=(const MailboxMemory&) = delete;
    ~MailboxMemory() override;

    /// Nothing once somebody has cut the file: to touch what is gone would end this process.
    std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) override;

private:
    Fd file_;
    RamLayout layout_;
    std::span<std::uint8_t> bytes_;
};

} // namespace sev::psp::emulator
