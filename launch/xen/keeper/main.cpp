// SPDX-License-Identifier: Apache-2.0
// xen-sev-keeper: the one process that holds a domain for sevd, and alone links libxl. It is started by sevd and sevctl, takes one JSON question a
// line on stdin, and answers each with one line on stdout. When its caller is gone, a domain that was not let run is destroyed.
#include <csignal>
#include <cstdio>
#include <cstring>

#include <unistd.h>

#include "base/error.hpp"
#include "launch/xen/keeper/domain.hpp"

namespace {

using sev::Error;
using sev::launch::xen::keeper::Kept;
namespace json = sev::json;

constexpr std::size_t question_limit = 2U << 20;
volatile std::sig_atomic_t told_to_end = 0;

bool say(const json::Value& value) {
    const std::string line = value.dump(-1, ' ', false, json::Value::error_handler_t::replace) + "\n";
    for (std::size_t at = 0; at < line.size();) {
        const ssize_t done = ::write(STDOUT_FILENO, line.data() + at, line.size() - at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return false;
        at += static_cast<std::size_t>(done);
    }
    return true;
}

json::Value answered(Kept& kept, std::string_view line) {
    try {
        return {{"ok", kept.answer(json::parse(line, "question", {.bytes = question_limit, .depth = 8}))}};
    } catch (const Error& error) {
        return {{"error", error.what()}};
    } catch (const json::Value::exception& error) {
        return {{"error", std::string{"question: "} + error.what()}};
    }
}

/// Whole lines out of what has come in. False: the caller is gone.
bool work(Kept& kept, std::string& pending) {
    char buffer[16 * 1024];
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) return true;
    if (got <= 0) return false;
    pending.append(buffer, static_cast<std::size_t>(got));
    if (pending.size() > question_limit) return false;
    for (std::size_t end = 0; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1))
        if (!say(answered(kept, std::string_view{pending}.substr(0, end)))) return false;
    return true;
}

void serve(Kept& kept) {
    std::string pending;
    while (!kept.over() && told_to_end == 0)
        if (kept.wait(STDIN_FILENO) && !work(kept, pending)) break;
    // after the end of a domain there may be questions still, and the answer that it is gone
    while (kept.over() && told_to_end == 0 && work(kept, pending)) {}
    if (!kept.orphaned()) return;
    // a guest that runs outlives who started it; only its end is left to be seen to. Nobody listens on these any more.
    int nobody[2];
    if (::pipe(nobody) != 0) return;
    while (!kept.over() && told_to_end == 0) kept.wait(nobody[0]);
}

} // namespace

int main(int argc, char**) {
    if (argc != 1) {
        std::fputs("xen-sev-keeper: is started by sevd and sevctl, and takes no arguments\n", stderr);
        return 2;
    }
    // whoever started this waits for the first process alone; the keeper is nobody's child
    const pid_t keeper = ::fork();
    if (keeper < 0) {
        std::fprintf(stderr, "fork: %s\n", std::strerror(errno));
        return 2;
    }
    if (keeper > 0) return 0;
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_IGN);
    struct sigaction action {};
    action.sa_handler = [](int) { told_to_end = 1; };
    ::sigaction(SIGTERM, &action, nullptr);
    try {
        Kept kept;
        if (!say({{"ok", {{"protocol", 1}}}})) return 2;
        serve(kept);
        return 0;
    } catch (const Error& error) {
        say({{"error", error.what()}});
        return 2;
    }
}
