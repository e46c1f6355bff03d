// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/cuse_memory.hpp"

#include <algorithm>

namespace sev::psp::emulator {

ByteView CuseMemory::next(std::uint64_t address, std::size_t length_bytes) {
    inputs_.push_back({.address = address, .length_bytes = static_cast<std::uint32_t>(length_bytes)});
    if (input_.size() - used_ < length_bytes) {
        used_ = input_.size(); // whatever follows is of another round
        return {};
    }
    const ByteView bytes = input_.subspan(used_, length_bytes);
    used_ += length_bytes;
    return bytes;
}

UserMemory::Access CuseMemory::read(std::uint64_t address, std::span<std::uint8_t> out) {
    if (out.empty()) return Access::done;
    const ByteView bytes = next(address, out.size());
    if (bytes.empty()) return Access::again;
    std::ranges::copy(bytes, out.begin());
    return Access::done;
}

UserMemory::Access CuseMemory::announce(std::uint64_t address, std::uint32_t length_bytes) {
    if (length_bytes == 0) return Access::done;
    outputs_.push_back({.address = address, .length_bytes = length_bytes});
    const ByteView bytes = next(address, length_bytes);
    if (bytes.empty()) return Access::again;
    output_.insert(output_.end(), bytes.begin(), bytes.end());
    return Access::done;
}

UserMemory::Access CuseMemory::write(std::uint64_t address, ByteView bytes) {
    std::size_t before = 0;
    for (const UserRange& range : outputs_) {
        if (address >= range.address && address - range.address <= range.length_bytes &&
            bytes.size() <= range.length_bytes - (address - range.address)) {
            std::ranges::copy(bytes, output_.begin() + static_cast<std::ptrdiff_t>(before + (address - range.address)));
            return Access::done;
        }
        before += range.length_bytes;
    }
    return Access::fault;
}

} // namespace sev::psp::emulator
