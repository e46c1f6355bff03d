// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <unistd.h>

#include "psp/emulator/program/commands.hpp"

/// The virtual SEV machine: everything but its command line is in psp/emulator/machine/, which needs no build.
namespace sev::psp::emulator {
namespace {

using cli::Answer;
using cli::Argument;
using cli::Arguments;
using cli::Kind;

constexpr std::string_view script = "psp/emulator/machine/sev-machine";

/// This program's own file.
Path self() {
    std::error_code failed;
    const Path path = std::filesystem::read_symlink("/proc/self/exe", failed);
    if (failed) throw Error{sev::Fault::system, fmt::format("/proc/self/exe: {}", failed.message())};
    return path;
}

/// In the checkout that holds the build folder, or where it is installed.
Path machine_script() {
    const Path folder = self().parent_path();
    for (const Path& root : {folder.parent_path().parent_path().parent_path(), Path{XEN_SEV_MACHINE_DIR}}) {
        std::error_code ignored;
        if (std::filesystem::is_regular_file(root / script, ignored)) return root / script;
    }
    throw Error{sev::Fault::system, fmt::format("{}: found neither in the checkout of this program nor in {}", script, XEN_SEV_MACHINE_DIR),
                "install it again: it belongs to sev-emulator"};
}

void check(const Arguments& given) {
    static_cast<void>(given.number_if("--memory", 512, 65'536));
    static_cast<void>(given.number_if("--cpus", 1, 16));
    static_cast<void>(given.number_if("--timeout", 1, 86'400));
    const bool command = !given.all("PROGRAM").empty();
    if (command + given.has("--build") + given.has("--shell") != 1)
        throw Error{sev::Fault::usage, "machine wants a command after --, or --build, or --shell", "sev-emulator machine -- sevctl status"};
    if (given.has("--state") && given.has("--personality"))
        throw Error{sev::Fault::usage, "--state excludes --personality", "the chip in the directory has its own"};
}

Answer machine(const Arguments& given, cli::Console&) {
    check(given);
    const Path me = self();
    std::vector<std::string> words{machine_script().string(), "--emulator", me.string(), "--programs",
                                   given.text_if("--programs").value_or(me.parent_path().string())};
    for (const std::string_view option :
         {"--state", "--personality", "--memory", "--cpus", "--share", "--results", "--timeout", "--console", "--transcript", "--cache"})
        if (const auto value = given.text_if(option)) words.push_back(fmt::format("{}={}", option, *value));
    for (const std::string& fault : given.all("--fault")) words.push_back(fmt::format("--fault={}", fault));
    for (const std::string_view flag : {"--plain-after-finish", "--xen", "--verbose", "--build", "--shell"})
        if (given.has(flag)) words.emplace_back(flag);
    words.emplace_back("--");
    for (const std::string& word : given.all("PROGRAM")) words.push_back(word);

    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    ::execv(arguments[0], arguments.data());
    throw Error{sev::Fault::system, fmt::format("{}: {}", words[0], std::strerror(errno)), "it is a Python script: is python3 installed?"};
}

constexpr std::array machine_arguments{
    Argument{.name = "--state",
             .kind = Kind::directory,
             .metavar = "DIR",
             .help = "Directory of the chip, made by sev-emulator create (default: a new chip, which is gone afterwards)."},
    personality_option,
    Argument{.name = "--memory", .kind = Kind::number, .metavar = "MIB", .help = "The machine's memory (default 1536, with --xen 3072)."},
    Argument{.name = "--cpus", .kind = Kind::number, .metavar = "N", .help = "The machine's CPUs (default 1, which stands a busy host best)."},
    Argument{.name = "--fault",
             .metavar = "COMMAND=STATUS",
             .help = "Let a command of the PSP fail or hang, as for sev-emulator serve.",
             .repeated = true},
    Argument{.name = "--plain-after-finish",
             .kind = Kind::flag,
             .help = "Let SEV guests run: their memory is decrypted at LAUNCH_FINISH, and from then on nothing of it is encrypted."},
    Argument{.name = "--xen", .kind = Kind::flag, .help = "Boot Xen and a dom0 instead of plain Linux."},
    Argument{.name = "--share",
             .kind = Kind::directory,
             .metavar = "DIR",
             .help = "What the machine sees as /share, read-only, and as the command's folder (default: the current one)."},
    Argument{.name = "--programs",
             .kind = Kind::directory,
             .metavar = "DIR",
             .help = "Where the project's programs are that go into the machine (default: beside this one)."},
    Argument{.name = "--results", .kind = Kind::path, .metavar = "DIR", .help = "Copy what the command leaves in /lab/out to this directory."},
    Argument{.name = "--timeout", .kind = Kind::number, .metavar = "SECONDS", .help = "Limit for boot and command (default 600)."},
    Argument{.name = "--console", .kind = Kind::path, .metavar = "FILE", .help = "Keep the console's output in this file."},
    Argument{.name = "--transcript", .kind = Kind::path, .metavar = "FILE", .help = "Append a line for each command of the PSP to this file."},
    Argument{.name = "--cache",
             .kind = Kind::path,
             .metavar = "DIR",
             .help = "Where QEMU and the disk are kept once built (default: build/lab of a checkout, else ~/.cache/xen-sev/machine)."},
    Argument{.name = "--verbose", .kind = Kind::flag, .help = "Say on stderr what the PSP is asked."},
    Argument{.name = "--build", .kind = Kind::flag, .help = "Build QEMU and the disk, and run nothing."},
    Argument{.name = "--shell", .kind = Kind::flag, .help = "An interactive shell in the machine, on this terminal; exit ends it."},
    Argument{.name = "PROGRAM", .kind = Kind::program, .metavar = "COMMAND [ARGUMENTS]", .help = "What to run in the machine, as root."},
};

} // namespace

const cli::Command machine_command{
    .name = "machine",
    .summary = "run a command in a virtual SEV machine: Linux' own drivers, KVM and QEMU",
    .text = "Boots a Debian system in QEMU's software emulation, with a CPU that looks able to host SEV guests and the emulated PSP behind the "
            "device of a real one. ccp and "
            "kvm_amd are loaded; Debian's QEMU, OVMF and libvirt and this project's programs are there. Runs one command in it, powers off, and "
            "exits as the command "
            "did; with 124 when the time limit was reached, 125 when the machine did not come up.\n\n"
            "SEV and SEV-ES guests can be launched, measured and given secrets. SEV guests run with --plain-after-finish; SEV-ES guests do not run. "
            "Nothing is protected.\n\n"
            "The first use builds QEMU from Debian's source and makes the machine's disk, which needs root, Debian 12's package archive and some "
            "minutes.",
    .example = "sev-emulator machine -- sevctl status",
    .arguments = machine_arguments,
    .run = machine,
};

} // namespace sev::psp::emulator
