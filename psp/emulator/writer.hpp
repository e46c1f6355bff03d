// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/wire.hpp"

namespace sev::psp::emulator {

/// Writes front to back into memory of the right size, for what holds keys and so must not grow: the counterpart of Cursor.
class Writer {
public:
    explicit Writer(std::span<std::uint8_t> out) : out_{out} {}
    Writer& bytes(ByteView from) {
        require(from.size() <= out_.size() - at_, "writer has room");
        std::ranges::copy(from, out_.begin() + static_cast<std::ptrdiff_t>(at_));
        at_ += from.size();
        return *this;
    }
    Writer& le32(std::uint32_t value) { return bytes(wire::le32_bytes(value)); }
    std::size_t offset() const noexcept { return at_; }
    void done() const { require(at_ == out_.size(), "writer is full"); }

private:
    std::span<std::uint8_t> out_;
    std::size_t at_ = 0;
};

} // namespace sev::psp::emulator
