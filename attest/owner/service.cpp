// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/service.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "attest/ear.hpp"
#include "attest/judge.hpp"
#include "attest/secret_packet.hpp"
#include "attest/sign_jws.hpp"
#include "base/error.hpp"

namespace sev::attest::owner {
namespace {

constexpr std::size_t message_limit_bytes = 1000;

/// One line of printable ASCII that fits ExchangeTrouble.
std::string sayable(std::string_view message) {
    std::string out = printable(message, message_limit_bytes / 4);
    return out.empty() ? "no reason given" : out;
}

json::Value refusal_json(const std::vector<psp::Check>& checks) {
    json::Value list = json::Value::array();
    for (const psp::Check& check : checks) list.push_back({{"check", check.check}, {"passed", check.passed}, {"detail", check.detail}});
    return {{"checks", std::move(list)}};
}

std::string failures(const std::vector<psp::Check>& checks) {
    std::string out;
    for (const psp::Check& check : checks)
        if (!check.passed) out += (out.empty() ? "" : " ") + check.check;
    return out;
}

std::string_view text(TakeOutcome outcome) {
    switch (outcome) {
    case TakeOutcome::taken: return "taken";
    case TakeOutcome::unknown: return "there is no such session for this channel";
    case TakeOutcome::other_launch: return "the session was made for another launch";
    case TakeOutcome::spent: return "the session was used already";
    case TakeOutcome::expired: return "the session has expired";
    }
    throw Error{Fault::bug, "no such outcome"};
}

std::string names(const ReleasePlan& plan) {
    std::string out;
    for (const std::string& secret : plan.released) out += fmt::format("{}{}", out.empty() ? "" : ", ", secret);
    return out.empty() ? "none" : out;
}

} // namespace

/// One request being worked on.
struct OwnerService::Asked {
    Digest request{};
    std::string channel, launch_name, policy_name, session;
    Time now{};
    AuditEvent event(std::string_view kind, std::string detail) const {
        return {.event = std::string{kind},
                .channel = channel,
                .session = session,
                .launch = launch_name,
                .policy = policy_name,
                .request = hex(request),
                .detail = std::move(detail)};
    }
};

std::string_view name(AnswerKind kind) {
    switch (kind) {
    case AnswerKind::offer: return "offer";
    case AnswerKind::refusal: return "refusal";
    case AnswerKind::trusted: return "trusted";
    case AnswerKind::not_trusted: return "not-trusted";
    case AnswerKind::trouble: return "trouble";
    }
    throw Error{Fault::bug, "no such kind of answer"};
}

HeadSigner head_signer(const P384Key& key) {
    return [&key](const AuditHead& head) { return sign_jws(key, audit_head_type, audit_head_payload(head)); };
}

OwnerService::OwnerService(Parts parts) : parts_{std::move(parts)}, public_key_{owner_key(parts_.key)} {}

Answered OwnerService::signed_answer(const Asked& asked, ExchangeAnswer answer, AnswerKind kind) const {
    answer.request = asked.request;
    answer.answered_at = asked.now;
    return {.jws = sign_jws(parts_.key, ExchangeAnswer::jws_type, answer.to_json().dump()),
            .kind = kind,
            .launch_name = asked.launch_name,
            .policy_name = asked.policy_name,
            .session = asked.session,
            .problem = {},
            .internal = false};
}

Answered OwnerService::trouble(const Asked& asked, std::string message, bool retry) {
    auto out = signed_answer(asked, {.request = {}, .answered_at = {}, .body = ExchangeTrouble{.message = sayable(message), .retry = retry}},
                             AnswerKind::trouble);
    out.problem = std::move(message);
    return out;
}

Answered OwnerService::failed(const Asked& asked, const std::string& problem, bool theirs) {
    // what the sender wrote is told to the sender; what is wrong here is for the owner's log alone
    auto out = trouble(asked, theirs ? problem : "the guest owner's service could not work on it; its log says why", false);
    out.problem = problem;
    out.internal = !theirs;
    try {
        parts_.store.note(asked.event(theirs ? "request.refused" : "request.failed", problem), asked.now);
    } catch (const Error& error) {
        out.problem += fmt::format(" (and the audit log could not be written: {})", error.what());
        out.internal = true;
    }
    return out;
}

Answered OwnerService::answer(std::string_view request, std::string_view channel, Time now) {
    Asked asked{
        .request = sha256(as_bytes(request)), .channel = std::string{channel}, .launch_name = {}, .policy_name = {}, .session = {}, .now = now};
    ExchangeRequest parsed;
    try {
        parsed = read_exchange_request(request, "request");
    } catch (const Error& error) {
        return failed(asked, error.what(), error.fault() == Fault::malformed);
    }
    try {
        return std::visit([&](const auto& known) { return work(asked, known); }, parsed);
    } catch (const std::exception& error) {
        return failed(asked, error.what(), false);
    }
}

Answered OwnerService::work(Asked& asked, const SessionRequest& request) {
    asked.launch_name = request.launch_name;
    asked.policy_name = request.policy;
    if (!parts_.clients.may_use(asked.channel, request.policy)) {
        // the same words whether there is such a policy or not
        parts_.store.note(asked.event("request.refused", "the channel may not use this policy"), asked.now);
        return trouble(asked, fmt::format("this channel may not use a policy named \"{}\"", request.policy), false);
    }
    std::shared_ptr<const PolicySnapshot> snapshot;
    try {
        snapshot = parts_.policies.get(request.policy);
    } catch (const Error& error) {
        if (error.fault() != Fault::usage) throw;
        parts_.store.note(asked.event("request.refused", error.what()), asked.now);
        return trouble(asked, error.what(), false);
    }
    const PlatformVerdict platform = judge_platform(snapshot->policy, request.platform, asked.now, parts_.advisories);
    if (!platform.accepted()) {
        asked.session = hex(random_array<16>());
        SessionSummary refused;
        refused.id = unhex<16>(asked.session);
        refused.channel = asked.channel;
        refused.launch_name = asked.launch_name;
        refused.policy_name = asked.policy_name;
        refused.platform = request.platform.to_json().dump();
        refused.result = refusal_json(platform.checks).dump();
        parts_.store.keep_refusal(refused, asked.event("platform.refused", failures(platform.checks)), asked.now);
        return signed_answer(
            asked, {.request = {}, .answered_at = {}, .body = PlatformRefusal{.launch_name = request.launch_name, .checks = platform.checks}},
            AnswerKind::refusal);
    }
    CreatedSession created = create_session(platform.pdh.value(), snapshot->policy.session_policy(), request.launch_name);
    asked.session = hex(created.offer.session_id);
    SessionRecord record{.facts = created.session.facts(),
                         .channel = asked.channel,
                         .policy_name = request.policy,
                         .snapshot = snapshot->digest,
                         .created_at = asked.now,
                         .expires_at = asked.now + parts_.limits.session_lifetime,
                         .platform = request.platform.to_json().dump(),
                         .keys = {}};
    SecretBytes both{32};
    std::ranges::copy(created.session.tek().reveal(), both.writable().begin());
    std::ranges::copy(created.session.tik().reveal(), both.writable().begin() + 16);
    record.keys = parts_.seal_keys.seal(record.seal_context(), both.reveal());
    const OpenOutcome outcome = parts_.store.open_session(
        record, parts_.limits.caps, asked.event("session.opened", fmt::format("policy snapshot {}", hex(snapshot->digest))), asked.now);
    if (outcome != OpenOutcome::opened) {
        asked.session.clear();
        const std::string why = outcome == OpenOutcome::channel_reached
                                    ? fmt::format("this channel has {} open sessions already", parts_.limits.caps.per_channel)
                                    : fmt::format("there are {} open sessions already", parts_.limits.caps.total);
        parts_.store.note(asked.event("request.refused", why), asked.now);
        return trouble(asked, why, true);
    }
    if (parts_.times) parts_.times->opened(record.facts.id, record.created_at, record.expires_at);
    return signed_answer(asked, {.request = {}, .answered_at = {}, .body = std::move(created.offer)}, AnswerKind::offer);
}

Answered OwnerService::work(Asked& asked, const JudgementRequest& request) {
    asked.launch_name = request.launch.launch_name;
    asked.session = hex(request.launch.session_id);
    const Time session_time = parts_.times ? parts_.times->time_of(request.launch.session_id, asked.now) : asked.now;
    const auto taken = parts_.store.take_session(request.launch.session_id, asked.channel, asked.launch_name, asked.event("session.taken", ""),
                                                 asked.now, session_time);
    if (parts_.times && taken.outcome == TakeOutcome::taken) parts_.times->taken(request.launch.session_id);
    if (taken.outcome != TakeOutcome::taken) {
        const std::string why{text(taken.outcome)};
        parts_.store.note(asked.event("request.refused", why), asked.now);
        return trouble(asked, why, false);
    }
    const SessionRecord& record = taken.record.value();
    asked.policy_name = record.policy_name;
    const auto end_in_trouble = [&](std::string_view why) {
        parts_.store.end_session(record.facts.id, {.state = SessionState::troubled, .result = {}, .attestation_result = {}, .packets = 0},
                                 asked.event("session.troubled", std::string{why}), asked.now);
    };
    try {
        if (!parts_.clients.may_use(asked.channel, record.policy_name)) {
            constexpr std::string_view why = "this channel may not use the session's policy any more";
            end_in_trouble(why);
            return trouble(asked, std::string{why}, false);
        }
        if (parts_.policies.get(record.policy_name)->digest != record.snapshot) {
            constexpr std::string_view why = "the policy, or a file of its references, has changed since the session was made";
            end_in_trouble(why);
            return trouble(asked, std::string{why}, false);
        }
        return judge_taken(asked, request, record);
    } catch (const std::exception& error) {
        end_in_trouble(error.what());
        throw;
    }
}

Session OwnerService::opened(const SessionRecord& record) const {
    const SecretBytes both = parts_.seal_keys.open(record.seal_context(), record.keys);
    if (both.size() != 32) throw Error{Fault::system, fmt::format("session {}: {} bytes of keys, want 32", hex(record.facts.id), both.size())};
    const auto half = [&](std::size_t at) { return std::span<const std::uint8_t, 16>{both.reveal().subspan(at, 16)}; };
    return {record.facts, psp::Tek{half(0)}, psp::Tik{half(16)}};
}

SecretBytes OwnerService::secret(const SecretRule& rule, const Path& base) {
    const std::string path = rule.path.string();
    if (!path.starts_with(stored_secret_prefix)) return read_secret_file(rule, base);
    const std::string name = path.substr(stored_secret_prefix.size());
    const auto found = parts_.store.document("secret", name);
    if (!found) throw Error{Fault::system, fmt::format("the store has no secret \"{}\"", printable(name)), "sev-owner secret add"};
    return open_document(parts_.seal_keys, *found);
}

Answered OwnerService::judge_taken(Asked& asked, const JudgementRequest& request, const SessionRecord& record) {
    const auto snapshot = parts_.policies.get(record.policy_name);
    if (snapshot->digest != record.snapshot) throw Error{Fault::system, "the policy changed while it was to be judged by"};
    const auto platform = read_message<PlatformEvidence>(record.platform, "stored platform evidence");
    const Standard standard{.policy = snapshot->policy, .references = snapshot->references, .advisories = parts_.advisories};
    Judgement judgement = judge(opened(record), platform, request.launch, standard, asked.now);
    JudgementAnswer body{.verdict = judgement.verdict, .packets = {}, .attestation_result = {}};
    std::string released = "none";
    if (judgement.trusted) {
        released = names(plan_release(*judgement.trusted, snapshot->policy));
        body.packets =
            release_secrets(*judgement.trusted, snapshot->policy, [&](const SecretRule& rule) { return secret(rule, snapshot->policy.base); });
    }
    const auto result =
        attestation_result(body.verdict, public_key_, parts_.build, fmt::format("xen-sev:{}:{}", record.policy_name, hex(record.snapshot)));
    body.attestation_result = sign_attestation_result(result, parts_.key);
    const bool trusted = body.verdict.trusted();
    const std::string detail = trusted
                                   ? fmt::format("trusted; reference \"{}\"; level {}{}; secrets released: {}", body.verdict.reference.value_or(""),
                                                 body.verdict.level, body.verdict.emulated ? ", emulated PSP" : "", released)
                                   : fmt::format("not trusted: {}", failures(body.verdict.checks));
    const SessionEnd end{.state = trusted ? SessionState::trusted : SessionState::not_trusted,
                         .result = body.verdict.to_json().dump(),
                         .attestation_result = body.attestation_result,
                         .packets = body.packets.size()};
    // signed before it is recorded, recorded before it leaves: a signature that fails must not look like a release
    Answered out =
        signed_answer(asked, {.request = {}, .answered_at = {}, .body = std::move(body)}, trusted ? AnswerKind::trusted : AnswerKind::not_trusted);
    parts_.store.end_session(record.facts.id, end, asked.event("session.judged", detail), asked.now);
    return out;
}

} // namespace sev::attest::owner
