// SPDX-License-Identifier: Apache-2.0
#include "psp/physical_memory.hpp"

#include <bit>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::psp {

std::span<std::uint8_t> AddressSpace::at(SystemAddress at, std::uint64_t length_bytes) {
    const std::scoped_lock lock{mutex_};
    auto piece = pieces_.upper_bound(raw(at));
    if (length_bytes == 0 || piece == pieces_.begin()) return {};
    --piece;
    const std::span<std::uint8_t> memory = piece->second;
    const std::uint64_t offset = raw(at) - piece->first;
    if (offset >= memory.size() || length_bytes > memory.size() - offset) return {};
    return memory.subspan(offset, length_bytes);
}

SystemAddress AddressSpace::attach(std::span<std::uint8_t> memory, std::uint64_t align_bytes) {
    require(!memory.empty(), "attached memory is not empty");
    require(align_bytes >= 4096 && std::has_single_bit(align_bytes), "the alignment is a power of two of at least 4096");
    const std::scoped_lock lock{mutex_};
    const std::uint64_t start = (next_ + align_bytes - 1) & ~(align_bytes - 1);
    // An unmapped page stays between two pieces, so that running over the end of one never reaches the next. Addresses are not used
    // twice: a stale one finds nothing.
    next_ = (start + memory.size() + 2 * 4096 - 1) & ~std::uint64_t{4096 - 1};
    pieces_.emplace(start, memory);
    return SystemAddress{start};
}

void AddressSpace::detach(SystemAddress at) {
    const std::scoped_lock lock{mutex_};
    require(pieces_.erase(raw(at)) == 1, "what is detached was attached at this address");
}

} // namespace sev::psp
