// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "attest/protocol/session_offer.hpp"
#include "psp/keys.hpp"

namespace sev::attest {

/// What a session is about, without its keys. A value.
struct SessionFacts {
    SessionId id{};
    std::string launch_name;
    psp::Policy policy;
    psp::Mnonce report_nonce{}; // what an attestation report for this launch must bear
    Digest pdh{};               // fingerprint (SevCertificate::fingerprint) of the PDH the session was made for
    friend bool operator==(const SessionFacts&, const SessionFacts&) = default;
};

/// The facts of an offer that the guest owner kept, for the platform with this PDH.
SessionFacts facts_of(const SessionOffer& offer, const psp::SevCertificate& pdh);

/// The guest owner's half of one launch: facts, TEK and TIK. Move-only, and good for one launch: `judge` takes it by value, so that a session that
/// was judged is gone, and a moved-from session refuses every use with Error{Fault::bug} instead of answering with wiped keys.
/// The type covers one process; whoever stores sessions (sev-owner, sevctl's files) must mark one as spent, durably, before it is judged.
class Session {
public:
    Session(SessionFacts facts, psp::Tek tek, psp::Tik tik);
    Session(Session&&) noexcept = default;
    Session& operator=(Session&&) noexcept = default;

    bool spent() const noexcept { return keys_ == nullptr; }
    const SessionFacts& facts() const;
    /// To be stored with the guest owner, never sent.
    const psp::Tek& tek() const;
    const psp::Tik& tik() const;
    /// Gives the keys away, once; afterwards the session is spent.
    psp::TransportKeys spend();

private:
    SessionFacts facts_;
    std::unique_ptr<psp::TransportKeys> keys_;
};

/// All that is random in a session. `fresh` draws it; a test fixes it.
struct SessionMaterial {
    P384Key godh;
    ByteArray<16> nonce, wrap_iv;
    psp::Tek tek;
    psp::Tik tik;
    SessionId id;
    psp::Mnonce report_nonce;
    static SessionMaterial fresh();
};

struct CreatedSession {
    Session session;
    SessionOffer offer; // for the host
};
/// create_session makes the session for one launch on the platform whose PDH this is: ECDH with a fresh GODH key, KDF, TEK‖TIK wrapped, both MACs
/// over the full 32-bit policy. The GODH certificate is as sevctl writes it: usage PDH, algorithm ECDH SHA-256, API 0.0, both slots empty. Throws
/// Error{Fault::malformed} for a PDH of another usage, algorithm or curve, or with a point off the curve. It does not verify the PDH's chain:
/// `judge_platform` does, and comes first. Source: SEV API (AMD 55766), LAUNCH_START; AMD sev-tool and virtee/sev for the formulas.
CreatedSession create_session(const psp::SevCertificate& pdh, psp::Policy policy, std::string launch_name);
/// Same from given material: for known answers, and for tools that bring their own randomness.
CreatedSession create_session_from(const psp::SevCertificate& pdh, psp::Policy policy, std::string launch_name, SessionMaterial material);

/// The policy that virtee's sevctl 0.6 puts under POLICY_MAC when asked for `policy`: flag bits 5:0 kept, minimum API taken from bits 23:20 and
/// 19:16. Equal to `policy` when its bits 31:6 are 0. Source: virtee/sev, Policy::from(u32).
psp::Policy policy_as_virtee_reads_it(psp::Policy policy);
/// A warning for people when `policy` has bits that virtee's sevctl would have changed; with TIK and session blob it is said only when the
/// POLICY_MAC really covers the changed policy. nullopt: nothing to warn of.
std::optional<std::string> virtee_policy_warning(psp::Policy policy);
std::optional<std::string> virtee_policy_warning(psp::Policy policy, const psp::Tik& tik, const psp::SessionBlob& blob);

} // namespace sev::attest
