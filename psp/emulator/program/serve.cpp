// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "psp/emulator/program/device_options.hpp"

namespace sev::psp::emulator {
namespace {

/// For service managers and tests: one line on a descriptor they gave, then end of file.
void tell_ready(int ready_fd) {
    if (ready_fd < 0) return;
    const Fd owned{ready_fd};
    constexpr std::string_view line = "READY=1\n";
    if (::write(owned.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
        throw Error{sev::Fault::system, fmt::format("--ready-fd {}: {}", ready_fd, std::strerror(errno))};
}

} // namespace

void serve(const ServeOptions& options, cli::Console& console) {
    sigset_t handled;
    ::sigemptyset(&handled);
    ::sigaddset(&handled, SIGTERM);
    ::sigaddset(&handled, SIGINT);
    ::sigprocmask(SIG_BLOCK, &handled, nullptr);
    const Fd signals{::signalfd(-1, &handled, SFD_CLOEXEC)};
    if (!signals) throw Error{sev::Fault::system, fmt::format("signalfd: {}", std::strerror(errno))};
    if (options.ready_fd >= 0 && ::fcntl(options.ready_fd, F_SETFD, FD_CLOEXEC) != 0)
        throw Error{sev::Fault::usage, fmt::format("--ready-fd {}: is not open", options.ready_fd)};

    if (!options.mailbox.empty()) {
        serve_mailbox(options, signals.get(), console, [&] { tell_ready(options.ready_fd); });
        return;
    }
    Platform platform{options.device, {}};
    const Path socket = std::filesystem::absolute(options.socket).lexically_normal();
    DeviceServerOptions server_options{.socket = socket, .permit = parse_permit(options.device.permit)};
    server_options.log = log_to_stderr(options.device.verbose);
    server_options.on_drain = [&] { platform.emulator().faults().release(); };
    DeviceServer server{platform.device(), std::move(server_options)};
    console.print(fmt::format("serving {} on {}\nuse it with: sev-emulator run --socket {} -- PROGRAM\n", platform.emulator().personality().title,
                              socket.string(), socket.string()));
    console.finish();
    tell_ready(options.ready_fd);
    server.serve(signals.get());
}

} // namespace sev::psp::emulator
