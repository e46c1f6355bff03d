// SPDX-License-Identifier: Apache-2.0
#include "sevctl/platform.hpp"

#include <cstdlib>
#include <iostream>

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sevctl/signed_cek.hpp"

namespace sev::cli {
namespace {

Path device_of(const Arguments& given) {
    const auto text = given.text_if(device_option.name);
    if (text && text->empty()) throw Error{Fault::usage, "--device is empty, want the path of a device"};
    return text ? Path{*text} : Path{psp::ccp::default_device};
}

bool is_emulated(const Path& device) {
    if (device == psp::ccp::default_device && std::getenv("SEV_EMULATOR_SOCKET")) return true; // sev-emulator run
    constexpr unsigned first_dynamic_major = 234; // Linux hands these out at run time, to CUSE among others; its own /dev/sev is a misc device
    struct stat status {};
    return ::stat(device.c_str(), &status) == 0 && S_ISCHR(status.st_mode) && major(status.st_rdev) >= first_dynamic_major; // sev-emulator cuse
}

} // namespace

Platform::Platform(const Arguments& given, Console& console, psp::ccp::Access access)
    : firmware_{device_of(given), access}, emulated_{is_emulated(firmware_.device())} {
    if (emulated_) console.note(fmt::format("{}: an emulated PSP (sev-emulator), not this machine's hardware", shown(device())));
}

std::vector<psp::ChipId> Platform::chip_ids() {
    const auto one = psp::attempt(firmware_, psp::GetId{.sockets = 1});
    if (one.reply) return *one.reply;
    // A machine with two sockets may refuse to give one id alone.
    if (one.status == psp::Status::invalid_length) return psp::run(firmware_, psp::GetId{.sockets = 2});
    throw psp::refusal(psp::GetId::name, one.status);
}

Platform open_for_certificates(const Arguments& given, Console& console) {
    bool initialised = false;
    {
        psp::ccp::CcpFirmware reader{device_of(given), psp::ccp::Access::read_only};
        initialised = psp::run(reader, psp::GetPlatformStatus{}).state == psp::PlatformState::init;
    }
    // Linux counts a platform that it did not initialise itself as not initialised; writing is the access that always works.
    const bool may_write = ::access(device_of(given).c_str(), W_OK) == 0;
    return Platform{given, console, initialised && !may_write ? psp::ccp::Access::read_only : psp::ccp::Access::read_write};
}

void confirm(const Arguments& given, Console& console, std::string_view what_is_lost) {
    if (given.has(yes_option.name)) return;
    if (!::isatty(STDIN_FILENO) || !::isatty(STDERR_FILENO))
        throw Error{Fault::usage, fmt::format("{}: {}; not done without being asked to", given.command().name, what_is_lost),
                    fmt::format("if that is meant: sevctl {} --yes", given.command().name)};
    console.note(fmt::format("{}: {}", given.command().name, what_is_lost));
    fmt::print(stderr, "type yes to go on: ");
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "yes") throw Error{Fault::usage, fmt::format("{}: not done: the answer was not yes", given.command().name)};
}

json::Value platform_result(const Arguments& given, const Platform& platform) {
    json::Value out = result_of(given);
    out["device"] = platform.device().string();
    out["emulated"] = platform.emulated();
    return out;
}

void warn_of_cached_chain(Console& console) {
    for (const Path& file : cached_chain_files()) {
        std::error_code ignored;
        if (!std::filesystem::exists(file, ignored)) continue;
        console.warn(fmt::format(
            "{}: holds the chain from before, which is not this platform's any more: export it anew (sevctl export --full --force)", shown(file)));
        return; // programs take the first one only
    }
}

} // namespace sev::cli
