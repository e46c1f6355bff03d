// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "psp/emulator/mailbox_server.hpp"
#include "psp/emulator/program/device_options.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::string_view plain_note = "plain-after-finish: guests run unencrypted";

/// Appends lines to a file, each at once: whoever reads along sees them.
std::function<void(std::string_view)> lines_into(const std::string& path) {
    if (path.empty()) return [](std::string_view) {};
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (descriptor < 0) throw Error{sev::Fault::system, fmt::format("{}: {}", printable(path, 4096), std::strerror(errno))};
    return [path, file = std::make_shared<Fd>(descriptor)](std::string_view line) {
        const std::string text = fmt::format("{}\n", line);
        if (::write(file->get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
            throw Error{sev::Fault::system, fmt::format("{}: {}", printable(path, 4096), std::strerror(errno))};
    };
}

} // namespace

void serve_mailbox(const ServeOptions& options, int stop_fd, cli::Console& console, const std::function<void()>& ready) {
    std::vector<Fault> faults;
    for (const std::string& text : options.device.faults) faults.push_back(Fault::parse(text));
    const auto emulator = Emulator::open(options.device.state, {.plain_after_finish = options.plain_after_finish});
    for (const Fault& fault : faults) emulator->faults().add(fault);

    const std::string note = options.plain_after_finish ? fmt::format(" ({})", plain_note) : "";
    const auto transcript = lines_into(options.transcript);
    if (options.plain_after_finish) transcript(fmt::format("# {}", plain_note));
    MailboxServerOptions server_options{.socket = std::filesystem::absolute(options.mailbox).lexically_normal(), .memory = options.memory};
    server_options.log = [say = log_to_stderr(options.device.verbose), note](std::string_view line) { say(fmt::format("{}{}", line, note)); };
    server_options.transcript = [&](std::string_view line) {
        transcript(line);
        server_options.log(line);
    };
    const std::string socket = server_options.socket.string();
    MailboxServer server{*emulator, server_options};
    console.print(
        fmt::format("serving {} as the mailbox {} of a machine with its RAM in {}{}\n", emulator->personality().title, socket, options.memory, note));
    console.finish();
    ready();
    server.serve(stop_fd);
}

} // namespace sev::psp::emulator
