// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "attest/owner/transactions.hpp"
#include "base/error.hpp"

namespace sev::attest::owner {
namespace {

constexpr std::int64_t clock_skew_s = 300; // a session from the future is nobody's: the clock was set back
constexpr std::size_t row_limit = 100'000;

std::int64_t seconds(Time time) { return time.time_since_epoch().count(); }
Time time_of(std::int64_t value) { return Time{std::chrono::seconds{value}}; }
std::int64_t integer(std::uint64_t value) { return static_cast<std::int64_t>(value); }

constexpr std::string_view record_columns =
    "channel, launch_name, policy_name, guest_policy, report_nonce, pdh, snapshot, created_at, expires_at, platform, key_id, sealed_keys, state, id";

SessionRecord record_of(const SqlRow& row) {
    SessionRecord out;
    out.channel = row.text(0);
    out.facts.launch_name = row.text(1);
    out.policy_name = row.text(2);
    out.facts.policy.value = static_cast<std::uint32_t>(row.integer(3));
    out.facts.report_nonce = unhex<16>(row.text(4), "store: report_nonce");
    out.facts.pdh = unhex<32>(row.text(5), "store: pdh");
    out.snapshot = unhex<32>(row.text(6), "store: snapshot");
    out.created_at = time_of(row.integer(7));
    out.expires_at = time_of(row.integer(8));
    out.platform = row.text(9);
    out.keys = {.key_id = row.text_or_empty(10), .box = row.blob(11)};
    out.facts.id = unhex<16>(row.text(13), "store: id");
    return out;
}

constexpr std::string_view summary_columns =
    "id, state, channel, launch_name, policy_name, created_at, expires_at, ended_at, platform, result, attestation_result, packets";

SessionSummary summary_of(const SqlRow& row) {
    SessionSummary out;
    out.id = unhex<16>(row.text(0), "store: id");
    const auto state = session_state_named(row.text(1));
    if (!state) throw Error{Fault::system, fmt::format("store: session state \"{}\" is none", printable(row.text(1)))};
    out.state = *state;
    out.channel = row.text(2);
    out.launch_name = row.text(3);
    out.policy_name = row.text(4);
    out.created_at = time_of(row.integer(5));
    out.expires_at = time_of(row.integer(6));
    if (!row.null(7)) out.ended_at = time_of(row.integer(7));
    out.platform = row.text(8);
    out.result = row.text_or_empty(9);
    out.attestation_result = row.text_or_empty(10);
    out.packets = static_cast<std::uint64_t>(row.integer(11));
    return out;
}

Document document_of(const SqlRow& row) {
    Document out{.kind = row.text(0), .name = row.text(1), .sealed = std::nullopt, .changed_at = time_of(row.integer(4))};
    if (!row.null(2)) out.sealed = Sealed{.key_id = row.text(2), .box = row.blob(3)};
    return out;
}

/// Sessions in the order in which they are worth keeping: what each channel did last, refused or not, then what each did before that.
std::string by_turns(std::string_view which) {
    return fmt::format("(SELECT id, created_at, row_number() OVER (PARTITION BY channel, CASE WHEN state = 'refused' THEN 1 ELSE 0 END"
                       " ORDER BY created_at DESC, id) AS turn FROM sessions WHERE {}) AS turns ORDER BY turn, created_at DESC, id",
                       which);
}
constexpr std::string_view ended = "state NOT IN ('open', 'taken')";

class SqlStore final : public Store {
public:
    SqlStore(std::unique_ptr<Database> writer, std::unique_ptr<Database> reader, StoreOptions options)
        : options_{std::move(options)}, reader_{std::move(reader)}, changes_{std::move(writer), options_} {
        claim();
    }

    OpenOutcome open_session(const SessionRecord& record, const SessionCaps& caps, const AuditEvent& event, Time now) override {
        OpenOutcome outcome = OpenOutcome::opened;
        changes_.run([&](Work& work) {
            Database& db = work.database();
            const auto open = [&](std::string_view also, std::initializer_list<SqlValue> values) {
                return static_cast<std::uint64_t>(
                    db.run(fmt::format("SELECT count(*) FROM sessions WHERE state = 'open' AND expires_at > $1{}", also), values)
                        .rows.at(0)
                        .integer(0));
            };
            if (open(" AND channel = $2", {seconds(now), record.channel}) >= caps.per_channel) outcome = OpenOutcome::channel_reached;
            else if (open("", {seconds(now)}) >= caps.total) outcome = OpenOutcome::total_reached;
            if (outcome != OpenOutcome::opened) return;
            db.run("INSERT INTO sessions (id, state, channel, launch_name, policy_name, guest_policy, report_nonce, pdh, snapshot, created_at, "
                   "expires_at, platform, key_id, sealed_keys)"
                   " VALUES ($1, 'open', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                   {hex(record.facts.id), record.channel, record.facts.launch_name, record.policy_name, std::int64_t{record.facts.policy.value},
                    hex(record.facts.report_nonce), hex(record.facts.pdh), hex(record.snapshot), seconds(record.created_at),
                    seconds(record.expires_at), record.platform, record.keys.key_id, record.keys.box});
            work.append(event, now);
        });
        return outcome;
    }

    Taken take_session(const SessionId& id, std::string_view channel, std::string_view launch_name, const AuditEvent& event, Time now,
                       std::optional<Time> session_time) override {
        const std::int64_t lived_to = seconds(session_time.value_or(now));
        Taken out;
        changes_.run([&](Work& work) {
            out = {};
            Database& db = work.database();
            const auto found = db.run(fmt::format("SELECT {} FROM sessions WHERE id = $1{}", record_columns, db.lock_clause()), {hex(id)});
            if (found.rows.empty() || found.rows.front().text(0) != channel) return;
            const SqlRow& row = found.rows.front();
            const std::string& state = row.text(12);
            if (state == "refused") return;
            if (state == "open" && (row.integer(8) <= lived_to || row.integer(7) > lived_to + clock_skew_s))
                out.outcome = TakeOutcome::expired;
            else if (state != "open") out.outcome = state == "expired" ? TakeOutcome::expired : TakeOutcome::spent;
            else if (row.text(1) != launch_name) out.outcome = TakeOutcome::other_launch;
            else {
                const auto changed =
                    db.run("UPDATE sessions SET state = 'taken', key_id = NULL, sealed_keys = NULL, ended_at = $2 WHERE id = $1 AND state = 'open'",
                           {hex(id), seconds(now)});
                out.outcome = changed.changed == 1 ? TakeOutcome::taken : TakeOutcome::spent;
                if (changed.changed != 1) return;
                out.record = record_of(row);
                work.append(event, now);
            }
        });
        return out;
    }

    void end_session(const SessionId& id, const SessionEnd& end, const AuditEvent& event, Time now) override {
        changes_.run([&](Work& work) {
            const auto changed = work.database().run(
                "UPDATE sessions SET state = $2, result = $3, attestation_result = $4, packets = $5, ended_at = $6 WHERE id = $1 AND state = 'taken'",
                {hex(id), std::string{name(end.state)}, end.result, end.attestation_result, integer(end.packets), seconds(now)});
            require(changed.changed == 1, "a session that is ended was taken");
            work.append(event, now);
        });
    }

    void keep_refusal(const SessionSummary& refused, const AuditEvent& event, Time now) override {
        changes_.run([&](Work& work) {
            work.database().run(
                "INSERT INTO sessions (id, state, channel, launch_name, policy_name, guest_policy, report_nonce, pdh, snapshot, created_at, "
                "expires_at, ended_at, platform, result)"
                " VALUES ($1, 'refused', $2, $3, $4, 0, '', '', '', $5, $5, $5, $6, $7)",
                {hex(refused.id), refused.channel, refused.launch_name, refused.policy_name, seconds(now), refused.platform, refused.result});
            work.append(event, now);
        });
    }

    std::uint64_t clean(Time now, Time forget_before, std::uint64_t keep) override {
        std::uint64_t expired = 0;
        changes_.run([&](Work& work) {
            Database& db = work.database();
            expired = db.run("UPDATE sessions SET state = 'expired', key_id = NULL, sealed_keys = NULL, ended_at = $1 WHERE state = 'open' AND "
                             "expires_at <= $1",
                             {seconds(now)})
                          .changed;
            // its instance died while it judged: the keys went with it, so there is nothing left to be judged again
            const auto abandoned = db.run("UPDATE sessions SET state = 'troubled', ended_at = $1 WHERE state = 'taken' AND expires_at <= $2",
                                          {seconds(now), seconds(now - judging_patience)})
                                       .changed;
            const auto forgotten =
                db.run(fmt::format("DELETE FROM sessions WHERE {0} AND (created_at < $1 OR id IN (SELECT id FROM {1} LIMIT 100000 OFFSET $2))", ended,
                                   by_turns(ended)),
                       {seconds(forget_before), integer(keep)})
                    .changed;
            if (expired + abandoned + forgotten == 0) return;
            AuditEvent event;
            event.event = "sessions.cleaned";
            event.detail = fmt::format("{} expired, {} abandoned, {} forgotten", expired, abandoned, forgotten);
            work.append(event, now);
        });
        return expired;
    }

    void note(const AuditEvent& event, Time now) override {
        changes_.run([&](Work& work) { work.append(event, now); });
    }

    std::vector<SessionSummary> sessions(std::size_t limit, std::optional<SessionState> state, std::size_t offset) override {
        const auto select = [](std::string_view which) {
            return fmt::format("SELECT {} FROM sessions {}ORDER BY created_at DESC, id LIMIT $1 OFFSET $2", summary_columns, which);
        };
        return summaries(state ? read(select("WHERE state = $3 "), {bounded(limit), integer(offset), std::string{name(*state)}})
                               : read(select(""), {bounded(limit), integer(offset)}));
    }

    std::vector<SessionSummary> sessions_by_turns(std::size_t limit) override {
        return summaries(read(fmt::format("SELECT {} FROM sessions WHERE id IN (SELECT id FROM {} LIMIT $1) ORDER BY created_at DESC, id",
                                          summary_columns, by_turns("1 = 1")),
                              {bounded(limit)}));
    }

    std::optional<SessionSummary> session(const SessionId& id) override {
        const auto found = read(fmt::format("SELECT {} FROM sessions WHERE id = $1", summary_columns), {hex(id)});
        return found.rows.empty() ? std::nullopt : std::optional{summary_of(found.rows.front())};
    }

    StoreCounts counts() override {
        StoreCounts out;
        for (const SqlRow& row : read("SELECT state, count(*) FROM sessions GROUP BY state").rows) {
            const auto count = static_cast<std::uint64_t>(row.integer(1));
            switch (session_state_named(row.text(0)).value_or(SessionState::troubled)) {
            case SessionState::open: out.open = count; break;
            case SessionState::taken: out.taken = count; break;
            case SessionState::trusted: out.trusted = count; break;
            case SessionState::not_trusted: out.not_trusted = count; break;
            case SessionState::troubled: out.troubled = count; break;
            case SessionState::expired: out.expired = count; break;
            case SessionState::refused: out.refused = count; break;
            }
        }
        out.audit_records = audit_head().seq;
        return out;
    }

    void put_document(const Document& document, const AuditEvent& event, Time now) override {
        changes_.run([&](Work& work) {
            require(document.sealed.has_value(), "a document is sealed before it is stored");
            work.database().run("INSERT INTO documents (kind, name, key_id, sealed, changed_at) VALUES ($1, $2, $3, $4, $5)"
                                " ON CONFLICT (kind, name) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, changed_at = "
                                "excluded.changed_at",
                                {document.kind, document.name, document.sealed->key_id, document.sealed->box, seconds(now)});
            work.append(event, now);
        });
    }

    std::optional<Document> document(std::string_view kind, std::string_view name) override {
        const auto found = read("SELECT kind, name, key_id, sealed, changed_at FROM documents WHERE kind = $1 AND name = $2",
                                {std::string{kind}, std::string{name}});
        return found.rows.empty() ? std::nullopt : std::optional{document_of(found.rows.front())};
    }

    std::vector<Document> documents(std::string_view kind) override {
        std::vector<Document> out;
        for (const SqlRow& row :
             read("SELECT kind, name, key_id, sealed, changed_at FROM documents WHERE kind = $1 ORDER BY name", {std::string{kind}}).rows)
            out.push_back(document_of(row));
        return out;
    }

    bool remove_document(std::string_view kind, std::string_view name, const AuditEvent& event, Time now) override {
        bool removed = false;
        changes_.run([&](Work& work) {
            removed = work.database().run("DELETE FROM documents WHERE kind = $1 AND name = $2", {std::string{kind}, std::string{name}}).changed == 1;
            if (removed) work.append(event, now);
        });
        return removed;
    }

    std::uint64_t reseal(const SealKeys& keys, const AuditEvent& event, Time now) override {
        std::uint64_t count = 0;
        changes_.run([&](Work& work) {
            Database& db = work.database();
            count = 0;
            const auto again = [&](std::string_view context, const Sealed& sealed) {
                return keys.seal(context, keys.open(context, sealed).reveal());
            };
            for (const SqlRow& row :
                 db.run(fmt::format("SELECT {} FROM sessions WHERE state = 'open' AND key_id <> $1{}", record_columns, db.lock_clause()),
                        {keys.current()})
                     .rows) {
                const SessionRecord record = record_of(row);
                const Sealed sealed = again(record.seal_context(), record.keys);
                count += db.run("UPDATE sessions SET key_id = $2, sealed_keys = $3 WHERE id = $1 AND state = 'open'",
                                {hex(record.facts.id), sealed.key_id, sealed.box})
                             .changed;
            }
            for (const SqlRow& row :
                 db.run(fmt::format("SELECT kind, name, key_id, sealed, changed_at FROM documents WHERE key_id <> $1{}", db.lock_clause()),
                        {keys.current()})
                     .rows) {
                const Document document = document_of(row);
                const Sealed sealed = again(seal_context(document.kind, document.name), document.sealed.value());
                count += db.run("UPDATE documents SET key_id = $3, sealed = $4 WHERE kind = $1 AND name = $2",
                                {document.kind, document.name, sealed.key_id, sealed.box})
                             .changed;
            }
            work.append(event, now);
        });
        return count;
    }

    std::vector<std::string> seal_keys_in_use() override {
        std::vector<std::string> out;
        for (const SqlRow& row :
             read("SELECT key_id FROM sessions WHERE key_id IS NOT NULL UNION SELECT key_id FROM documents WHERE key_id IS NOT NULL ORDER BY 1").rows)
            out.push_back(row.text(0));
        return out;
    }

    AuditHead audit_head() override {
        const auto found = read("SELECT seq, hash FROM audit_head WHERE one = 1");
        if (found.rows.size() != 1) throw Error{Fault::system, "store: the audit log has lost its head"};
        return {.seq = static_cast<std::uint64_t>(found.rows.front().integer(0)), .hash = unhex<32>(found.rows.front().text(1), "store: audit head")};
    }

    std::vector<AuditRecord> audit_records(std::uint64_t first, std::size_t limit) override {
        std::vector<AuditRecord> out;
        for (const SqlRow& row : read("SELECT seq, record FROM audit WHERE seq >= $1 ORDER BY seq LIMIT $2", {integer(first), bounded(limit)}).rows)
            out.push_back({.seq = static_cast<std::uint64_t>(row.integer(0)), .text = row.text(1)});
        return out;
    }

    AuditHead sign_audit(Time now) override {
        AuditHead head;
        changes_.run([&](Work& work) {
            work.sign(now);
            head = work.head();
        });
        return head;
    }

private:
    static std::vector<SessionSummary> summaries(const SqlResult& found) {
        std::vector<SessionSummary> out;
        for (const SqlRow& row : found.rows) out.push_back(summary_of(row));
        return out;
    }

    static std::int64_t bounded(std::size_t limit) { return integer(std::min(limit, row_limit)); }

    SqlResult read(std::string_view statement, std::initializer_list<SqlValue> values = {}) {
        const std::lock_guard lock{reading_};
        if (reader_->broken()) reader_->reconnect();
        try {
            return reader_->run(statement, values);
        } catch (const Error&) {
            // a server that was restarted is noticed by the first statement after it: reading again is harmless
            if (!reader_->broken()) throw;
            reader_->reconnect();
            return reader_->run(statement, values);
        }
    }

    /// A store belongs to one owner.
    void claim() {
        changes_.run([&](Work& work) {
            Database& db = work.database();
            const auto schema = db.run("SELECT value FROM meta WHERE name = 'schema'");
            if (schema.rows.size() != 1 || schema.rows.front().text(0) != "1")
                throw Error{Fault::system, "store: its tables are of another version, want 1"};
            const auto found = db.run("SELECT value FROM meta WHERE name = 'owner'");
            if (found.rows.empty()) db.run("INSERT INTO meta (name, value) VALUES ('owner', $1)", {options_.owner});
            else if (found.rows.front().text(0) != options_.owner)
                throw Error{Fault::usage,
                            fmt::format("store: belongs to owner {}, and this is {}", printable(found.rows.front().text(0)), options_.owner),
                            "each owner has a store, or a PostgreSQL schema, of its own"};
        });
    }

    StoreOptions options_;
    std::mutex reading_;
    std::unique_ptr<Database> reader_;
    Transactions changes_;
};

} // namespace

std::unique_ptr<Store> open_sqlite_store(const Path& path, StoreOptions options) {
    auto writer = open_sqlite(path, false);
    return std::make_unique<SqlStore>(std::move(writer), open_sqlite(path, true), std::move(options));
}

std::unique_ptr<Store> open_postgresql_store(const std::string& connection, const std::string& schema, StoreOptions options) {
    auto writer = open_postgresql(connection, schema);
    return std::make_unique<SqlStore>(std::move(writer), open_postgresql(connection, schema), std::move(options));
}

} // namespace sev::attest::owner
