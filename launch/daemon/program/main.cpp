// SPDX-License-Identifier: Apache-2.0
// sevd: the host's daemon. Builds its resources, gives up its rights, and waits for signals.
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <grp.h>
#include <malloc.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/service/harden.hpp"
#include "base/service/systemd.hpp"
#include "launch/daemon/api.hpp"

namespace sev::daemon {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds drain_patience{20'000}, answer_patience{5'000}, watch_deadline{2'000}, turn{1'000};

struct Options {
    std::string configuration = "/etc/xen-sev/sevd.json", socket, stop_at;
    bool check = false, debug = false;
};

Fd signals() {
    sigset_t handled;
    ::sigemptyset(&handled);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&handled, signal);
    ::sigprocmask(SIG_BLOCK, &handled, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    Fd out{::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK)};
    if (!out) throw Error{Fault::system, fmt::format("signalfd: {}", std::strerror(errno))};
    return out;
}

int next_signal(const Fd& from, std::chrono::milliseconds wait) {
    struct pollfd entry {.fd = from.get(), .events = POLLIN, .revents = 0};
    if (::poll(&entry, 1, static_cast<int>(wait.count())) <= 0) return 0;
    struct signalfd_siginfo info {};
    return ::read(from.get(), &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
}

std::optional<gid_t> group_id(const std::optional<std::string>& name) {
    if (!name) return std::nullopt;
    const struct group* const found = ::getgrnam(name->c_str());
    if (!found)
        throw Error{Fault::usage, fmt::format("group {}: does not exist", printable(*name)),
                    "systemd-sysusers makes it, from the package's sysusers.d file"};
    return found->gr_gid;
}

void check_stop_point(const Options& options, const Configuration& configuration) {
    if (options.stop_at.empty()) return;
    if (configuration.psp.backend != PspChoice::Backend::emulated) throw Error{Fault::usage, "--stop-at is for tests with the emulated PSP alone"};
    const auto known = StopPoint::all();
    if (std::ranges::find(known, options.stop_at) == known.end())
        throw Error{Fault::usage, fmt::format("--stop-at {}: is no point of a launch", printable(options.stop_at)),
                    "points: " + fmt::format("{}", fmt::join(known, " "))};
}

void listen(service::Server& server, const Configuration& configuration, service::Log& log) {
    auto inherited = service::take_activated_sockets();
    if (inherited.empty()) {
        server.listen(service::UnixEndpoint{.path = configuration.socket, .mode = 0660, .group = group_id(configuration.group)});
        log.info("listening", {{"socket", configuration.socket.string()}});
    }
    for (auto& socket : inherited) {
        log.info("listening", {{"socket", "from systemd"}, {"unit", socket.name}});
        server.listen(service::InheritedEndpoint{std::move(socket.socket)});
    }
}

/// An emulated PSP's keys are in this process, and secrets pass through it on their way to Xen guests.
void lock_memory(service::Log& log) {
    try {
        service::lock_touched_memory();
    } catch (const Error& error) {
        log.warning("memory is not locked, keys may reach swap", {{"reason", error.what()}, {"remedy", error.hint()}});
    }
}

/// Takes over what can be taken over while guests run.
void reload(const Options& options, Configuration& configuration, const Spawner& spawner, Launches& launches, Api& api, service::Log& log) {
    service::notify_reloading();
    try {
        Configuration fresh = Configuration::load(options.configuration);
        if (!options.socket.empty()) fresh.socket = options.socket;
        for (const std::string& key : configuration.needs_restart(fresh)) log.warning("this key takes effect with a restart", {{"key", key}});
        spawner.reload(fresh); // before anything is taken over: all of it, or nothing
        launches.reconfigure(fresh);
        api.reconfigure(fresh);
        configuration.owners = fresh.owners;
        configuration.writers = fresh.writers;
        log.notice("configuration reloaded", {{"owners", std::to_string(fresh.owners.size())}});
    } catch (const Error& error) {
        log.error("the new configuration is not taken; the old one stays", {{"reason", error.what()}});
    }
    service::notify_ready("serving");
}

/// Each second, what is due. It may wait for a PSP that hangs, so it has a thread of its own: that is no reason to be killed by the watchdog, or to
/// hear no signal.
void look_after(const std::stop_token& stop, Launches& launches, service::Log& log) {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock{mutex};
    do {
        try {
            launches.maintain();
        } catch (const std::exception& error) {
            log.error("maintenance", {{"reason", error.what()}});
        }
    } while (!changed.wait_for(lock, stop, turn, [&] { return stop.stop_requested(); }));
}

void turn_until_told(const Fd& signal_fd, const Options& options, Configuration& configuration, const Spawner& spawner, Launches& launches, Api& api,
                     service::Server& server, service::Log& log) {
    const auto watchdog = service::watchdog_interval();
    for (;;) {
        const int signal = next_signal(signal_fd, std::min(turn, watchdog.value_or(turn)));
        if (signal == SIGHUP) reload(options, configuration, spawner, launches, api, log);
        if (signal == SIGTERM || signal == SIGINT) return;
        // The watchdog is fed only while connections are attended to.
        if (watchdog && server.alive(watch_deadline)) service::notify_watchdog();
    }
}

int serve(const Options& options) {
    ::mallopt(M_ARENA_MAX, 2); // threads that come and go need no memory of their own each
    ::mallopt(M_MMAP_THRESHOLD, 128 << 10); // and what a launch reads goes back when it ends: else the first big one moves glibc's own threshold up
    service::no_core_dumps();
    service::no_new_privileges();
    Configuration configuration = Configuration::load(options.configuration);
    if (!options.socket.empty()) configuration.socket = options.socket;
    check_stop_point(options, configuration);
    if (options.check) {
        fmt::print("{}: good; {} owners\n", options.configuration, configuration.owners.size());
        return 0;
    }
    service::Log log{"sevd", service::log_sink(), options.debug ? service::Priority::debug : service::Priority::info};
    const Fd signal_fd = signals();
    const Spawner spawner{options.configuration, configuration}; // while this is one thread that holds nothing
    lock_memory(log); // before there is a key in it
    const auto backend = open_backend(configuration);
    Journal journal{configuration.state};
    journal.on_unreadable([&log](const std::string& what) { log.error("left out of lists", {{"reason", what}}); });
    service::EventHub events;
    const OwnerChannel owners{&spawner};
    service::allow_calls(service::daemon_calls());

    PspQueue psp{backend->firmware, configuration.psp.deadline};
    Launches launches{{.backend = *backend,
                       .psp = psp,
                       .journal = journal,
                       .owners = owners,
                       .events = events,
                       .log = log,
                       .stop_point = StopPoint{options.stop_at}},
                      configuration};
    HostKeyFile host_key{configuration.state};
    Api api{{.backend = *backend, .psp = psp, .launches = launches, .events = events, .host_key = host_key, .version = XEN_SEV_VERSION,
             .readers = group_id(configuration.group)},
            configuration};
    service::Server server{api.routes(), {}, log};
    service::count(api.metrics(), "sevd", server);
    listen(server, configuration, log);
    log.notice("starting", {{"version", XEN_SEV_VERSION}, {"psp", backend->title}, {"level", std::to_string(backend->level)}});
    launches.recover(); // before anybody is answered
    server.start();
    service::notify_ready(backend->title);
    log.notice("ready");

    std::jthread caretaker{[&](const std::stop_token& stop) { look_after(stop, launches, log); }};
    turn_until_told(signal_fd, options, configuration, spawner, launches, api, server, log);

    service::notify_stopping("waiting for launches to end");
    log.notice("stopping");
    caretaker.request_stop();
    const bool ended = launches.stop(drain_patience);
    events.close();
    server.drain(answer_patience);
    caretaker.join(); // a PSP that hangs holds it for at most the PSP's deadline
    if (!ended) log.error("some launches did not end in time; the next start takes them up");
    log.notice("stopped");
    return 0;
}

int run(int argc, char** argv) {
    Options options;
    CLI::App app{"sevd: launches attested guests on this host", "sevd"};
    app.set_version_flag("-V,--version", "sevd " XEN_SEV_VERSION " (xen-sev)");
    app.add_option("--config", options.configuration, "configuration file (default /etc/xen-sev/sevd.json)");
    app.add_option("--socket", options.socket, "listen here and not where the configuration says");
    app.add_flag("--check", options.check, "read the configuration, say whether it is good, and end");
    app.add_flag("--debug", options.debug, "log more");
    app.add_option("--stop-at", options.stop_at, "for tests, with the emulated PSP alone: kill this process at a point of a launch");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) return app.exit(error);
        throw Error{Fault::usage, error.what(), "see: sevd --help"};
    }
    return serve(options);
}

} // namespace
} // namespace sev::daemon

int main(int argc, char** argv) {
    try {
        const int status = sev::daemon::run(argc, argv);
        if (std::fflush(stdout) != 0 || std::ferror(stdout)) throw sev::Error{sev::Fault::system, "standard output: cannot be written"};
        return status;
    } catch (const sev::Error& error) {
        fmt::print(stderr, "sevd: error: {}\n", sev::printable(error.what(), 8192));
        if (!error.hint().empty()) fmt::print(stderr, "sevd: hint: {}\n", sev::printable(error.hint(), 8192));
    } catch (const std::exception& error) {
        fmt::print(stderr, "sevd: error: unexpected: {}\n", error.what());
    }
    return 2;
}
