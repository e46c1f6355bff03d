// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <openssl/err.h>

#include "base/crypto.hpp"
#include "base/error.hpp"

/// Inside base/ only: OpenSSL is judged by return value, not by its error queue.
namespace sev::openssl {

[[noreturn]] inline void failed(const char* what) {
    ERR_clear_error();
    throw Error{Fault::system, std::string{"OpenSSL: "} + what + " failed"};
}
inline void must(int result, const char* what) {
    if (result != 1) failed(what);
}
template <class Handle>
Openssl<Handle> owned(Handle* handle, const char* what) {
    if (!handle) failed(what);
    return Openssl<Handle>{handle};
}

} // namespace sev::openssl
