// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "base/bytes.hpp"

namespace sev::launch::xen {

inline constexpr std::size_t page_bytes = 4096;

/// Pages of one domain in this process's memory, one after the other; unmapped when it dies.
class Mapping {
public:
    Mapping(std::span<std::uint8_t> bytes, std::function<void(std::span<std::uint8_t>)> unmap) : bytes_{bytes}, unmap_{std::move(unmap)} {}
    Mapping(Mapping&& other) noexcept : bytes_{std::exchange(other.bytes_, {})}, unmap_{std::move(other.unmap_)} {}
    Mapping& operator=(Mapping&&) = delete;
    ~Mapping() {
        if (!bytes_.empty()) unmap_(bytes_);
    }
    /// Writable only when it was mapped so: a write to others ends this process.
    std::span<std::uint8_t> bytes() const noexcept { return bytes_; }

private:
    std::span<std::uint8_t> bytes_;
    std::function<void(std::span<std::uint8_t>)> unmap_;
};

enum class MapAccess { read, write };

/// Memory of other domains. Thread-safe.
class ForeignMemory {
public:
    ForeignMemory() = default;
    ForeignMemory(const ForeignMemory&) = delete;
    ForeignMemory& operator=(const ForeignMemory&) = delete;
    virtual ~ForeignMemory() = default;
    /// [gfn, gfn + pages) of a domain. Throws Error{Fault::system} "domain 7: page 0x1000 is not there" for the first page that cannot be mapped.
    virtual Mapping map(std::uint32_t domain, std::uint64_t gfn, std::uint64_t pages, MapAccess access) = 0;
};

/// Through libxenforeignmemory (stable ABI), loaded when called, so that programs start without Xen. Throws Error{Fault::system} that says in one
/// line what is missing: the library, or the hypervisor's device.
std::unique_ptr<ForeignMemory> open_foreign_memory();

} // namespace sev::launch::xen
