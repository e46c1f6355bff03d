// SPDX-License-Identifier: Apache-2.0
// libxenforeignmemory, stable ABI 1.x (soname libxenforeignmemory.so.1): four functions, by name. Source: Xen 4.17 tools/include/xenforeignmemory.h.
#include "launch/xen/foreign_memory.hpp"

#include <bit>
#include <cerrno>
#include <cstdarg>
#include <cstring>

#include <dlfcn.h>
#include <sys/mman.h>

#include <fmt/format.h>

#include "base/error.hpp"

struct xenforeignmemory_handle;
/// As in xentoollog.h, stable ABI 1.x.
struct xentoollog_logger {
    void (*message)(xentoollog_logger*, int level, int error_number, const char* context, const char* format, va_list);
    void (*progress)(xentoollog_logger*, const char* context, const char* what, int percent, unsigned long done, unsigned long total);
    void (*destroy)(xentoollog_logger*);
};

namespace sev::launch::xen {
namespace {

constexpr const char* library = "libxenforeignmemory.so.1";

// a library of ours does not talk, and errno says enough
void drop_message(xentoollog_logger*, int, int, const char*, const char*, va_list) {}
void drop_progress(xentoollog_logger*, const char*, const char*, int, unsigned long, unsigned long) {}
void no_destroy(xentoollog_logger*) {}
xentoollog_logger silent{drop_message, drop_progress, no_destroy};

class Library {
public:
    Library() : handle_{::dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)} {
        if (!handle_)
            throw Error{Fault::system, fmt::format("{} cannot be loaded: this is no Xen host, or the package is missing", library),
                        "Debian: libxenforeignmemory1; it comes with Xen's utilities"};
        load(open, "xenforeignmemory_open");
        load(close, "xenforeignmemory_close");
        load(map, "xenforeignmemory_map");
        load(unmap, "xenforeignmemory_unmap");
    }
    xenforeignmemory_handle* (*open)(xentoollog_logger*, unsigned) = nullptr;
    int (*close)(xenforeignmemory_handle*) = nullptr;
    void* (*map)(xenforeignmemory_handle*, std::uint32_t, int, std::size_t, const std::uint64_t*, int*) = nullptr;
    int (*unmap)(xenforeignmemory_handle*, void*, std::size_t) = nullptr;

private:
    template <class Function>
    void load(Function*& out, const char* symbol) {
        void* const found = ::dlsym(handle_, symbol);
        if (!found) throw Error{Fault::system, fmt::format("{}: has no {}", library, symbol), "want libxenforeignmemory of Xen 4.8 or newer"};
        out = std::bit_cast<Function*>(found);
    }
    void* handle_; // stays loaded
};

class XenMemory final : public ForeignMemory {
public:
    XenMemory() {
        errno = 0;
        handle_ = library_.open(&silent, 0);
        if (!handle_)
            throw Error{Fault::system, fmt::format("/dev/xen/privcmd: {}", std::strerror(errno != 0 ? errno : EIO)),
                        "this needs dom0 of a Xen host, and root"};
    }
    XenMemory(const XenMemory&) = delete;
    XenMemory& operator=(const XenMemory&) = delete;
    ~XenMemory() override { library_.close(handle_); }

    Mapping map(std::uint32_t domain, std::uint64_t gfn, std::uint64_t pages, MapAccess access) override {
        std::vector<std::uint64_t> frames(pages);
        for (std::uint64_t i = 0; i < pages; ++i) frames[i] = gfn + i;
        std::vector<int> errors(pages, 0);
        errno = 0;
        void* const memory =
            library_.map(handle_, domain, access == MapAccess::write ? PROT_READ | PROT_WRITE : PROT_READ, pages, frames.data(), errors.data());
        if (!memory)
            throw Error{
                Fault::system,
                fmt::format("domain {}: pages {:#x} + {:#x} cannot be mapped: {}", domain, gfn, pages, std::strerror(errno != 0 ? errno : EIO)),
                "is the domain still there (xl list)?"};
        Mapping mapping{{static_cast<std::uint8_t*>(memory), pages * page_bytes},
                        [this](std::span<std::uint8_t> bytes) { library_.unmap(handle_, bytes.data(), bytes.size() / page_bytes); }};
        for (std::uint64_t i = 0; i < pages; ++i)
            if (errors[i] != 0)
                throw Error{Fault::system, fmt::format("domain {}: page {:#x} is not there ({})", domain, gfn + i,
                                                       std::strerror(errors[i] < 0 ? -errors[i] : errors[i]))};
        return mapping;
    }

private:
    Library library_;
    xenforeignmemory_handle* handle_ = nullptr;
};

} // namespace

std::unique_ptr<ForeignMemory> open_foreign_memory() { return std::make_unique<XenMemory>(); }

} // namespace sev::launch::xen
