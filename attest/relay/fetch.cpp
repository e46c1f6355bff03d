// SPDX-License-Identifier: Apache-2.0
#include "attest/relay/fetch.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace sev::relay {

using endorsement::Authority;
using endorsement::server_of;
using endorsement::subject_of;

namespace {

/// Answers that another try may change. Source: RFC 9110 section 15, RFC 6585.
constexpr std::array worth_retrying{408U, 425U, 429U, 500U, 502U, 503U, 504U};
constexpr std::array says_there_is_none{404U, 410U};

constexpr std::string_view by_hand = "get the file on another machine, and bring it in with: sevctl cert import";

template <std::size_t Size>
bool among(const std::array<unsigned, Size>& statuses, unsigned status) {
    return std::ranges::find(statuses, status) != statuses.end();
}

Fetched missing(const std::string& subject, std::string reason, std::optional<Time> ask_again) {
    Fetched out;
    out.outcome = Outcome::missing;
    out.subject = subject;
    out.reason = std::move(reason);
    out.ask_again = ask_again;
    return out;
}
Fetched missing(const endorsement::MissingNote& note) {
    return missing(note.subject, fmt::format("{} ({})", note.reason, note.server), note.ask_again);
}

} // namespace

std::string_view name(Outcome outcome) {
    switch (outcome) {
    case Outcome::cached: return "cached";
    case Outcome::fetched: return "fetched";
    case Outcome::missing: return "missing";
    }
    throw Error{Fault::bug, "an outcome without a name"};
}

Fetcher::Fetcher(const endorsement::Store& store, Http& http, Clock clock, std::vector<psp::Root> roots, Settings settings)
    : store_{store}, http_{http}, clock_{std::move(clock)}, roots_{std::move(roots)}, settings_{std::move(settings)}, deadline_{clock_.now() +
                                                                                                                                settings_.deadline} {
    settings_.missing_for = std::min(settings_.missing_for, endorsement::longest_missing);
}

endorsement::Lock Fetcher::lock(std::string_view name) const {
    return endorsement::Lock::take(store_.lock_path(name), deadline_, clock_.now, clock_.sleep);
}

void Fetcher::wait_for_permission(const std::string& server, const std::string& last_failure, unsigned attempts) {
    for (;;) {
        const auto note = store_.wait(server, clock_.now());
        const Time now = clock_.now();
        if (now >= deadline_) {
            throw Error{Fault::network,
                        fmt::format("{}: no answer within the deadline of {} s, after {} attempts{}{}", server,
                                    static_cast<double>(settings_.deadline.count()) / 1000, attempts, last_failure.empty() ? "" : ": ", last_failure),
                        std::string{by_hand}};
        }
        if (!note || note->not_before <= now) return;
        if (note->not_before >= deadline_) {
            throw Error{Fault::network,
                        fmt::format("{}: {}; not to be asked again before {}, which is after the deadline", server, printable(note->reason),
                                    endorsement::text(note->not_before)),
                        fmt::format("run it again then, or {}", by_hand)};
        }
        clock_.sleep(note->not_before - now);
    }
}

void Fetcher::note_failure(const std::string& server, const std::string& reason, const std::optional<std::string>& retry_after) {
    const endorsement::Lock held = lock("server " + server);
    const Time now = clock_.now();
    auto note = store_.wait(server, now).value_or(endorsement::WaitNote{.server = server, .failures = 0, .not_before = {}, .reason = {}});
    note.failures = std::min(note.failures + 1, 1'000'000U);
    note.reason = printable(reason);
    note.not_before = std::max(note.not_before, now + endorsement::back_off(note.failures, settings_.first_back_off, clock_.random()));
    if (const auto asked = retry_after ? endorsement::retry_after(*retry_after, now) : std::nullopt)
        note.not_before = std::max(note.not_before, *asked);
    store_.put_wait(note);
}

void Fetcher::refused(const std::string& url, const std::string& why) {
    note_failure(server_of(url), "what it sent was refused", std::nullopt);
    throw Error{Fault::malformed, why, "nothing was stored; a proxy or a login page may stand between here and the key server"};
}

void Fetcher::not_offline(const std::string& subject, const std::string& refusal) const {
    if (!refusal.empty()) throw Error{Fault::malformed, refusal, "it cannot be fetched again with --offline"};
    throw Error{Fault::network,
                fmt::format("{} is not in {}, and with --offline no server is asked", subject, printable(store_.directory().string(), 4096)),
                std::string{by_hand}};
}

endorsement::MissingNote Fetcher::missing_note(const std::string& subject, const std::string& url, const std::string& reason) const {
    const Time now = clock_.now();
    return {.subject = subject, .server = server_of(url), .asked = now, .ask_again = now + settings_.missing_for, .reason = reason};
}

std::variant<Bytes, Fetcher::Missing> Fetcher::ask(const std::string& url, std::size_t limit_bytes) {
    const std::string server = server_of(url);
    std::string last_failure;
    for (unsigned attempts = 0;; ++attempts) {
        wait_for_permission(server, last_failure, attempts);
        const auto answer = http_.get(url, limit_bytes, std::min(left(), settings_.attempt_timeout));
        if (const auto* const none = std::get_if<NoAnswer>(&answer)) {
            // An attempt that our own deadline cut says nothing of the server; what the server did before that does.
            const bool cut = !last_failure.empty() && none->worth_retrying && clock_.now() >= deadline_;
            const std::string reason = cut ? last_failure : none->reason;
            note_failure(server, reason, std::nullopt);
            if (!none->worth_retrying) throw Error{Fault::network, fmt::format("{}: {}", url, reason), none->hint};
            last_failure = reason;
            continue;
        }
        const auto& response = std::get<Response>(answer);
        if (response.status == 200) return response.body;
        const std::string said = fmt::format("HTTP {}", response.status);
        if (among(says_there_is_none, response.status)) return Missing{said};
        note_failure(server, said, response.retry_after);
        if (!among(worth_retrying, response.status)) throw Error{Fault::network, fmt::format("{}: {}, want 200", url, said), std::string{by_hand}};
        last_failure = said;
    }
}

Fetched Fetcher::fetch_ca(psp::Product product) {
    const std::string url = endorsement::ca_url(settings_.servers, product);
    const auto answer = ask(url, endorsement::longest_ca_bytes);
    if (const auto* const none = std::get_if<Missing>(&answer)) {
        const auto note = missing_note(subject_of(product), url, none->reason);
        store_.put_missing_ca(product, note);
        store_.clear_wait(server_of(url));
        return missing(note);
    }
    const auto judged = endorsement::judge_ca(std::get<Bytes>(answer), url, roots_, product);
    if (!judged) refused(url, judged.refusal);
    store_.put_ca(*judged.value);
    store_.clear_wait(server_of(url));
    Fetched out;
    out.outcome = Outcome::fetched;
    out.subject = subject_of(product);
    out.file = store_.ca_path(product);
    out.authority = judged.value;
    return out;
}

Fetched Fetcher::ca(psp::Product product) {
    const auto from_cache = [&]() -> std::optional<Fetched> {
        const auto stored = store_.ca(product, roots_);
        if (stored) {
            Fetched out;
            out.outcome = Outcome::cached;
            out.subject = subject_of(product);
            out.file = store_.ca_path(product);
            out.authority = stored.value;
            return out;
        }
        if (stored.refusal.empty())
            if (const auto note = store_.missing_ca(product, clock_.now())) return missing(*note);
        if (settings_.offline) not_offline(subject_of(product), stored.refusal);
        return std::nullopt;
    };
    if (auto found = from_cache()) return *std::move(found);
    const endorsement::Lock held = lock(subject_of(product));
    if (auto found = from_cache()) return *std::move(found); // by the process that had the lock before
    return fetch_ca(product);
}

/// Finds the ASK that signed a CEK which a server gave, and stores the CEK.
Fetched Fetcher::endorsed(const psp::ChipId& id, const psp::SevCertificate& cek, const std::string& url, std::optional<psp::Product> product) {
    std::string refusal;
    std::optional<Fetched> without;
    for (const psp::Product candidate : product ? std::vector{*product} : endorsement::possible_products(cek)) {
        Fetched authority = ca(candidate);
        if (authority.outcome == Outcome::missing) {
            if (!without) without = std::move(authority);
            continue;
        }
        const auto judged = endorsement::judge_cek(cek, url, *authority.authority);
        if (judged) {
            store_.put_cek(*judged.value, id);
            store_.clear_wait(server_of(url));
            Fetched out;
            out.outcome = Outcome::fetched;
            out.subject = subject_of(id);
            out.file = store_.cek_path(id);
            out.authority = std::move(authority.authority);
            out.cek = judged.value;
            return out;
        }
        if (refusal.empty()) refusal = judged.refusal;
    }
    if (refusal.empty() && without) return *std::move(without);
    refused(url, product ? refusal : fmt::format("{}: no product's ASK has signed this CEK; {}", url, refusal));
}

Fetched Fetcher::cek(const psp::ChipId& id, std::optional<psp::Product> product, const std::optional<Digest>& key) {
    const auto expected = [&](const psp::SevCertificate& cek) { return !key || cek.fingerprint() == *key; };
    const auto other_key = [&](std::string_view what, const psp::SevCertificate& cek) {
        return fmt::format("{}: the CEK has the fingerprint {}, want {}: it belongs to another chip", what, hex(cek.fingerprint()), hex(*key));
    };
    const auto from_cache = [&](bool last_word) -> std::optional<Fetched> {
        const auto stored = store_.cek(id, roots_, product);
        std::string refusal = stored.refusal;
        if (stored && expected(stored.value->cek)) {
            Fetched out;
            out.outcome = Outcome::cached;
            out.subject = subject_of(id);
            out.file = store_.cek_path(id);
            out.authority = stored.value->authority;
            out.cek = stored.value->cek;
            return out;
        }
        if (stored) refusal = other_key(printable(store_.cek_path(id).string(), 4096), stored.value->cek);
        if (refusal.empty())
            if (const auto note = store_.missing_cek(id, clock_.now())) return missing(*note);
        if (last_word) not_offline(subject_of(id), refusal);
        return std::nullopt;
    };
    if (auto found = from_cache(settings_.offline)) return *std::move(found);
    const endorsement::Lock held = lock(subject_of(id));
    if (auto found = from_cache(false)) return *std::move(found); // by the process that had the lock before
    if (product) {
        // first, since a CEK that cannot be verified is worth nothing; and one that is stored may only have lacked this
        Fetched authority = ca(*product);
        if (authority.outcome == Outcome::missing) return authority;
        if (auto found = from_cache(false)) return *std::move(found);
    }
    const std::string url = endorsement::cek_url(settings_.servers, id);
    const auto answer = ask(url, endorsement::cek_bytes);
    if (const auto* const none = std::get_if<Missing>(&answer)) {
        const auto note = missing_note(subject_of(id), url, none->reason);
        store_.put_missing_cek(id, note);
        store_.clear_wait(server_of(url));
        return missing(note);
    }
    const auto parsed = endorsement::parse_cek(std::get<Bytes>(answer), url);
    if (!parsed) refused(url, parsed.refusal);
    if (!expected(*parsed.value)) refused(url, other_key(url, *parsed.value));
    return endorsed(id, *parsed.value, url, product);
}

} // namespace sev::relay
