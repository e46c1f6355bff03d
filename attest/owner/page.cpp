// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/page.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "attest/protocol/platform_evidence.hpp"
#include "base/error.hpp"
#include "psp/chain.hpp"

namespace sev::attest::owner {
namespace {

std::string document(std::string_view title, std::string_view body, std::string_view footer = {}) {
    return fmt::format(R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{} – guest owner</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><div><a class="name" href="/">Guest owner</a><nav>
<a href="/#launches">Launches</a><a href="/#platforms">Platforms</a><a href="/#policies">Reference values</a>
<a href="/advisories">Known weaknesses</a>
</nav></div></header>
<main>
{}
</main>
<footer>{}</footer>
</body>
</html>
)",
                       escaped(title), body, footer);
}

struct Look {
    std::string_view tone, text, sentence;
};
Look look_of(SessionState state) {
    switch (state) {
    case SessionState::open: return {"wait", "waiting", "The session was made; the host has not shown yet what it launched."};
    case SessionState::taken:
        return {"wait", "being judged",
                "The evidence was taken to be judged. If it stays so, the instance that did so has died; the session is never used again."};
    case SessionState::trusted: return {"good", "trusted", "Every check passed."};
    case SessionState::not_trusted: return {"bad", "not trusted", "At least one check failed. No secret left."};
    case SessionState::troubled: return {"bad", "trouble", "The evidence could not be judged. No secret left; the log says why."};
    case SessionState::expired: return {"", "expired", "Nobody showed evidence in time."};
    case SessionState::refused: return {"bad", "platform refused", "The platform is none that the policy accepts. No session was made."};
    }
    throw Error{Fault::bug, "no such session state"};
}

std::string tag(std::string_view tone, std::string_view text) { return fmt::format(R"(<span class="tag {}">{}</span>)", tone, escaped(text)); }

std::string short_time(Time time) {
    const std::string whole = attest::text(time); // 2026-01-02T03:04:05Z
    return whole.substr(0, 10) + " " + whole.substr(11, 8);
}

/// A stored value, or why it cannot be shown: a page does not fail for one row.
template <class Value>
struct Readable {
    std::optional<Value> value;
    std::string problem;
};
template <class Message>
Readable<Message> readable(std::string_view text, std::string_view what) {
    try {
        return {read_message<Message>(text, what), {}};
    } catch (const Error& error) {
        return {std::nullopt, error.what()};
    }
}

/// A platform as the evidence of a session shows it.
struct Platform {
    std::string cek; // fingerprint, or why there is none
    PlatformEvidence evidence;
};
Readable<Platform> platform_of(const SessionSummary& session) {
    auto evidence = readable<PlatformEvidence>(session.platform, "platform evidence");
    if (!evidence.value) return {std::nullopt, evidence.problem};
    try {
        const psp::Chain chain = psp::parse_chain(evidence.value->chain, "chain");
        return {Platform{.cek = chain.cek ? hex(chain.cek->fingerprint()) : "no CEK", .evidence = std::move(*evidence.value)}, {}};
    } catch (const Error& error) {
        return {Platform{.cek = "no chain", .evidence = std::move(*evidence.value)}, error.what()};
    }
}

std::string level_tags(const Verdict& verdict) {
    return tag("", fmt::format("L{}", verdict.level)) + (verdict.emulated ? " " + tag("wait", "emulated PSP") : std::string{});
}

std::string launches(const std::vector<SessionSummary>& sessions) {
    if (sessions.empty()) return R"(<div class="card empty">None.</div>)";
    std::string rows;
    for (const SessionSummary& session : sessions) {
        const Look look = look_of(session.state);
        rows += fmt::format(R"(<tr><td class="fit"><span class="mono">{}</span></td><td><a href="/sessions/{}">{}</a></td><td class="fit">{}</td>)"
                            R"(<td data-label="Policy"><a href="/policies/{}">{}</a></td><td data-label="Channel" class="mono">{}</td></tr>)",
                            short_time(session.created_at), hex(session.id), escaped(session.launch_name), tag(look.tone, look.text),
                            escaped(session.policy_name), escaped(session.policy_name), escaped(session.channel));
    }
    return fmt::format(
        R"(<div class="card"><table class="rows"><thead><tr><th>Time (UTC)</th><th>Launch</th><th>Outcome</th><th>Policy</th>)"
            R"(<th>Channel</th></tr></thead><tbody>{}</tbody></table></div>)",
        rows);
}

/// Which of all launches the table shows, and the way to the others.
std::string shown_part(const OverviewData& data) {
    const std::uint64_t total = data.counts.of(data.state), last = data.offset + data.sessions.size();
    if (data.counts.of(std::nullopt) == 0) return {};
    const auto link = [](std::string_view query, std::string_view text) { return fmt::format(R"( <a href="/{}#launches">{}</a>)", query, text); };
    const std::string state = data.state ? fmt::format("state={}", name(*data.state)) : std::string{};
    std::string out = data.sessions.empty() ? fmt::format("None of {}", total)
                      : data.offset == 0    ? fmt::format("Newest {} of {}", last, total)
                                            : fmt::format("{} to {} of {}, newest first", data.offset + 1, last, total);
    if (data.state) out += fmt::format(": {}.", look_of(*data.state).text) + link("", "All");
    else out += ".";
    if (data.offset > 0) out += link(state.empty() ? "" : "?" + state, "Newest");
    if (!data.sessions.empty() && last < total) out += link(fmt::format("?{}{}offset={}", state, state.empty() ? "" : "&amp;", last), "Older");
    out += " Only:";
    for (const SessionState one : {SessionState::trusted, SessionState::not_trusted, SessionState::refused, SessionState::open})
        if (data.counts.of(one) > 0) out += link(fmt::format("?state={}", name(one)), look_of(one).text);
    return fmt::format(R"(<p class="soft small">{}</p>)", out);
}

std::string platforms(const std::vector<SessionSummary>& sessions) {
    struct Seen {
        std::string build, backend;
        unsigned level = 0;
        Time last{};
        std::size_t accepted = 0, refused = 0;
    };
    std::map<std::string, Seen> seen;
    for (const SessionSummary& session : sessions) {
        const auto platform = platform_of(session);
        if (!platform.value) continue;
        Seen& entry = seen[platform.value->cek];
        if (session.created_at >= entry.last) {
            entry.last = session.created_at;
            entry.build = platform.value->evidence.build().text();
            entry.backend = name(platform.value->evidence.backend);
            entry.level = platform.value->evidence.level;
        }
        ++(session.state == SessionState::refused ? entry.refused : entry.accepted);
    }
    if (seen.empty()) return R"(<div class="card empty">No platform has shown itself yet.</div>)";
    std::string rows;
    for (const auto& [cek, entry] : seen)
        rows += fmt::format(
            R"(<tr><td><code>{}</code></td><td data-label="SEV firmware" class="fit">{}</td>)"
                R"(<td data-label="Reached by" class="fit">{}</td><td data-label="Claims" class="fit">L{}</td>)"
                R"(<td data-label="Last seen" class="fit"><span class="mono">{}</span></td><td class="fit">{}</td></tr>)",
            escaped(cek), escaped(entry.build), entry.backend == "emulated" ? tag("wait", "emulated PSP") : escaped(entry.backend), entry.level,
            short_time(entry.last),
            entry.refused == 0    ? tag("good", "accepted")
            : entry.accepted == 0 ? tag("bad", "refused")
                                  : tag("wait", "at times refused"));
    return fmt::format(
        R"(<div class="card"><table class="rows"><thead><tr><th>Chip (fingerprint of its CEK)</th><th>SEV firmware</th>)"
            R"(<th>Reached by</th><th>Claims</th><th>Last seen (UTC)</th><th></th></tr></thead><tbody>{}</tbody></table></div>)",
        rows);
}

std::string policies(const std::vector<ShownPolicy>& list) {
    if (list.empty()) return R"(<div class="card empty">There is no policy: every request is refused.</div>)";
    std::string rows;
    for (const ShownPolicy& policy : list) {
        if (!policy.snapshot) {
            rows += fmt::format(R"(<tr><td>{}</td><td>{} <span class="soft small">{}</span></td></tr>)", escaped(policy.name),
                                tag("bad", "cannot be used"), escaped(policy.problem));
            continue;
        }
        std::string references;
        for (const Reference& reference : policy.snapshot->references)
            references += fmt::format(R"(<div>{} <code class="soft">{}</code></div>)", escaped(reference.name), hex(reference.digest));
        if (references.empty()) references = tag("bad", "no reference: nothing will be trusted");
        rows += fmt::format(R"(<tr><td><a href="/policies/{}">{}</a></td><td>{}</td></tr>)", escaped(policy.name), escaped(policy.name), references);
    }
    return fmt::format(
        R"(<div class="card"><table class="rows"><thead><tr><th>Policy</th><th>Reference values (launch digest)</th></tr></thead>)"
            R"(<tbody>{}</tbody></table></div>)",
        rows);
}

std::string check_table(const std::vector<psp::Check>& checks, bool passed) {
    std::string rows;
    for (const psp::Check& check : checks)
        if (check.passed == passed)
            rows += fmt::format(R"(<tr><td class="fit">{}</td><td class="name mono">{}</td><td class="soft small">{}</td></tr>)",
                                tag(passed ? "good" : "bad", passed ? "pass" : "FAIL"), escaped(check.check), escaped(check.detail));
    return fmt::format(R"(<div class="card"><table class="checks"><tbody>{}</tbody></table></div>)", rows);
}

/// What failed first: that is what one looks for.
std::string check_rows(const std::vector<psp::Check>& checks) {
    const auto failed = static_cast<std::size_t>(std::ranges::count(checks, false, &psp::Check::passed));
    std::string out;
    if (failed > 0) out += fmt::format("<h2>What failed ({} of {} checks)</h2>", failed, checks.size()) + check_table(checks, false);
    if (failed < checks.size())
        out += fmt::format("<h2>What passed ({} of {} checks)</h2>", checks.size() - failed, checks.size()) + check_table(checks, true);
    return out;
}

/// The checks of a platform that was refused.
Readable<std::vector<psp::Check>> refusal_checks(const std::string& result) {
    try {
        const json::Value value = json::parse(result, "refusal", {.bytes = 1U << 20, .depth = 8});
        json::Object object{value, "refusal"};
        std::vector<psp::Check> out;
        for (const json::Value& entry : object.array("checks", Verdict::check_limit)) {
            json::Object check{entry, "check"};
            out.push_back({.check = check.string("check"), .passed = check.boolean("passed"), .detail = check.string("detail", 8192)});
        }
        return {std::move(out), {}};
    } catch (const Error& error) {
        return {std::nullopt, error.what()};
    }
}

std::string term(std::string_view key, std::string_view html) { return fmt::format("<dt>{}</dt><dd>{}</dd>", key, html); }
std::string code(std::string_view text) { return fmt::format("<code>{}</code>", escaped(text)); }

std::string verdict_part(const Verdict& verdict) {
    std::string out = check_rows(verdict.checks);
    if (!verdict.notes.empty()) {
        out += R"(<h2>Notes</h2><div class="card pad">)";
        for (const std::string& note : verdict.notes) out += fmt::format("<p>{}</p>", escaped(note));
        out += "</div>";
    }
    if (!verdict.advisories.empty()) {
        std::string rows;
        for (const AdvisoryFinding& finding : verdict.advisories)
            rows += fmt::format(R"(<tr><td class="fit">{}</td><td><b>{}</b><div class="soft small">{}</div></td></tr>)",
                                finding.severity == Severity::fail ? tag(finding.accepted ? "wait" : "bad", finding.accepted ? "accepted" : "fails")
                                                                   : tag("", "note"),
                                escaped(finding.id), escaped(finding.text));
        out += fmt::format(R"(<h2>Known weaknesses that apply</h2><div class="card"><table><tbody>{}</tbody></table></div>)", rows);
    }
    return out;
}

std::string platform_part(const SessionSummary& session) {
    const auto platform = platform_of(session);
    if (!platform.value) return fmt::format(R"(<div class="card pad soft">cannot be read: {}</div>)", escaped(platform.problem));
    const PlatformEvidence& evidence = platform.value->evidence;
    std::string out = term("Chip (CEK)", code(platform.value->cek));
    if (evidence.chip_id) out += term("Chip id, as the host says", code(hex(*evidence.chip_id)));
    out += term("SEV firmware", escaped(evidence.build().text()));
    out += term("PSP reached by", evidence.backend == Backend::emulated ? tag("wait", "emulated PSP") : escaped(name(evidence.backend)));
    out += term("Level the host claims", escaped(level_text(evidence.level)));
    return fmt::format(R"(<div class="card pad"><dl>{}</dl></div>)", out);
}

} // namespace

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : printable(text, 4096)) {
        switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\'': out += "&#39;"; break;
        default: out += c;
        }
    }
    return out;
}

std::string overview_page(const OverviewData& data) {
    const auto tile = [](std::uint64_t count, std::string_view what) { return fmt::format("<li><b>{}</b><span>{}</span></li>", count, what); };
    const std::string tiles = tile(data.counts.trusted, "trusted") + tile(data.counts.not_trusted, "not trusted") +
                              tile(data.counts.refused, "platforms refused") + tile(data.counts.open, "waiting") +
                              tile(data.counts.expired, "expired") + tile(data.counts.troubled + data.counts.taken, "unfinished");
    const std::string body = fmt::format(R"(<h1>Launches and their verdicts</h1>
<p class="soft">What hosts asked this guest owner for, and what it answered. Read-only.</p>
<ul class="tiles">{}</ul>
<h2 id="launches">Launches</h2>{}{}
<h2 id="platforms">Platforms</h2>{}
<h2 id="policies">Reference values</h2>{})",
                                         tiles,
                                         data.counts.of(std::nullopt) == 0 ? R"(<div class="card empty">No host has asked for anything yet.</div>)"
                                                                           : launches(data.sessions),
                                         shown_part(data), platforms(data.platforms), policies(data.policies));
    const std::string footer = fmt::format(R"(<p>Owner key <code>{}</code><br>Audit log: {} records, head <code>{}</code><br>{} UTC</p>)",
                                           escaped(data.owner), data.head.seq, hex(data.head.hash), short_time(data.now));
    return document("Launches", body, footer);
}

std::string session_page(const SessionSummary& session) {
    const Look look = look_of(session.state);
    std::string sentence = escaped(look.sentence), tags, checks;
    if (session.state == SessionState::refused) {
        const auto list = refusal_checks(session.result);
        checks = list.value ? check_rows(*list.value)
                            : fmt::format(R"(<div class="card pad soft">cannot be read: {}</div>)", escaped(list.problem));
    } else if (!session.result.empty()) {
        const auto verdict = readable<Verdict>(session.result, "verdict");
        if (verdict.value) {
            tags = fmt::format("<p>{}</p>", level_tags(*verdict.value));
            if (verdict.value->emulated) sentence += " The PSP is emulated: this says nothing of any hardware.";
            checks = verdict_part(*verdict.value);
        } else {
            checks = fmt::format(R"(<div class="card pad soft">cannot be read: {}</div>)", escaped(verdict.problem));
        }
    }
    std::string facts = term("Policy", fmt::format(R"(<a href="/policies/{}">{}</a>)", escaped(session.policy_name), escaped(session.policy_name))) +
                        term("Asked over", code(session.channel)) + term("Session", code(hex(session.id))) +
                        term("Asked at", short_time(session.created_at) + " UTC");
    if (session.ended_at) facts += term("Ended at", short_time(*session.ended_at) + " UTC");
    else facts += term("Expires at", short_time(session.expires_at) + " UTC");
    facts += term("Secret packets sent", std::to_string(session.packets));
    std::string body =
        fmt::format(R"(<h1>{}</h1>{}<div class="banner {}"><b>{}</b>{}</div><div class="card pad"><dl>{}</dl></div>{}<h2>Platform</h2>{})",
                    escaped(session.launch_name), tags, look.tone, escaped(look.text), sentence, facts, checks, platform_part(session));
    if (!session.attestation_result.empty())
        body += fmt::format(
            R"(<h2>For third parties</h2><details><summary>Attestation result (EAR, a signed JWT)</summary><div class="mono">{}</div></details>)",
            escaped(session.attestation_result.substr(0, 4096)));
    return document(session.launch_name, body);
}

std::string policy_page(const PolicySnapshot& snapshot) {
    const OwnerPolicy& policy = snapshot.policy;
    std::string roots;
    for (const psp::Root& root : policy.roots())
        roots += fmt::format("<div>{}{}</div>", escaped(root.label),
                             root.amd ? "" : " " + tag("wait", root.pinned_cek ? "one chip, by the owner's word" : "not AMD's"));
    if (roots.empty()) roots = tag("bad", "none: nothing will be trusted");
    std::string facts =
        term("Owner", escaped(policy.owner)) + term("Valid", short_time(policy.not_before) + " to " + short_time(policy.not_after) + " UTC") +
        term("Roots of trust", roots) +
        term("Chips", policy.chips ? fmt::format("{} named", policy.chips->size()) : std::string{"any below these roots"}) +
        term("SEV firmware", escaped(policy.minimum_build.text()) + " or newer") + term("Guest policy", escaped(policy.session_policy().text())) +
        term("Level", fmt::format("at least L{}", policy.level)) + term("Snapshot", code(hex(snapshot.digest)));
    std::string references;
    for (const Reference& reference : snapshot.references) {
        std::string regions, uncovered;
        for (const Region& region : reference.regions)
            regions += fmt::format(R"(<tr><td>{}</td><td class="fit" data-label="Bytes">{}</td><td data-label="SHA-256"><code>{}</code></td></tr>)",
                                   escaped(region.label), region.length_bytes, hex(region.sha256));
        for (const std::string& text : reference.uncovered) uncovered += fmt::format(R"(<p class="soft small">Not covered: {}</p>)", escaped(text));
        references += fmt::format(
            R"(<div class="card"><div class="card-head"><b>{}</b><br><code>{}</code>{}</div>{}</div>)", escaped(reference.name),
            hex(reference.digest), uncovered,
            regions.empty()
                ? std::string{}
                : fmt::format(R"(<table class="rows"><thead><tr><th>Region</th><th>Bytes</th><th>SHA-256</th></tr></thead><tbody>{}</tbody></table>)",
                              regions));
    }
    if (references.empty()) references = R"(<div class="card empty">None: nothing will be trusted.</div>)";
    std::string secrets;
    for (const SecretRule& secret : policy.secrets) secrets += fmt::format("<tr><td>{}</td></tr>", escaped(secret.name));
    const std::string body = fmt::format(
        R"(<h1>{}</h1><p class="soft">A policy of this guest owner</p><div class="card pad"><dl>{}</dl></div>)"
            R"(<h2>Reference values</h2>{}<h2>Secrets it may release</h2>{})",
        escaped(snapshot.name), facts, references,
        secrets.empty() ? std::string{R"(<div class="card empty">None.</div>)"}
                        : fmt::format(R"(<div class="card"><table><tbody>{}</tbody></table></div>)", secrets));
    return document(snapshot.name, body);
}

std::string advisories_page(const Advisories& advisories) {
    std::string cards;
    for (const Advisory& advisory : advisories.list)
        cards += fmt::format(
            R"(<div class="card pad"><p><b>{}</b> {}</p><p>{}</p><p>{}</p><p class="soft small">What to do: {}</p>)"
                R"(<p class="soft small">Source: {}</p></div>)",
            escaped(advisory.id), advisory.severity == Severity::fail ? tag("bad", "fails unless accepted") : tag("", "note"),
            escaped(advisory.title), escaped(advisory.text), escaped(advisory.remedy), escaped(advisory.source));
    return document("Known weaknesses",
                    fmt::format(R"(<h1>Known weaknesses</h1><p class="soft">Of AMD SEV, as this program knows them; list of {}.</p>{})",
                                escaped(advisories.revised), cards));
}

std::string missing_page(std::string_view why) {
    return document("Not found", fmt::format(R"(<h1>Not found</h1><p class="soft">{}</p><p><a href="/">All launches</a></p>)", escaped(why)));
}

} // namespace sev::attest::owner
