// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/variable_store.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/wire.hpp"

namespace sev::measure {

namespace {

constexpr std::size_t header_bytes = 0x38; // the fixed part
constexpr ByteArray<16> file_system{0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50};
constexpr ByteArray<4> signature{'_', 'F', 'V', 'H'};

} // namespace

std::vector<VariableStore> variable_stores(ByteView image) {
    std::vector<VariableStore> stores;
    for (std::size_t at = 0; at + header_bytes <= image.size(); at += 8) {
        if (image[at + 0x10] != file_system[0]) continue;
        const wire::View<header_bytes> header{image.data() + at, header_bytes};
        if (wire::bytes<0x10, 16>(header) != file_system || wire::bytes<0x28, 4>(header) != signature) continue;
        stores.push_back({.file_offset = at, .size_bytes = wire::le64<0x20>(header)});
    }
    return stores;
}

} // namespace sev::measure
