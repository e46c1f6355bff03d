// SPDX-License-Identifier: Apache-2.0
// `sev-owner exchange`: one step on stdin and stdout, for qrexec, ssh, or a person with a memory stick.
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "attest/owner/program/commands.hpp"
#include "attest/owner/program/instance.hpp"
#include "attest/owner/program/memory.hpp"
#include "base/service/harden.hpp"

namespace sev::attest::owner {
namespace {

using cli::Kind;

constexpr std::array arguments{
    config_option,
    cli::Argument{.name = "--channel",
                  .kind = Kind::text,
                  .metavar = "NAME",
                  .help = "Who is at the other end, as whoever started this program knows it: the configuration's client {\"stdio\": NAME}.",
                  .required = true},
    cli::Argument{
        .name = "--deadline", .kind = Kind::number, .metavar = "SECONDS", .help = "How long to wait for the request, 1 to 600. Default: 30."},
    unlocked_option,
};

/// The whole of stdin until its end, at most `limit` bytes, before the deadline.
std::string read_request(std::size_t limit, std::chrono::steady_clock::time_point until) {
    std::string out;
    std::array<char, 65536> piece{};
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
        pollfd waiting{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
        const int ready = left <= 0 ? 0 : ::poll(&waiting, 1, static_cast<int>(left));
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) throw Error{Fault::system, fmt::format("stdin: {}", std::strerror(errno))};
        if (ready == 0)
            throw Error{Fault::network, fmt::format("no whole request arrived on stdin before the deadline ({} bytes so far)", out.size()),
                        "the sender closes its end when the request is whole"};
        const ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw Error{Fault::system, fmt::format("stdin: {}", std::strerror(errno))};
        if (got == 0) return out;
        out.append(piece.data(), static_cast<std::size_t>(got));
        if (out.size() > limit) throw Error{Fault::malformed, fmt::format("request on stdin: more than the limit of {} bytes", limit)};
    }
}

/// What a server does every now and then: where none runs, nobody else ends what has expired, forgets what is old and signs the log.
void keep_house(Instance& instance, cli::Console& console) {
    try {
        const auto& limits = instance.config().limits;
        instance.store().clean(now(), now() - limits.forget_after, limits.keep_sessions);
        instance.store().sign_audit(now());
    } catch (const Error& error) {
        console.warn(fmt::format("the store was not cleaned, or its log not signed: {}", printable(error.what(), 500)));
    }
}

cli::Answer run(const cli::Arguments& given, cli::Console& console) {
    const std::string channel = "stdio:" + checked_name(given.text("--channel"), "--channel");
    const auto deadline = std::chrono::seconds{given.number_if("--deadline", 1, 600).value_or(30)};
    service::no_new_privileges();
    lock_memory(given, [&](const std::string& problem) { console.warn("memory is not locked, keys may reach swap: " + problem); });
    Instance instance{given};
    if (!instance.config().clients.may_ask(channel))
        throw Error{Fault::usage, fmt::format("channel {} is no client of this owner", printable(channel)),
                    "name it under \"clients\" of the configuration"};
    service::allow_calls(service::daemon_calls()); // everything is open; from here on we read what others wrote
    const std::string request = read_request(exchange_request_limit_bytes, std::chrono::steady_clock::now() + deadline);
    const Answered answered = instance.service().answer(request, channel, now());
    console.print(answered.jws);
    std::fflush(stdout); // whoever asked does not wait for what follows
    if (!answered.problem.empty()) console.note(printable(answered.problem, 500));
    keep_house(instance, console);
    // an answer is an answer: what it says is for the one who asked
    return cli::Answer::yes;
}

} // namespace

const cli::Command exchange_command{
    .name = "exchange",
    .summary = "answer one request on stdin with one signed answer on stdout",
    .text = "Reads one request of a host (JSON, docs/schemas/session-request.schema.json or judgement-request.schema.json) from stdin until its end "
            "and writes the signed "
            "answer (a compact JWS, docs/schemas/exchange-answer.schema.json) to stdout. Sessions, policies, secrets and the audit log are those of "
            "the configuration, so that a session made over this channel "
            "is judged over it, by this program or by another instance. Before it ends it also does what a server does every now and then: sessions "
            "that have expired lose their keys, old ones are forgotten, and the audit log is signed.\n\n"
            "Locks its memory as sev-owner serve does. The exit status is 0 whenever there is an answer, whatever it says.",
    .example = "sev-owner exchange --channel dom0 < request.json > answer.jws",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::attest::owner
