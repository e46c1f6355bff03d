// SPDX-License-Identifier: Apache-2.0
// The whole process `sevctl status`, on this machine as it is and from each shipped probe bundle: 100 ms at most, by the median of its time
// on the wall.
//
// usage: bench_status SEVCTL [BUNDLE]...
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using Words = std::vector<std::string>;

constexpr double want_seconds = 0.1;
constexpr int rounds = 21;

struct SpawnActions {
    SpawnActions() { posix_spawn_file_actions_init(&value); }
    SpawnActions(const SpawnActions&) = delete;
    SpawnActions& operator=(const SpawnActions&) = delete;
    ~SpawnActions() { posix_spawn_file_actions_destroy(&value); }
    posix_spawn_file_actions_t value;
};

/// Runs words to their end with stdout thrown away; the seconds of processor time it took. Any other exit status than 0 is an error: what fails
/// early is no measure.
double run(const Words& words) {
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    SpawnActions actions;
    posix_spawn_file_actions_addopen(&actions.value, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t child = 0;
    if (posix_spawnp(&child, argv[0], &actions.value, nullptr, argv.data(), environ) != 0)
        throw Error{Fault::system, words[0] + ": cannot be started"};
    int status = 0;
    struct rusage usage {};
    if (wait4(child, &status, 0, &usage) != child) throw Error{Fault::system, "wait4 failed"};
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw Error{Fault::system, fmt::format("{}: did not exit with 0", fmt::join(words, " "))};
    const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec); };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Whether the median is within the bound; says what was measured.
bool measure(const std::string& name, const Words& words) {
    bench::Samples wall;
    double processor = 0;
    for (int i = 0; i < rounds; ++i) wall.time([&] { processor += run(words) / rounds; });
    const bool good = wall.median_seconds() <= want_seconds;
    fmt::print("{:<44} {:6.1f} ms, {:6.1f} ms processor time (medians and means of {}){}\n", name, wall.median_seconds() * 1e3,
               processor * 1e3, rounds, good ? "" : fmt::format("  TOO SLOW: want {:.0f} ms", want_seconds * 1e3));
    return good;
}

} // namespace

int main(int argc, char** argv) try {
    if (argc < 2) throw Error{Fault::usage, "want the path of sevctl, and probe bundles"};
    const std::string sevctl = argv[1];
    bench::print_machine();
    measure("true, for comparison", {"true"});
    bool good = measure("sevctl status", {sevctl, "status"});
    good &= measure("sevctl status --json", {sevctl, "status", "--json"});
    for (int i = 2; i < argc; ++i) good &= measure("status --from " + Path{argv[i]}.filename().string(), {sevctl, "status", "--from", argv[i]});
    return good ? 0 : 1;
} catch (const std::exception& error) {
    fmt::print(stderr, "bench_status: {}\n", error.what());
    return 2;
}
