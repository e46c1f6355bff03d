// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "attest/protocol/jws.hpp"
#include "attest/protocol/verdict.hpp"

/// A verdict as others understand it: an EAT Attestation Result (EAR), a JWT under the guest owner's key (ES384).
/// Sources: draft-ietf-rats-ear-04 (claims), draft-ietf-rats-ar4si-10 section 2.3 (values of the trustworthiness vector), RFC 7519.
namespace sev::attest {

/// Tiers of AR4SI, from its values: 0 none, 2…31 affirming, 32…95 warning, 96…127 contraindicated.
enum class TrustTier { none, affirming, warning, contraindicated };
std::string_view name(TrustTier tier); // "none" …

/// AR4SI's trustworthiness vector, as far as this verifier says anything: of file system, stored and sourced data it claims nothing (0), and writes
/// no such key.
struct TrustVector {
    unsigned instance_identity = 0; // 2 this chip is known and in order; 97 not recognised
    unsigned configuration = 0;     // 2 the guest policy is as the owner wants; 96 it is not
    unsigned executables = 0; // 3 what was loaded at the start is a reference of the owner's; 33 not recognised; 99 the evidence does not verify
    unsigned hardware = 0;          // 2 genuine; 32 genuine, with known weaknesses; 97 not recognised: every emulated PSP
    unsigned runtime_opaque = 0;    // 2 memory and registers encrypted (L5); 32 memory alone (L3, L4); 96 visible to the host (L0 … L2)

    /// The worst of them.
    TrustTier tier() const;
    friend bool operator==(const TrustVector&, const TrustVector&) = default;
};

/// trust_vector says honestly what a verdict supports: a chain to an emulated root, or a level below L3, is never "affirming" for hardware and run
/// time, whatever the owner's policy accepts; a verdict that is not trusted is never "affirming" as a whole.
TrustVector trust_vector(const Verdict& verdict);

/// One EAR. JSON: `eat_profile`, `iat`, `iss` (the owner key's thumbprint), `ear_verifier_id` {developer, build}, and `submods` with the one entry
/// "guest": `ear_status`, `ear_trustworthiness_vector`, `ear_appraisal_policy_ids`, and our own `xen_sev_verdict`: the verdict without what only the
/// owner needs.
struct AttestationResult {
    static constexpr std::string_view profile = "tag:ietf.org,2026:rats/ear#04";
    static constexpr std::string_view jws_type = "eat+jwt"; // RFC 9782
    static constexpr std::string_view developer = "xen-sev";
    static constexpr std::size_t limit_bytes = 256 * 1024;

    std::string issuer; // OwnerKey::thumbprint
    Time issued_at{};
    std::string build;  // of the verifier
    TrustTier status = TrustTier::none;
    TrustVector vector;
    std::string policy_id; // "xen-sev:NAME:" and the SHA-256 of the policy snapshot in hex
    // xen_sev_verdict
    SessionId session_id{};
    std::string launch_name;
    bool trusted = false;
    unsigned level = 0;
    bool emulated = false;
    std::string root, reference; // empty: none matched
    std::vector<std::string> failed_checks, advisories; // names and ids

    /// Strict: an unknown key, another profile, a vector value that AR4SI or this verifier does not know, a status better than the vector's worst, or
    /// `trusted` beside failed checks throws Error{Fault::malformed}.
    static AttestationResult from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const AttestationResult&, const AttestationResult&) = default;
};

/// The result for a verdict. `policy_id` as above.
AttestationResult attestation_result(const Verdict& verdict, const OwnerKey& issuer, std::string_view build, std::string policy_id);

/// Signs it: the JWT.
std::string sign_attestation_result(const AttestationResult& result, const P384Key& key);

/// read_attestation_result is the one way to a result from outside: verifies the JWT under `issuer`, then reads it strictly, then that "iss" is that
/// key. Throws Error{Fault::malformed}.
AttestationResult read_attestation_result(std::string_view jwt, const OwnerKey& issuer, std::string_view what);

/// Text of a result for people.
std::string render(const AttestationResult& result);

} // namespace sev::attest
