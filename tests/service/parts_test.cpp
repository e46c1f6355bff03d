// SPDX-License-Identifier: Apache-2.0
#include <csignal>

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/service/events.hpp"
#include "base/service/harden.hpp"
#include "base/service/log.hpp"
#include "base/service/metrics.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::service;

namespace {

/// Exit status of a child that runs `body`; 1000 + signal when one killed it.
template <class Body>
int in_child(Body&& body) {
    const pid_t child = ::fork();
    if (child == 0) {
        int status = 99;
        try {
            status = body();
        } catch (...) {
        }
        ::_exit(status);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

} // namespace

TEST_CASE("log: one line, whatever comes from outside") {
    CHECK(log_line("2026-01-02T03:04:05.678Z", "sevd", Priority::notice, "launch is running", {{"launch", "7"}, {"name", "a b"}}) ==
          "2026-01-02T03:04:05.678Z notice sevd: launch is running launch=7 name=\"a b\"");
    const std::string line = log_line("T", "sevd", Priority::error, "x\ny", {{"name", "evil\nT error sevd: forged \"=\x1b[31m"}, {"empty", ""}});
    CHECK(line.find('\n') == std::string::npos);
    CHECK(line.find('\x1b') == std::string::npos);
    CHECK(line.find("empty=\"\"") != std::string::npos);
    CHECK(log_line("T", "p", Priority::info, "m", {{"v", std::string(5000, 'a')}}).size() < 1200);
    Log log{"test", Sink::standard_error, Priority::error};
    CHECK_THROWS_AS(log.write(Priority::debug, "m", {{"Bad Key", "v"}}), Error);
}

TEST_CASE("metrics: text as Prometheus' format has it") {
    Metrics metrics;
    metrics.declare_counter("launches_total", "Launches that ended, by state.");
    metrics.declare_gauge("asids_free", "Free ASIDs.\nSecond \\ line.");
    metrics.declare_histogram("step_seconds", "Time of a step.", {0.1, 1});
    metrics.add("launches_total", 1, {{"state", "running"}});
    metrics.add("launches_total", 2, {{"state", "a\"b\\c\nd"}});
    metrics.set("asids_free", 7.5);
    metrics.observe("step_seconds", 0.05, {{"step", "x"}});
    metrics.observe("step_seconds", 0.5, {{"step", "x"}});
    metrics.observe("step_seconds", 5, {{"step", "x"}});
    // Written by hand after the format's definition.
    CHECK(metrics.text() ==
          "# HELP asids_free Free ASIDs.\\nSecond \\\\ line.\n# TYPE asids_free gauge\nasids_free 7.5\n"
          "# HELP launches_total Launches that ended, by state.\n# TYPE launches_total counter\n"
          "launches_total{state=\"a\\\"b\\\\c\\nd\"} 2\nlaunches_total{state=\"running\"} 1\n"
          "# HELP step_seconds Time of a step.\n# TYPE step_seconds histogram\n"
          "step_seconds_bucket{step=\"x\",le=\"0.1\"} 1\nstep_seconds_bucket{step=\"x\",le=\"1\"} 2\nstep_seconds_bucket{step=\"x\",le=\"+Inf\"} 3\n"
          "step_seconds_sum{step=\"x\"} 5.55\nstep_seconds_count{step=\"x\"} 3\n");
    CHECK_THROWS_AS(metrics.add("nobody_declared_this"), Error);
    CHECK_THROWS_AS(metrics.set("launches_total", 1), Error);
    CHECK_THROWS_AS(metrics.add("launches_total", -1), Error);
    CHECK_THROWS_AS(metrics.declare_gauge("asids_free", "again"), Error);
    CHECK_THROWS_AS(metrics.declare_gauge("Bad", "name"), Error);
}

TEST_CASE("events: history, backlog and end") {
    EventHub hub;
    CHECK(hub.publish("a", "1") == 1);
    const auto late = hub.subscribe(), from_start = hub.subscribe(0);
    hub.publish("b", "2");
    CHECK(late->take() == Event{2, "b", "2"});
    CHECK(from_start->take() == Event{1, "a", "1"});
    CHECK(from_start->take() == Event{2, "b", "2"});
    CHECK_FALSE(late->take().has_value());
    unsigned woken = 0;
    late->on_ready([&] { ++woken; });
    CHECK(woken == 0);
    for (std::size_t i = 0; i <= Subscription::backlog_limit; ++i) hub.publish("c", "3");
    CHECK(woken == Subscription::backlog_limit + 1);
    CHECK_FALSE(late->ended()); // what waits is still there
    std::size_t taken = 0;
    while (late->take()) ++taken;
    CHECK(taken == Subscription::backlog_limit);
    CHECK(late->ended());
    CHECK_THROWS_AS(hub.publish("a", "two\nlines"), Error);
    hub.close();
    CHECK(hub.subscribe()->ended());
    CHECK(hub.listeners() == 0);
}

TEST_CASE("hardening: no core file, not dumpable") {
    CHECK(in_child([] {
              no_core_dumps();
              struct rlimit limit {};
              ::getrlimit(RLIMIT_CORE, &limit);
              return limit.rlim_max == 0 && ::prctl(PR_GET_DUMPABLE) == 0 ? 0 : 1;
          }) == 0);
}

TEST_CASE("hardening: what is not on the list fails, what no daemon does kills, the rest goes on") {
    CHECK(in_child([] {
              allow_calls(daemon_calls());
              const Bytes memory(1U << 20);
              const int made = ::socket(AF_UNIX, SOCK_STREAM, 0);
              if (made < 0 || ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 1;
              char* const arguments[] = {nullptr};
              return ::execv("/bin/true", arguments) == -1 && errno == EPERM ? 0 : 2;
          }) == 0);
    CHECK(in_child([] {
              allow_calls(daemon_calls());
              ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
              return 0;
          }) == 1000 + SIGSYS);
    CHECK_THROWS_AS(allow_calls(daemon_calls(), std::array<std::string_view, 1>{"ptrace"}), Error);
}
