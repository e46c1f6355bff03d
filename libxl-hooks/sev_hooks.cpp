// SPDX-License-Identifier: Apache-2.0
#include "libxl-hooks/sev_hooks.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include <fmt/format.h>

#include "base/client/unix_client.hpp"
#include "base/error.hpp"
#include "base/json.hpp"

namespace {

using namespace sev;

constexpr const char* default_socket = "/run/xen-sev/sevd.sock";
constexpr std::size_t answer_limit = 8U << 20;
constexpr std::chrono::milliseconds question_deadline{30'000}, pause_between{100};
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

json::Value answered(const client::Answer& answer) {
    if (answer.status < 200 || answer.status > 299) {
        const client::Problem problem = client::problem_of(answer);
        throw Error{Fault::network, fmt::format("sevd: {}", problem.detail)};
    }
    return json::parse(answer.body, "sevd's answer", {.bytes = answer_limit, .depth = 24});
}

/// Reads what a launch or the status says of itself. Keys of newer daemons are passed over: nothing is decided by them.
std::string text_of(const json::Value& value, const char* key) {
    return value.contains(key) && value[key].is_string() ? printable(value[key].get<std::string>(), reason_limit) : std::string{};
}
std::uint64_t number_of(const json::Value& value, const char* key) {
    if (!value.is_object() || !value.contains(key) || !value[key].is_number_unsigned())
        throw Error{Fault::network, fmt::format("sevd's answer: {} is missing, want a number", key)};
    return value[key].get<std::uint64_t>();
}
void take(sev_result& result, const json::Value& value) {
    result.level = static_cast<std::uint32_t>(std::min<std::uint64_t>(number_of(value, "level"), 5));
    result.emulated = !value.contains("emulated") || value["emulated"] != false; // unless it is said not to be
    set(result.state, text_of(value, "state"));
    set(result.reason, text_of(value, "reason"));
}

json::Value body_of(const sev_request& request) {
    const auto given = [](const char* text) { return text && *text; };
    if (!given(request.name) || !given(request.owner) || !given(request.policy)) throw Error{Fault::usage, "request: want name, owner and policy"};
    if ((request.domid != 0) == given(request.xl_cfg)) throw Error{Fault::usage, "request: want exactly one of domid and xl_cfg"};
    if (request.domid > last_domid) throw Error{Fault::usage, fmt::format("request: domid is {}, want 1 to {}", request.domid, last_domid)};
    if (given(request.xl_cfg) && request.xl_cfg[0] != '/') throw Error{Fault::usage, "request: xl_cfg is no absolute path"};
    if (request.timeout_s == 0 || request.timeout_s > longest_s)
        throw Error{Fault::usage, fmt::format("request: timeout_s is {}, want 1 to {}", request.timeout_s, longest_s)};
    json::Value guest{{"kind", "xen"}};
    if (request.domid != 0) guest["domid"] = request.domid;
    else guest["xl_cfg"] = request.xl_cfg;
    return {{"name", request.name}, {"owner", request.owner}, {"policy", request.policy}, {"guest", std::move(guest)}, {"evidence", "measurement"}};
}

int launch(const sev_request& request, sev_result& result) {
    const json::Value body = body_of(request);
    const client::UnixClient sevd{request.socket ? request.socket : default_socket};
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{request.timeout_s};
    const json::Value accepted = answered(sevd.ask(
        {.method = "POST", .target = "/v1/launches", .content_type = "application/json", .body = body.dump()}, answer_limit, question_deadline));
    result.id = number_of(accepted, "id");
    const std::string target = fmt::format("/v1/launches/{}", result.id);
    for (;;) {
        const json::Value now = answered(sevd.ask({.target = target}, answer_limit, question_deadline));
        take(result, now);
        const std::string state = text_of(now, "state");
        if (state == "running") return SEV_OK;
        if (state == "refused") return SEV_NOT_TRUSTED;
        if (state == "failed" || state == "cancelled" || state == "destroyed") return SEV_ERROR_DAEMON;
        if (std::chrono::steady_clock::now() >= end) {
            (void)sevd.ask({.method = "DELETE", .target = target}, answer_limit, question_deadline); // what is not decided must not run later
            set(result.reason, fmt::format("{} after {} s; called off", state, request.timeout_s));
            return SEV_ERROR_TIME;
        }
        std::this_thread::sleep_for(pause_between);
    }
}

} // namespace

extern "C" {

__attribute__((visibility("default"))) void sev_request_init(sev_request* request) {
    *request = {};
    request->timeout_s = 600;
}

__attribute__((visibility("default"))) void sev_request_dispose(sev_request* request) {
    for (char* text : {request->socket, request->name, request->owner, request->policy, request->xl_cfg}) std::free(text);
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
    return guarded(result, [&] { return launch(*request, *result); });
}

__attribute__((visibility("default"))) int sev_check(const char* socket, sev_result* result) {
    if (!result) return SEV_ERROR_USAGE;
    return guarded(result, [&] {
        take(*result, answered(client::UnixClient{socket ? socket : default_socket}.ask({.target = "/v1/status"}, answer_limit, question_deadline)));
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
