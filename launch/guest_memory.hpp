// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "psp/types.hpp"

namespace sev::launch {

/// A piece of guest memory as the PSP's transport names it.
struct Run {
    psp::SystemAddress at;
    std::uint64_t length_bytes;
    friend bool operator==(const Run&, const Run&) = default;
};

/// The memory of one guest, from the host's side: an image in this process, or a paused Xen domain.
class GuestMemory {
public:
    GuestMemory() = default;
    GuestMemory(const GuestMemory&) = delete;
    GuestMemory& operator=(const GuestMemory&) = delete;
    virtual ~GuestMemory() = default;
    /// Where [start, start + length_bytes) lies, in order, as few runs as there are. Throws Error{Fault::usage} when any byte of it is not guest
    /// memory.
    virtual std::vector<Run> locate(psp::Gpa start, std::uint64_t length_bytes) const = 0;
    /// What the host sees there: ciphertext once the PSP has encrypted it. Throws like `locate`.
    virtual void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const = 0;
};

} // namespace sev::launch
