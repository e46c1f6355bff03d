// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "psp/types.hpp"

namespace sev::psp {

/// The physical memory that an emulated PSP sees.
class PhysicalMemory {
public:
    virtual ~PhysicalMemory() = default;
    /// The `length_bytes` at `at`, writable, or an empty span when they are not all mapped in one piece. Valid until the memory is detached, unless
    /// the implementation says more.
    virtual std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) = 0;
};

/// Zeroed pages that this process and the PSP both see, for as long as the object lives. A core file does not hold them.
class Pages {
public:
    Pages() = default;
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    virtual ~Pages() = default;
    std::span<std::uint8_t> bytes() const noexcept { return bytes_; }
    /// Where the PSP's transport finds them.
    SystemAddress at() const noexcept { return at_; }
    /// Keeps these of its bytes out of swap, because a secret is to come there; as much of them as this process may lock.
    void lock(std::uint64_t offset, std::uint64_t length_bytes) const noexcept;

protected:
    std::span<std::uint8_t> bytes_;
    SystemAddress at_{};
};

/// Where memory comes from that a PSP is to see. Thread-safe.
class PageSource {
public:
    virtual ~PageSource() = default;
    /// Throws Error{Fault::system} when there is not as much. `align_bytes` is a power of two ≥ 4096, of the address the PSP sees.
    virtual std::unique_ptr<Pages> allocate(std::uint64_t size_bytes, std::uint64_t align_bytes = 4096) = 0;
};

/// An address space to which pieces of this process's memory are attached: guest images, foreign mappings, scratch pages. Thread-safe.
class AddressSpace final : public PhysicalMemory, public PageSource {
public:
    std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) override;
    /// Makes `memory` visible at a free address whose alignment is `align_bytes` (a power of two ≥ 4096). The caller keeps it alive until `detach`.
    SystemAddress attach(std::span<std::uint8_t> memory, std::uint64_t align_bytes = 4096);
    void detach(SystemAddress at);
    /// Anonymous memory of this process, attached. The address space outlives the pages. It stays mapped until the last `CommandMemory` that was at
    /// it is gone, too.
    std::unique_ptr<Pages> allocate(std::uint64_t size_bytes, std::uint64_t align_bytes = 4096) override;

private:
    friend class CommandMemory;
    class AnonymousPages;
    struct Mapping;
    struct Piece {
        std::span<std::uint8_t> bytes;
        std::shared_ptr<const Mapping> mapping; // null: the caller's own
    };
    /// An empty piece when it is not all in one.
    Piece find(SystemAddress at, std::uint64_t length_bytes);
    SystemAddress attach(Piece piece, std::uint64_t align_bytes);
    std::mutex mutex_;
    std::map<std::uint64_t, Piece> pieces_;
    std::uint64_t next_ = 0x1'0000'0000;
};

/// An address space as one command sees it: allocated pages that the command was at stay mapped until this dies, whoever detaches them meanwhile. A
/// command that everybody has given up still reads and writes them. For one thread.
class CommandMemory final : public PhysicalMemory {
public:
    explicit CommandMemory(AddressSpace& space) : space_{space} {}
    CommandMemory(const CommandMemory&) = delete;
    CommandMemory& operator=(const CommandMemory&) = delete;
    std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) override;

private:
    AddressSpace& space_;
    std::set<std::shared_ptr<const AddressSpace::Mapping>> held_;
};

} // namespace sev::psp
