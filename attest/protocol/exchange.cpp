// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/exchange.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t policy_name_limit_bytes = 64, trouble_limit_bytes = 1024, check_limit = 256, detail_limit_bytes = 4096;
constexpr std::size_t attestation_result_limit_bytes = 256 * 1024;

bool name_character(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-'; }

/// A host keeps this of an answer, for every launch: no more than so much in all, however it is spread over checks.
void hold_to_verdict_limit(const json::Value& value, const std::string& what) {
    if (const std::size_t size = value.dump().size(); size > Verdict::limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, want at most {}", what, size, Verdict::limit_bytes)};
}

PlatformRefusal refusal_from_json(const json::Value& value, const std::string& what) {
    hold_to_verdict_limit(value, what);
    json::Object object{value, what};
    PlatformRefusal out{.launch_name = checked_name(object.string("launch_name"), what + ": launch_name"), .checks = {}};
    const json::Value& checks = object.array("checks", check_limit);
    for (std::size_t i = 0; i < checks.size(); ++i) {
        json::Object check{checks[i], fmt::format("{}: checks[{}]", what, i)};
        out.checks.push_back({.check = checked_name(check.string("check"), check.what() + ": check"),
                              .passed = check.boolean("passed"),
                              .detail = checked_text(check, "detail", detail_limit_bytes)});
        check.done();
    }
    object.done();
    if (psp::all_passed(out.checks)) object.refuse("checks", "all passed, want at least one that failed");
    return out;
}

json::Value to_json(const PlatformRefusal& refusal) {
    json::Value checks = json::Value::array();
    for (const psp::Check& check : refusal.checks) checks.push_back({{"check", check.check}, {"passed", check.passed}, {"detail", check.detail}});
    return {{"launch_name", refusal.launch_name}, {"checks", std::move(checks)}};
}

JudgementAnswer judgement_from_json(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    hold_to_verdict_limit(object.at("verdict"), what + ": verdict");
    JudgementAnswer out{.verdict = Verdict::from_json(object.at("verdict"), what + ": verdict"), .packets = {}, .attestation_result = {}};
    const json::Value& packets = object.array("packets", JudgementAnswer::packet_limit);
    for (std::size_t i = 0; i < packets.size(); ++i)
        out.packets.push_back(SecretPacketMessage::from_json(packets[i], fmt::format("{}: packets[{}]", what, i)));
    if (object.has("attestation_result")) out.attestation_result = checked_text(object, "attestation_result", attestation_result_limit_bytes);
    object.done();
    if (!out.verdict.trusted() && !out.packets.empty())
        object.refuse("packets", fmt::format("has {}, and the verdict is not trusted", out.packets.size()));
    for (const SecretPacketMessage& packet : out.packets)
        if (packet.session_id != out.verdict.session_id) object.refuse("packets", "are of another session than the verdict");
    return out;
}

json::Value to_json(const JudgementAnswer& judgement) {
    json::Value packets = json::Value::array();
    for (const SecretPacketMessage& packet : judgement.packets) packets.push_back(packet.to_json());
    json::Value out{{"verdict", judgement.verdict.to_json()}, {"packets", std::move(packets)}};
    if (!judgement.attestation_result.empty()) out["attestation_result"] = judgement.attestation_result;
    return out;
}

ExchangeTrouble trouble_from_json(const json::Value& value, const std::string& what) {
    json::Object object{value, what};
    ExchangeTrouble out{.message = checked_text(object, "message", trouble_limit_bytes), .retry = object.boolean("retry")};
    object.done();
    return out;
}

struct BodyJson {
    json::Value& out;
    void operator()(const SessionOffer& offer) const { out["offer"] = offer.to_json(); }
    void operator()(const PlatformRefusal& refusal) const { out["refusal"] = to_json(refusal); }
    void operator()(const JudgementAnswer& judgement) const { out["judgement"] = to_json(judgement); }
    void operator()(const ExchangeTrouble& trouble) const { out["trouble"] = {{"message", trouble.message}, {"retry", trouble.retry}}; }
};

[[noreturn]] void refuse_answer(std::string_view problem) { throw Error{Fault::malformed, fmt::format("owner's answer: {}", problem)}; }

void expect_launch(std::string_view found, std::string_view want) {
    if (found != want) refuse_answer(fmt::format("is for launch \"{}\", want \"{}\"", printable(found), printable(want)));
}

struct Fits {
    const ExchangeAnswer& answer;
    void operator()(const SessionRequest& request) const {
        if (const auto* offer = std::get_if<SessionOffer>(&answer.body)) return expect_launch(offer->launch_name, request.launch_name);
        if (const auto* refusal = std::get_if<PlatformRefusal>(&answer.body)) return expect_launch(refusal->launch_name, request.launch_name);
        if (std::holds_alternative<JudgementAnswer>(answer.body)) refuse_answer("is a judgement, want an offer: no launch was shown yet");
    }
    void operator()(const JudgementRequest& request) const {
        if (const auto* judgement = std::get_if<JudgementAnswer>(&answer.body)) {
            expect_launch(judgement->verdict.launch_name, request.launch.launch_name);
            if (judgement->verdict.session_id != request.launch.session_id) refuse_answer("the verdict is of another session");
            if (judgement->verdict.evidence != request.launch.kind()) refuse_answer("the verdict is on another kind of evidence");
            return;
        }
        if (!std::holds_alternative<ExchangeTrouble>(answer.body)) refuse_answer("is an answer to a session request, want a judgement");
    }
};

} // namespace

std::string checked_policy_name(std::string name, std::string_view what) {
    if (name.empty() || name.size() > policy_name_limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, want 1 to {}", what, name.size(), policy_name_limit_bytes)};
    if (name.front() == '.' || !std::ranges::all_of(name, name_character))
        throw Error{Fault::malformed, fmt::format("{}: \"{}\" is no policy name, want letters, digits, \".\", \"_\", \"-\", and no dot in front",
                                                  what, printable(name))};
    return name;
}

SessionRequest SessionRequest::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    SessionRequest out;
    out.nonce = object.hex<16>("nonce");
    out.launch_name = checked_name(object.string("launch_name"), object.what() + ": launch_name");
    out.policy = checked_policy_name(object.string("policy"), object.what() + ": policy");
    out.platform = PlatformEvidence::from_json(object.at("platform"), object.what() + ": platform");
    object.done();
    return out;
}

json::Value SessionRequest::to_json() const {
    json::Value out = with_format(format, version);
    out["nonce"] = hex(nonce);
    out["launch_name"] = launch_name;
    out["policy"] = policy;
    out["platform"] = platform.to_json();
    return out;
}

JudgementRequest JudgementRequest::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    JudgementRequest out;
    out.nonce = object.hex<16>("nonce");
    out.launch = LaunchEvidence::from_json(object.at("launch"), object.what() + ": launch");
    object.done();
    return out;
}

json::Value JudgementRequest::to_json() const {
    json::Value out = with_format(format, version);
    out["nonce"] = hex(nonce);
    out["launch"] = launch.to_json();
    return out;
}

ExchangeRequest read_exchange_request(std::string_view text, std::string_view what) {
    const json::Value value = json::parse(text, what, {.bytes = exchange_request_limit_bytes, .depth = 16});
    json::Object object{value, std::string{what}};
    const std::string format = object.string("format", 128);
    if (format == SessionRequest::format) {
        if (text.size() > SessionRequest::limit_bytes)
            throw Error{Fault::malformed, fmt::format("{}: {} bytes, want at most {}", what, text.size(), SessionRequest::limit_bytes)};
        return SessionRequest::from_json(value, what);
    }
    if (format == JudgementRequest::format) return JudgementRequest::from_json(value, what);
    object.refuse("format", fmt::format("is \"{}\", want \"{}\" or \"{}\"", printable(format), SessionRequest::format, JudgementRequest::format));
}

ExchangeAnswer ExchangeAnswer::from_json(const json::Value& value, std::string_view what) {
    json::Object object{value, std::string{what}};
    expect_format(object, format, version);
    ExchangeAnswer out;
    out.request = object.hex<32>("request");
    out.answered_at = parse_time(object.string("answered_at", 64), object.what() + ": answered_at");
    unsigned bodies = 0;
    const auto take = [&](std::string_view key, auto&& read) {
        if (!object.has(key)) return;
        out.body = read(object.at(key), fmt::format("{}: {}", what, key));
        ++bodies;
    };
    take("offer", [](const json::Value& v, const std::string& w) { return SessionOffer::from_json(v, w); });
    take("refusal", refusal_from_json);
    take("judgement", judgement_from_json);
    take("trouble", trouble_from_json);
    object.done();
    if (bodies != 1)
        throw Error{Fault::malformed, fmt::format("{}: has {} of offer, refusal, judgement and trouble, want exactly one", what, bodies)};
    return out;
}

json::Value ExchangeAnswer::to_json() const {
    json::Value out = with_format(format, version);
    out["request"] = hex(request);
    out["answered_at"] = text(answered_at);
    std::visit(BodyJson{out}, body);
    return out;
}

ExchangeAnswer open_answer(std::string_view wire, std::string_view request_text, const OwnerKey& owner) {
    if (wire.size() > ExchangeAnswer::wire_limit_bytes)
        refuse_answer(fmt::format("{} bytes, want at most {}", wire.size(), ExchangeAnswer::wire_limit_bytes));
    const auto answer = read_message<ExchangeAnswer>(verify_jws(wire, owner, ExchangeAnswer::jws_type, "owner's answer"), "owner's answer");
    if (answer.request != sha256(as_bytes(request_text))) refuse_answer("is to another request than the one that was sent");
    std::visit(Fits{answer}, read_exchange_request(request_text, "own request"));
    return answer;
}

} // namespace sev::attest
