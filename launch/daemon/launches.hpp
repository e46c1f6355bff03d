// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <condition_variable>
#include <future>
#include <map>
#include <thread>
#include <variant>

#include "base/service/events.hpp"
#include "base/service/log.hpp"
#include "attest/protocol/signed_bundle.hpp"
#include "launch/daemon/backend.hpp"
#include "launch/daemon/journal.hpp"
#include "launch/daemon/owner_channel.hpp"
#include "launch/daemon/psp_queue.hpp"
#include "launch/daemon/stop_point.hpp"
#include "launch/guest_launch.hpp"

namespace sev::daemon {

/// Why something that was asked for is not done, as an HTTP status and a sentence.
struct Refusal {
    unsigned status;
    std::string detail, hint;
};

/// All launches of the daemon. Each is driven by a thread of its own, from `accepted` to `running` or an end; the PSP is shared through one queue.
/// Every state is journaled before what it announces is done; a guest is let run only after its owner's verdict, and what ends is taken apart in the
/// order guest, guest context, ASID. Thread-safe.
class Launches {
public:
    struct Parts {
        Backend& backend;
        PspQueue& psp;
        Journal& journal;
        const OwnerChannel& owners;
        service::EventHub& events;
        service::Log& log;
        StopPoint stop_point{};
    };
    Launches(Parts parts, const Configuration& configuration);
    Launches(const Launches&) = delete;
    Launches& operator=(const Launches&) = delete;
    /// As `stop`, for two seconds.
    ~Launches();

    /// Takes up what the journal says of an earlier run: running guests that are still there are adopted, every other launch is destroyed. Once,
    /// first.
    void recover();
    /// Admits a launch and starts it: the answer comes before the guest is taken hold of. Throws what GuestSource::plan throws, and what taking an
    /// ASID throws.
    std::variant<Record, Refusal> create(const LaunchRequest& request);
    /// Newest first, at most `limit`; of this name alone, if one is given. Without steps and verdicts: `find` has them.
    std::vector<Record> list(std::size_t limit, const std::optional<std::string>& name = std::nullopt) const;
    std::optional<Record> find(std::uint64_t id) const;
    /// What the launch's owner saw, to be signed: 404 when there is no such launch, 409 when nothing is kept of it. `collector` signs.
    std::variant<attest::SignedBundle, Refusal> bundle(std::uint64_t id, std::string collector) const;
    /// Calls a launch off, or ends a running guest. Returns the launch as it is then: the end itself comes later.
    std::variant<Record, Refusal> cancel(std::uint64_t id);
    /// Owners, writers and limits of a new configuration.
    void reconfigure(const Configuration& configuration);
    /// What is due now and then (each second): takes the PSP into use when it is back, frees what it would not let go of, notices guests that ended,
    /// saves what could not be saved. Waits for no guest: a thread of its own looks at them, and what it saw is acted upon in a later turn.
    void maintain();
    /// No new launches; those that do not run yet are called off; running guests are left alone. False when some had not ended in time.
    bool stop(std::chrono::milliseconds patience);

    /// Why no launch can be admitted now; empty when one can.
    std::string closed() const;
    struct Counts {
        std::size_t active = 0, running = 0, stuck = 0;
        std::map<std::string, std::uint64_t> ended; // by state, in this run
        bool journal_failing = false;
        std::string journal_trouble;
    };
    Counts counts() const;
    const launch::AsidPool& asids() const noexcept { return asids_; }
    /// nullopt when the PSP does not say. Waits for its answer.
    std::optional<attest::PlatformEvidence> platform(unsigned level);

private:
    struct Live;
    void drive(Live& live);
    void attest_and_run(Live& live);
    void finish(Live& live, State state, const std::string& reason);
    /// Journals, then announces. Throws what the journal throws.
    void enter(Live& live, State state, std::string reason);
    void note(Live& live, std::string step, std::string detail);
    void publish(const Record& record, std::string_view step, std::string_view detail);
    void journal_is(const std::string& trouble);
    attest::ExchangeAnswer ask(Live& live, const OwnerChannel::MakeRequest& make);
    Owner owner_of(const Live& live) const;
    /// With mutex_ held, for a launch that is idle. Throws Error{Fault::system} when no thread is to be had; it stays idle then.
    void start_thread(const std::shared_ptr<Live>& live, std::function<void(Live&)> body);
    void recover_one(Record record);
    void retry_leftover(const std::shared_ptr<Live>& live);
    void collect_stuck();
    void free_stuck();
    void sweep_unknown();
    void look_at_guests(std::vector<std::shared_ptr<Live>> all);
    void look_at(Live& live);
    bool take_psp_into_use();

    Parts parts_;
    launch::AsidPool asids_;
    std::optional<launch::InitialisedPlatform> initialised_;
    bool swept_ = false;
    std::mutex admission_; // one at a time; before mutex_
    bool left_running_ = false;
    mutable std::mutex mutex_; // everything below
    std::condition_variable changed_;
    std::map<std::string, Owner> owners_;
    std::size_t launch_limit_;
    std::map<std::uint64_t, std::shared_ptr<Live>> live_;
    std::map<std::string, std::uint64_t> ended_;
    std::string journal_trouble_, psp_trouble_ = "the PSP is not in use yet";
    bool stopping_ = false;
    std::future<void> looking_; // at guests; ends before all of the above
};

} // namespace sev::daemon
