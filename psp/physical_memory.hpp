// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <mutex>

#include "psp/types.hpp"

namespace sev::psp {

/// The physical memory that an emulated PSP sees.
class PhysicalMemory {
public:
    virtual ~PhysicalMemory() = default;
    /// The `length_bytes` at `at`, writable, or an empty span when they are not all mapped in one piece. Valid until the memory is detached.
    virtual std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) = 0;
};

/// An address space to which pieces of this process's memory are attached: guest images, foreign mappings, scratch pages. Thread-safe.
class AddressSpace final : public PhysicalMemory {
public:
    std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) override;
    /// Makes `memory` visible at a free address whose alignment is `align_bytes` (a power of two ≥ 4096). The caller keeps it alive until `detach`.
    SystemAddress attach(std::span<std::uint8_t> memory, std::uint64_t align_bytes = 4096);
    void detach(SystemAddress at);

private:
    std::mutex mutex_;
    std::map<std::uint64_t, std::span<std::uint8_t>> pieces_;
    std::uint64_t next_ = 0x1'0000'0000;
};

} // namespace sev::psp
