// SPDX-License-Identifier: Apache-2.0
#include "base/service/systemd.hpp"

#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/error.hpp"

namespace sev::service {

std::vector<ActivatedSocket> take_activated_sockets() {
    char** names = nullptr;
    const int count = ::sd_listen_fds_with_names(1, &names);
    if (count < 0) throw Error{Fault::system, fmt::format("sockets passed by systemd: {}", std::strerror(-count))};
    std::vector<ActivatedSocket> out;
    for (int i = 0; i < count; ++i) {
        out.push_back({.socket = Fd{SD_LISTEN_FDS_START + i}, .name = names && names[i] ? names[i] : ""});
        if (names) std::free(names[i]); // NOLINT: from malloc, says the interface
    }
    std::free(names); // NOLINT
    return out;
}

void notify_ready(const std::string& status) { ::sd_notify(0, ("READY=1\nSTATUS=" + printable(status, 512)).c_str()); }

void notify_reloading() {
    struct timespec now {};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    ::sd_notify(0, fmt::format("RELOADING=1\nMONOTONIC_USEC={}",
                               static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000)
                       .c_str());
}

void notify_stopping(const std::string& status) { ::sd_notify(0, ("STOPPING=1\nSTATUS=" + printable(status, 512)).c_str()); }
void notify_status(const std::string& status) { ::sd_notify(0, ("STATUS=" + printable(status, 512)).c_str()); }
void notify_watchdog() { ::sd_notify(0, "WATCHDOG=1"); }

std::optional<std::chrono::milliseconds> watchdog_interval() {
    std::uint64_t microseconds = 0;
    if (::sd_watchdog_enabled(0, &microseconds) <= 0) return std::nullopt;
    return std::chrono::milliseconds{std::max<std::uint64_t>(microseconds / 2000, 1)};
}

Sink log_sink() {
    const char* const stream = std::getenv("JOURNAL_STREAM");
    struct stat status {};
    if (!stream || ::fstat(STDERR_FILENO, &status) != 0) return Sink::standard_error;
    return fmt::format("{}:{}", status.st_dev, status.st_ino) == stream ? Sink::journal : Sink::standard_error;
}

} // namespace sev::service
