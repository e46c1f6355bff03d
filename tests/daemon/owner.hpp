// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <map>
#include <mutex>
#include <thread>

#include "attest/judge.hpp"
#include "attest/protocol/exchange.hpp"
#include "attest/secret_packet.hpp"
#include "attest/sign_jws.hpp"
#include "base/service/server.hpp"

namespace sev::test {

/// A guest owner in miniature: one policy, sessions in memory, and every way to misbehave that a daemon must survive. Built on the attest library
/// alone.
class TestOwner {
public:
    enum class Mode { honest, garbage, silent, trouble, trouble_once, wrong_key, other_request, same_session, huge, refuse_http };
    explicit TestOwner(attest::OwnerPolicy policy)
        : policy_{std::move(policy)}, key_{P384Key::generate()}, wrong_{P384Key::generate()}, references_{attest::resolve_references(policy_)} {}

    attest::OwnerKey key() const { return attest::owner_key(key_); }
    void set(Mode mode, std::chrono::milliseconds delay = {}) {
        mode_ = mode;
        delay_ms_ = static_cast<unsigned>(delay.count());
    }
    unsigned sessions_made() const { return made_; }
    unsigned judged() const { return judged_; }
    unsigned released() const { return released_; }

    /// The wire answer to a request.
    std::string answer(const std::string& text) {
        for (unsigned waited = 0; (waited < delay_ms_ || mode_ == Mode::silent) && !stopping_; waited += 10)
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
        if (mode_ == Mode::garbage) return "this is no JWS";
        if (mode_ == Mode::huge) return std::string(attest::ExchangeAnswer::wire_limit_bytes + 64 * 1024, 'x');
        attest::ExchangeAnswer out;
        out.request = sha256(as_bytes(text));
        out.answered_at = std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
        if (mode_ == Mode::other_request) out.request[0] ^= 1;
        if (mode_ == Mode::trouble || (mode_ == Mode::trouble_once && troubled_++ == 0))
            out.body = attest::ExchangeTrouble{.message = "the store is away", .retry = mode_ == Mode::trouble_once};
        else
            out.body =
                std::visit([&](const auto& request) { return work(request, out.answered_at); }, attest::read_exchange_request(text, "request"));
        return attest::sign_jws(mode_ == Mode::wrong_key ? wrong_ : key_, attest::ExchangeAnswer::jws_type, out.to_json().dump());
    }
    /// POST /v1/exchange.
    std::vector<service::Route> routes() {
        return {{.method = "POST",
                 .path = "/v1/exchange",
                 .body_limit_bytes = attest::exchange_request_limit_bytes,
                 .content_type = "application/json",
                 .where = service::Where::worker,
                 .admit = {},
                 .handle = [this](const service::Request& request) {
                     if (mode_ == Mode::refuse_http) return service::problem(403, "not for you");
                     return service::text_response(answer(request.body), "application/jose");
                 }}};
    }
    void stop() { stopping_ = true; }

private:
    using Body = decltype(attest::ExchangeAnswer::body);
    Body work(const attest::SessionRequest& request, attest::Time now) {
        const auto verdict = attest::judge_platform(policy_, request.platform, now);
        if (!verdict.accepted()) return attest::PlatformRefusal{.launch_name = request.launch_name, .checks = verdict.checks};
        auto created = attest::create_session(*verdict.pdh, policy_.session_policy(), request.launch_name);
        const std::scoped_lock lock{mutex_};
        if (mode_ == Mode::same_session) {
            if (!repeated_) repeated_ = created.offer;
            auto again = *repeated_;
            again.launch_name = request.launch_name;
            return again;
        }
        ++made_;
        sessions_.emplace(created.offer.session_id, Open{std::move(created.session), request.platform});
        return created.offer;
    }
    Body work(const attest::JudgementRequest& request, attest::Time now) {
        std::unique_lock lock{mutex_};
        auto found = sessions_.extract(request.launch.session_id);
        if (found.empty()) return attest::ExchangeTrouble{.message = "no such session, or it is spent", .retry = false};
        lock.unlock();
        ++judged_;
        auto judgement = attest::judge(std::move(found.mapped().session), found.mapped().platform, request.launch,
                                       {.policy = policy_, .references = references_}, now);
        attest::JudgementAnswer out{.verdict = judgement.verdict, .packets = {}, .attestation_result = {}};
        if (judgement.trusted) {
            out.packets = attest::release_secrets(*judgement.trusted, policy_);
            ++released_;
        }
        return out;
    }

    struct Open {
        attest::Session session;
        attest::PlatformEvidence platform;
    };
    attest::OwnerPolicy policy_;
    P384Key key_, wrong_;
    std::vector<attest::Reference> references_;
    std::atomic<Mode> mode_ = Mode::honest;
    std::atomic<unsigned> delay_ms_ = 0, made_ = 0, judged_ = 0, released_ = 0, troubled_ = 0;
    std::atomic<bool> stopping_ = false;
    std::mutex mutex_;
    std::map<attest::SessionId, Open> sessions_;
    std::optional<attest::SessionOffer> repeated_;
};

} // namespace sev::test
