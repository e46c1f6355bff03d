// SPDX-License-Identifier: Apache-2.0
// `sevctl launches …`: what sevd is launching, has launched and has refused.
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"
#include "sevctl/answers.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/launch_text.hpp"
#include "sevctl/platform.hpp"
#include "sevctl/service.hpp"

namespace sev::cli {
namespace {

constexpr Argument id_argument{.name = "ID", .metavar = "ID", .help = "The launch's number, as sevctl launches list shows it.", .required = true};

constexpr std::array list_arguments{
    Argument{.name = "--name", .metavar = "NAME", .help = "Only launches of this name."},
    Argument{.name = "--limit", .kind = Kind::number, .metavar = "N", .help = "At most this many, the newest first: 1 to 1000. Default: 50."},
    daemon_socket_option,
    json_option,
};
constexpr std::array show_arguments{id_argument, daemon_socket_option, json_option};
constexpr std::array cancel_arguments{
    id_argument,
    yes_option,
    daemon_socket_option,
    json_option,
};
constexpr std::array watch_arguments{
    Argument{.name = "ID", .metavar = "ID", .help = "Follow this launch alone, until it runs or has ended."},
    Argument{
        .name = "--timeout", .kind = Kind::real, .metavar = "SECONDS", .help = "Stop listening after this long, from 0.1 to 86400. Default: 86400."},
    daemon_socket_option,
};

std::string target_of(const Arguments& given) { return fmt::format("/v1/launches/{}", parse_number(given.text("ID"), "ID", 1, UINT32_MAX)); }

/// For the query of a request target (RFC 3986): everything but unreserved characters as %XX.
std::string query_value(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), digit = c >= '0' && c <= '9';
        const bool plain = letter || digit || std::string_view{"-._~"}.find(c) != std::string_view::npos;
        out += plain ? std::string{c} : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

[[noreturn]] void no_such(const Arguments& given) {
    throw Error{Fault::usage, fmt::format("sevd knows no launch {}", printable(given.text("ID"))), "see: sevctl launches list"};
}

Answer list(const Arguments& given, Console& console) {
    const std::uint64_t limit = given.number_if("--limit", 1, 1000).value_or(50);
    const auto name = given.text_if("--name");
    const auto answer =
        Service::daemon(given).get(fmt::format("/v1/launches?limit={}{}", limit, name ? "&name=" + query_value(*name) : std::string{}));
    if (!answer) throw Error{Fault::network, "sevd: has no list of launches"};
    json::Object object{*answer, "sevd's answer"};
    json::Value launches = json::Value::array();
    for (const json::Value& launch : object.array("launches", limit))
        launches.push_back(checked_launch(launch, fmt::format("sevd's answer: launches[{}]", launches.size())));
    object.done();
    if (console.json()) {
        json::Value out = result_of(given);
        out["launches"] = launches;
        console.print(out);
        return Answer::yes;
    }
    if (launches.empty()) console.print("no launches\n");
    for (const json::Value& launch : launches) console.print(launch_line(launch));
    return Answer::yes;
}

Answer show(const Arguments& given, Console& console) {
    const auto launch = Service::daemon(given).get(target_of(given));
    if (!launch) no_such(given);
    checked_launch(*launch);
    if (console.json()) {
        json::Value out = result_of(given);
        out["launch"] = *launch;
        console.print(out);
    } else {
        console.print(launch_text(*launch));
    }
    return launch_answer(*launch);
}

Answer cancel(const Arguments& given, Console& console) {
    const Service daemon = Service::daemon(given);
    const auto launch = daemon.get(target_of(given));
    if (!launch) no_such(given);
    checked_launch(*launch);
    const std::string state = launch_state(*launch);
    if (launch_has_ended(*launch)) {
        console.complain(fmt::format("launch {} has ended already: {}", given.text("ID"), state), "");
        return Answer::no;
    }
    confirm(given, console,
            fmt::format("launch {} ({}) is {}; it is ended, and a guest that runs loses its memory", given.text("ID"), launch_name(*launch), state));
    const auto answer = daemon.remove(target_of(given));
    if (!answer) no_such(given);
    checked_launch(*answer);
    if (console.json()) {
        json::Value out = result_of(given);
        out["launch"] = *answer;
        console.print(out);
    } else {
        console.print(fmt::format("launch {}: is being ended\n", given.text("ID")));
    }
    return Answer::yes;
}

Answer watch(const Arguments& given, Console& console) {
    const Service daemon = Service::daemon(given);
    const auto timeout = std::chrono::milliseconds{static_cast<std::int64_t>(given.real_if("--timeout", 0.1, 86400).value_or(86400) * 1000)};
    if (!given.has("ID")) {
        const auto end = std::chrono::steady_clock::now() + timeout;
        daemon.client().listen({.target = "/v1/events"}, timeout, [&](const client::Event& event) {
            if (const auto line = event_line(event)) console.print(*line);
            console.finish();
            return true;
        });
        if (std::chrono::steady_clock::now() < end)
            throw Error{Fault::network, "sevd ended the stream of events",
                        "it stopped, or events came faster than they were taken; see: sevctl launches list"};
        return Answer::yes;
    }
    const auto launch = daemon.get(target_of(given));
    if (!launch) no_such(given);
    checked_launch(*launch);
    return follow(daemon, parse_number(given.text("ID"), "ID", 1, UINT32_MAX), timeout, console, attest::Detail::all);
}

} // namespace

const Command launches_list_command{
    .name = "launches list",
    .summary = "list what sevd is launching, runs, refused and ended",
    .text = "One line a launch, the newest first: number, state, protection level, name, and the reason of its state. Levels below L3 have no memory "
            "encryption.",
    .example = "sevctl launches list --name web --limit 1",
    .arguments = list_arguments,
    .run = list,
};

const Command launches_show_command{
    .name = "launches show",
    .summary = "show one launch: every step, and the owner's verdict with every check",
    .text = "Exit status 0 means that the guest runs and was attested, 1 that it does not.",
    .example = "sevctl launches show 7",
    .arguments = show_arguments,
    .run = show,
};

const Command launches_cancel_command{
    .name = "launches cancel",
    .summary = "call a launch off, or end a running guest",
    .text = "The guest is destroyed, its context taken from the PSP, and its ASID freed once the caches were flushed. Needs root.",
    .example = "sevctl launches cancel 7 --yes",
    .arguments = cancel_arguments,
    .run = cancel,
};

const Command launches_watch_command{
    .name = "launches watch",
    .summary = "follow what sevd does, a line a step",
    .text = "Without ID, every event until interrupted; exit status 2 when sevd ends the stream before. "
            "With ID, that launch's steps until it runs (exit status 0) or has ended (1).",
    .example = "sevctl launches watch 7",
    .arguments = watch_arguments,
    .run = watch,
};

} // namespace sev::cli
