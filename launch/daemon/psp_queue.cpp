// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/psp_queue.hpp"

#include <thread>

#include <fmt/format.h>

#include "psp/command.hpp"

namespace sev::daemon {

using Clock = std::chrono::steady_clock;

struct PspQueue::Job {
    std::optional<psp::CommandId> id; // nullopt: WBINVD
    psp::Call call;
    psp::Status status{};
    std::exception_ptr failure;
    Clock::time_point started{};
    bool running = false, done = false, abandoned = false;
    bool unanswered = false; // the transport itself gave it up

    std::string name() const {
        const auto* info = id ? psp::find_command(static_cast<std::uint32_t>(*id)) : nullptr;
        return info ? std::string{info->name} : "WBINVD";
    }
};

/// What the worker and its clients share; outlives the queue when the PSP holds the worker.
struct PspQueue::Shared {
    std::shared_ptr<psp::Firmware> firmware;
    std::chrono::milliseconds deadline;
    mutable std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::shared_ptr<Job>> jobs;
    std::shared_ptr<Job> silent; // the command without an answer
    bool unanswered_before = false; // the transport itself gave one up, and none has been answered since
    std::string last_name, hardware_error;
    Clock::time_point since{};
    bool stopping = false, ended = false;
    Orphan orphan;
    Counts counts;

    void work();
    void settle(const std::shared_ptr<Job>& job);
};

void PspQueue::Shared::settle(const std::shared_ptr<Job>& job) {
    ++counts.commands;
    counts.busy_seconds += std::chrono::duration<double>(Clock::now() - job->started).count();
    if (silent == job) silent.reset();
    if (job->failure && !job->unanswered) return; // the transport has no such command, or no device: nothing is known of the PSP
    if (job->failure) {
        unanswered_before = true;
        ++counts.unanswered;
        last_name = job->name();
        since = job->started;
        return;
    }
    unanswered_before = false;
    if (job->status == psp::Status::hwerror_platform || job->status == psp::Status::hwerror_unsafe)
        hardware_error = fmt::format("{}: {}", job->name(), psp::text(job->status));
    else if (job->status == psp::Status::success && job->id)
        hardware_error.clear();
    if (job->status != psp::Status::success) ++counts.refused;
}

void PspQueue::Shared::work() {
    for (;;) {
        std::shared_ptr<Job> job;
        {
            std::unique_lock lock{mutex};
            changed.wait(lock, [&] { return stopping || !jobs.empty(); });
            if (stopping) break;
            job = jobs.front();
            jobs.pop_front();
            job->running = true;
            job->started = Clock::now();
            changed.notify_all();
        }
        try {
            if (job->id)
                job->status = firmware->issue(*job->id, job->call);
            else
                firmware->flush_caches();
        } catch (const Error& error) {
            job->failure = std::current_exception();
            job->unanswered = error.fault() == Fault::firmware;
        } catch (...) {
            job->failure = std::current_exception();
        }
        Orphan tell;
        {
            const std::scoped_lock lock{mutex};
            job->done = true;
            settle(job);
            if (job->abandoned && !job->failure && job->id == psp::CommandId::launch_start && job->status == psp::Status::success) tell = orphan;
            changed.notify_all();
        }
        if (tell) tell(psp::LaunchStart::decode(job->call));
    }
    const std::scoped_lock lock{mutex};
    ended = true;
    changed.notify_all();
}

PspQueue::PspQueue(std::shared_ptr<psp::Firmware> firmware, std::chrono::milliseconds deadline) : shared_{std::make_shared<Shared>()} {
    shared_->firmware = std::move(firmware);
    shared_->deadline = deadline;
    std::thread{[shared = shared_] { shared->work(); }}.detach();
}

PspQueue::~PspQueue() {
    std::unique_lock lock{shared_->mutex};
    shared_->stopping = true;
    shared_->orphan = {};
    shared_->changed.notify_all();
    shared_->changed.wait_for(lock, std::chrono::seconds{2}, [&] { return shared_->ended; });
}

void PspQueue::submit(const std::shared_ptr<Job>& job) {
    std::unique_lock lock{shared_->mutex};
    const auto refuse = [&] {
        const auto waited = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - shared_->silent->started);
        throw Error{Fault::firmware, fmt::format("the PSP does not answer: {} has had no answer for {} s", shared_->silent->name(), waited.count())};
    };
    if (shared_->silent) refuse();
    shared_->jobs.push_back(job);
    shared_->changed.notify_all();
    for (;;) {
        if (job->done) break;
        if (!job->running && shared_->silent) {
            std::erase(shared_->jobs, job);
            refuse();
        }
        if (!job->running) {
            shared_->changed.wait(lock);
            continue;
        }
        // A transport with a deadline of its own gets a moment more than that to say so.
        const auto until = job->started + shared_->deadline;
        if (Clock::now() < until) {
            shared_->changed.wait_until(lock, until);
            continue;
        }
        job->abandoned = true;
        shared_->silent = job;
        shared_->changed.notify_all();
        throw Error{Fault::firmware, fmt::format("no answer within {} ms", shared_->deadline.count())};
    }
    if (job->failure) std::rethrow_exception(job->failure);
}

psp::Status PspQueue::issue(psp::CommandId id, psp::Call& call) {
    const auto job = std::make_shared<Job>();
    job->id = id;
    job->call = call; // a copy: the caller may be gone when the answer comes
    submit(job);
    call = std::move(job->call);
    return job->status;
}

void PspQueue::flush_caches() { submit(std::make_shared<Job>()); }

std::string_view PspQueue::backend() const noexcept { return shared_->firmware->backend(); }

PspHealth PspQueue::health() const {
    const std::scoped_lock lock{shared_->mutex};
    const auto seconds = [](Clock::time_point from) { return std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - from).count(); };
    if (shared_->silent)
        return {PspHealth::State::silent, fmt::format("{} has had no answer for {} s", shared_->silent->name(), seconds(shared_->silent->started))};
    if (shared_->unanswered_before)
        return {PspHealth::State::silent, fmt::format("{} had no answer, {} s ago", shared_->last_name, seconds(shared_->since))};
    if (!shared_->hardware_error.empty()) return {PspHealth::State::failing, shared_->hardware_error};
    return {};
}

void PspQueue::on_orphan(Orphan orphan) {
    const std::scoped_lock lock{shared_->mutex};
    shared_->orphan = std::move(orphan);
}

PspQueue::Counts PspQueue::counts() const {
    const std::scoped_lock lock{shared_->mutex};
    return shared_->counts;
}

} // namespace sev::daemon
