// SPDX-License-Identifier: Apache-2.0
// One launch's thread: DESIGN section 4, step by step.
#include <algorithm>

#include <fmt/format.h>

#include "launch/daemon/live.hpp"

namespace sev::daemon {
namespace {

/// What ends a launch without anybody's fault.
struct CalledOff {};
/// The owner's no.
struct Refused {
    std::string reason;
};

template <class Request>
OwnerChannel::MakeRequest fresh(Request request) {
    return [request = std::move(request)]() mutable {
        request.nonce = random_array<16>();
        return request.to_json().dump();
    };
}

std::size_t failures(const std::vector<psp::Check>& checks) {
    return static_cast<std::size_t>(std::ranges::count(checks, false, &psp::Check::passed));
}

json::Value checks_json(const std::vector<psp::Check>& checks) {
    json::Value out = json::Value::array();
    for (const psp::Check& check : checks) out.push_back({{"check", check.check}, {"passed", check.passed}, {"detail", check.detail}});
    return out;
}

} // namespace

Owner Launches::owner_of(const Live& live) const {
    const std::string wanted = live.copy().request.owner;
    const std::scoped_lock lock{mutex_};
    const auto found = owners_.find(wanted);
    if (found == owners_.end()) throw Error{Fault::usage, fmt::format("owner \"{}\" is not in the configuration any more", wanted)};
    return found->second;
}

attest::ExchangeAnswer Launches::ask(Live& live, const OwnerChannel::MakeRequest& make) {
    const std::string name = live.copy().request.owner;
    return parts_.owners.ask(
        name, owner_of(live), make, [&](const std::string& reason) { note(live, "owner", "asking again: " + printable(reason, 256)); }, live.cancel);
}

void Launches::drive(Live& live) {
    State end = State::failed;
    std::string reason;
    try {
        attest_and_run(live);
        if (!live.cancel.called()) return; // running
        end = State::destroyed;
        reason = "called off at the moment it began to run";
    } catch (const CalledOff&) {
        end = State::cancelled;
        reason = "called off";
    } catch (const Refused& refused) {
        end = State::refused;
        reason = refused.reason;
    } catch (const Error& error) {
        reason = error.what();
        if (!error.hint().empty()) reason += "; " + error.hint();
    } catch (const std::exception& error) {
        reason = error.what();
    }
    if (end == State::failed && live.cancel.called()) end = State::cancelled;
    finish(live, end, printable(reason, 2048));
}

void Launches::attest_and_run(Live& live) {
    const Record begun = live.copy();
    const auto check_cancel = [&] {
        if (live.cancel.called()) throw CalledOff{};
    };
    const launch::Gate gate = [&](std::string_view command) {
        check_cancel();
        parts_.stop_point.at("before", command);
    };
    const launch::Observer observer = [&](const launch::Progress& progress) {
        parts_.stop_point.at("after", progress.step);
        if (progress.handle != psp::GuestHandle{} && progress.asid == psp::Asid{}) {
            {
                const std::scoped_lock lock{live.mutex};
                live.record.handle = progress.handle;
            }
            try {
                parts_.journal.save(live.copy()); // the handle, before anything is done with it
            } catch (const Error& error) {
                journal_is(error.what());
                throw;
            }
        }
        note(live, progress.step, progress.detail);
    };

    check_cancel();
    enter(live, State::opening, "");
    live.opened = true;
    live.guest = live.source->open(begun.request.guest, begun.identity);

    check_cancel();
    enter(live, State::session, "asking the owner for a session");
    const auto evidence = launch::platform_evidence(parts_.psp, parts_.backend.endorsement, begun.level);
    const auto opened = ask(
        live, fresh(attest::SessionRequest{.nonce = {}, .launch_name = begun.request.name, .policy = begun.request.policy, .platform = evidence}));
    if (const auto* refusal = std::get_if<attest::PlatformRefusal>(&opened.body)) {
        const std::scoped_lock lock{live.mutex};
        live.record.verdict = json::Value{{"platform_checks", checks_json(refusal->checks)}};
        throw Refused{fmt::format("the owner refuses this platform: {} of {} checks failed", failures(refusal->checks), refusal->checks.size())};
    }
    const auto& offer = std::get<attest::SessionOffer>(opened.body);
    if (offer.policy.wants_es() != begun.es)
        throw Error{Fault::malformed,
                    fmt::format("the owner's session {} SEV-ES, and the guest is {}", offer.policy.wants_es() ? "is for" : "is not for",
                                begun.es ? "with SEV-ES register state" : "without")};
    if (!parts_.journal.use_session(offer.session_id, begun.id))
        throw Error{Fault::malformed, "the owner gave a session that was used before",
                    "a session is good for one launch: the owner's service has a fault"};
    {
        const std::scoped_lock lock{live.mutex};
        live.record.session = offer.session_id;
    }
    check_cancel();
    enter(live, State::loading, "");
    live.holds_asid = false;
    launch::GuestLaunch launched{parts_.psp, asids_, begun.asid, *live.guest, offer, evidence.build(), begun.request.evidence, observer, gate};

    check_cancel();
    const attest::Bundle bundle{.platform = evidence, .offer = offer, .launch = launched.evidence()};
    try {
        parts_.journal.keep_bundle(begun.id, bundle, now()); // before the verdict: whoever doubts it can have it judged again, elsewhere
    } catch (const Error& error) {
        journal_is(error.what());
        throw;
    }
    enter(live, State::judging, "asking the owner for its verdict");
    const auto judged = ask(live, fresh(attest::JudgementRequest{.nonce = {}, .launch = bundle.launch}));
    const auto& judgement = std::get<attest::JudgementAnswer>(judged.body);
    {
        const std::scoped_lock lock{live.mutex};
        live.record.verdict = judgement.verdict.to_json();
    }
    if (!judgement.verdict.trusted()) {
        live.guest->destroy();
        std::move(launched).destroy(observer);
        throw Refused{fmt::format("not trusted: {} of {} checks failed", failures(judgement.verdict.checks), judgement.verdict.checks.size())};
    }
    check_cancel();
    live.guest->recheck();
    enter(live, State::releasing, fmt::format("trusted: {} checks", judgement.verdict.checks.size()));
    live.running.emplace(std::move(launched).release(judgement.packets, observer, gate));
    check_cancel();
    live.guest->recheck();
    enter(live, State::starting, "");
    live.guest->run();
    parts_.stop_point.at("guest", "let-run");
    enter(live, State::running,
          fmt::format("attested at {}{}", attest::text(now()), live.guest->is_left_paused() ? ", and left paused for whoever asked to resume" : ""));
}

void Launches::finish(Live& live, State state, const std::string& reason) {
    try {
        enter(live, State::ending, reason);
    } catch (const Error&) {
        // a journal that is full stops nothing from being taken apart; a restart would find the state before, and do the same
    }
    std::string trouble;
    const std::scoped_lock use{live.guest_use};
    try {
        if (live.guest) {
            live.guest->destroy();
        } else if (live.opened) {
            // what failed to come out of the source may be there half made
            const Record record = live.copy();
            const std::string found = live.source->destroy_leftover(record.identity);
            parts_.log.info("looked for what a guest that was not made left", {{"launch", std::to_string(record.id)}, {"found", found}});
        }
    } catch (const std::exception& error) {
        // A guest that may be there keeps its context: what is below it is not taken away, and all of it is tried again.
        parts_.log.error("a guest could not be destroyed", {{"launch", std::to_string(live.copy().id)}, {"reason", error.what()}});
        const std::scoped_lock lock{live.mutex};
        live.record.state = State::ending;
        live.record.reason = printable(fmt::format("{}; the guest could not be destroyed: {}", reason, error.what()), 2048);
        live.end = state;
        live.end_reason = reason;
        live.guest_left = true;
        return;
    }
    live.guest_left = false;
    try {
        if (live.running) std::move(*live.running).destroy();
    } catch (const std::exception& error) {
        trouble = fmt::format("; its context is stuck in the PSP: {}", error.what());
    }
    live.running.reset();
    live.guest.reset();
    if (live.holds_asid) asids_.give_back(live.copy().asid);
    live.holds_asid = false;
    if (live.unsure) asids_.note_stuck(*std::exchange(live.unsure, std::nullopt)); // taken apart as soon as the PSP says that it is there
    collect_stuck();
    {
        const std::scoped_lock lock{live.mutex};
        live.record.asid = {};
        live.record.handle = {};
    }
    try {
        enter(live, state, reason + trouble);
    } catch (const Error&) {
        {
            const std::scoped_lock lock{live.mutex};
            live.record.state = state;
            live.record.reason = reason + trouble;
            live.record.updated = now();
        }
        live.unsaved = true;
        publish(live.copy(), {}, {});
    }
    const std::scoped_lock lock{mutex_};
    ++ended_[std::string{name(state)}];
}

} // namespace sev::daemon
