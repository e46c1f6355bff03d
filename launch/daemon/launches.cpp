// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/launches.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "launch/daemon/live.hpp"

namespace sev::daemon {

std::vector<std::string> StopPoint::all() {
    std::vector<std::string> out;
    for (int i = 0; i <= static_cast<int>(State::destroyed); ++i) out.push_back(fmt::format("state:{}", name(static_cast<State>(i))));
    for (const char* command :
         {"LAUNCH_START", "ACTIVATE", "LAUNCH_UPDATE_DATA", "LAUNCH_UPDATE_VMSA", "LAUNCH_MEASURE", "LAUNCH_SECRET", "LAUNCH_FINISH"})
        for (const char* when : {"before", "after"}) out.push_back(fmt::format("{}:{}", when, command));
    out.emplace_back("guest:let-run");
    return out;
}

Launches::Launches(Parts parts, const Configuration& configuration)
    : parts_{std::move(parts)}, asids_{parts_.backend.asids}, owners_{configuration.owners}, launch_limit_{configuration.launch_limit} {
    parts_.psp.on_orphan([this](psp::GuestHandle handle) { asids_.note_stuck({.handle = handle, .asid = {}}); });
}

Launches::~Launches() {
    stop(std::chrono::seconds{2});
    parts_.psp.on_orphan({});
    if (left_running_ && initialised_) initialised_->leave();
}

void Launches::publish(const Record& record, std::string_view step, std::string_view detail) {
    json::Value data{{"launch", record.id},     {"name", record.request.name}, {"state", name(record.state)}, {"ended", has_ended(record.state)},
                     {"reason", record.reason}, {"at", attest::text(now())}};
    if (!step.empty()) {
        data["step"] = step;
        data["detail"] = detail;
    }
    parts_.events.publish("launch", data.dump());
}

void Launches::journal_is(const std::string& trouble) {
    const std::scoped_lock lock{mutex_};
    if (trouble != journal_trouble_ && !trouble.empty()) parts_.log.error("the journal cannot be written", {{"reason", trouble}});
    if (trouble.empty() && !journal_trouble_.empty()) parts_.log.notice("the journal can be written again");
    journal_trouble_ = trouble;
}

void Launches::enter(Live& live, State state, std::string reason) {
    Record next = live.copy();
    next.state = state;
    next.reason = std::move(reason);
    next.updated = now();
    try {
        parts_.journal.save(next);
    } catch (const Error& error) {
        journal_is(error.what());
        throw;
    }
    journal_is("");
    {
        const std::scoped_lock lock{live.mutex};
        live.record = next;
    }
    parts_.log.notice(
        "launch", {{"launch", std::to_string(next.id)}, {"name", next.request.name}, {"state", std::string{name(state)}}, {"reason", next.reason}});
    publish(next, {}, {});
    parts_.stop_point.at("state", name(state));
}

void Launches::note(Live& live, std::string step, std::string detail) {
    Record copy;
    {
        const std::scoped_lock lock{live.mutex};
        constexpr std::size_t step_limit = 512, detail_limit_bytes = 512; // what the journal keeps of a guest of very many parts
        if (detail.size() > detail_limit_bytes) detail = printable(detail, detail_limit_bytes);
        if (live.record.steps.size() < step_limit) live.record.steps.push_back({.at = now(), .step = step, .detail = detail});
        copy = live.record;
    }
    publish(copy, step, detail);
}

std::string Launches::closed() const {
    if (!parts_.backend.no_launches.empty()) return parts_.backend.no_launches;
    const PspHealth health = parts_.psp.health();
    if (health.state == PspHealth::State::silent) return "the PSP does not answer: " + health.detail;
    if (health.state == PspHealth::State::failing) return "the PSP fails: " + health.detail;
    const std::scoped_lock lock{mutex_};
    if (stopping_) return "sevd is stopping";
    if (!psp_trouble_.empty()) return psp_trouble_;
    if (!journal_trouble_.empty()) return "the journal cannot be written: " + journal_trouble_;
    return {};
}

std::variant<Record, Refusal> Launches::create(const LaunchRequest& request) {
    launch::GuestSource* const source = parts_.backend.source(request.guest.at("kind").get_ref<const std::string&>());
    if (!parts_.backend.no_launches.empty()) return Refusal{409, parts_.backend.no_launches, ""};
    if (!source)
        return Refusal{
            400, fmt::format("guests of kind \"{}\" cannot be launched here", printable(request.guest.at("kind").get_ref<const std::string&>(), 64)),
            ""};
    {
        const std::scoped_lock lock{mutex_};
        if (!owners_.contains(request.owner))
            return Refusal{400, fmt::format("owner \"{}\" is not in the configuration", request.owner),
                           "name it under \"owners\", with its key and channel"};
    }
    if (const std::string why = closed(); !why.empty()) return Refusal{503, why, "see GET /v1/status"};
    auto plan = source->plan(request.guest);

    const auto live = std::make_shared<Live>();
    live->source = source;
    live->record = {.id = 0,
                    .request = request,
                    .identity = std::move(plan.identity),
                    .state = State::accepted,
                    .reason = "",
                    .created = now(),
                    .updated = now(),
                    .es = plan.es,
                    .asid = {},
                    .handle = {},
                    .session = std::nullopt,
                    .verdict = std::nullopt,
                    .steps = {},
                    .level = std::max(parts_.backend.level, source->level()),
                    .emulated = parts_.backend.emulated};
    const std::scoped_lock one_at_a_time{admission_}; // two cannot take one name or the last place; others need not wait for the PSP here
    {
        const std::scoped_lock lock{mutex_};
        const auto active =
            static_cast<std::size_t>(std::ranges::count_if(live_, [](const auto& each) { return !has_ended(each.second->copy().state); }));
        if (active >= launch_limit_)
            return Refusal{503, fmt::format("{} launches are active, which is the limit", active), "end a guest, or raise limits.launches"};
        for (const auto& [id, each] : live_) {
            const Record other = each->copy();
            if (has_ended(other.state)) continue;
            if (other.request.name == request.name)
                return Refusal{409, fmt::format("launch {} has the name \"{}\" already", id, request.name), "end it, or choose another name"};
            if (each->source == source && source->same_guest(other.identity, live->record.identity))
                return Refusal{409, fmt::format("launch {} ({}) is of this guest already", id, other.request.name), "end it first"};
        }
    }
    const auto asid = asids_.take(plan.es, parts_.psp);
    if (!asid) {
        const Error error = launch::no_asid_free(asids_, plan.es);
        return Refusal{503, error.what(), error.hint()};
    }
    live->record.asid = *asid;
    live->holds_asid = true;
    try {
        live->record.id = parts_.journal.add(live->record);
    } catch (const Error& error) {
        asids_.give_back(*asid);
        journal_is(error.what());
        return Refusal{507, error.what(), error.hint()};
    }
    parts_.stop_point.at("state", name(State::accepted));
    Record admitted = live->record;
    publish(admitted, {}, {});
    parts_.log.notice("launch", {{"launch", std::to_string(admitted.id)},
                                 {"name", request.name},
                                 {"owner", request.owner},
                                 {"policy", request.policy},
                                 {"state", "accepted"}});
    try {
        const std::scoped_lock lock{mutex_};
        if (stopping_) live->cancel.now(); // its thread takes it down at once
        live_.emplace(admitted.id, live);
        start_thread(live, [this](Live& mine) { drive(mine); });
    } catch (const Error& error) {
        finish(*live, State::failed, error.what());
        return Refusal{503, error.what(), error.hint()};
    }
    return admitted;
}

void Launches::start_thread(const std::shared_ptr<Live>& live, std::function<void(Live&)> body) {
    if (live->thread.joinable()) live->thread.join(); // idle: it is over, or all but
    live->idle = false;
    try {
        live->thread = std::thread{[this, mine = live.get(), body = std::move(body)] {
            body(*mine);
            std::unique_lock lock{mutex_};
            if (mine->cancel.called() && mine->copy().state == State::running && mine->guest) {
                // Called off between its last look and now.
                lock.unlock();
                finish(*mine, State::destroyed, "ended by request");
                lock.lock();
            }
            mine->idle = true;
            changed_.notify_all();
        }};
    } catch (const std::system_error& error) {
        live->idle = true;
        throw Error{Fault::system, fmt::format("no thread for a launch: {}", error.what()), "end guests, or raise the unit's TasksMax"};
    }
}

std::vector<Record> Launches::list(std::size_t limit, const std::optional<std::string>& name) const {
    std::vector<Record> out = parts_.journal.newest(limit, name);
    const std::scoped_lock lock{mutex_};
    for (Record& record : out)
        if (const auto live = live_.find(record.id); live != live_.end()) {
            record = live->second->copy();
            record.steps.clear();
            record.verdict.reset();
        }
    return out;
}

std::optional<Record> Launches::find(std::uint64_t id) const {
    {
        const std::scoped_lock lock{mutex_};
        if (const auto live = live_.find(id); live != live_.end()) return live->second->copy();
    }
    return parts_.journal.find(id);
}

std::variant<attest::SignedBundle, Refusal> Launches::bundle(std::uint64_t id, std::string collector) const {
    const auto record = find(id);
    if (!record) return Refusal{404, fmt::format("there is no launch {}", id), ""};
    auto kept = parts_.journal.bundle(id);
    if (!kept)
        return Refusal{409,
                       fmt::format("launch {} has no bundle: it is {}, and {}", id, name(record->state),
                                   has_ended(record->state) ? "was never measured, or later launches took its bundle's room" : "is not measured yet"),
                       ""};
    return attest::SignedBundle{.launch = id,
                                .state = std::string{name(record->state)},
                                .collector = std::move(collector),
                                .created_at = record->created,
                                .measured_at = kept->measured,
                                .collected_at = now(),
                                .bundle = std::move(kept->bundle)};
}

std::variant<Record, Refusal> Launches::cancel(std::uint64_t id) {
    std::shared_ptr<Live> live;
    {
        const std::scoped_lock lock{mutex_};
        if (const auto found = live_.find(id); found != live_.end()) live = found->second;
    }
    if (!live) {
        const auto ended = parts_.journal.find(id);
        if (!ended) return Refusal{404, fmt::format("there is no launch {}", id), ""};
        return Refusal{409, fmt::format("launch {} has ended: {}", id, name(ended->state)), ""};
    }
    if (has_ended(live->copy().state)) return Refusal{409, fmt::format("launch {} has ended: {}", id, name(live->copy().state)), ""};
    live->cancel.now();
    const std::scoped_lock lock{mutex_};
    if (live->idle && !live->leftover && live->copy().state == State::running) // a leftover is tried each second anyway
        start_thread(live, [this](Live& mine) { finish(mine, State::destroyed, "ended by request"); });
    return live->copy();
}

void Launches::reconfigure(const Configuration& configuration) {
    const std::scoped_lock lock{mutex_};
    owners_ = configuration.owners;
    launch_limit_ = configuration.launch_limit;
}

bool Launches::stop(std::chrono::milliseconds patience) {
    std::unique_lock lock{mutex_};
    stopping_ = true;
    for (const auto& [id, live] : live_)
        if (!live->idle && live->copy().state != State::running) live->cancel.now(); // one that just began to run may still have its thread
    const bool all =
        changed_.wait_for(lock, patience, [&] { return std::ranges::all_of(live_, [](const auto& each) { return each.second->idle.load(); }); });
    std::map<std::uint64_t, std::shared_ptr<Live>> gone;
    for (auto at = live_.begin(); at != live_.end();) {
        if (!at->second->idle) {
            ++at; // still at work: its thread holds it
            continue;
        }
        left_running_ = left_running_ || at->second->copy().state == State::running;
        if (at->second->running) std::move(*at->second->running).leave();
        gone.insert(*at);
        at = live_.erase(at);
    }
    lock.unlock();
    return all;
}

Launches::Counts Launches::counts() const {
    Counts out;
    const std::scoped_lock lock{mutex_};
    for (const auto& [id, live] : live_) {
        const State state = live->copy().state;
        if (!has_ended(state)) ++out.active;
        if (state == State::running) ++out.running;
    }
    out.ended = ended_;
    out.journal_failing = !journal_trouble_.empty();
    out.journal_trouble = journal_trouble_;
    try {
        out.stuck = parts_.journal.stuck().size();
    } catch (const Error& error) {
        out.journal_failing = true;
        out.journal_trouble = error.what();
    }
    return out;
}

std::optional<attest::PlatformEvidence> Launches::platform(unsigned level) {
    if (parts_.psp.health().state == PspHealth::State::silent) return std::nullopt;
    return launch::platform_evidence(parts_.psp, parts_.backend.endorsement, level);
}

} // namespace sev::daemon
