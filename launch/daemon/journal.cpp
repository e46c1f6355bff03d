// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/journal.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "attest/protocol/exchange.hpp"
#include "base/error.hpp"
#include "launch/daemon/journal_statement.hpp"

namespace sev::daemon {
namespace {

constexpr int schema_version = 2;
constexpr int application_id = 0x53455644; // "SEVD"
constexpr int busy_ms = 2000; // another connection of ours may be at work

constexpr const char* schema = R"(
CREATE TABLE launches(
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, owner TEXT NOT NULL, policy TEXT NOT NULL, evidence TEXT NOT NULL,
  guest TEXT NOT NULL, identity TEXT NOT NULL, state TEXT NOT NULL, reversal TEXT NOT NULL, reason TEXT NOT NULL,
  created TEXT NOT NULL, updated TEXT NOT NULL, es INTEGER NOT NULL, asid INTEGER NOT NULL, handle INTEGER NOT NULL,
  session TEXT, verdict TEXT, steps TEXT NOT NULL, level INTEGER NOT NULL, emulated INTEGER NOT NULL, ended INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX one_of_a_name ON launches(name) WHERE ended = 0;
CREATE TABLE sessions(session TEXT PRIMARY KEY, launch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE stuck(handle INTEGER PRIMARY KEY, asid INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
)";
/// Since version 2.
constexpr const char* bundles_schema =
    "CREATE TABLE bundles(launch INTEGER PRIMARY KEY, measured TEXT NOT NULL, bytes INTEGER NOT NULL, content TEXT NOT NULL) "
    "STRICT;";
constexpr std::string_view columns =
    "id, name, owner, policy, evidence, guest, identity, state, reason, created, updated, es, asid, handle, session, verdict, steps, level, emulated";
/// The same, without what makes a launch large.
constexpr std::string_view brief_columns =
    "id, name, owner, policy, evidence, guest, identity, state, reason, created, updated, es, asid, handle, session, NULL, '[]', level, emulated";

} // namespace

struct Journal::Database {
    sqlite3* handle = nullptr;
    ~Database() { ::sqlite3_close_v2(handle); }

    [[noreturn]] void failed(std::string_view doing) const {
        const int code = ::sqlite3_errcode(handle);
        const bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_SCHEMA || code == SQLITE_ERROR;
        throw Error{damaged ? Fault::malformed : Fault::system, fmt::format("journal: {}: {}", doing, printable(::sqlite3_errmsg(handle), 512)),
                    code == SQLITE_FULL || code == SQLITE_IOERR ? "make room on its disk" : ""};
    }
    void run(const char* sql, std::string_view doing) const {
        if (::sqlite3_exec(handle, sql, nullptr, nullptr, nullptr) != SQLITE_OK) failed(doing);
    }
    int number(const char* sql, std::string_view doing) const;
};

namespace {

/// What would not be read again is not written.
const std::string& writable(const std::string& text, std::string_view what) {
    if (text.size() > journal_text_limit_bytes)
        throw Error{Fault::bug, fmt::format("journal: {} of {} bytes, want at most {}", what, text.size(), journal_text_limit_bytes)};
    return text;
}

json::Value parsed(const std::string& text, const char* what) {
    return json::parse(text, fmt::format("journal: {}", what), {.bytes = journal_text_limit_bytes, .depth = 16});
}

std::string steps_text(const std::vector<Step>& steps) {
    json::Value out = json::Value::array();
    for (const Step& step : steps) out.push_back({attest::text(step.at), step.step, step.detail});
    return out.dump();
}

std::vector<Step> steps_from(const json::Value& value) {
    std::vector<Step> out;
    if (!value.is_array()) throw Error{Fault::malformed, "journal: steps are no list"};
    for (const json::Value& step : value) {
        if (!step.is_array() || step.size() != 3 || !step[0].is_string() || !step[1].is_string() || !step[2].is_string())
            throw Error{Fault::malformed, "journal: a step is not of three texts"};
        out.push_back({.at = attest::parse_time(step[0].get<std::string>(), "journal: step"),
                       .step = step[1].get<std::string>(),
                       .detail = step[2].get<std::string>()});
    }
    return out;
}

Record parsed_record(const Statement& row) {
    Record out;
    out.id = static_cast<std::uint64_t>(row.number(0));
    out.request.name = attest::checked_name(row.text(1), "journal: name");
    out.request.owner = attest::checked_policy_name(row.text(2), "journal: owner");
    out.request.policy = attest::checked_policy_name(row.text(3), "journal: policy");
    const auto evidence = attest::evidence_kind_named(row.text(4));
    const auto state = state_named(row.text(7));
    if (!evidence || !state) throw Error{Fault::malformed, fmt::format("journal: launch {}: evidence or state has an unknown name", out.id)};
    out.request.evidence = *evidence;
    out.request.guest = parsed(row.text(5), "guest");
    if (!out.request.guest.is_object() || !out.request.guest.contains("kind") || !out.request.guest["kind"].is_string())
        throw Error{Fault::malformed, fmt::format("journal: launch {}: guest has no kind", out.id)};
    out.identity = parsed(row.text(6), "identity");
    out.state = *state;
    out.reason = row.text(8);
    out.created = attest::parse_time(row.text(9), "journal: created");
    out.updated = attest::parse_time(row.text(10), "journal: updated");
    out.es = row.number(11) != 0;
    out.asid = psp::Asid{row.u32(12, "ASID")};
    out.handle = psp::GuestHandle{row.u32(13, "guest handle")};
    if (!row.null(14)) out.session = unhex<16>(row.text(14), "journal: session");
    if (!row.null(15)) out.verdict = parsed(row.text(15), "verdict");
    out.steps = steps_from(parsed(row.text(16), "steps"));
    out.level = row.u32(17, "level");
    if (out.level > 5) throw Error{Fault::malformed, fmt::format("journal: level is {}, want 0 to 5", out.level)};
    out.emulated = row.number(18) != 0;
    return out;
}

/// A row that is not as it was written is no fault of whoever asks for it.
Record record_from(const Statement& row) {
    try {
        return parsed_record(row);
    } catch (const Error& error) {
        throw Error{Fault::system, fmt::format("launch {} cannot be read: {}", row.number(0), error.what())};
    }
}

void bind_state(Statement& statement, const Record& record) {
    statement.bind(name(record.state))
        .bind(record.reversal())
        .bind(writable(record.reason, "reason"))
        .bind(attest::text(record.updated))
        .bind(psp::raw(record.asid))
        .bind(psp::raw(record.handle));
    statement.bind_or_null(record.session ? std::optional{hex(*record.session)} : std::nullopt)
        .bind_or_null(record.verdict ? std::optional{writable(record.verdict->dump(), "verdict")} : std::nullopt);
    statement.bind(writable(steps_text(record.steps), "steps")).bind(std::int64_t{has_ended(record.state)});
}

} // namespace

int Journal::Database::number(const char* sql, std::string_view doing) const {
    Statement statement{handle, sql};
    if (!statement.step()) failed(doing);
    return static_cast<int>(statement.number(0));
}

Journal::Journal(const Path& directory) : Journal{directory, bundle_limit_bytes} {}

Journal::Journal(const Path& directory, std::size_t bundles_bytes)
    : bundles_bytes_{bundles_bytes}, database_{std::make_unique<Database>()}, reading_{std::make_unique<Database>()} {
    const Path file = directory / "journal.sqlite", lock = directory / "lock";
    const std::string what = printable(file.string(), 1024);
    lock_ = Fd{::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!lock_)
        throw Error{Fault::system, fmt::format("{}: {}", printable(lock.string(), 1024), std::strerror(errno)),
                    "its directory must be there, and belong to the user sevd runs as"};
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
        throw Error{Fault::system, fmt::format("{}: another sevd has it", printable(lock.string(), 1024))};
    // SQLite makes its files beside the first with that one's mode.
    const Fd made{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!made || ::fchmod(made.get(), 0600) != 0) throw Error{Fault::system, fmt::format("{}: {}", what, std::strerror(errno))};

    within(what, [&] {
        open_to_write(file);
        open_to_read(file);
    });
}

void Journal::open_to_write(const Path& file) {
    if (::sqlite3_open_v2(file.c_str(), &database_->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, nullptr) != SQLITE_OK)
        database_->failed("opening");
    ::sqlite3_limit(database_->handle, SQLITE_LIMIT_LENGTH, 16 << 20);
    ::sqlite3_db_config(database_->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    ::sqlite3_db_config(database_->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    database_->run("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-512; PRAGMA mmap_size=0; "
                   "PRAGMA wal_autocheckpoint=256;",
                   "setting it up");
    if (database_->number("SELECT count(*) FROM sqlite_master", "looking into it") == 0) {
        database_->run(
            fmt::format("BEGIN IMMEDIATE; {} {} PRAGMA application_id={}; PRAGMA user_version={}; COMMIT;", schema, bundles_schema,
                        application_id, schema_version)
                .c_str(),
            "making it");
        return;
    }
    const int id = database_->number("PRAGMA application_id", "reading its id"),
              version = database_->number("PRAGMA user_version", "reading its version");
    if (id != application_id) throw Error{Fault::malformed, "is no journal of sevd"};
    if (version != 1 && version != schema_version)
        throw Error{Fault::malformed, fmt::format("is of version {}, want {}", version, schema_version), "use the sevd that made it"};
    Statement check{database_->handle, "PRAGMA quick_check(1)"};
    if (!check.step() || check.text(0) != "ok")
        throw Error{Fault::malformed, "is damaged: " + printable(check.text(0)), "restore it; or move it away once no guest of it is left"};
    if (version == 1)
        database_->run(fmt::format("BEGIN IMMEDIATE; {} PRAGMA user_version={}; COMMIT;", bundles_schema, schema_version).c_str(),
                       "bringing it up to this version");
}

void Journal::open_to_read(const Path& file) {
    if (::sqlite3_open_v2(file.c_str(), &reading_->handle, SQLITE_OPEN_READONLY | SQLITE_OPEN_FULLMUTEX, nullptr) != SQLITE_OK)
        reading_->failed("opening it to read");
    ::sqlite3_busy_timeout(reading_->handle, busy_ms);
    ::sqlite3_db_config(reading_->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    ::sqlite3_db_config(reading_->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    reading_->run("PRAGMA temp_store=MEMORY; PRAGMA cache_size=-512; PRAGMA mmap_size=0;", "setting it up to read");
}

Journal::~Journal() = default;

std::uint64_t Journal::add(const Record& record) {
    const std::scoped_lock lock{mutex_};
    Transaction whole{database_->handle};
    Statement insert{database_->handle, "INSERT INTO launches(state, reversal, reason, updated, asid, handle, session, verdict, steps, ended, name, "
                                        "owner, policy, evidence, guest, identity, created, es, level, emulated) "
                                        "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"};
    bind_state(insert, record);
    insert.bind(record.request.name)
        .bind(record.request.owner)
        .bind(record.request.policy)
        .bind(attest::name(record.request.evidence))
        .bind(writable(record.request.guest.dump(), "guest"))
        .bind(writable(record.identity.dump(), "identity"));
    insert.bind(attest::text(record.created)).bind(std::int64_t{record.es}).bind(std::int64_t{record.level}).bind(std::int64_t{record.emulated});
    insert.step();
    const auto id = static_cast<std::uint64_t>(::sqlite3_last_insert_rowid(database_->handle));
    Statement prune{database_->handle,
                    "DELETE FROM launches WHERE ended = 1 AND id <= (SELECT id FROM launches WHERE ended = 1 ORDER BY id DESC LIMIT 1 OFFSET ?)"};
    prune.bind(static_cast<std::int64_t>(ended_limit));
    prune.step();
    if (::sqlite3_changes(database_->handle) > 0)
        Statement{database_->handle, "DELETE FROM bundles WHERE launch NOT IN (SELECT id FROM launches)"}.step();
    whole.commit();
    return id;
}

void Journal::save(const Record& record) {
    const std::scoped_lock lock{mutex_};
    Statement update{
        database_->handle,
        "UPDATE launches SET state=?, reversal=?, reason=?, updated=?, asid=?, handle=?, session=?, verdict=?, steps=?, ended=? WHERE id=?"};
    bind_state(update, record);
    update.bind(static_cast<std::int64_t>(record.id));
    update.step();
    if (::sqlite3_changes(database_->handle) != 1) throw Error{Fault::system, fmt::format("journal: launch {} is not in it", record.id)};
}

bool Journal::use_session(const attest::SessionId& session, std::uint64_t launch) {
    const std::scoped_lock lock{mutex_};
    Statement insert{database_->handle, "INSERT INTO sessions(session, launch) VALUES(?, ?) ON CONFLICT DO NOTHING"};
    insert.bind(hex(session)).bind(static_cast<std::int64_t>(launch)).step();
    return ::sqlite3_changes(database_->handle) == 1;
}

void Journal::keep_bundle(std::uint64_t launch, const attest::Bundle& bundle, attest::Time measured) {
    const std::scoped_lock lock{mutex_};
    Transaction whole{database_->handle};
    Statement insert{database_->handle, "INSERT OR REPLACE INTO bundles(launch, measured, bytes, content) VALUES(?, ?, ?, ?)"};
    const std::string content = bundle.to_json().dump();
    insert.bind(static_cast<std::int64_t>(launch)).bind(attest::text(measured)).bind(static_cast<std::int64_t>(content.size())).bind(content).step();
    // This one first, then those of launches that have not ended, then the newest: what comes after the limit goes.
    Statement prune{database_->handle,
                    "DELETE FROM bundles WHERE launch IN (SELECT launch FROM (SELECT b.launch, sum(b.bytes) OVER (ORDER BY b.launch = ?1 "
                    "DESC, coalesce(l.ended, 1), b.launch DESC) AS so_far FROM bundles b LEFT JOIN launches l ON l.id = b.launch) WHERE so_far > ?2 "
                    "AND launch <> ?1)"};
    prune.bind(static_cast<std::int64_t>(launch)).bind(static_cast<std::int64_t>(bundles_bytes_)).step();
    whole.commit();
}

std::optional<Journal::Kept> Journal::bundle(std::uint64_t launch) const {
    const std::scoped_lock lock{reading_mutex_};
    Statement select{reading_->handle, "SELECT measured, content FROM bundles WHERE launch = ?"};
    if (launch > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) || !select.bind(static_cast<std::int64_t>(launch)).step())
        return std::nullopt;
    try {
        return Kept{.bundle = attest::read_message<attest::Bundle>(select.text(1, attest::Bundle::limit_bytes), "journal: bundle"),
                    .measured = attest::parse_time(select.text(0), "journal: measured")};
    } catch (const Error& error) {
        throw Error{Fault::system, fmt::format("the bundle of launch {} cannot be read: {}", launch, error.what())};
    }
}

std::vector<Record> Journal::unended() const {
    const std::scoped_lock lock{reading_mutex_};
    Statement select{reading_->handle, fmt::format("SELECT {} FROM launches WHERE ended = 0 ORDER BY id", columns)};
    std::vector<Record> out;
    while (select.step()) out.push_back(record_from(select));
    return out;
}

std::optional<Record> Journal::find(std::uint64_t id) const {
    const std::scoped_lock lock{reading_mutex_};
    Statement select{reading_->handle, fmt::format("SELECT {} FROM launches WHERE id = ?", columns)};
    if (id > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) || !select.bind(static_cast<std::int64_t>(id)).step())
        return std::nullopt;
    return record_from(select);
}

std::vector<Record> Journal::newest(std::size_t limit, const std::optional<std::string>& name) const {
    const std::scoped_lock lock{reading_mutex_};
    Statement select{reading_->handle,
                     fmt::format("SELECT {} FROM launches {} ORDER BY id DESC LIMIT ?", brief_columns, name ? "WHERE name = ?" : "")};
    if (name) select.bind(std::string_view{*name});
    select.bind(static_cast<std::int64_t>(limit));
    std::vector<Record> out;
    while (select.step()) {
        try {
            out.push_back(record_from(select));
        } catch (const Error& error) {
            if (told_.insert(select.number(0)).second && unreadable_) unreadable_(error.what());
        }
    }
    return out;
}

void Journal::on_unreadable(Unreadable unreadable) {
    const std::scoped_lock lock{reading_mutex_};
    unreadable_ = std::move(unreadable);
}

void Journal::add_stuck(const Stuck& stuck) {
    const std::scoped_lock lock{mutex_};
    Statement insert{database_->handle, "INSERT OR REPLACE INTO stuck(handle, asid, reason) VALUES(?, ?, ?)"};
    insert.bind(psp::raw(stuck.handle)).bind(psp::raw(stuck.asid)).bind(stuck.reason).step();
}

void Journal::remove_stuck(psp::GuestHandle handle) {
    const std::scoped_lock lock{mutex_};
    Statement remove{database_->handle, "DELETE FROM stuck WHERE handle = ?"};
    remove.bind(psp::raw(handle)).step();
}

std::vector<Journal::Stuck> Journal::stuck() const {
    const std::scoped_lock lock{reading_mutex_};
    Statement select{reading_->handle, "SELECT handle, asid, reason FROM stuck ORDER BY handle"};
    std::vector<Stuck> out;
    while (select.step())
        out.push_back(
            {.handle = psp::GuestHandle{select.u32(0, "guest handle")}, .asid = psp::Asid{select.u32(1, "ASID")}, .reason = select.text(2)});
    return out;
}

} // namespace sev::daemon
