// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/mailbox_memory.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/error.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::uint64_t page_bytes = 4096, four_gib = std::uint64_t{1} << 32;
constexpr std::uint64_t limit_bytes = std::uint64_t{1} << 46; // more than any machine has, and no sum of such overflows

std::string subject(const Path& file) { return fmt::format("the machine's RAM, {}", printable(file.string(), 4096)); }

void check(const Path& file, const RamLayout& layout, std::uint64_t file_bytes) {
    const auto refuse = [&](std::string_view problem) { throw Error{Fault::malformed, fmt::format("{}: {}", subject(file), problem)}; };
    if (layout.below_bytes == 0 || layout.below_bytes > four_gib) refuse(fmt::format("{:#x} bytes below 4 GiB", layout.below_bytes));
    if (layout.above_bytes > limit_bytes || layout.above_start > limit_bytes)
        refuse(fmt::format("{:#x} bytes from {:#x}", layout.above_bytes, layout.above_start));
    if (layout.above_bytes > 0 && layout.above_start < four_gib)
        refuse(fmt::format("what is above 4 GiB starts at {:#x}", layout.above_start));
    for (const std::uint64_t value : {layout.below_bytes, layout.above_start, layout.above_bytes})
        if (value % page_bytes != 0) refuse(fmt::format("{:#x} is no multiple of a page", value));
    if (layout.below_bytes + layout.above_bytes != file_bytes)
        refuse(fmt::format("{} bytes, but the machine has {}", file_bytes, layout.below_bytes + layout.above_bytes));
}

} // namespace

MailboxMemory::MailboxMemory(const Path& file, const RamLayout& layout)
    : file_{::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK)}, layout_{layout} {
    struct stat status {};
    if (!file_ || ::fstat(file_.get(), &status) != 0) throw Error{Fault::system, fmt::format("{}: {}", subject(file), std::strerror(errno))};
    if (!S_ISREG(status.st_mode)) throw Error{Fault::system, fmt::format("{}: no regular file", subject(file))};
    const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
    check(file, layout, file_bytes);
    void* const mapped = ::mmap(nullptr, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    if (mapped == MAP_FAILED) throw Error{Fault::system, fmt::format("{}: cannot be mapped: {}", subject(file), std::strerror(errno))};
    ::madvise(mapped, file_bytes, MADV_DONTDUMP); // a guest's memory has no place in a core file
    bytes_ = {static_cast<std::uint8_t*>(mapped), file_bytes};
}

MailboxMemory::~MailboxMemory() { ::munmap(bytes_.data(), bytes_.size()); }

std::span<std::uint8_t> MailboxMemory::at(SystemAddress at, std::uint64_t length_bytes) {
    const std::uint64_t from = raw(at);
    const auto inside = [&](std::uint64_t start, std::uint64_t size) {
        return from >= start && length_bytes <= size && from - start <= size - length_bytes;
    };
    struct stat status {};
    if (length_bytes == 0 || ::fstat(file_.get(), &status) != 0 || static_cast<std::uint64_t>(status.st_size) < bytes_.size()) return {};
    if (inside(0, layout_.below_bytes)) return bytes_.subspan(from, length_bytes);
    if (inside(layout_.above_start, layout_.above_bytes)) return bytes_.subspan(layout_.below_bytes + (from - layout_.above_start), length_bytes);
    return {};
}

} // namespace sev::psp::emulator
