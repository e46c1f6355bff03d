// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <limits>

#include <fmt/format.h>

#include "psp/emulator/program/commands.hpp"
#include "psp/emulator/program/device_options.hpp"

namespace sev::psp::emulator {
namespace {

using cli::Answer;
using cli::Argument;
using cli::Arguments;
using cli::Kind;

DeviceChoice device_of(const Arguments& given) {
    DeviceChoice out;
    out.state = given.text_if("--state").value_or("");
    const auto faults = given.all("--fault");
    out.faults.assign(faults.begin(), faults.end());
    if (const auto timeout = given.number_if("--timeout", 1, std::numeric_limits<unsigned>::max())) out.timeout_ms = static_cast<unsigned>(*timeout);
    out.permit = given.text_if("--permit").value_or(out.permit);
    out.verbose = given.has("--verbose");
    return out;
}

Answer run(const Arguments& given, cli::Console&) {
    RunOptions options{.device = device_of(given), .socket = given.text_if("--socket").value_or(""), .program = {}};
    options.device.personality = given.text_if("--personality").value_or(std::string{default_personality});
    const auto program = given.all("PROGRAM");
    options.program.assign(program.begin(), program.end());
    for (const std::string_view option : {"--state", "--personality", "--fault", "--timeout", "--permit"})
        if (given.has("--socket") && given.has(option))
            throw Error{sev::Fault::usage, fmt::format("--socket excludes {}", option),
                        "that is for the sev-emulator serve behind the socket to be told"};
    return static_cast<Answer>(run_program(options));
}

Answer serve(const Arguments& given, cli::Console& console) {
    ServeOptions options;
    options.device = device_of(given);
    options.socket = given.text_if("--socket").value_or("");
    options.mailbox = given.text_if("--mailbox").value_or("");
    options.memory = given.text_if("--memory").value_or("");
    options.transcript = given.text_if("--transcript").value_or("");
    options.plain_after_finish = given.has("--plain-after-finish");
    if (options.socket.empty() == options.mailbox.empty())
        throw Error{sev::Fault::usage, "serve wants one of --socket and --mailbox", "--socket for a /dev/sev, --mailbox for a virtual machine's PSP"};
    if (options.mailbox.empty() != options.memory.empty())
        throw Error{sev::Fault::usage, "--mailbox and --memory go together", "--memory is the file that backs the machine's RAM"};
    for (const std::string_view option : {"--transcript", "--plain-after-finish"})
        if (given.has(option) && options.mailbox.empty()) throw Error{sev::Fault::usage, fmt::format("{} is for --mailbox alone", option)};
    for (const std::string_view option : {"--timeout", "--permit"})
        if (given.has(option) && !options.mailbox.empty()) throw Error{sev::Fault::usage, fmt::format("{} is for --socket alone", option)};
    if (const auto descriptor = given.number_if("--ready-fd", 0, std::numeric_limits<int>::max())) options.ready_fd = static_cast<int>(*descriptor);
    serve(options, console);
    return Answer::yes;
}

Answer cuse(const Arguments& given, cli::Console& console) {
    serve_cuse({.device = device_of(given), .name = given.text_if("--name").value_or("sev")}, console);
    return Answer::yes;
}

constexpr Argument state_option{
    .name = "--state", .kind = Kind::directory, .metavar = "DIR", .help = "Directory of the chip, made by sev-emulator create.", .required = true};
constexpr Argument fault_option{
    .name = "--fault",
    .metavar = "COMMAND=STATUS",
    .help = "Let a command of the firmware fail with a status, by name or number, or hang. \",skip=N\": after N that pass; \",count=N\": N times "
            "(default 1; 0: always).",
    .repeated = true};
constexpr Argument timeout_option{
    .name = "--timeout", .kind = Kind::number, .metavar = "MS", .help = "How long the driver waits for one command (default 100000)."};
constexpr Argument permit_option{.name = "--permit", .kind = Kind::choice, .metavar = "WHO",
                                 .help = "Who may open the device: rw (default), r: for reading only, none.", .choices = "rw|r|none"};
constexpr Argument verbose_option{.name = "--verbose", .kind = Kind::flag, .help = "Say on stderr what the kernel would log."};

constexpr std::array run_arguments{
    Argument{.name = "--state", .kind = Kind::directory, .metavar = "DIR",
             .help = "Directory of the chip, made by sev-emulator create (default: a new chip, which is gone afterwards)."},
    personality_option,
    Argument{.name = "--socket", .kind = Kind::path, .metavar = "PATH", .help = "Use the platform of a running sev-emulator serve instead."},
    fault_option,
    timeout_option,
    permit_option,
    verbose_option,
    Argument{.name = "PROGRAM", .kind = Kind::program, .metavar = "PROGRAM [ARGUMENTS]", .help = "What to run.", .required = true},
};
constexpr std::array serve_arguments{
    state_option,
    Argument{.name = "--socket", .kind = Kind::path, .metavar = "PATH", .help = "Where to listen for programs. Only this user and root can connect."},
    Argument{.name = "--mailbox", .kind = Kind::path, .metavar = "PATH", .help = "Where to listen for a virtual machine instead, and be its PSP."},
    Argument{.name = "--memory", .kind = Kind::path, .metavar = "FILE", .help = "With --mailbox: the file that backs the virtual machine's RAM."},
    Argument{.name = "--transcript", .kind = Kind::path, .metavar = "FILE", .help = "With --mailbox: append a line for each command to this file."},
    Argument{.name = "--plain-after-finish",
             .kind = Kind::flag,
             .help = "With --mailbox: decrypt a guest's memory at LAUNCH_FINISH, so that it runs where the machine cannot do that. From then on "
                     "nothing of it is encrypted."},
    Argument{.name = "--ready-fd", .kind = Kind::number, .metavar = "FD", .help = "Descriptor on which to write READY=1 once programs can connect."},
    fault_option,
    timeout_option,
    permit_option,
    verbose_option,
};
constexpr std::array cuse_arguments{
    state_option,
    Argument{.name = "--name", .metavar = "NAME", .help = "Its name in /dev (default sev)."},
    fault_option,
    timeout_option,
    permit_option,
    verbose_option,
};

} // namespace

const cli::Command run_command{
    .name = "run",
    .summary = "run a program, unmodified, with a /dev/sev",
    .text = "Runs a program, unmodified and without privileges, with a /dev/sev by a preloaded library. Exits as the program does, or with 128 and "
            "the number of the "
            "signal that ended it.\n\n"
            "Statically linked programs, set-user-ID ones, those linked to another C library than glibc, and those that make system calls without it "
            "cannot be served; "
            "the first three are refused.",
    .example = "sev-emulator run --fault PDH_GEN=HWERROR_PLATFORM -- sevctl rotate --yes",
    .arguments = run_arguments,
    .run = run,
};

const cli::Command serve_command{
    .name = "serve",
    .summary = "keep one platform for many programs, or for a virtual machine, on a Unix socket",
    .text = "Keeps one platform for many programs, until SIGTERM; commands that are running end first. Programs reach it by sev-emulator run "
            "--socket PATH.\n\n"
            "With --mailbox it is the PSP of a virtual machine: QEMU with the device psp-mailbox, whose RAM is backed by the file of --memory. One "
            "machine at a time; "
            "its connection is a power cycle.",
    .example = "sev-emulator serve --state ./psp --socket ./psp.sock",
    .arguments = serve_arguments,
    .run = serve,
};

const cli::Command cuse_command{
    .name = "cuse",
    .summary = "make a real character device, where the kernel has CUSE",
    .text = "Makes a character device until SIGTERM, where the kernel has CUSE. It serves every program, and needs root.",
    .example = "sev-emulator cuse --state ./psp --name sev",
    .arguments = cuse_arguments,
    .run = cuse,
};

} // namespace sev::psp::emulator
