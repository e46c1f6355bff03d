// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/api.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "launch/daemon/live.hpp"

namespace sev::daemon {
namespace {

using service::Request;
using service::Response;
using service::Route;
using service::Where;

constexpr std::size_t list_limit = 1000;

Response answer(const std::variant<Record, Refusal>& result, unsigned status) {
    if (const auto* refusal = std::get_if<Refusal>(&result)) return service::problem(refusal->status, refusal->detail, refusal->hint);
    const Record& record = std::get<Record>(result);
    Response out = service::json_response(record.to_json(true), status);
    out.headers.emplace_back("Location", fmt::format("/v1/launches/{}", record.id));
    return out;
}

std::optional<std::uint64_t> number(std::string_view text) {
    if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
    std::uint64_t value = 0;
    for (const char c : text) value = value * 10 + static_cast<std::uint64_t>(c - '0');
    return value;
}

std::string_view name(PspHealth::State state) {
    switch (state) {
    case PspHealth::State::answering: return "answering";
    case PspHealth::State::silent: return "silent";
    case PspHealth::State::failing: return "failing";
    }
    return "failing";
}

json::Value asids_json(const launch::AsidPool& pool) {
    json::Value out = json::Value::object();
    for (const auto& [key, es] : {std::pair{"sev_es", true}, {"sev", false}}) {
        const auto half = pool.count(es);
        out[key] = {{"total", half.total},
                    {"in_use", half.in_use()},
                    {"free", half.clean + half.dirty},
                    {"to_be_flushed", half.dirty},
                    {"retired", half.retired}};
    }
    return out;
}

json::Value owners_json(const Configuration& configuration) {
    json::Value out = json::Value::array();
    for (const auto& [owner, about] : configuration.owners)
        out.push_back({{"name", owner},
                       {"key", about.key.thumbprint()},
                       {"channel", std::holds_alternative<Owner::UnixChannel>(about.channel) ? "unix" : "command"},
                       {"deadline_s", about.deadline.count()}});
    return out;
}

/// Who asks without a body or a query gives nothing that could be wrong: what is wrong is this host's, so 500 with the reason, and in the log.
Response answer_of_ours(const std::function<Response(const Request&)>& handle, const Request& request) {
    try {
        return handle(request);
    } catch (const Error& error) {
        if (error.fault() != Fault::usage && error.fault() != Fault::malformed) throw;
        throw Error{Fault::system, error.what(), error.hint()};
    }
}

} // namespace

Api::Api(Parts parts, const Configuration& configuration) : parts_{std::move(parts)}, started_{now()} {
    reconfigure(configuration);
    declare_metrics();
}

void Api::reconfigure(const Configuration& configuration) {
    const std::scoped_lock lock{mutex_};
    writers_ = configuration.writers;
    owners_ = owners_json(configuration);
}

std::optional<Response> Api::may_read(const service::Peer& peer) {
    if (!parts_.readers) return std::nullopt; // the socket's own mode says who may
    const auto* process = peer.process();
    const std::scoped_lock lock{mutex_};
    if (process && (process->uid == 0 || process->uid == ::geteuid() || process->is_in(*parts_.readers) || writers_.contains(process->uid)))
        return std::nullopt;
    return service::problem(403, fmt::format("{} may not look", peer.channel()), "ask as root, or as a member of \"group\" in sevd's configuration");
}

std::optional<Response> Api::may_write(const service::Peer& peer) {
    const auto* process = peer.process();
    const std::scoped_lock lock{mutex_};
    if (process && writers_.contains(process->uid)) return std::nullopt;
    return service::problem(403, fmt::format("{} may look, and may not change anything", peer.channel()),
                            "ask as root, or name the uid under \"writers\" in sevd's configuration");
}

json::Value Api::status() {
    const PspHealth health = parts_.psp.health();
    const auto counts = parts_.launches.counts();
    json::Value psp{{"backend", parts_.psp.backend()},
                    {"title", parts_.backend.title},
                    {"state", name(health.state)},
                    {"detail", health.detail},
                    {"asids", asids_json(parts_.launches.asids())},
                    {"stuck_contexts", counts.stuck}};
    json::Value out{{"format", "xen-sev/sevd-status"},
                    {"version", 1},
                    {"program", parts_.version},
                    {"started", attest::text(started_)},
                    {"level", parts_.backend.level},
                    {"level_text", attest::level_text(parts_.backend.level)},
                    {"emulated", parts_.backend.emulated},
                    {"psp", std::move(psp)},
                    {"launches", {{"active", counts.active}, {"running", counts.running}}},
                    {"journal", {{"state", counts.journal_failing ? "failing" : "ok"}, {"detail", counts.journal_trouble}}}};
    const std::string closed = parts_.launches.closed();
    out["launches"]["admitted"] = closed.empty();
    out["launches"]["why_not"] = closed;
    json::Value kinds = json::Value::array();
    for (const auto& source : parts_.backend.sources)
        kinds.push_back({{"kind", source->kind()}, {"level", std::max(parts_.backend.level, source->level())}});
    out["guests"] = std::move(kinds);
    const std::scoped_lock lock{mutex_};
    out["owners"] = owners_;
    return out;
}

Response Api::platform() {
    const auto evidence = parts_.launches.platform(parts_.backend.level);
    if (!evidence) return service::problem(503, "the PSP does not answer: " + parts_.psp.health().detail, "see GET /v1/status");
    return service::json_response(evidence->to_json());
}

Response Api::certificates() {
    const PspHealth health = parts_.psp.health();
    if (health.state == PspHealth::State::silent) return service::problem(503, "the PSP does not answer: " + health.detail, "see GET /v1/status");
    const psp::Chain chain = launch::platform_chain(parts_.psp, parts_.backend.endorsement); // which a PSP behind Xen gives without the rest
    return service::text_response(std::string{as_text(chain.serialize())}, "application/octet-stream");
}

Response Api::create(const Request& request) { return answer(parts_.launches.create(LaunchRequest::parse(request.body)), 201); }

Response Api::list(const Request& request) {
    std::size_t limit = list_limit;
    std::optional<std::string> name;
    for (const auto& [key, value] : request.query) {
        if (key == "name") {
            name = attest::checked_name(value, "query: name");
        } else if (key == "limit") {
            const auto wanted = number(value);
            if (!wanted || *wanted == 0 || *wanted > list_limit)
                return service::problem(400, fmt::format("query: limit is \"{}\", want 1 to {}", printable(value, 64), list_limit));
            limit = *wanted;
        } else {
            return service::problem(400, fmt::format("query: {} is not known, want name or limit", printable(key, 64)));
        }
    }
    json::Value out = json::Value::array();
    for (const Record& record : parts_.launches.list(limit, name)) out.push_back(record.to_json(false));
    return service::json_response({{"launches", std::move(out)}});
}

Response Api::one(const Request& request) {
    const auto id = number(request.parameters.at("id"));
    const auto record = id ? parts_.launches.find(*id) : std::nullopt;
    if (!record) return service::problem(404, fmt::format("there is no launch {}", printable(request.parameters.at("id"), 64)));
    return service::json_response(record->to_json(true));
}

Response Api::bundle(const Request& request) {
    const auto id = number(request.parameters.at("id"));
    if (!id) return service::problem(404, fmt::format("there is no launch {}", printable(request.parameters.at("id"), 64)));
    const auto found = parts_.launches.bundle(*id, "sevd " + parts_.version);
    if (const auto* refusal = std::get_if<Refusal>(&found)) return service::problem(refusal->status, refusal->detail, refusal->hint);
    return service::text_response(parts_.host_key.sign(std::get<attest::SignedBundle>(found)), "application/jose");
}

Response Api::cancel(const Request& request) {
    const auto id = number(request.parameters.at("id"));
    if (!id) return service::problem(404, fmt::format("there is no launch {}", printable(request.parameters.at("id"), 64)));
    return answer(parts_.launches.cancel(*id), 202);
}

std::vector<Route> Api::routes() {
    const auto readers = [this](const service::Peer& peer) { return may_read(peer); };
    const auto read = [&](const char* path, Where where, std::function<Response(const Request&)> handle) {
        return Route{
            .method = "GET", .path = path, .body_limit_bytes = 0, .content_type = "", .where = where, .admit = readers, .handle = std::move(handle)};
    };
    const auto tell = [&](const char* path, std::function<Response(const Request&)> handle) {
        return read(path, Where::worker, [handle = std::move(handle)](const Request& request) { return answer_of_ours(handle, request); });
    };
    const auto writers = [this](const service::Peer& peer) { return may_write(peer); };
    return {
        tell("/v1/status", [this](const Request&) { return service::json_response(status()); }),
        tell("/v1/platform", [this](const Request&) { return platform(); }),
        tell("/v1/platform/certificates", [this](const Request&) { return certificates(); }),
        read("/v1/launches", Where::worker, [this](const Request& request) { return list(request); }),
        tell("/v1/launches/{id}", [this](const Request& request) { return one(request); }),
        tell("/v1/launches/{id}/bundle", [this](const Request& request) { return bundle(request); }),
        tell("/v1/host-key", [this](const Request&) { return service::json_response(parts_.host_key.public_key().to_json()); }),
        Route{.method = "POST",
              .path = "/v1/launches",
              .body_limit_bytes = LaunchRequest::limit_bytes,
              .content_type = "application/json",
              .where = Where::worker_apart,
              .admit = writers,
              .handle = [this](const Request& request) { return create(request); }},
        Route{.method = "DELETE",
              .path = "/v1/launches/{id}",
              .body_limit_bytes = 0,
              .content_type = "",
              .where = Where::worker_apart,
              .admit = writers,
              .handle = [this](const Request& request) { return cancel(request); }},
        read("/v1/events", Where::io_thread,
             [this](const Request& request) {
                 Response out;
                 out.content_type = "text/event-stream";
                 out.events = parts_.events.subscribe(number(request.last_event_id));
                 return out;
             }),
        read("/v1/openapi.json", Where::io_thread,
             [](const Request&) { return service::text_response(std::string{openapi_json()}, "application/json"); }),
        tell("/metrics", [this](const Request&) { return service::text_response(metrics_.text(), service::Metrics::content_type); }),
    };
}

void Api::declare_metrics() {
    metrics_.declare_gauge("sevd_launches", "Launches that have not ended, by whether the guest runs.");
    metrics_.declare_counter("sevd_launches_ended_total", "Launches that ended in this run of the daemon, by state.");
    metrics_.declare_gauge("sevd_asids", "ASIDs by pool and use.");
    metrics_.declare_gauge("sevd_stuck_contexts", "Guest contexts that the PSP would not let go of.");
    metrics_.declare_gauge("sevd_psp_answering", "1 while the PSP answers and does not fail.");
    metrics_.declare_counter("sevd_psp_commands_total", "Commands given to the PSP, by outcome.");
    metrics_.declare_counter("sevd_psp_busy_seconds_total", "Time the PSP spent on commands.");
    metrics_.declare_gauge("sevd_journal_writable", "1 while the journal can be written.");
    metrics_.declare_gauge("sevd_event_listeners", "Open event streams.");
    metrics_.on_collect([this](service::Metrics& metrics) {
        const auto counts = parts_.launches.counts();
        metrics.set("sevd_launches", static_cast<double>(counts.running), {{"running", "yes"}});
        metrics.set("sevd_launches", static_cast<double>(counts.active - counts.running), {{"running", "no"}});
        for (const State state : {State::refused, State::failed, State::cancelled, State::destroyed}) {
            const auto found = counts.ended.find(std::string{daemon::name(state)});
            metrics.set_counter("sevd_launches_ended_total", found == counts.ended.end() ? 0.0 : static_cast<double>(found->second),
                                {{"state", std::string{daemon::name(state)}}});
        }
        for (const auto& [pool, es] : {std::pair{"sev_es", true}, {"sev", false}}) {
            const auto half = parts_.launches.asids().count(es);
            metrics.set("sevd_asids", static_cast<double>(half.in_use()), {{"pool", pool}, {"use", "in_use"}});
            metrics.set("sevd_asids", static_cast<double>(half.clean + half.dirty), {{"pool", pool}, {"use", "free"}});
            metrics.set("sevd_asids", static_cast<double>(half.retired), {{"pool", pool}, {"use", "retired"}});
        }
        metrics.set("sevd_stuck_contexts", static_cast<double>(counts.stuck));
        metrics.set("sevd_psp_answering", parts_.psp.health().state == PspHealth::State::answering ? 1 : 0);
        const auto psp = parts_.psp.counts();
        metrics.set_counter("sevd_psp_commands_total", static_cast<double>(psp.commands - psp.refused - psp.unanswered), {{"outcome", "success"}});
        metrics.set_counter("sevd_psp_commands_total", static_cast<double>(psp.refused), {{"outcome", "refused"}});
        metrics.set_counter("sevd_psp_commands_total", static_cast<double>(psp.unanswered), {{"outcome", "unanswered"}});
        metrics.set_counter("sevd_psp_busy_seconds_total", psp.busy_seconds);
        metrics.set("sevd_journal_writable", counts.journal_failing ? 0 : 1);
        metrics.set("sevd_event_listeners", static_cast<double>(parts_.events.listeners()));
    });
}

} // namespace sev::daemon
