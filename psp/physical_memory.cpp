// SPDX-License-Identifier: Apache-2.0
#include "psp/physical_memory.hpp"

#include <bit>
#include <cerrno>
#include <cstring>

#include <sys/mman.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::psp {
namespace {

constexpr std::uint64_t page_bytes = 4096;

class AnonymousPages final : public Pages {
public:
    AnonymousPages(AddressSpace& space, std::uint64_t size_bytes, std::uint64_t align_bytes)
        : space_{space}, mapped_bytes_{(size_bytes + page_bytes - 1) / page_bytes * page_bytes} {
        void* const memory = ::mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw Error{Fault::system, fmt::format("guest memory of {} bytes: {}", mapped_bytes_, std::strerror(errno))};
        ::madvise(memory, mapped_bytes_, MADV_DONTDUMP); // a core file is no place for a guest; a kernel that cannot is no reason to stop
        bytes_ = {static_cast<std::uint8_t*>(memory), mapped_bytes_};
        try {
            at_ = space_.attach(bytes_, align_bytes);
        } catch (...) {
            ::munmap(memory, mapped_bytes_);
            throw;
        }
    }
    ~AnonymousPages() override {
        space_.detach(at_);
        ::munmap(bytes_.data(), mapped_bytes_);
    }

private:
    AddressSpace& space_;
    std::uint64_t mapped_bytes_;
};

} // namespace

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

std::unique_ptr<Pages> AddressSpace::allocate(std::uint64_t size_bytes, std::uint64_t align_bytes) {
    return std::make_unique<AnonymousPages>(*this, size_bytes, align_bytes);
}

} // namespace sev::psp
