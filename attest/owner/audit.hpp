// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "attest/protocol/jws.hpp"
#include "attest/protocol/message.hpp"

/// The audit log: what the owner's service did, append-only, each record with the SHA-256 of the one before it; every so often a record that bears
/// the owner's signature over the head. Nothing secret is in it. Whoever may write to the store can cut off its tail since the last head that
/// somebody else knows; they cannot change or leave out anything before a signed head without its being seen.
namespace sev::attest::owner {

/// One event as its maker knows it; all texts are put through `printable`. Empty ones are left out.
struct AuditEvent {
    std::string event; // "session.opened", "session.judged", …
    std::string channel, session, launch, policy, request, detail;
};

/// End of the log: number and SHA-256 of the last record. An empty log has number 0 and a hash of zeros.
struct AuditHead {
    std::uint64_t seq = 0;
    Digest hash{};
    friend bool operator==(const AuditHead&, const AuditHead&) = default;
};

/// One record as it is stored: one line of JSON, hashed as it is.
struct AuditRecord {
    std::uint64_t seq = 0;
    std::string text;
};

/// Signs a head: a compact JWS of type `audit_head_type` over {"seq", "head"}.
using HeadSigner = std::function<std::string(const AuditHead&)>;
inline constexpr std::string_view audit_head_type = "xen-sev-audit-head+jwt";
inline constexpr std::size_t audit_record_limit_bytes = 16 * 1024;
std::string audit_head_payload(const AuditHead& head);

/// The record that follows `head`.
AuditRecord audit_record(const AuditHead& head, const AuditEvent& event, Time now);
/// The record that follows `head` and signs it.
AuditRecord audit_signature(const AuditHead& head, const HeadSigner& signer, Time now);
/// The head after that record.
AuditHead head_after(const AuditRecord& record);

/// Walks a log from its first record and says where it breaks. Records are given in order, in pieces of any size.
class AuditVerifier {
public:
    /// `owner` whose signatures the log must bear; `known` a head noted down earlier: the log must contain it.
    AuditVerifier(OwnerKey owner, std::optional<AuditHead> known) : owner_{std::move(owner)}, known_{known} {}
    /// Throws Error{Fault::malformed} "audit record N: …" for a gap, a wrong hash or a signature that is not the owner's over the record before it.
    void add(const AuditRecord& record);
    /// To be called with the store's own idea of the head. Throws Error{Fault::malformed} when the log ends elsewhere, or lacks the known head.
    struct Summary {
        AuditHead head;
        std::uint64_t signatures = 0, unsigned_tail = 0; // records after the last signature
    };
    Summary finish(const AuditHead& stored) const;

private:
    OwnerKey owner_;
    std::optional<AuditHead> known_;
    AuditHead head_;
    std::uint64_t signatures_ = 0, last_signed_ = 0;
    bool known_found_ = false;
};

} // namespace sev::attest::owner
