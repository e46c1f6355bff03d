// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <utility>

#include "base/bytes.hpp"

namespace sev {

/// Cursor reads variable-length outside bytes front to back, bounds-checked. Every reader throws Error{Fault::malformed}
/// that names the subject, the field, its offset, and how many bytes were wanted and left.
class Cursor {
public:
    Cursor(ByteView bytes, std::string subject) : bytes_{bytes}, subject_{std::move(subject)} {}

    std::size_t offset() const noexcept { return at_; }
    std::size_t remaining() const noexcept { return bytes_.size() - at_; }
    ByteView take(std::size_t length_bytes, std::string_view field);
    std::uint8_t u8(std::string_view field);
    std::uint16_t le16(std::string_view field);
    std::uint32_t le32(std::string_view field);
    std::uint64_t le64(std::string_view field);
    template <std::size_t Size>
    ByteArray<Size> array(std::string_view field) {
        const ByteView from = take(Size, field);
        ByteArray<Size> out{};
        for (std::size_t i = 0; i < Size; ++i) out[i] = from[i];
        return out;
    }
    /// Refuses left-over bytes.
    void done() const;
    /// Throws Error{Fault::malformed}: "<subject>: <offset>h <problem>".
    [[noreturn]] void refuse(std::string_view problem) const;

private:
    ByteView bytes_;
    std::size_t at_ = 0;
    std::string subject_;
};

} // namespace sev
