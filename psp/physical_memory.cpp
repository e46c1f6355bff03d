// SPDX-License-Identifier: Apache-2.0
#include "psp/physical_memory.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include <sys/mman.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::psp {
namespace {

constexpr std::uint64_t page_bytes = 4096;

} // namespace

/// Zeroed memory of this process, until nobody has it any more.
struct AddressSpace::Mapping {
    explicit Mapping(std::uint64_t size_bytes) {
        void* const memory = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) throw Error{Fault::system, fmt::format("guest memory of {} bytes: {}", size_bytes, std::strerror(errno))};
        ::madvise(memory, size_bytes, MADV_DONTDUMP); // a core file is no place for a guest; a kernel that cannot is no reason to stop
        ::munlock(memory, size_bytes); // a process that locks its memory need not lock a guest's, but for what `Pages::lock` says
        bytes = {static_cast<std::uint8_t*>(memory), size_bytes};
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping() { ::munmap(bytes.data(), bytes.size()); }
    std::span<std::uint8_t> bytes;
};

class AddressSpace::AnonymousPages final : public Pages {
public:
    AnonymousPages(AddressSpace& space, std::uint64_t size_bytes, std::uint64_t align_bytes) : space_{space} {
        const auto mapping = std::make_shared<const Mapping>((size_bytes + page_bytes - 1) / page_bytes * page_bytes);
        bytes_ = mapping->bytes;
        at_ = space_.attach(Piece{.bytes = bytes_, .mapping = mapping}, align_bytes);
    }
    ~AnonymousPages() override { space_.detach(at_); }

private:
    AddressSpace& space_;
};

void Pages::lock(std::uint64_t offset, std::uint64_t length_bytes) const noexcept {
    if (offset >= bytes_.size()) return;
    ::mlock(bytes_.data() + offset, std::min<std::uint64_t>(length_bytes, bytes_.size() - offset));
}

AddressSpace::Piece AddressSpace::find(SystemAddress at, std::uint64_t length_bytes) {
    const std::scoped_lock lock{mutex_};
    auto found = pieces_.upper_bound(raw(at));
    if (length_bytes == 0 || found == pieces_.begin()) return {};
    --found;
    const Piece& piece = found->second;
    const std::uint64_t offset = raw(at) - found->first;
    if (offset >= piece.bytes.size() || length_bytes > piece.bytes.size() - offset) return {};
    return {.bytes = piece.bytes.subspan(offset, length_bytes), .mapping = piece.mapping};
}

std::span<std::uint8_t> AddressSpace::at(SystemAddress at, std::uint64_t length_bytes) { return find(at, length_bytes).bytes; }

SystemAddress AddressSpace::attach(std::span<std::uint8_t> memory, std::uint64_t align_bytes) {
    return attach(Piece{.bytes = memory, .mapping = nullptr}, align_bytes);
}

SystemAddress AddressSpace::attach(Piece piece, std::uint64_t align_bytes) {
    require(!piece.bytes.empty(), "attached memory is not empty");
    require(align_bytes >= 4096 && std::has_single_bit(align_bytes), "the alignment is a power of two of at least 4096");
    const std::scoped_lock lock{mutex_};
    const std::uint64_t start = (next_ + align_bytes - 1) & ~(align_bytes - 1);
    // An unmapped page stays between two pieces, so that running over the end of one never reaches the next. Addresses are not used
    // twice: a stale one finds nothing.
    next_ = (start + piece.bytes.size() + 2 * 4096 - 1) & ~std::uint64_t{4096 - 1};
    pieces_.emplace(start, std::move(piece));
    return SystemAddress{start};
}

void AddressSpace::detach(SystemAddress at) {
    decltype(pieces_)::node_type piece; // unmapped without the lock
    const std::scoped_lock lock{mutex_};
    piece = pieces_.extract(raw(at));
    require(!piece.empty(), "what is detached was attached at this address");
}

std::unique_ptr<Pages> AddressSpace::allocate(std::uint64_t size_bytes, std::uint64_t align_bytes) {
    return std::make_unique<AnonymousPages>(*this, size_bytes, align_bytes);
}

std::span<std::uint8_t> CommandMemory::at(SystemAddress at, std::uint64_t length_bytes) {
    AddressSpace::Piece piece = space_.find(at, length_bytes);
    if (piece.mapping) held_.insert(std::move(piece.mapping));
    return piece.bytes;
}

} // namespace sev::psp
