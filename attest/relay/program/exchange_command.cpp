// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <thread>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attest/relay/exchange.hpp"
#include "attest/relay/program/commands.hpp"
#include "attest/relay/program/configuration.hpp"
#include "attest/relay/program/environment.hpp"
#include "base/error.hpp"

namespace sev::relay {
namespace {

using cli::Answer;
using cli::Argument;
using cli::Arguments;
using cli::Kind;

/// A key that others can read is no proof of who we are.
void check_private(const Path& path) {
    const OpenFile file = open_regular(path);
    struct stat facts {};
    if (::fstat(file.fd.get(), &facts) != 0) throw Error{Fault::system, fmt::format("{}: its mode cannot be read", path.string())};
    if ((facts.st_mode & 077) != 0)
        throw Error{Fault::usage, fmt::format("{}: mode is {:04o}, and a private key is for its owner alone", path.string(), facts.st_mode & 07777),
                    fmt::format("chmod 600 {}", path.string())};
}

struct Plan {
    OwnerService owner;
    Network network;
};

Plan plan_of(const Arguments& given) {
    Configuration configuration = read_configuration(given);
    Plan out{.owner = configuration.owner, .network = configuration.network};
    if (!configuration.owner_ca_file.empty()) out.network.ca_file = configuration.owner_ca_file;
    if (given.has("--owner")) out.owner.url = given.text("--owner");
    if (given.has("--cacert")) out.network.ca_file = given.text("--cacert");
    if (given.has("--cert")) out.network.certificate = given.text("--cert");
    if (given.has("--key")) out.network.key = given.text("--key");
    if (const auto seconds = given.real_if("--deadline", 0.001, 3600)) out.owner.deadline = milliseconds(*seconds);
    if (out.owner.url.empty()) throw Error{Fault::usage, "no owner's URL", "give it with --owner, or as owner_url in the settings"};
    check_owner_url(out.owner.url);
    if (out.network.certificate.empty() != out.network.key.empty()) throw Error{Fault::usage, "--cert and --key are needed together"};
    if (!out.network.ca_file.empty()) static_cast<void>(open_regular(out.network.ca_file));
    if (!out.network.certificate.empty()) static_cast<void>(open_regular(out.network.certificate));
    if (!out.network.key.empty()) check_private(out.network.key);
    return out;
}

Answer run(const Arguments& given, cli::Console& console) {
    // what is wrong here is said before anybody's request is taken
    const Plan plan = plan_of(given);
    const auto began = std::chrono::steady_clock::now();
    const Bytes request = read_request(STDIN_FILENO, exchange_request_limit_bytes, plan.owner.deadline);
    CurlHttp http{plan.network};
    const Bytes answer = carry(http, plan.owner, request, began, [](Milliseconds span) { std::this_thread::sleep_for(span); });
    console.print(as_text(answer));
    return Answer::yes;
}

constexpr std::array arguments{
    Argument{.name = "--owner", .metavar = "URL", .help = "The guest owner's service, such as https://owner.example:8443. Only https, TLS 1.3."},
    Argument{.name = "--cert",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Our certificate (PEM), which the owner's service asks for.",
             .content = cli::Content::opaque},
    Argument{.name = "--key",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Its private key (PEM), readable for nobody else.",
             .content = cli::Content::opaque},
    Argument{.name = "--cacert",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Hold the service against these certificates (PEM) instead of the system's.",
             .content = cli::Content::opaque},
    Argument{.name = "--proxy", .metavar = "URL", .help = "Go through this proxy; \"none\" ignores the environment."},
    Argument{.name = "--config",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Read settings from this file instead of /etc/xen-sev/relay.json. Options on the command line win.",
             .limit_bytes = Configuration::limit_bytes},
    Argument{.name = "--deadline", .kind = Kind::real, .metavar = "SECONDS", .help = "For everything together, from 0.001 to 3600 (default 60)."},
};

} // namespace

const cli::Command exchange_command{
    .name = "exchange",
    .summary = "carry one request to a guest owner's service, and its answer back",
    .text = "Reads one request on standard input to its end, posts it once, and prints the answer. Neither is read or changed: the answer is signed "
            "by the owner for "
            "this very request, and sevd opens no other; its secrets are sealed to one launch.\n\n"
            "A request that may have reached the service is not sent again, because each step of a session is good once. While no connection can be "
            "made at all, "
            "another attempt follows each second until the deadline.",
    .example = "sev-relay exchange --owner https://owner.example:8443 --cert relay.pem --key relay.key <request.json",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::relay
