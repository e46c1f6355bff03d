// SPDX-License-Identifier: Apache-2.0
#include "base/cursor.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev {

ByteView Cursor::take(std::size_t length_bytes, std::string_view field) {
    if (length_bytes > remaining())
        refuse(fmt::format("{}: {} bytes wanted, {} left", field, length_bytes, remaining()));
    const ByteView out = bytes_.subspan(at_, length_bytes);
    at_ += length_bytes;
    return out;
}

std::uint8_t Cursor::u8(std::string_view field) { return take(1, field)[0]; }

std::uint16_t Cursor::le16(std::string_view field) {
    const ByteView b = take(2, field);
    return static_cast<std::uint16_t>(b[0] | b[1] << 8);
}

std::uint32_t Cursor::le32(std::string_view field) {
    const std::uint32_t low = le16(field);
    return low | std::uint32_t{le16(field)} << 16;
}

std::uint64_t Cursor::le64(std::string_view field) {
    const std::uint64_t low = le32(field);
    return low | std::uint64_t{le32(field)} << 32;
}

void Cursor::done() const {
    if (remaining() != 0) refuse(fmt::format("{} bytes left over", remaining()));
}

void Cursor::refuse(std::string_view problem) const {
    throw Error{Fault::malformed, fmt::format("{}: {:x}h {}", subject_, at_, problem)};
}

} // namespace sev
