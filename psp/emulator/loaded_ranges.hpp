// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>

namespace sev::psp::emulator {

/// Which memory a launch has encrypted, each byte once however often it was loaded. Pieces stay as they came: what lies side by side in the address
/// space need not be one piece of anybody's memory.
class LoadedRanges {
public:
    void add(std::uint64_t start, std::uint64_t length_bytes) {
        const std::uint64_t end = start + length_bytes;
        auto next = ends_.upper_bound(start);
        if (next != ends_.begin()) start = std::max(start, std::prev(next)->second);
        for (; start < end; ++next) {
            const std::uint64_t piece_end = next == ends_.end() ? end : std::min(end, next->first);
            if (start < piece_end) ends_.emplace_hint(next, start, piece_end);
            if (next == ends_.end()) return;
            start = std::max(start, next->second);
        }
    }
    void clear() { ends_.clear(); }
    /// Start → end of each piece, ascending, without overlap.
    const std::map<std::uint64_t, std::uint64_t>& pieces() const noexcept { return ends_; }

private:
    std::map<std::uint64_t, std::uint64_t> ends_;
};

} // namespace sev::psp::emulator
