// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/service/log.hpp"

/// What systemd and a daemon tell each other. Outside systemd all of it does nothing. Only here, in the programs' `main`, the environment is read
/// (NOTIFY_SOCKET, LISTEN_FDS, WATCHDOG_USEC, JOURNAL_STREAM), once and at the start.
namespace sev::service {

/// A socket that systemd passed, with the name its unit gives it.
struct ActivatedSocket {
    Fd socket;
    std::string name;
};
/// The sockets of socket activation; none outside systemd. The environment is cleared, so that children do not take them for theirs. Throws
/// Error{Fault::system}.
std::vector<ActivatedSocket> take_activated_sockets();

/// sd_notify. `status` is a line for `systemctl status`.
void notify_ready(const std::string& status);
void notify_reloading();
void notify_stopping(const std::string& status);
void notify_status(const std::string& status);
void notify_watchdog();
/// How often `notify_watchdog` is due: half of what the unit asks; nullopt when it asks for none.
std::optional<std::chrono::milliseconds> watchdog_interval();

/// Sink::journal when stderr is connected to the journal.
Sink log_sink();

} // namespace sev::service
