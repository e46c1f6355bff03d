// SPDX-License-Identifier: Apache-2.0
// `sevctl owner …`: what a guest owner's service on this machine says of itself and of its sessions. Changing anything is sev-owner's own command
// line.
#include <array>

#include <fmt/format.h>

#include "attest/protocol/jws.hpp"
#include "attest/protocol/verdict.hpp"
#include "base/error.hpp"
#include "sevctl/answers.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/service.hpp"

namespace sev::cli {
namespace {

constexpr std::size_t columns = 80;
constexpr const char* default_owner_socket = "/run/xen-sev-owner/owner.sock";
constexpr Argument socket_option{
    .name = "--socket", .kind = Kind::path, .metavar = "PATH", .help = "Where sev-owner listens. Default: /run/xen-sev-owner/owner.sock."};

constexpr std::array status_arguments{socket_option, json_option};
constexpr std::array sessions_arguments{
    Argument{.name = "--state",
             .kind = Kind::choice,
             .metavar = "STATE",
             .help = "Only those in this state.",
             .choices = "open|taken|trusted|not-trusted|troubled|expired|refused"},
    Argument{.name = "--limit", .kind = Kind::number, .metavar = "N", .help = "At most this many, the newest: 1 to 1000. Default: 50."},
    socket_option,
    json_option,
};
constexpr std::array session_arguments{
    Argument{.name = "SESSION",
             .metavar = "SESSION",
             .help = "The session's id: 32 hex digits, as the list and sevctl launches show it.",
             .required = true},
    socket_option,
    json_option,
};

Service owner_of(const Arguments& given) { return {"sev-owner", given.text_if("--socket").value_or(default_owner_socket)}; }

json::Value must(std::optional<json::Value> answer, std::string_view what) {
    if (!answer) throw Error{Fault::network, fmt::format("sev-owner: has no {}", what), "is it a sev-owner that listens there?"};
    return *std::move(answer);
}

std::string word(const json::Value& object, std::string_view key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    return found != object.end() && found->is_string() ? printable(found->get<std::string>(), 4096) : std::string{};
}

Answer status(const Arguments& given, Console& console) {
    const Service owner = owner_of(given);
    const json::Value key_json = must(owner.get("/v1/key"), "key");
    const auto key = attest::OwnerKey::from_json(key_json, "sev-owner's key");
    const json::Value policies = must(owner.get("/v1/policies"), "list of policies");
    checked_policies(policies);
    const json::Value audit = must(owner.get("/v1/audit/head"), "audit log");
    checked_audit_head(audit);
    if (console.json()) {
        json::Value out = result_of(given);
        out["key"] = key.to_json();
        out["policies"] = policies.at("policies");
        out["audit"] = {{"records", audit.at("records")}, {"head", audit.at("head")}};
        console.print(out);
        return Answer::yes;
    }
    console.print(fmt::format("key         {} (what sevd must pin)\n", key.thumbprint()));
    console.print(
        wrapped("audit log   ", fmt::format("{} records, head {}", audit.at("records").get<std::uint64_t>(), word(audit, "head")), 12, columns));
    for (const json::Value& policy : policies.at("policies")) {
        const std::string problem = word(policy, "problem");
        console.print(wrapped(fmt::format("policy      {}: ", word(policy, "name")),
                              problem.empty() ? fmt::format("of {}, {} reference values", word(policy, "owner"), policy.at("references").size())
                                              : "CANNOT JUDGE: " + problem,
                              14, columns));
    }
    return Answer::yes;
}

Answer sessions(const Arguments& given, Console& console) {
    std::string target = fmt::format("/v1/sessions?limit={}", given.number_if("--limit", 1, 1000).value_or(50));
    if (const auto state = given.text_if("--state")) target += "&state=" + *state;
    const json::Value answer = must(owner_of(given).get(target), "list of sessions");
    const json::Value& list = checked_sessions(answer).at("sessions");
    if (console.json()) {
        json::Value out = result_of(given);
        out["sessions"] = list;
        console.print(out);
        return Answer::yes;
    }
    if (list.empty()) console.print("no sessions\n");
    for (const json::Value& one : list)
        console.print(wrapped(fmt::format("{} {:<11} ", word(one, "id"), word(one, "state")),
                              fmt::format("\"{}\" by policy {}, {}", word(one, "launch_name"), word(one, "policy"), word(one, "created_at")), 45,
                              columns));
    return Answer::yes;
}

Answer session(const Arguments& given, Console& console) {
    const auto id = hex(unhex<16>(given.text("SESSION"), "SESSION"));
    const auto answer = owner_of(given).get("/v1/sessions/" + id);
    if (!answer) throw Error{Fault::usage, fmt::format("sev-owner knows no session {}", id), "see: sevctl owner sessions"};
    const json::Value& facts = checked_session(*answer).at("session");
    if (word(facts, "id") != id) throw Error{Fault::malformed, fmt::format("sev-owner's answer: session: id is {}, want {}", word(facts, "id"), id)};
    if (console.json()) {
        json::Value out = result_of(given);
        for (const char* const key : {"session", "platform", "result", "attestation_result"})
            if (answer->contains(key)) out[key] = answer->at(key);
        console.print(out);
    } else {
        for (const auto& [key, value] : facts.items())
            if (value.is_string()) console.print(wrapped(fmt::format("{:<12}", printable(key, 32)), value.get<std::string>(), 12, columns));
        if (answer->contains("result") && answer->at("result").contains("format"))
            console.print("\n" + attest::render(attest::Verdict::from_json(answer->at("result"), "verdict"), columns));
    }
    return word(facts, "state") == "trusted" ? Answer::yes : Answer::no;
}

} // namespace

const Command owner_status_command{
    .name = "owner status",
    .summary = "show a guest owner's service on this machine: key, policies, audit log",
    .text = "Asks a sev-owner on its Unix socket, as one of the viewers that its configuration names. The key's thumbprint is what a host's sevd "
            "must have pinned.",
    .example = "sevctl owner status --socket /run/xen-sev-owner/owner.sock",
    .arguments = status_arguments,
    .run = status,
};

const Command owner_sessions_command{
    .name = "owner sessions",
    .summary = "list a guest owner's sessions and what became of them",
    .text = "The newest first. A session is open until its evidence comes or it expires, and good once.",
    .example = "sevctl owner sessions --state not-trusted",
    .arguments = sessions_arguments,
    .run = sessions,
};

const Command owner_session_command{
    .name = "owner session",
    .summary = "show one session: platform, and the verdict with every check",
    .text = "Exit status 0 means that the session ended in a trusted verdict, 1 that it did not.",
    .example = "sevctl owner session 00112233445566778899aabbccddeeff",
    .arguments = session_arguments,
    .run = session,
};

} // namespace sev::cli
