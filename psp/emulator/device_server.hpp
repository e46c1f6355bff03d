// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <list>
#include <memory>

#include "psp/emulator/linux_device.hpp"

namespace sev::psp::emulator {

/// Who may open the served device, as a file mode would say it.
enum class Permit { read_write, read_only, nobody };

struct DeviceServerOptions {
    Path socket; // made with mode 0600
    Permit permit = Permit::read_write;
    std::size_t handle_limit = 256;                       // open files at a time; beyond that ENFILE
    std::chrono::milliseconds message_deadline{5'000};    // for each message that a program owes
    std::function<void(std::string_view line)> log = [](std::string_view) {};
    /// Called when serving ends, before running commands are waited for: the place to release commands that were told to hang.
    std::function<void()> on_drain = [] {};
};

/// Serves one device to many programs over a Unix socket (device_wire.hpp). Only this user and root may connect. A program that sends nonsense,
/// stalls or dies costs one thread for at most a deadline and disturbs nobody else.
class DeviceServer {
public:
    /// Binds and listens. A socket file that nobody answers is replaced. Throws Error{Fault::usage} when somebody does answer, the path is too long
    /// for a socket or holds anything else; Error{Fault::system} otherwise.
    DeviceServer(LinuxDevice& device, DeviceServerOptions options);
    DeviceServer(const DeviceServer&) = delete;
    DeviceServer& operator=(const DeviceServer&) = delete;
    /// Stops, and removes the socket file.
    ~DeviceServer();
    /// Serves until `stop_fd` is readable or at end of file; then takes nobody new, lets commands that are running finish, and returns.
    void serve(int stop_fd);

private:
    struct Handle;
    void accept_one();
    void reap(bool all);

    LinuxDevice& device_;
    DeviceServerOptions options_;
    Fd listener_;
    std::list<std::unique_ptr<Handle>> handles_;
};

} // namespace sev::psp::emulator
