// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/program/http.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "attest/owner/page.hpp"
#include "attest/owner/session_json.hpp"

namespace sev::attest::owner {
namespace {

using service::Peer;
using service::Request;
using service::Response;
using service::Route;
using service::Where;

constexpr std::size_t list_default = 100, list_limit = 1000, offset_limit = 10'000'000, platforms_from = 200;

bool may_view(const Instance& instance, const Peer& peer) {
    const auto& viewers = instance.config().viewers;
    if (const auto* process = peer.process()) return std::ranges::find(viewers.uids, process->uid) != viewers.uids.end();
    if (const auto* certificate = peer.certificate())
        return std::ranges::find(viewers.certificates, certificate->fingerprint) != viewers.certificates.end();
    return false;
}

Response exchange(Serving& serving, const Request& request) {
    const auto instance = serving.instance();
    const std::string channel = request.peer.channel();
    if (!serving.rate().take(channel, RateLimit::Clock::now())) {
        serving.metrics().add("sev_owner_turned_away_total");
        Response out = service::problem(429, "this client asks too often", "wait a second, and ask again");
        out.headers.emplace_back("Retry-After", "1");
        return out;
    }
    const auto begun = std::chrono::steady_clock::now();
    const Answered answered = instance->service().answer(request.body, channel, now());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    serving.metrics().add("sev_owner_answers_total", 1, {{"kind", std::string{name(answered.kind)}}});
    serving.metrics().observe("sev_owner_answer_seconds", took.count());
    const auto priority = answered.internal                                                            ? service::Priority::error
                          : answered.kind == AnswerKind::offer || answered.kind == AnswerKind::trusted ? service::Priority::info
                                                                                                       : service::Priority::notice;
    serving.log().write(priority, fmt::format("answered with {}", name(answered.kind)),
                        {{"channel", channel},
                         {"launch", answered.launch_name},
                         {"policy", answered.policy_name},
                         {"session", answered.session},
                         {"problem", answered.problem}});
    return {.status = 200, .content_type = "application/jose", .body = answered.jws, .headers = {}, .events = nullptr};
}

Response health(Serving& serving) {
    try {
        const AuditHead head = serving.instance()->store().audit_head();
        return service::json_response({{"status", "ok"}, {"audit_records", head.seq}});
    } catch (const Error& error) {
        serving.log().error("the store does not answer", {{"problem", error.what()}});
        return service::problem(503, "the store does not answer");
    }
}

json::Value list_of(std::string_view format, const char* key, json::Value list) {
    json::Value out = with_format(format, 1);
    out[key] = std::move(list);
    return out;
}

/// Which sessions a query asks for. Throws Error{Fault::usage}: status 400.
struct Wanted {
    std::optional<SessionState> state;
    std::size_t limit = list_default, offset = 0;
};
Wanted wanted(const Request& request) {
    Wanted out;
    for (const auto& [key, value] : request.query) {
        if (key == "state") {
            out.state = session_state_named(value);
            if (!out.state)
                throw Error{Fault::usage, fmt::format("state is \"{}\"", printable(value)),
                            "want open, taken, trusted, not-trusted, troubled, expired or refused"};
        } else if (key == "limit") {
            out.limit = cli::parse_number(value, "limit", 1, list_limit);
        } else if (key == "offset") {
            out.offset = cli::parse_number(value, "offset", 0, offset_limit);
        } else {
            throw Error{Fault::usage, fmt::format("query has \"{}\"", printable(key)), "want state, limit and offset"};
        }
    }
    return out;
}

Response sessions(Serving& serving, const Request& request) {
    const Wanted want = wanted(request);
    json::Value list = json::Value::array();
    for (const SessionSummary& session : serving.instance()->store().sessions(want.limit, want.state, want.offset))
        list.push_back(session_json(session));
    return service::json_response(list_of("xen-sev/owner-sessions", "sessions", std::move(list)));
}

std::optional<SessionSummary> find_session(Serving& serving, const Request& request) {
    const auto id = try_unhex(request.parameters.at("id"));
    if (!id || id->size() != SessionId{}.size()) return std::nullopt;
    SessionId key{};
    std::ranges::copy(*id, key.begin());
    return serving.instance()->store().session(key);
}

Response one_session(Serving& serving, const Request& request) {
    const auto session = find_session(serving, request);
    if (!session) return service::problem(404, "there is no such session");
    json::Value out = with_format("xen-sev/owner-session", 1);
    out["session"] = session_json(*session);
    out["platform"] = json::parse(session->platform, "stored platform evidence");
    if (!session->result.empty()) out["result"] = json::parse(session->result, "stored result");
    if (!session->attestation_result.empty()) out["attestation_result"] = session->attestation_result;
    return service::json_response(out);
}

json::Value policy_json(Policies& policies, const std::string& name) {
    json::Value entry{{"name", name}};
    try {
        const auto snapshot = policies.get(name);
        entry["owner"] = snapshot->policy.owner;
        entry["snapshot"] = hex(snapshot->digest);
        entry["references"] = json::Value::array();
        for (const Reference& reference : snapshot->references)
            entry["references"].push_back({{"name", reference.name}, {"digest", hex(reference.digest)}});
    } catch (const Error& error) {
        entry["problem"] = error.what();
    }
    return entry;
}

Response policies(Serving& serving) {
    const auto instance = serving.instance();
    json::Value list = json::Value::array();
    for (const std::string& name : instance->policies().names()) list.push_back(policy_json(instance->policies(), name));
    return service::json_response(list_of("xen-sev/owner-policies", "policies", std::move(list)));
}

Response audit_head(Serving& serving) {
    const AuditHead head = serving.instance()->store().audit_head();
    json::Value out = with_format("xen-sev/owner-audit-head", 1);
    out["records"] = head.seq;
    out["head"] = hex(head.hash);
    return service::json_response(out);
}

/// A page that can load nothing but our own style sheet, runs nothing, and is framed by nobody.
Response page(std::string html, unsigned status = 200) {
    return {
        .status = status,
        .content_type = "text/html; charset=utf-8",
        .body = std::move(html),
        .headers = {{"Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
                    {"Referrer-Policy", "no-referrer"},
                    {"Cross-Origin-Opener-Policy", "same-origin"},
                    {"Cross-Origin-Resource-Policy", "same-origin"}},
        .events = nullptr};
}

Response session_page_response(Serving& serving, const Request& request) {
    const auto session = find_session(serving, request);
    return session ? page(session_page(*session)) : page(missing_page("There is no such session."), 404);
}

Response policy_page_response(Serving& serving, const Request& request) {
    const auto instance = serving.instance();
    try {
        return page(policy_page(*instance->policies().get(request.parameters.at("name"))));
    } catch (const Error& error) {
        return page(missing_page(error.what()), 404);
    }
}

Response overview_response(Serving& serving, const Request& request) {
    const auto instance = serving.instance();
    const Wanted want = wanted(request);
    OverviewData data{.owner = instance->service().key().thumbprint(),
                      .now = now(),
                      .counts = instance->store().counts(),
                      .head = instance->store().audit_head(),
                      .sessions = instance->store().sessions(want.limit, want.state, want.offset),
                      .state = want.state,
                      .offset = want.offset,
                      .platforms = instance->store().sessions_by_turns(platforms_from),
                      .policies = {}};
    for (const std::string& name : instance->policies().names()) {
        try {
            data.policies.push_back({.name = name, .snapshot = instance->policies().get(name), .problem = {}});
        } catch (const Error& error) {
            data.policies.push_back({.name = name, .snapshot = nullptr, .problem = error.what()});
        }
    }
    return page(overview_page(data));
}

void declare(service::Metrics& metrics, Serving& serving) {
    metrics.declare_counter("sev_owner_answers_total", "Signed answers, by kind.");
    metrics.declare_counter("sev_owner_turned_away_total", "Requests of clients that asked too often.");
    metrics.declare_histogram("sev_owner_answer_seconds", "Time to work out one answer.",
                              {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5});
    metrics.declare_gauge("sev_owner_sessions", "Sessions in the store, by state.");
    metrics.declare_gauge("sev_owner_audit_records", "Records of the audit log.");
    metrics.declare_gauge("sev_owner_reference_files_hashed", "Files read to compute references, since the configuration was read.");
    metrics.on_collect([&serving](service::Metrics& out) {
        const auto instance = serving.instance();
        const StoreCounts counts = instance->store().counts();
        const auto set = [&](const char* state, std::uint64_t value) {
            out.set("sev_owner_sessions", static_cast<double>(value), {{"state", state}});
        };
        set("open", counts.open), set("taken", counts.taken), set("trusted", counts.trusted), set("not-trusted", counts.not_trusted);
        set("troubled", counts.troubled), set("expired", counts.expired), set("refused", counts.refused);
        out.set("sev_owner_audit_records", static_cast<double>(counts.audit_records));
        out.set("sev_owner_reference_files_hashed", static_cast<double>(instance->policies().files_hashed()));
    });
}

} // namespace

Serving::Serving(std::shared_ptr<Instance> instance, service::Log& log)
    : instance_{std::move(instance)}, log_{log}, rate_{instance_->config().limits.requests_per_second, instance_->config().limits.burst} {
    declare(metrics_, *this);
}

std::shared_ptr<Instance> Serving::instance() const {
    const std::lock_guard lock{mutex_};
    return instance_;
}

void Serving::replace(std::shared_ptr<Instance> instance) {
    const std::lock_guard lock{mutex_};
    instance_.swap(instance); // the old one dies with its last request, or here
}

std::vector<Route> owner_routes(Serving& serving) {
    const auto client = [&serving](const Peer& peer) -> std::optional<Response> {
        if (serving.instance()->config().clients.may_ask(peer.channel())) return std::nullopt;
        serving.log().notice("turned away: no client of this owner", {{"channel", peer.channel()}});
        return service::problem(403, "this peer is no client of this owner", "the owner's configuration names its clients");
    };
    const auto viewer = [&serving](const Peer& peer) -> std::optional<Response> {
        if (may_view(*serving.instance(), peer)) return std::nullopt;
        return service::problem(403, "this peer may not look at this owner's records", "the owner's configuration names its viewers");
    };
    const auto get = [&](std::string path, std::function<std::optional<Response>(const Peer&)> admit,
                         std::function<Response(const Request&)> handle) {
        return Route{.method = "GET",
                     .path = std::move(path),
                     .body_limit_bytes = 0,
                     .content_type = {},
                     .where = Where::worker,
                     .admit = std::move(admit),
                     .handle = std::move(handle)};
    };
    return {
        {.method = "POST",
         .path = "/v1/exchange",
         .body_limit_bytes = exchange_request_limit_bytes,
         .content_type = "application/json",
         .where = Where::worker,
         .admit = client,
         .handle = [&](const Request& request) { return exchange(serving, request); }},
        get("/v1/key", {}, [&](const Request&) { return service::json_response(serving.instance()->service().key().to_json()); }),
        get("/health", {}, [&](const Request&) { return health(serving); }),
        get("/metrics", viewer, [&](const Request&) { return service::text_response(serving.metrics().text(), service::Metrics::content_type); }),
        get("/v1/sessions", viewer, [&](const Request& request) { return sessions(serving, request); }),
        get("/v1/sessions/{id}", viewer, [&](const Request& request) { return one_session(serving, request); }),
        get("/v1/policies", viewer, [&](const Request&) { return policies(serving); }),
        get("/v1/audit/head", viewer, [&](const Request&) { return audit_head(serving); }),
        get("/", viewer, [&](const Request& request) { return overview_response(serving, request); }),
        get("/sessions/{id}", viewer, [&](const Request& request) { return session_page_response(serving, request); }),
        get("/policies/{name}", viewer, [&](const Request& request) { return policy_page_response(serving, request); }),
        get("/advisories", viewer, [&](const Request&) { return page(advisories_page(builtin_advisories())); }),
        get("/style.css", {}, [](const Request&) { return service::text_response(std::string{style_sheet()}, "text/css; charset=utf-8"); }),
    };
}

} // namespace sev::attest::owner
