// SPDX-License-Identifier: Apache-2.0
#include "sevctl/launch_daemon.hpp"

#include <fmt/format.h>

#include "base/error.hpp"
#include "sevctl/answers.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/launch_text.hpp"
#include "sevctl/service.hpp"

namespace sev::cli {
namespace {

/// What the guest is, for sevd, which runs elsewhere: paths are absolute.
json::Value guest_of(const Arguments& given) {
    const auto absolute = [&](std::string_view option) {
        static_cast<void>(open_regular(given.text(option))); // what is wrong with the file is said here, by its own name
        return std::filesystem::absolute(given.text(option)).lexically_normal().string();
    };
    if (given.has("--image")) return {{"kind", "image"}, {"layout", absolute("--image")}};
    if (given.has("--xl-cfg")) return {{"kind", "xen"}, {"xl_cfg", absolute("--xl-cfg")}};
    json::Value out{{"kind", "xen"}, {"domid", given.number("--domid", 1, 0x7FEF)}}; // domain 0 is the host; 0x7FF0 and above are Xen's own
    if (given.has("--uuid")) out["uuid"] = given.text("--uuid");
    if (given.has("--leave-paused")) out["unpause"] = false;
    return out;
}

/// The same object as without sevd, and the launch as sevd shows it.
json::Value result(const Arguments& given, const json::Value& launch) {
    json::Value out = result_of(given);
    out["launched"] = launch_answer(launch) == Answer::yes;
    out["level"] = launch.at("level");
    out["emulated"] = launch_is_emulated(launch);
    out["steps"] = json::Value::array({{{"side", "host"}, {"step", "accepted"}, {"detail", ""}}});
    if (launch.contains("steps"))
        for (const json::Value& step : launch.at("steps"))
            out["steps"].push_back({{"side", "host"}, {"step", step.at("step")}, {"detail", step.at("detail")}});
    if (launch.contains("verdict")) {
        const json::Value& verdict = launch.at("verdict");
        if (verdict.contains("platform_checks")) out["platform_checks"] = verdict.at("platform_checks");
        else out["verdict"] = verdict;
    }
    out["launch"] = launch;
    return out;
}

std::string name_of(const Arguments& given) {
    if (const auto name = given.text_if("--name")) return *name;
    if (given.has("--xl-cfg")) return Path{given.text("--xl-cfg")}.stem().string();
    return given.has("--domid") ? "domain-" + given.text("--domid") : "image";
}

} // namespace

Answer launch_by_daemon(const Arguments& given, Console& console) {
    const std::string name = name_of(given);
    const Service daemon = Service::daemon(given);
    const json::Value launch = daemon.post("/v1/launches", {{"name", name},
                                                            {"owner", given.text("--owner")},
                                                            {"policy", given.text_if("--policy").value_or(name)},
                                                            {"guest", guest_of(given)},
                                                            {"evidence", given.text_if("--evidence").value_or("measurement")}});
    const auto id = checked_launch(launch).at("id").get<std::uint64_t>();
    const auto timeout = std::chrono::milliseconds{static_cast<std::int64_t>(given.real_if("--timeout", 0.1, 86400).value_or(600) * 1000)};
    if (given.has("--no-wait")) {
        if (console.json()) console.print(result(given, launch));
        else console.print(fmt::format("{}\n", id));
        return Answer::yes;
    }
    if (!console.json()) {
        console.print(wrapped(fmt::format("launch {} ", id), fmt::format("\"{}\"", name), 4));
        return follow(daemon, id, timeout, console, given.has("--verbose") ? attest::Detail::all : attest::Detail::failures);
    }
    const json::Value ended = settled(daemon, id, timeout);
    console.print(result(given, ended));
    return launch_answer(ended);
}

} // namespace sev::cli
