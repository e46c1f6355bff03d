// SPDX-License-Identifier: Apache-2.0
// `sev-owner serve`.
#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <grp.h>
#include <malloc.h>
#include <pthread.h>

#include "attest/owner/program/commands.hpp"
#include "attest/owner/program/http.hpp"
#include "attest/owner/program/memory.hpp"
#include "base/service/harden.hpp"
#include "base/service/server.hpp"
#include "base/service/systemd.hpp"

namespace sev::attest::owner {
namespace {

using namespace std::chrono_literals;

constexpr std::array arguments{
    config_option,
    unlocked_option,
};

constexpr std::chrono::milliseconds tick = 500ms, drain_patience = 10s, housekeeping_every = 10s, sign_every = 300s, answer_deadline = 5s;
constexpr std::size_t thread_stack_bytes = 512 * 1024;

/// Signals are waited for by the main thread alone; set before any other thread exists.
sigset_t wanted_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
    return set;
}

service::Limits limits_of(const OwnerConfig& config) {
    service::Limits out;
    out.connections = config.limits.connections;
    out.connections_per_peer = config.limits.connections_per_peer;
    out.workers = config.limits.workers;
    out.body_deadline = config.limits.deadline;
    return out;
}

struct Listen {
    service::Server& server;
    service::Log& log;
    void operator()(const OwnerConfig::UnixListener& listener) const {
        service::UnixEndpoint endpoint{.path = listener.path, .mode = listener.mode, .group = std::nullopt};
        if (!listener.group.empty()) {
            const group* entry = getgrnam(listener.group.c_str());
            if (!entry) throw Error{Fault::usage, fmt::format("there is no group {}", printable(listener.group))};
            endpoint.group = entry->gr_gid;
        }
        server.listen(std::move(endpoint));
        log.info("listening", {{"unix", listener.path.string()}});
    }
    void operator()(const OwnerConfig::HttpsListener& listener) const {
        expect_private(listener.private_key);
        const std::uint16_t port = server.listen(service::TlsEndpoint{
            .address = listener.address,
            .port = listener.port,
            .files = {.certificate = listener.certificate, .key = listener.private_key, .client_ca = listener.client_ca, .clients = std::nullopt}});
        log.info("listening", {{"https", listener.address}, {"port", std::to_string(port)}});
    }
};

void listen_everywhere(service::Server& server, const OwnerConfig& config, service::Log& log) {
    auto inherited = service::take_activated_sockets();
    if (inherited.empty() && config.listen.empty())
        throw Error{Fault::usage, "there is nothing to listen on", "name a socket under \"listen\" of the configuration"};
    for (auto& socket : inherited) {
        log.info("listening", {{"inherited", socket.name}});
        server.listen(service::InheritedEndpoint{std::move(socket.socket)});
    }
    for (const auto& listener : config.listen) std::visit(Listen{server, log}, listener);
}

/// What has to be done every now and then, by a thread of its own: a store that does not answer keeps nobody from stopping or reloading the service.
/// Trouble with the store is logged, and tried again.
class Housekeeping {
public:
    explicit Housekeeping(Serving& serving) : serving_{serving}, thread_{[this] { turn(); }} {}
    Housekeeping(const Housekeeping&) = delete;
    Housekeeping& operator=(const Housekeeping&) = delete;
    ~Housekeeping() { stop(); }
    /// Returns when what was under way is done.
    void stop() {
        {
            const std::lock_guard lock{mutex_};
            stopping_ = true;
        }
        changed_.notify_all();
        if (thread_.joinable()) thread_.join();
    }

private:
    void turn() {
        std::unique_lock lock{mutex_};
        while (!stopping_) {
            lock.unlock();
            run();
            lock.lock();
            changed_.wait_for(lock, housekeeping_every, [&] { return stopping_; });
        }
    }

    void run() {
        const auto at = std::chrono::steady_clock::now();
        try {
            const auto instance = serving_.instance();
            const auto& limits = instance->config().limits;
            const auto cleaning = instance->times()->cleaning(now());
            if (cleaning.set_by.count() != 0)
                serving_.log().warning("the clock was set; open sessions keep their time", {{"by_seconds", std::to_string(cleaning.set_by.count())}});
            const auto expired = instance->store().clean(cleaning.by, cleaning.by - limits.forget_after, limits.keep_sessions);
            instance->times()->cleaned(cleaning.by);
            if (expired > 0)
                serving_.log().info("sessions expired", {{"count", std::to_string(expired)}});
            if (at >= next_signature_) {
                instance->store().sign_audit(now());
                next_signature_ = at + sign_every;
            }
        } catch (const Error& error) {
            serving_.log().error("housekeeping failed", {{"problem", error.what()}});
        }
    }

    Serving& serving_;
    std::chrono::steady_clock::time_point next_signature_{};
    std::mutex mutex_;
    std::condition_variable changed_;
    bool stopping_ = false;
    std::thread thread_; // last: it uses all of the above
};

void reload(Serving& serving, service::Server& server, const cli::Arguments& given) {
    service::notify_reloading();
    try {
        auto fresh = std::make_shared<Instance>(given, serving.instance()->times());
        if (fresh->config().listen != serving.instance()->config().listen) serving.log().warning("\"listen\" has changed: that needs a restart");
        if (!(fresh->config().limits == serving.instance()->config().limits))
            serving.log().warning("\"limits\" have changed: rates, connections and workers need a restart");
        server.reload_tls();
        serving.replace(std::move(fresh));
        serving.log().notice("configuration, keys and certificates read again");
    } catch (const Error& error) {
        serving.log().error("reload failed, everything stays as it was", {{"problem", error.what()}});
    }
    service::notify_ready("serving");
}

/// Until SIGTERM or SIGINT.
void attend(Serving& serving, service::Server& server, const cli::Arguments& given) {
    const sigset_t signals = wanted_signals();
    const auto watchdog = service::watchdog_interval();
    auto fed = std::chrono::steady_clock::now();
    for (;;) {
        const timespec wait{.tv_sec = 0, .tv_nsec = std::chrono::nanoseconds{tick}.count()};
        const int signal = sigtimedwait(&signals, nullptr, &wait);
        if (signal == SIGTERM || signal == SIGINT) return;
        if (signal == SIGHUP) reload(serving, server, given);
        if (!watchdog || std::chrono::steady_clock::now() - fed < *watchdog) continue;
        if (!server.alive(answer_deadline)) {
            serving.log().error("the I/O thread does not turn: the watchdog is left to end this");
            continue;
        }
        service::notify_watchdog();
        fed = std::chrono::steady_clock::now();
    }
}

void harden(const cli::Arguments& given, service::Log& log) {
    // locked memory is resident memory: no 8 MiB stack for each thread, no arena of malloc's for each
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, thread_stack_bytes);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
    mallopt(M_ARENA_MAX, 2);
    service::no_core_dumps();
    service::no_new_privileges();
    lock_memory(given, [&](const std::string& problem) { log.warning("memory is not locked, keys may reach swap", {{"problem", problem}}); });
}

cli::Answer run(const cli::Arguments& given, cli::Console&) {
    const sigset_t signals = wanted_signals();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    service::Log log{"sev-owner", service::log_sink()};
    harden(given, log);
    Serving serving{std::make_shared<Instance>(given), log};
    const auto instance = serving.instance();
    service::Server server{owner_routes(serving), limits_of(instance->config()), log};
    service::count(serving.metrics(), "sev_owner", server);
    listen_everywhere(server, instance->config(), log);
    service::allow_calls(service::daemon_calls());
    instance->store().note(operator_event("service.started", "sev-owner " XEN_SEV_VERSION), now());
    server.start();
    log.notice("serving", {{"owner", instance->service().key().thumbprint()}});
    service::notify_ready("serving");
    Housekeeping housekeeping{serving};
    attend(serving, server, given);
    service::notify_stopping("draining");
    const bool clean = server.drain(drain_patience);
    housekeeping.stop();
    try {
        serving.instance()->store().note(operator_event("service.stopped", clean ? "drained" : "requests were cut off"), now());
        serving.instance()->store().sign_audit(now());
    } catch (const Error& error) {
        log.error("the stop could not be recorded", {{"problem", error.what()}});
    }
    log.notice("stopped", {{"drained", clean ? "yes" : "no"}});
    return cli::Answer::yes;
}

} // namespace

const cli::Command serve_command{
    .name = "serve",
    .summary = "serve hosts over HTTPS or a Unix socket",
    .text = "Answers hosts' requests at POST /v1/exchange on the Unix sockets and HTTPS addresses of the configuration (TLS 1.3, client certificates "
            "required), or on sockets that systemd passes. "
            "Who may ask, and under which policies, the configuration says; nobody else gets in. A web page at /, for viewers that the configuration "
            "names, shows platforms, launches, verdicts, reference values and advisories.\n\n"
            "Locks its memory, writes no core file, and allows itself only the system calls it needs. SIGHUP reads configuration, keys and "
            "certificates again; SIGTERM finishes what is under way.",
    .example = "sev-owner serve --config /etc/xen-sev/owner.json",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::attest::owner
