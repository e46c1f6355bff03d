// SPDX-License-Identifier: Apache-2.0
// libxencall, stable ABI 1.x (soname libxencall.so.1): five functions, by name. Source: Xen 4.17 tools/include/xencall.h.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdarg>
#include <cstring>

#include <dlfcn.h>

#include "psp/xen/coco.hpp"

struct xencall_handle;
/// As in xentoollog.h, stable ABI 1.x.
struct xentoollog_logger {
    void (*message)(xentoollog_logger*, int level, int error_number, const char* context, const char* format, va_list);
    void (*progress)(xentoollog_logger*, const char* context, const char* what, int percent, unsigned long done, unsigned long total);
    void (*destroy)(xentoollog_logger*);
};

namespace sev::psp::xen {
namespace {

// a library of ours does not talk, and errno says enough
void drop_message(xentoollog_logger*, int, int, const char*, const char*, va_list) {}
void drop_progress(xentoollog_logger*, const char*, const char*, int, unsigned long, unsigned long) {}
void no_destroy(xentoollog_logger*) {}
xentoollog_logger silent{drop_message, drop_progress, no_destroy};

constexpr const char* library = "libxencall.so.1";
constexpr unsigned coco_hypercall = 43;

struct CloseLibrary {
    void operator()(void* handle) const noexcept { ::dlclose(handle); }
};

class Library {
public:
    Library() : handle_{::dlopen(library, RTLD_NOW | RTLD_LOCAL)} {
        if (!handle_)
            throw Error{Fault::system, fmt::format("{} cannot be loaded: this is no Xen host, or the package is missing", library),
                        "Debian: libxencall1; it comes with Xen's utilities"};
        load(open, "xencall_open");
        load(close, "xencall_close");
        load(call2, "xencall2");
        load(allocate, "xencall_alloc_buffer");
        load(release, "xencall_free_buffer");
    }
    xencall_handle* (*open)(xentoollog_logger*, unsigned) = nullptr;
    int (*close)(xencall_handle*) = nullptr;
    int (*call2)(xencall_handle*, unsigned, std::uint64_t, std::uint64_t) = nullptr;
    void* (*allocate)(xencall_handle*, std::size_t) = nullptr;
    void (*release)(xencall_handle*, void*) = nullptr;

private:
    template <class Function>
    void load(Function*& out, const char* symbol) {
        void* const found = ::dlsym(handle_.get(), symbol);
        if (!found) throw Error{Fault::system, fmt::format("{}: has no {}", library, symbol), "want libxencall of Xen 4.8 or newer"};
        out = std::bit_cast<Function*>(found);
    }
    std::unique_ptr<void, CloseLibrary> handle_;
};

class XenCalls final : public CocoCalls {
public:
    XenCalls() {
        errno = 0;
        handle_ = library_.open(&silent, 0);
        if (!handle_)
            throw Error{Fault::system, fmt::format("/dev/xen/hypercall: {}", std::strerror(errno != 0 ? errno : EIO)),
                        "this needs dom0 of a Xen host, and root"};
    }
    XenCalls(const XenCalls&) = delete;
    XenCalls& operator=(const XenCalls&) = delete;
    ~XenCalls() override { library_.close(handle_); }

    int call(std::uint32_t operation, std::span<std::uint8_t> argument, std::span<const Handle> handles) override {
        std::vector<Buffer> nested;
        for (const Handle& handle : handles) {
            nested.emplace_back(*this, handle.bytes);
            require(handle.address_at + sizeof(std::uint64_t) <= argument.size(), "a handle lies in its argument");
            const std::uint64_t address = nested.back().address();
            for (std::size_t i = 0; i < sizeof address; ++i) argument[handle.address_at + i] = static_cast<std::uint8_t>(address >> (8 * i));
        }
        Buffer buffer{*this, argument};
        errno = 0;
        const int result = library_.call2(handle_, coco_hypercall, operation, buffer.address());
        const int error_number = result < 0 ? (errno != 0 ? errno : EIO) : 0;
        buffer.copy_back(argument);
        for (std::size_t i = 0; i < nested.size(); ++i) nested[i].copy_back(handles[i].bytes);
        return error_number;
    }

private:
    /// Memory that the hypervisor can reach, with a copy of the caller's bytes.
    class Buffer {
    public:
        Buffer(XenCalls& owner, ByteView bytes)
            : owner_{&owner}, size_bytes_{bytes.size()}, memory_{owner.library_.allocate(owner.handle_, std::max<std::size_t>(bytes.size(), 1))} {
            if (!memory_) throw Error{Fault::system, fmt::format("hypercall buffer of {} bytes: {}", bytes.size(), std::strerror(errno))};
            std::memcpy(memory_, bytes.data(), bytes.size());
        }
        Buffer(Buffer&& other) noexcept : owner_{other.owner_}, size_bytes_{other.size_bytes_}, memory_{std::exchange(other.memory_, nullptr)} {}
        Buffer& operator=(Buffer&&) = delete;
        ~Buffer() {
            if (memory_) owner_->library_.release(owner_->handle_, memory_);
        }
        std::uint64_t address() const noexcept { return std::bit_cast<std::uint64_t>(memory_); }
        void copy_back(std::span<std::uint8_t> to) const noexcept { std::memcpy(to.data(), memory_, size_bytes_); }

    private:
        XenCalls* owner_;
        std::size_t size_bytes_;
        void* memory_;
    };

    Library library_;
    xencall_handle* handle_ = nullptr;
};

} // namespace

std::unique_ptr<CocoCalls> open_xencall() { return std::make_unique<XenCalls>(); }

} // namespace sev::psp::xen
