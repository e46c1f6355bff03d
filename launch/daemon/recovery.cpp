// SPDX-License-Identifier: Apache-2.0
// What a daemon does about its past, and about a PSP that went silent.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "launch/daemon/live.hpp"

namespace sev::daemon {
namespace {

constexpr std::uint32_t sweep_limit = 4096; // handles that are looked at for contexts nobody knows

/// DEACTIVATE and DECOMMISSION of what may be gone already. Throws when the PSP refuses or does not answer.
void take_apart(psp::Firmware& firmware, psp::GuestHandle handle) {
    // a platform without guests allows neither command: whoever shut it down took the context with it
    if (psp::run(firmware, psp::GetPlatformStatus{}).guest_count == 0) return;
    const auto deactivated = psp::attempt(firmware, psp::Deactivate{.guest = handle}).status;
    if (deactivated != psp::Status::success && deactivated != psp::Status::inactive && deactivated != psp::Status::invalid_guest)
        throw psp::refusal(psp::Deactivate::name, deactivated);
    const auto gone = psp::attempt(firmware, psp::Decommission{.guest = handle}).status;
    if (gone != psp::Status::success && gone != psp::Status::invalid_guest) throw psp::refusal(psp::Decommission::name, gone);
}

std::string left_reason(const std::exception& error) {
    return printable(fmt::format("left by an earlier run, and could not be ended: {}", error.what()), 2048);
}

} // namespace

void Launches::recover() {
    for (const auto& stuck : parts_.journal.stuck())
        if (stuck.asid != psp::Asid{}) asids_.set_aside(stuck.asid);
    for (Record& record : parts_.journal.unended()) {
        try {
            recover_one(record);
        } catch (const std::exception& error) {
            // Its guest may still be there: it keeps state and name, its ASID stays away from others, and all of it is tried again.
            parts_.log.error("a launch of an earlier run could not be ended",
                             {{"launch", std::to_string(record.id)}, {"name", record.request.name}, {"reason", error.what()}});
            asids_.set_aside(record.asid);
            record.reason = left_reason(error);
            const auto live = std::make_shared<Live>();
            live->source = parts_.backend.source(record.request.guest.at("kind").get_ref<const std::string&>());
            live->record = record;
            live->leftover = true;
            {
                const std::scoped_lock lock{mutex_};
                live_.emplace(record.id, live);
            }
            parts_.journal.save(record);
        }
    }
    take_psp_into_use();
}

void Launches::retry_leftover(const std::shared_ptr<Live>& live) {
    const Record record = live->copy();
    try {
        recover_one(record);
    } catch (const std::exception& error) {
        const std::scoped_lock lock{live->mutex};
        live->record.reason = left_reason(error);
        return;
    }
    {
        const std::scoped_lock lock{mutex_};
        if (const auto found = live_.find(record.id); found != live_.end() && found->second == live) live_.erase(found);
    }
    const auto after = find(record.id);
    const bool has_asid = (after && after->asid == record.asid) ||
                          std::ranges::any_of(parts_.journal.stuck(), [&](const auto& stuck) { return stuck.asid == record.asid; });
    if (!has_asid) asids_.restore(record.asid);
    if (live->cancel.called()) static_cast<void>(cancel(record.id)); // it was adopted instead
}

void Launches::recover_one(Record record) {
    launch::GuestSource* const source = parts_.backend.source(record.request.guest.at("kind").get_ref<const std::string&>());
    if (!source)
        throw Error{Fault::system, fmt::format("guests of kind {} are unknown to the PSP backend that is configured now",
                                               printable(record.request.guest.at("kind").get_ref<const std::string&>(), 64))};
    if (record.state == State::running) {
        if (auto guest = source->adopt(record.identity)) {
            const auto live = std::make_shared<Live>();
            live->source = source;
            live->guest = std::move(guest);
            std::string context = "its PSP context is gone";
            try {
                auto running =
                    record.handle == psp::GuestHandle{} ? std::nullopt : launch::Running::adopt(parts_.psp, asids_, record.handle, record.asid);
                if (running) {
                    live->running.emplace(*std::move(running));
                    context = "its PSP context is there";
                } else {
                    record.handle = {}; // what has this handle or this ASID now is another's
                    record.asid = {};
                }
            } catch (const Error& error) {
                context = fmt::format("the PSP does not say whether its context is there: {}", error.what());
                asids_.set_aside(record.asid);
                live->unsure = {.handle = record.handle, .asid = record.asid};
            }
            record.reason = "adopted after a restart; " + context;
            parts_.journal.save(record);
            parts_.log.notice("launch adopted", {{"launch", std::to_string(record.id)}, {"name", record.request.name}, {"context", context}});
            live->record = record;
            const std::scoped_lock lock{mutex_};
            live_.insert_or_assign(record.id, live);
            return;
        }
    }
    const std::string was{name(record.state)};
    const std::string guest = record.state == State::accepted ? "it had not been touched" : source->destroy_leftover(record.identity);
    if (record.handle != psp::GuestHandle{}) {
        // The guest is gone; its context follows as soon as the PSP answers, and nobody gets its ASID before.
        asids_.set_aside(record.asid);
        parts_.journal.add_stuck({.handle = record.handle, .asid = record.asid, .reason = fmt::format("left by launch {}", record.id)});
    }
    record.reason = printable(fmt::format("sevd stopped while it was {}; the guest: {}", was, guest), 2048);
    record.state = was == name(State::running) || was == name(State::starting) ? State::destroyed : State::failed;
    record.asid = {};
    record.handle = {};
    record.updated = now();
    parts_.journal.save(record);
    parts_.log.notice("launch of an earlier run ended",
                      {{"launch", std::to_string(record.id)}, {"name", record.request.name}, {"was", was}, {"guest", guest}});
    publish(record, {}, {});
    const std::scoped_lock lock{mutex_};
    ++ended_[std::string{name(record.state)}];
}

bool Launches::take_psp_into_use() {
    std::string trouble;
    try {
        if (parts_.backend.pages && !initialised_) initialised_.emplace(parts_.psp, *parts_.backend.pages);
        if (parts_.psp.health().state != PspHealth::State::answering) psp::run(parts_.psp, psp::GetPlatformStatus{});
        free_stuck();
        if (!swept_ && parts_.backend.pages) sweep_unknown();
        swept_ = true;
    } catch (const Error& error) {
        trouble = error.what();
    }
    const std::scoped_lock lock{mutex_};
    if (trouble != psp_trouble_ && !trouble.empty()) parts_.log.error("the PSP cannot be used", {{"reason", trouble}});
    if (trouble.empty() && !psp_trouble_.empty()) parts_.log.notice("the PSP is in use", {{"backend", std::string{parts_.psp.backend()}}});
    psp_trouble_ = trouble;
    return trouble.empty();
}

void Launches::collect_stuck() {
    for (const auto& stuck : asids_.take_stuck()) {
        try {
            parts_.journal.add_stuck({.handle = stuck.handle, .asid = stuck.asid, .reason = "the PSP did not let go of it"});
            parts_.log.warning("a guest context is stuck in the PSP",
                               {{"handle", std::to_string(psp::raw(stuck.handle))}, {"asid", std::to_string(psp::raw(stuck.asid))}});
        } catch (const Error& error) {
            asids_.note_stuck(stuck); // to be told again
            journal_is(error.what());
            return;
        }
    }
}

void Launches::free_stuck() {
    std::set<std::uint32_t> of_guests; // contexts whose guest may still be there
    {
        const std::scoped_lock lock{mutex_};
        for (const auto& [id, live] : live_)
            if (live->guest_left || live->leftover) of_guests.insert(psp::raw(live->copy().handle));
    }
    for (const auto& stuck : parts_.journal.stuck()) {
        if (of_guests.contains(psp::raw(stuck.handle))) continue;
        take_apart(parts_.psp, stuck.handle);
        parts_.journal.remove_stuck(stuck.handle);
        if (stuck.asid != psp::Asid{}) asids_.restore(stuck.asid);
        parts_.log.notice("a stuck guest context is gone",
                          {{"handle", std::to_string(psp::raw(stuck.handle))}, {"asid", std::to_string(psp::raw(stuck.asid))}});
    }
}

void Launches::sweep_unknown() {
    // A daemon that died between LAUNCH_START and its journal left a context whose handle nobody wrote down. Where this daemon alone launches, what
    // it does not know is nobody's.
    std::set<std::uint32_t> known;
    {
        const std::scoped_lock lock{mutex_};
        for (const auto& [id, live] : live_) known.insert(psp::raw(live->copy().handle));
    }
    known.erase(0);
    std::uint32_t count = psp::run(parts_.psp, psp::GetPlatformStatus{}).guest_count;
    for (std::uint32_t handle = 1; handle <= sweep_limit && count > known.size(); ++handle) {
        if (known.contains(handle) || !psp::attempt(parts_.psp, psp::GetGuestStatus{.guest = psp::GuestHandle{handle}}).reply) continue;
        take_apart(parts_.psp, psp::GuestHandle{handle});
        parts_.log.notice("a guest context that nobody knew is gone", {{"handle", std::to_string(handle)}});
        --count;
    }
    if (count > known.size())
        throw Error{Fault::firmware, fmt::format("the PSP holds {} guest contexts, and {} are known here", count, known.size()),
                    "power cycle the machine, or end what else launches guests"};
}

void Launches::look_at(Live& live) {
    if (live.copy().state != State::running) return;
    const std::unique_lock use{live.guest_use, std::try_to_lock};
    if (!use || !live.guest) return; // it is being taken apart
    std::string unseen;
    try {
        live.vanished = !live.guest->alive();
    } catch (const std::exception& error) {
        unseen = printable(error.what(), 512);
    }
    if (unseen.empty() != live.unseen.empty())
        parts_.log.warning(unseen.empty() ? "a guest can be looked at again" : "nobody can tell whether a guest is there; it is left alone",
                           {{"launch", std::to_string(live.copy().id)}, {"reason", unseen}});
    live.unseen = std::move(unseen);
}

void Launches::look_at_guests(std::vector<std::shared_ptr<Live>> all) {
    // one round at a time: whoever is slow to answer is not asked twice
    if (looking_.valid() && looking_.wait_for(std::chrono::seconds{0}) != std::future_status::ready) return;
    std::erase_if(all, [](const auto& live) { return live->copy().state != State::running; });
    if (all.empty()) return;
    try {
        looking_ = std::async(std::launch::async, [this, running = std::move(all)] {
            for (const auto& live : running) look_at(*live);
        });
    } catch (const std::system_error& error) {
        parts_.log.warning("guests are looked at later", {{"reason", error.what()}}); // no thread is to be had
    }
}

void Launches::maintain() {
    collect_stuck();
    std::vector<std::shared_ptr<Live>> all, ended;
    {
        const std::scoped_lock lock{mutex_};
        for (const auto& [id, live] : live_) all.push_back(live);
    }
    for (const auto& live : all) {
        if (!live->idle) continue;
        if (live->leftover) {
            retry_leftover(live);
            continue;
        }
        const Record record = live->copy();
        if (live->unsaved) {
            try {
                parts_.journal.save(record);
                live->unsaved = false;
                journal_is("");
            } catch (const Error& error) {
                journal_is(error.what());
            }
        }
        const bool vanished = record.state == State::running && live->vanished;
        if (live->guest_left || vanished) {
            const std::scoped_lock lock{mutex_};
            if (!stopping_)
                start_thread(live, [this, vanished](Live& mine) {
                    if (vanished) finish(mine, State::destroyed, "the guest ended by itself");
                    else finish(mine, mine.end, std::string{mine.end_reason});
                });
        } else if (has_ended(record.state) && !live->unsaved) {
            ended.push_back(live);
        }
    }
    {
        const std::scoped_lock lock{mutex_};
        for (const auto& live : ended) live_.erase(live->copy().id);
    }
    look_at_guests(std::move(all));
    const bool trouble = [&] {
        const std::scoped_lock lock{mutex_};
        return !psp_trouble_.empty();
    }();
    if (trouble || parts_.psp.health().state != PspHealth::State::answering || !parts_.journal.stuck().empty()) take_psp_into_use();
    if (const auto failing = counts(); failing.journal_failing) {
        // Whether it can be written again is found out by writing.
        try {
            parts_.journal.add_stuck({.handle = psp::GuestHandle{0xFFFF'FFFF}, .asid = {}, .reason = "probe"});
            parts_.journal.remove_stuck(psp::GuestHandle{0xFFFF'FFFF});
            journal_is("");
        } catch (const Error& error) {
            journal_is(error.what());
        }
    }
}

} // namespace sev::daemon
