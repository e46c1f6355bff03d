// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/kernel.hpp"
#include "ovmf-measure/xen/unpack.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace sev;
using namespace sev::measure;

/// A kernel file: packed or not, what is unpacked stays within the limit, and what parses as ELF lies in order inside the file.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t limit = 1U << 20;
    const ByteView file{data, size};
    try {
        const Unpacked kernel = unpack_kernel(file, "kernel", 16, limit);
        fuzz::expect(kernel.bytes.size() <= limit + 16, "the output is bounded");
        const XenElf elf = XenElf::parse(kernel.bytes, "kernel");
        std::uint64_t end = elf.start;
        for (const XenElfSegment& segment : elf.segments) {
            fuzz::expect(segment.memsz == 0 || segment.paddr >= end, "segments are in order");
            fuzz::expect(segment.offset + segment.filesz <= kernel.bytes.size() && segment.filesz <= segment.memsz, "segments are inside the file");
            end = std::max(end, segment.paddr + segment.memsz);
        }
        fuzz::expect(end == elf.end && elf.end > elf.start, "the segments make the image");
        check_pvh_kernel(elf, {}, "kernel");
        fuzz::expect(*elf.notes.phys32_entry >= elf.start && *elf.notes.phys32_entry <= elf.end, "the entry is in the image");
    } catch (const Error& error) {
        fuzz::expect(error.fault() == Fault::malformed || error.fault() == Fault::usage, "a bad kernel is the kernel's fault");
    }
    return 0;
}
