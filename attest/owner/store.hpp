// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attest/owner/audit.hpp"
#include "attest/owner/seal_keys.hpp"
#include "attest/session.hpp"

namespace sev::attest::owner {

/// What became of a session.
enum class SessionState {
    open,        // made, and waiting for its evidence
    taken,       // its evidence is being judged, or the instance that did so died: never judged again
    trusted, not_trusted,
    troubled,    // taken, and then it could not be judged
    expired,     // nobody came for it
    refused,     // never was one: the platform was not accepted
};
std::string_view name(SessionState state); // "open", "taken", "trusted", "not-trusted", …
std::optional<SessionState> session_state_named(std::string_view name);

/// What is kept of a session from its first step to its second.
struct SessionRecord {
    SessionFacts facts;
    std::string channel, policy_name;
    Digest snapshot{}; // PolicySnapshot::digest
    Time created_at{}, expires_at{};
    std::string platform; // PlatformEvidence as JSON text
    Sealed keys;          // TEK‖TIK, bound by `seal_context`

    /// What binds the sealed keys to this row: every other field.
    std::string seal_context() const;
};

/// What people see of a session. No key is in it.
struct SessionSummary {
    SessionId id{};
    SessionState state = SessionState::open;
    std::string channel, launch_name, policy_name;
    Time created_at{}, expires_at{};
    std::optional<Time> ended_at;
    std::string platform;           // PlatformEvidence as JSON text
    std::string result;             // Verdict, or the checks of a refusal ({"checks": […]}), as JSON text; may be empty
    std::string attestation_result; // EAR; may be empty
    std::uint64_t packets = 0;
};

/// How long past a session's expiry an instance may still be judging it.
inline constexpr std::chrono::seconds judging_patience{30};

struct SessionCaps {
    std::uint64_t total = 10'000, per_channel = 1'000;
};

enum class OpenOutcome { opened, total_reached, channel_reached };
enum class TakeOutcome { taken, unknown, other_launch, spent, expired };

/// How a judged session ended.
struct SessionEnd {
    SessionState state = SessionState::troubled;
    std::string result, attestation_result;
    std::uint64_t packets = 0;
};

struct Document {
    std::string kind, name; // "policy" or "secret"
    std::optional<Sealed> sealed; // bound to kind and name; nullopt is what somebody else wrote there, and nothing reads it
    Time changed_at{};
};
std::string seal_context(std::string_view kind, std::string_view name); // of a document
Document sealed_document(const SealKeys& keys, std::string_view kind, std::string_view name, ByteView content);
/// A document's content. Throws Error{Fault::system} for one without a seal, or with one that does not open: whoever may write to the store did not
/// get it from its owner.
SecretBytes open_document(const SealKeys& keys, const Document& document);

struct StoreCounts {
    std::uint64_t open = 0, taken = 0, trusted = 0, not_trusted = 0, troubled = 0, expired = 0, refused = 0, audit_records = 0;
    /// Sessions in that state, or in all.
    std::uint64_t of(std::optional<SessionState> state) const;
};

/// Where the owner's service keeps what must outlive it. Every change and its audit record are one transaction, durable when the call returns;
/// several instances may work on one store at once. Throws Error{Fault::system} when the store does not answer; what the call would have done is then
/// unknown, and a session that may have been taken is never taken again.
class Store {
public:
    virtual ~Store() = default;
    Store() = default;
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;

    /// Adds an open session, unless there are as many as `caps` allow.
    virtual OpenOutcome open_session(const SessionRecord& record, const SessionCaps& caps, const AuditEvent& event, Time now) = 0;
    struct Taken {
        TakeOutcome outcome = TakeOutcome::unknown;
        std::optional<SessionRecord> record; // with `taken` alone
    };
    /// The one way to a session's keys: marks an open, unexpired session of this channel and launch as taken, removes its keys from the store, and
    /// hands them over. Of any number of callers, on any number of instances, one gets them. A session of another channel is `unknown`. Whatever does
    /// not match changes nothing. Whether it has expired is decided at `session_time`, by default now.
    virtual Taken take_session(const SessionId& id, std::string_view channel, std::string_view launch_name, const AuditEvent& event, Time now,
                               std::optional<Time> session_time = std::nullopt) = 0;
    /// Ends a taken session. Throws Error{Fault::bug} when it is not taken.
    virtual void end_session(const SessionId& id, const SessionEnd& end, const AuditEvent& event, Time now) = 0;
    /// Keeps a platform that was refused, for people to see.
    virtual void keep_refusal(const SessionSummary& refused, const AuditEvent& event, Time now) = 0;
    /// Ends what has expired, removing its keys, and what was taken and not ended `judging_patience` after it would have expired, as troubled;
    /// forgets sessions that ended before `forget_before`, and of the others all but `keep`: the newest of each channel in turn, refusals apart, so
    /// that no channel's sessions are forgotten for what another does, and no verdict for a refusal. Returns how many expired.
    virtual std::uint64_t clean(Time now, Time forget_before, std::uint64_t keep) = 0;
    virtual void note(const AuditEvent& event, Time now) = 0;

    /// Newest first, after the first `offset`.
    virtual std::vector<SessionSummary> sessions(std::size_t limit, std::optional<SessionState> state, std::size_t offset = 0) = 0;
    /// The newest of each channel in turn, refusals apart, `limit` in all: each channel is there, however much another asks. Newest first.
    virtual std::vector<SessionSummary> sessions_by_turns(std::size_t limit) = 0;
    virtual std::optional<SessionSummary> session(const SessionId& id) = 0;
    virtual StoreCounts counts() = 0;

    virtual void put_document(const Document& document, const AuditEvent& event, Time now) = 0;
    virtual std::optional<Document> document(std::string_view kind, std::string_view name) = 0;
    virtual std::vector<Document> documents(std::string_view kind) = 0; // by name, boxes included
    virtual bool remove_document(std::string_view kind, std::string_view name, const AuditEvent& event, Time now) = 0;

    /// Seals anew, under the current key, whatever another key sealed. Returns how many rows.
    virtual std::uint64_t reseal(const SealKeys& keys, const AuditEvent& event, Time now) = 0;
    /// Ids of the keys that something in the store still needs.
    virtual std::vector<std::string> seal_keys_in_use() = 0;

    virtual AuditHead audit_head() = 0;
    /// Records from number `first` on, in order.
    virtual std::vector<AuditRecord> audit_records(std::uint64_t first, std::size_t limit) = 0;
    /// Appends a signature over the head, unless it is one already. Returns the head.
    virtual AuditHead sign_audit(Time now) = 0;
};

struct StoreOptions {
    std::string owner; // OwnerKey::thumbprint: a store belongs to one owner, and another is refused
    HeadSigner signer;
    std::uint64_t sign_every = 256; // audit records
};

/// Opens, and makes when absent (mode 0600), the SQLite store at `path`. Throws Error{Fault::system}.
std::unique_ptr<Store> open_sqlite_store(const Path& path, StoreOptions options);

/// Connects to the PostgreSQL store that `connection` (libpq's keywords, without a password: use a pass file, or peer authentication) names, and
/// makes its tables when they are absent. `schema` is the PostgreSQL schema they live in. A connection that breaks is made again. Throws
/// Error{Fault::system}, Error{Fault::usage} for a password.
std::unique_ptr<Store> open_postgresql_store(const std::string& connection, const std::string& schema, StoreOptions options);

} // namespace sev::attest::owner
