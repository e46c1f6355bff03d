// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/program/device_options.hpp"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <stdlib.h>

namespace sev::psp::emulator {

TemporaryDirectory::TemporaryDirectory() {
    std::error_code ignored;
    Path base = std::filesystem::temp_directory_path(ignored); // TMPDIR or /tmp
    if (base.empty()) base = "/tmp";
    std::string pattern = (base / "sev-emulator.XXXXXX").string();
    if (!::mkdtemp(pattern.data()))
        throw Error{sev::Fault::system, fmt::format("{}: cannot make a directory there: {}", printable(base.string(), 4096), std::strerror(errno)),
                    "set TMPDIR"};
    path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::function<void(std::string_view)> log_to_stderr(bool on) {
    if (!on) return [](std::string_view) {};
    return [](std::string_view line) { fmt::print(stderr, "sev-emulator: {}\n", printable(line, 1000)); };
}

Permit parse_permit(const std::string& text) {
    if (text == "rw") return Permit::read_write;
    if (text == "r") return Permit::read_only;
    if (text == "none") return Permit::nobody;
    throw Error{sev::Fault::usage, fmt::format("--permit is {}, want rw, r or none", printable(text))};
}

Platform::Platform(const DeviceChoice& choice, const Path& new_state_dir) {
    static_cast<void>(parse_permit(choice.permit));
    std::vector<Fault> faults;
    for (const std::string& text : choice.faults) faults.push_back(Fault::parse(text));
    if (choice.timeout_ms == 0) throw Error{sev::Fault::usage, "--timeout is 0 ms, want at least 1"};

    if (choice.state.empty()) {
        const Personality* const personality = find_personality(choice.personality);
        if (!personality)
            throw Error{sev::Fault::usage, fmt::format("personality {} is not known", printable(choice.personality)),
                        "see: sev-emulator personalities"};
        emulator_ = Emulator::create(new_state_dir, *personality);
    } else {
        emulator_ = Emulator::open(choice.state);
    }
    for (const Fault& fault : faults) emulator_->faults().add(fault);
    LinuxDeviceOptions options;
    options.command_timeout = std::chrono::milliseconds{choice.timeout_ms};
    options.probe_timeout = std::min(options.probe_timeout, options.command_timeout);
    options.log = log_to_stderr(choice.verbose);
    device_ = std::make_unique<LinuxDevice>(*emulator_, std::move(options));
}

} // namespace sev::psp::emulator
