// SPDX-License-Identifier: Apache-2.0
#include "libxl-hooks/sev_hooks.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "base/client/unix_client.hpp"
#include "base/error.hpp"
#include "base/json.hpp"

namespace {

using namespace sev;

constexpr const char* default_socket = "/run/xen-sev/sevd.sock";
constexpr std::size_t answer_limit = 8U << 20;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds question_deadline{30'000}, shortest_deadline{1'000}, pause_between{100};
constexpr std::chrono::seconds calling_off{15};
constexpr std::uint32_t longest_s = 24 * 3600, last_domid = 0x7FEF;
constexpr std::size_t reason_limit = 1024;

char* copy(const std::string& text) {
    char* const out = ::strdup(text.c_str());
    if (!out) throw std::bad_alloc{};
    return out;
}

/// An empty text is none.
void set(char*& to, const std::string& text) {
    char* const fresh = text.empty() ? nullptr : copy(text);
    std::free(to);
    to = fresh;
}

/// Runs `body`; whatever leaves it becomes a code, with its text in the result.
template <class Body>
int guarded(sev_result* result, Body&& body) noexcept {
    try {
        try {
            return body();
        } catch (const Error& error) {
            set(result->reason, printable(error.what(), reason_limit));
            return error.fault() == Fault::usage ? SEV_ERROR_USAGE : SEV_ERROR_DAEMON;
        }
    } catch (const std::bad_alloc&) {
        return SEV_ERROR_MEMORY;
    } catch (const std::exception&) {
        return SEV_ERROR_DAEMON;
    }
}

constexpr unsigned absent = 404, conflict = 409, too_many = 429;
bool good(const client::Answer& answer) { return answer.status >= 200 && answer.status <= 299; }
/// Whether the same question may have another answer soon: sevd has no place, or is about to be there again.
bool passing(const client::Answer& answer) { return answer.status == too_many || answer.status >= 500; }

json::Value answered(const client::Answer& answer) {
    if (!good(answer)) throw Error{Fault::system, fmt::format("sevd: {}", client::problem_of(answer).detail)};
    return json::parse(answer.body, "sevd's answer", {.bytes = answer_limit, .depth = 24});
}

/// sevd, asked until a time.
class Sevd {
public:
    Sevd(const char* socket, Clock::time_point end) : client_{socket ? socket : default_socket}, end_{end} {}
    client::Answer ask(const client::Question& question) const {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end_ - Clock::now());
        return client_.ask(question, answer_limit, std::clamp(left, shortest_deadline, question_deadline));
    }
    /// What `read` makes of an answer, asked again and again until that is something. A question without an answer, or whose answer is passing,
    /// is asked again too. nullopt when the time is over, with what was wrong last in `trouble`. Throws what `read` throws, and Error for a
    /// question that cannot be asked.
    template <class Read>
    auto ask_until(const client::Question& question, std::string& trouble, Read&& read) const -> decltype(read(client::Answer{})) {
        for (;;) {
            try {
                const client::Answer answer = ask(question);
                trouble = passing(answer) ? fmt::format("sevd: {}", client::problem_of(answer).detail) : "";
                if (trouble.empty())
                    if (auto out = read(answer)) return out;
            } catch (const Error& error) {
                if (error.fault() != Fault::network) throw; // nobody there, or half an answer
                trouble = error.what();
            }
            if (Clock::now() >= end_) return std::nullopt;
            std::this_thread::sleep_for(pause_between);
        }
    }

private:
    client::UnixClient client_;
    Clock::time_point end_;
};

/// Reads what a launch or the status says of itself. Keys of newer daemons are passed over: nothing is decided by them.
std::string text_of(const json::Value& value, const char* key) {
    return value.contains(key) && value[key].is_string() ? printable(value[key].get<std::string>(), reason_limit) : std::string{};
}
std::uint64_t number_of(const json::Value& value, const char* key) {
    if (!value.is_object() || !value.contains(key) || !value[key].is_number_unsigned())
        throw Error{Fault::malformed, fmt::format("sevd's answer: {} is missing, want a number", key)};
    return value[key].get<std::uint64_t>();
}
void take(sev_result& result, const json::Value& value) {
    result.level = static_cast<std::uint32_t>(std::min<std::uint64_t>(number_of(value, "level"), 5));
    result.emulated = !value.contains("emulated") || value["emulated"] != false; // unless it is said not to be
    set(result.state, text_of(value, "state"));
    set(result.reason, text_of(value, "reason"));
}

/// The level that a Xen domain is launched at, which is not that of the PSP. Throws Error when this sevd launches none.
std::uint32_t level_for_domains(const json::Value& status) {
    if (status.contains("guests") && status["guests"].is_array())
        for (const json::Value& guest : status["guests"])
            if (guest.is_object() && text_of(guest, "kind") == "xen")
                return static_cast<std::uint32_t>(std::min<std::uint64_t>(number_of(guest, "level"), 5));
    throw Error{Fault::system, "sevd launches no Xen domains: its configuration has no \"xen\""};
}

json::Value body_of(const sev_request& request) {
    const auto given = [](const char* text) { return text && *text; };
    if (!given(request.name) || !given(request.owner) || !given(request.policy)) throw Error{Fault::usage, "request: want name, owner and policy"};
    if ((request.domid != 0) == given(request.xl_cfg)) throw Error{Fault::usage, "request: want exactly one of domid and xl_cfg"};
    if (request.domid > last_domid) throw Error{Fault::usage, fmt::format("request: domid is {}, want 1 to {}", request.domid, last_domid)};
    if (given(request.xl_cfg) && request.xl_cfg[0] != '/') throw Error{Fault::usage, "request: xl_cfg is no absolute path"};
    if (request.timeout_s == 0 || request.timeout_s > longest_s)
        throw Error{Fault::usage, fmt::format("request: timeout_s is {}, want 1 to {}", request.timeout_s, longest_s)};
    if (request.domid == 0 && (given(request.uuid) || request.leave_paused != 0))
        throw Error{Fault::usage, "request: uuid and leave_paused go with domid"};
    json::Value guest{{"kind", "xen"}};
    if (request.domid != 0) guest["domid"] = request.domid;
    else guest["xl_cfg"] = request.xl_cfg;
    if (given(request.uuid)) guest["uuid"] = request.uuid;
    if (request.leave_paused != 0) guest["unpause"] = false;
    return {{"name", request.name}, {"owner", request.owner}, {"policy", request.policy}, {"guest", std::move(guest)}, {"evidence", "measurement"}};
}

/// The newest launch of this name, as sevd's list shows it; nullopt: there is none.
std::optional<json::Value> newest(const Sevd& sevd, std::string_view name) {
    std::string target = "/v1/launches?name=";
    for (const char c : name) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        target += plain ? std::string{c} : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    const json::Value list = answered(sevd.ask({.target = target + "&limit=1"}));
    if (!list.is_object() || !list.contains("launches") || !list["launches"].is_array())
        throw Error{Fault::malformed, "sevd's answer: launches is missing, want a list"};
    if (list["launches"].empty()) return std::nullopt;
    return list["launches"][0];
}

/// Asks for the launch; its number. An answer that is lost on its way does not mean that nothing was admitted: then sevd's list tells.
std::uint64_t admitted(const Sevd& sevd, const json::Value& body, sev_result& result) {
    const auto name = body.at("name").get_ref<const std::string&>();
    const auto before = newest(sevd, name); // also: whether anybody is there at all
    const std::uint64_t last = before ? number_of(*before, "id") : 0;
    result.unsettled = 1;
    try {
        const client::Answer answer =
            sevd.ask({.method = "POST", .target = "/v1/launches", .content_type = "application/json", .body = body.dump()});
        if (!good(answer)) result.unsettled = 0; // a refusal: nothing was begun
        return number_of(answered(answer), "id");
    } catch (const Error& error) {
        if (error.fault() != Fault::network) throw;
        const std::string trouble = error.what();
        try {
            const auto now = newest(sevd, name);
            if (now && number_of(*now, "id") > last && now->contains("guest") && now->at("guest") == body.at("guest")) return number_of(*now, "id");
        } catch (const Error&) {
            // what it says is the same, or less
        }
        throw Error{Fault::network, fmt::format("{}; whether it has admitted the launch is not known", trouble)};
    }
}

bool ended_undecided(std::string_view state) { return state == "failed" || state == "cancelled" || state == "destroyed"; }

/// Calls the launch off because of `why`: what is not decided must not run later. `code`, unless the owner had said no meanwhile.
int call_off(const sev_request& request, const std::string& target, int code, const std::string& why, sev_result& result) {
    const Sevd sevd{request.socket, Clock::now() + calling_off};
    std::string trouble, outcome;
    try {
        const auto told = sevd.ask_until({.method = "DELETE", .target = target}, trouble, [](const client::Answer& answer) {
            if (answer.status != absent && answer.status != conflict) answered(answer);
            return std::optional{answer.status};
        });
        if (told) {
            result.unsettled = 0; // sevd ends it, or it has ended, or sevd has nothing of it
            outcome = "called off";
            const auto state = sevd.ask_until({.target = target}, trouble, [&](const client::Answer& answer) -> std::optional<std::string> {
                if (answer.status == absent) return "not known to sevd";
                const json::Value now = answered(answer);
                const std::string found = text_of(now, "state");
                if (found != "refused" && !ended_undecided(found)) return std::nullopt;
                take(result, now);
                return found;
            });
            if (state == "refused") return SEV_NOT_TRUSTED;
            outcome += state ? fmt::format(" ({})", *state) : ", and has not ended yet";
        }
    } catch (const Error& error) {
        trouble = error.what();
    }
    if (outcome.empty()) outcome = fmt::format("cannot be called off ({}), and may run later", trouble);
    set(result.reason, printable(fmt::format("{}; {}", why, outcome), reason_limit));
    return code;
}

int launch(const sev_request& request, sev_result& result) {
    const json::Value body = body_of(request);
    const Sevd sevd{request.socket, Clock::now() + std::chrono::seconds{request.timeout_s}};
    result.id = admitted(sevd, body, result);
    const std::string target = fmt::format("/v1/launches/{}", result.id);
    std::string trouble;
    try {
        const auto decided = sevd.ask_until({.target = target}, trouble, [&](const client::Answer& answer) -> std::optional<int> {
            const json::Value now = answered(answer);
            take(result, now);
            const std::string state = text_of(now, "state");
            if (state == "running") return SEV_OK;
            if (state == "refused") return SEV_NOT_TRUSTED;
            if (ended_undecided(state)) return SEV_ERROR_DAEMON;
            return std::nullopt;
        });
        if (decided) {
            result.unsettled = 0;
            return *decided;
        }
    } catch (const Error& error) {
        return call_off(request, target, SEV_ERROR_DAEMON, error.what(), result);
    }
    const std::string last = trouble.empty() ? (result.state ? result.state : "") : trouble;
    return call_off(request, target, SEV_ERROR_TIME, fmt::format("{} after {} s", last, request.timeout_s), result);
}

} // namespace

extern "C" {

__attribute__((visibility("default"))) void sev_request_init(sev_request* request) {
    *request = {};
    request->timeout_s = 600;
}

__attribute__((visibility("default"))) void sev_request_dispose(sev_request* request) {
    for (char* text : {request->socket, request->name, request->owner, request->policy, request->xl_cfg, request->uuid}) std::free(text);
    sev_request_init(request);
}

__attribute__((visibility("default"))) void sev_result_init(sev_result* result) { *result = {}; }

__attribute__((visibility("default"))) void sev_result_dispose(sev_result* result) {
    std::free(result->state);
    std::free(result->reason);
    sev_result_init(result);
}

__attribute__((visibility("default"))) int sev_launch(const sev_request* request, sev_result* result) {
    if (!request || !result) return SEV_ERROR_USAGE;
    sev_result_dispose(result); // of an earlier one
    return guarded(result, [&] { return launch(*request, *result); });
}

__attribute__((visibility("default"))) int sev_check(const char* socket, sev_result* result) {
    if (!result) return SEV_ERROR_USAGE;
    return guarded(result, [&] {
        const json::Value status = answered(Sevd{socket, Clock::now() + question_deadline}.ask({.target = "/v1/status"}));
        take(*result, status);
        result->level = level_for_domains(status);
        return SEV_OK;
    });
}

__attribute__((visibility("default"))) const char* sev_code_text(int code) {
    switch (code) {
    case SEV_OK: return "attested";
    case SEV_NOT_TRUSTED: return "not trusted";
    case SEV_ERROR_USAGE: return "not a good request";
    case SEV_ERROR_DAEMON: return "sevd failed or did not answer";
    case SEV_ERROR_TIME: return "not decided in time";
    case SEV_ERROR_MEMORY: return "out of memory";
    default: return "no code of sev_hooks";
    }
}
}
