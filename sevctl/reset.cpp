// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "sevctl/commands.hpp"
#include "sevctl/platform.hpp"

namespace sev::cli {
namespace {

constexpr std::array reset_arguments{yes_option, device_option, json_option};
constexpr std::array rotate_arguments{
    Argument{
        .name = "--pek", .kind = Kind::flag, .help = "Make a new PEK and a new OCA of the platform's own too (PEK_GEN): it is nobody's any more."},
    yes_option,
    device_option,
    json_option,
};

/// Linux and the firmware want no guests when keys are replaced.
void require_idle(Platform& platform) {
    const psp::PlatformStatus status = platform.status();
    if (status.guest_count != 0)
        throw Error{Fault::usage, fmt::format("{}: {} guests are there, whose keys would be lost", shown(platform.device()), status.guest_count),
                    "stop them first"};
}

Answer reset(const Arguments& given, Console& console) {
    Platform platform{given, console, psp::ccp::Access::read_write};
    require_idle(platform);
    confirm(given, console, "owner, PEK, OCA and PDH are deleted; every exported chain, every session and every guest saved for later is lost");
    psp::run(platform.firmware(), psp::PlatformReset{});
    warn_of_cached_chain(console);
    if (console.json()) console.print(platform_result(given, platform));
    return Answer::yes;
}

Answer rotate(const Arguments& given, Console& console) {
    const bool pek = given.has("--pek");
    Platform platform{given, console, psp::ccp::Access::read_write};
    if (pek) require_idle(platform);
    confirm(given, console,
            pek ? "owner, PEK, OCA and PDH are replaced; every exported chain and every session made for this platform is lost"
                : "the PDH is replaced; every exported chain and every session made for it is void");
    if (pek)
        psp::run(platform.firmware(), psp::PekGen{});
    else
        psp::run(platform.firmware(), psp::PdhGen{});
    warn_of_cached_chain(console);
    if (console.json()) {
        json::Value result = platform_result(given, platform);
        result["pdh"] = hex(platform.certificates().pdh.fingerprint());
        console.print(result);
    }
    return Answer::yes;
}

} // namespace

const Command reset_command{
    .name = "reset",
    .summary = "delete this platform's keys and its owner",
    .text = "Resets the platform: its PEK, OCA and PDH are deleted, and new ones made when it is next initialised. The chip's own identity (CEK) "
            "stays. Not while guests "
            "run.\n\nIt asks first, or takes --yes.",
    .example = "sevctl reset",
    .arguments = reset_arguments,
    .run = reset,
};

const Command rotate_command{
    .name = "rotate",
    .summary = "make this platform a new PDH",
    .text = "Replaces the platform's Diffie-Hellman key (PDH): sessions that guest owners made for the old one no longer open. With --pek also the "
            "key above it, which "
            "ends external ownership.\n\nIt asks first, or takes --yes.",
    .example = "sevctl rotate",
    .arguments = rotate_arguments,
    .run = rotate,
};

} // namespace sev::cli
