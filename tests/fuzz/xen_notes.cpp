// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ovmf-measure/xen/kernel.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::measure;

/// The notes of a kernel: the input is a note segment, put behind a small ELF header.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t at = 64 + 2 * 56;
    Bytes file(at);
    const auto put = [&](std::size_t offset, std::uint64_t value, unsigned bytes) {
        for (unsigned i = 0; i < bytes; ++i) file[offset + i] = static_cast<std::uint8_t>(value >> 8 * i);
    };
    put(0, 0x464C457F, 4);
    put(4, 0x0102, 2); // 64 bit, little-endian
    file[4] = 2, file[5] = 1;
    put(0x12, 62, 2);
    put(0x20, 64, 8);
    put(0x36, 56, 2);
    put(0x38, 2, 2);
    put(64, 1, 4); // a segment of one page without content
    put(64 + 4, 7, 4);
    put(64 + 0x28, 4096, 8);
    put(120, 4, 4);
    put(120 + 8, at, 8);
    put(120 + 0x20, size, 8);
    file.insert(file.end(), data, data + size);
    try {
        const XenElf elf = XenElf::parse(file, "kernel");
        fuzz::expect(elf.notes.count <= size / 12 + 1, "a note has 12 bytes at least");
        fuzz::expect(elf.notes.guest_os.size() <= 15, "Xen keeps 15 bytes of GUEST_OS");
        fuzz::expect(elf.notes.count > 0 || elf.notes == XenNotes{}, "no notes, no values");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::malformed, "bad notes are the kernel's fault");
    }
    return 0;
}
