// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/judge.hpp"
#include "attest/protocol/signed_bundle.hpp"

namespace sev::attest {

/// What the guest owner knows of the session by itself, and brings to a bundle that a host collected. Move-only.
struct BundleKnowledge {
    Digest pdh{};                                 // fingerprint of the PDH that the session was made for
    std::optional<psp::Tik> tik{};                // the session's; without it no measurement can be checked
    std::optional<SessionOffer> offer{};          // as the owner made it, not as the bundle repeats it
    std::optional<std::chrono::seconds> max_age{}; // how long ago the bundle may have been collected, at most
};

/// A host's clock may be ahead of the owner's by so much.
inline constexpr std::chrono::seconds clock_patience{300};

/// judge_bundle decides a launch from a bundle that open_signed_bundle opened under `host`: without a daemon, without a network. The checks are, in
/// this order: host.signature (passed: an unsigned bundle has no SignedBundle), host.times, session.known, and then all of `judge`. A host's
/// signature is no attestation. Not trusted, with the failed check, when the bundle
///   is from the future, older than `max_age`, or its own times run backwards                              (host.times);
///   is of a session that only the bundle speaks of: its offer is not the owner's own, the session blob's POLICY_MAC is not under the TIK, or the
///   owner has neither. A report needs the owner's own offer, since only that says which nonce was asked for  (session.known);
///   holds a measurement, and the TIK is not at hand                                                        (evidence.kind, launch.digest).
/// Frees no secret. Never throws for what the bundle contains; Error{Fault::system} when OpenSSL fails.
Verdict judge_bundle(const SignedBundle& bundle, const HostKey& host, BundleKnowledge known, const Standard& standard, Time now);

} // namespace sev::attest
