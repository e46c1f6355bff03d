// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

#include "attest/advisories.hpp"
#include "attest/owner/clients.hpp"
#include "attest/owner/policies.hpp"
#include "attest/owner/seal_keys.hpp"
#include "attest/owner/session_times.hpp"
#include "attest/owner/store.hpp"
#include "attest/protocol/exchange.hpp"

namespace sev::attest::owner {

struct ServiceLimits {
    SessionCaps caps;
    std::chrono::seconds session_lifetime{600};
};

/// What an answer was, for logs and metrics.
enum class AnswerKind { offer, refusal, trusted, not_trusted, trouble };
std::string_view name(AnswerKind kind); // "offer", "refusal", "trusted", "not-trusted", "trouble"

struct Answered {
    std::string jws;
    AnswerKind kind = AnswerKind::trouble;
    std::string launch_name, policy_name, session; // as far as they are known
    std::string problem; // of trouble, in full: for the owner's log, not for the host
    bool internal = false; // the trouble is ours, not the request's
};

/// The guest owner's service without a socket: a request's text in, a signed answer out. Thread-safe; any number of instances may work on one store.
///
/// Step 1 judges the platform and makes a session, kept in the store with the platform's evidence, the channel, the launch's name and the digest of
/// the policy. Step 2 takes that session, durably and once, before anything is judged; judges by exactly that policy; and has the outcome in the
/// store before the answer leaves. A session serves the channel and the launch it was made for, until it expires. Not a byte of TEK, TIK or a secret
/// is stored in the clear.
class OwnerService {
public:
    /// All outlive the service. `build` is this verifier's version, for attestation results.
    struct Parts {
        const P384Key& key;
        Policies& policies;
        Store& store;
        const SealKeys& seal_keys;
        const Clients& clients;
        ServiceLimits limits;
        std::string build;
        const Advisories& advisories = builtin_advisories();
        SessionTimes* times = nullptr; // null: sessions expire by the time of day alone
    };
    explicit OwnerService(Parts parts);

    /// answer works on one request from `channel` ("cert:…", "uid:…", "stdio:…") at `now`. It never throws for what the request contains, nor for
    /// what a policy, a file or the store does: that is an ExchangeTrouble, signed like every answer. Error{Fault::system} is left for a signature
    /// that cannot be made.
    Answered answer(std::string_view request, std::string_view channel, Time now);
    const OwnerKey& key() const noexcept { return public_key_; }

private:
    struct Asked;
    Answered work(Asked& asked, const SessionRequest& request);
    Answered work(Asked& asked, const JudgementRequest& request);
    Answered judge_taken(Asked& asked, const JudgementRequest& request, const SessionRecord& record);
    Answered trouble(const Asked& asked, std::string message, bool retry);
    Answered failed(const Asked& asked, const std::string& problem, bool theirs);
    Answered signed_answer(const Asked& asked, ExchangeAnswer answer, AnswerKind kind) const;
    SecretBytes secret(const SecretRule& rule, const Path& base);
    Session opened(const SessionRecord& record) const;
    Parts parts_;
    OwnerKey public_key_;
};

/// Signs audit heads with the owner's key.
HeadSigner head_signer(const P384Key& key);

/// A policy's secret lies in the store, not in a file, when its path is "store:NAME".
inline constexpr std::string_view stored_secret_prefix = "store:";

} // namespace sev::attest::owner
