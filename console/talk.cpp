// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fmt/format.h>
#include <unistd.h>

#include "console/command.hpp"

namespace sev::cli {

void Console::print(std::string_view text) {
    if (!quiet_) std::fwrite(text.data(), 1, text.size(), stdout);
}

void Console::binary(ByteView bytes) {
    if (isatty(STDOUT_FILENO))
        throw Error{Fault::usage, fmt::format("standard output is a terminal, and the result is {} bytes of binary", bytes.size()),
                    "send it into a file or a pipe"};
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
}

void Console::warn(std::string_view text) {
    if (!quiet_) fmt::print(stderr, "{}: warning: {}\n", program_, text);
}

void Console::note(std::string_view text) {
    if (!quiet_) fmt::print(stderr, "{}: note: {}\n", program_, text);
}

void Console::complain(std::string_view reason, std::string_view hint) {
    if (quiet_) return;
    std::fflush(stdout);
    fmt::print(stderr, "{}: error: {}\n", program_, printable(reason, 8192));
    if (!hint.empty()) fmt::print(stderr, "{}: hint: {}\n", program_, printable(hint, 8192));
}

void Console::finish() {
    errno = 0;
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
        throw Error{Fault::system, fmt::format("standard output: {}", errno ? std::strerror(errno) : "write failed")};
}

} // namespace sev::cli
