// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "sevctl/commands.hpp"
#include "sevctl/platform.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{device_option, json_option};

Answer flags(const Arguments& given, Console& console) {
    Platform platform{given, console, psp::ccp::Access::read_only};
    const psp::PlatformStatus status = platform.status();
    if (console.json()) {
        json::Value result = platform_result(given, platform);
        result["owned"] = status.externally_owned;
        result["es"] = status.es_configured;
        console.print(result);
    } else {
        console.print(fmt::format("{}{}", status.externally_owned ? "owned\n" : "", status.es_configured ? "es\n" : ""));
    }
    return Answer::yes;
}

Answer guests(const Arguments& given, Console& console) {
    Platform platform{given, console, psp::ccp::Access::read_only};
    const psp::PlatformStatus status = platform.status();
    if (console.json()) {
        json::Value result = platform_result(given, platform);
        result["guests"] = status.guest_count;
        console.print(result);
    } else {
        console.print(fmt::format("{}\n", status.guest_count));
    }
    return Answer::yes;
}

Answer identifier(const Arguments& given, Console& console) {
    Platform platform{given, console, psp::ccp::Access::read_only};
    const std::vector<psp::ChipId> ids = platform.chip_ids();
    if (console.json()) {
        json::Value result = platform_result(given, platform);
        result["identifiers"] = json::Value::array();
        for (const psp::ChipId& id : ids) result["identifiers"].push_back(hex(id));
        console.print(result);
        return Answer::yes;
    }
    for (const psp::ChipId& id : ids) {
        std::string text = hex(id); // sevctl prints upper case; AMD's key server takes both
        std::ranges::transform(text, text.begin(), [](char c) { return c >= 'a' && c <= 'f' ? static_cast<char>(c - 'a' + 'A') : c; });
        console.print(text + "\n");
    }
    return Answer::yes;
}

Answer version(const Arguments& given, Console& console) {
    Platform platform{given, console, psp::ccp::Access::read_only};
    const psp::PlatformStatus status = platform.status();
    if (console.json()) {
        json::Value result = platform_result(given, platform);
        result["firmware"] = status.build.text();
        result["state"] = psp::name(status.state);
        console.print(result);
    } else {
        console.print(status.build.text() + "\n");
    }
    return Answer::yes;
}

} // namespace

const Command show_flags_command{
    .name = "show flags",
    .summary = "show this platform's flags: owned, es",
    .text = "Prints a line for each flag that is set: owned, when the platform has an external owner; es, when it is initialised for SEV-ES. No "
            "line: none is set.",
    .example = "sevctl show flags",
    .arguments = arguments,
    .run = flags,
};
const Command show_guests_command{
    .name = "show guests",
    .summary = "show how many guests the PSP has",
    .text = "Prints how many guest contexts the PSP keeps, also of guests that are paused or half launched.",
    .example = "sevctl show guests",
    .arguments = arguments,
    .run = guests,
};
const Command show_identifier_command{
    .name = "show identifier",
    .summary = "show this platform's chip id",
    .text = "Prints the unique id of the chip as 128 hex digits, a line a socket. It is the key for AMD's CEK server, and it identifies the machine: "
            "treat it as you would a "
            "serial number.",
    .example = "sevctl show identifier",
    .arguments = arguments,
    .run = identifier,
};
const Command show_version_command{
    .name = "show version",
    .summary = "show the PSP's firmware version",
    .text = "Prints API major, API minor and build of the PSP's SEV firmware: the three numbers that a measurement covers.",
    .example = "sevctl show version",
    .arguments = arguments,
    .run = version,
};

} // namespace sev::cli
