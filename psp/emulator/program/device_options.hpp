// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "console/command.hpp"
#include "psp/emulator/device_server.hpp"

/// What `run`, `serve` and `cuse` have in common: one emulated platform with Linux's driver on top.
namespace sev::psp::emulator {

struct DeviceChoice {
    std::string state;                      // directory of an existing chip; empty: a new chip that is gone afterwards (run only)
    std::string personality = "epyc-3151";  // of a new chip
    std::vector<std::string> faults;        // Fault::parse
    unsigned timeout_ms = 100'000;          // the driver's, for one command
    std::string permit = "rw";              // rw, r or none
    bool verbose = false;
};

/// A directory of this user alone that is removed with all it holds.
class TemporaryDirectory {
public:
    TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory();
    const Path& path() const noexcept { return path_; }

private:
    Path path_;
};

/// The emulator and its loaded driver.
class Platform {
public:
    /// Throws Error{Fault::usage} for an unknown personality, a bad fault or a state directory without a chip.
    Platform(const DeviceChoice& choice, const Path& new_state_dir);
    LinuxDevice& device() noexcept { return *device_; }
    Emulator& emulator() noexcept { return *emulator_; }

private:
    std::unique_ptr<Emulator> emulator_;
    std::unique_ptr<LinuxDevice> device_;
};

/// "sev-emulator: LINE" on stderr, or nothing.
std::function<void(std::string_view)> log_to_stderr(bool on);
Permit parse_permit(const std::string& text);

struct RunOptions {
    DeviceChoice device;
    std::string socket; // of a `serve` to join; empty: a platform of its own
    std::vector<std::string> program;
};
/// Runs the program with a /dev/sev and returns its exit status, or 128 plus the signal that ended it.
int run_program(const RunOptions& options);

struct ServeOptions {
    DeviceChoice device;
    std::string socket;              // of a /dev/sev
    std::string mailbox, memory;     // or, in its place, of a virtual machine's PSP, and the file that backs its RAM
    std::string transcript;          // of the mailbox: a file, empty for none
    bool plain_after_finish = false; // Options::plain_after_finish
    int ready_fd = -1;
};
/// Serves until SIGTERM or SIGINT.
void serve(const ServeOptions& options, cli::Console& console);
/// The mailbox's part of it: serves until `stop_fd` is readable; calls `ready` once a machine can connect.
void serve_mailbox(const ServeOptions& options, int stop_fd, cli::Console& console, const std::function<void()>& ready);

struct CuseOptions {
    DeviceChoice device;
    std::string name = "sev";
};
/// A character device /dev/NAME by the kernel's CUSE, until SIGTERM or SIGINT.
void serve_cuse(const CuseOptions& options, cli::Console& console);

} // namespace sev::psp::emulator
