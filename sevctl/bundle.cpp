// SPDX-License-Identifier: Apache-2.0
// `sevctl bundle`: what a launch's owner saw, signed by this host, in one file for a verdict elsewhere.
#include <array>

#include <fmt/format.h>

#include "attest/protocol/signed_bundle.hpp"
#include "base/error.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/service.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "LAUNCH", .metavar = "LAUNCH", .help = "The launch's number, as sevctl launches list shows it."},
    Argument{.name = "--outfile", .letter = 'o', .kind = Kind::output, .metavar = "FILE", .help = "The bundle (a JWS): needed with LAUNCH."},
    Argument{.name = "--print-key", .kind = Kind::flag, .help = "Print this host's public key (a JWK), for those who judge its bundles to pin."},
    daemon_socket_option,
    force_option,
    json_option,
};

attest::HostKey host_key(const Service& daemon) {
    const auto key = daemon.get("/v1/host-key");
    if (!key) throw Error{Fault::network, "sevd: has no host key", "is it a sevd of this version that listens there?"};
    return attest::HostKey::from_json(*key, "sevd's host key");
}

Answer print_key(const Service& daemon, const Arguments& given, Console& console) {
    for (const std::string_view name : {"LAUNCH", "--outfile"})
        if (given.has(name)) throw Error{Fault::usage, fmt::format("{} and --print-key: want one of them", name), "see: sevctl bundle --help"};
    const attest::HostKey key = host_key(daemon);
    if (!console.json()) {
        console.print(key.to_json());
        return Answer::yes;
    }
    json::Value out = result_of(given);
    out["host_key"] = key.to_json();
    console.print(out);
    return Answer::yes;
}

Answer run(const Arguments& given, Console& console) {
    const Service daemon = Service::daemon(given);
    if (given.has("--print-key")) return print_key(daemon, given, console);
    if (!given.has("LAUNCH") || !given.has("--outfile"))
        throw Error{Fault::usage, "want LAUNCH and --outfile, or --print-key", "see: sevctl bundle --help"};
    const std::uint64_t id = parse_number(given.text("LAUNCH"), "LAUNCH", 1, UINT32_MAX);
    const Path file = given.text("--outfile");
    check_output(file);
    const attest::HostKey key = host_key(daemon);
    const auto jws = daemon.get_text(fmt::format("/v1/launches/{}/bundle", id), "application/jose", attest::SignedBundle::wire_limit_bytes);
    if (!jws) throw Error{Fault::usage, fmt::format("sevd knows no launch {}", id), "see: sevctl launches list"};
    // What would be refused elsewhere is refused here, where it can still be asked for again.
    const auto bundle = attest::open_signed_bundle(*jws, key, "sevd's bundle");
    if (bundle.launch != id) throw Error{Fault::malformed, fmt::format("sevd's bundle: launch is {}, want {}", bundle.launch, id)};
    write_output(console, file, as_bytes(*jws + "\n"), Visibility::readable, given.existing());
    if (!console.json()) {
        console.note(fmt::format("launch {} \"{}\", {}: judge it with sevctl judge --bundle and --host-key, where key {} is pinned", id,
                                 bundle.bundle.launch.launch_name, bundle.state, key.thumbprint()));
        return Answer::yes;
    }
    json::Value out = result_of(given);
    out["file"] = file.string();
    out["launch"] = id;
    out["name"] = bundle.bundle.launch.launch_name;
    out["state"] = bundle.state;
    out["collected_at"] = attest::text(bundle.collected_at);
    out["host_key"] = key.to_json();
    console.print(out);
    return Answer::yes;
}

} // namespace

const Command bundle_command{
    .name = "bundle",
    .summary = "collect a launch's evidence in one signed file, for a verdict elsewhere",
    .text =
        "Asks sevd for what the owner of a launch saw, the platform's evidence, the session's offer and the launch's evidence, signed with this "
        "host's key, and writes it to one file. sevctl judge judges that file on a machine without network. It holds no secret.\n\n"
        "The signature says that this host collected the bundle and that nobody changed it since. It does not attest anything: the verdict comes "
        "from the measurement under the session's TIK, or from a report. sevd makes the key when it is first needed, and keeps the bundles of the "
        "newest launches.",
    .example = "sevctl bundle 7 -o launch7.bundle",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
