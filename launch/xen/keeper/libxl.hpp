// SPDX-License-Identifier: Apache-2.0
#pragma once
// libxl as values and owners: every structure is disposed of, every context freed. Order matters: xenctrl.h defines __XEN_TOOLS__ for those after it,
// and none of them has extern "C".
#include <cstdint>
#include <memory>
#include <string>

#define LIBXL_API_VERSION 0x041400 // accepted by 4.17 to 4.22
extern "C" {
#include <xenctrl.h>
#include <xenstore.h>
#include <xentoollog.h>

#include <libxl.h>
#include <libxl_event.h>
#include <libxl_utils.h>
}

namespace sev::launch::xen::keeper {

/// A libxl structure with its _init and _dispose.
template <class T, void (*Init)(T*), void (*Dispose)(T*)>
class Value {
public:
    Value() { Init(&value_); }
    Value(const Value&) = delete;
    Value& operator=(const Value&) = delete;
    ~Value() { Dispose(&value_); }
    T* get() noexcept { return &value_; }
    T* operator->() noexcept { return &value_; }

private:
    T value_;
};
using DomainConfig = Value<libxl_domain_config, libxl_domain_config_init, libxl_domain_config_dispose>;
using DomainInfo = Value<libxl_dominfo, libxl_dominfo_init, libxl_dominfo_dispose>;

struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
};
using CString = std::unique_ptr<char, Free>;

/// Collects what libxl has to say of an error, for the answer.
class Logger {
public:
    Logger() : logger_{{message, progress, destroy}, this} {}
    Logger(const Logger&) = delete;
    Logger& operator=(const Logger&) = delete;
    ~Logger() = default;
    xentoollog_logger* get() noexcept { return &logger_.base; }
    /// What was said since the last call, the newest 1 KiB, in one line.
    std::string take();

private:
    struct Hook {
        xentoollog_logger base;
        Logger* self;
    };
    static void message(xentoollog_logger* logger, xentoollog_level level, int error_number, const char* context, const char* format,
                        va_list arguments);
    static void progress(xentoollog_logger*, const char*, const char*, int, unsigned long, unsigned long) {}
    static void destroy(xentoollog_logger*) {}
    Hook logger_;
    std::string said_;
};

struct CloseContext {
    void operator()(libxl_ctx* context) const noexcept { libxl_ctx_free(context); }
};
struct CloseControl {
    void operator()(xc_interface* control) const noexcept { xc_interface_close(control); }
};
struct CloseStore {
    void operator()(xs_handle* store) const noexcept { xs_close(store); }
};
using Context = std::unique_ptr<libxl_ctx, CloseContext>;
using Control = std::unique_ptr<xc_interface, CloseControl>;
using Store = std::unique_ptr<xs_handle, CloseStore>;

} // namespace sev::launch::xen::keeper
