// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include <map>

#include <fmt/format.h>
#include <sqlite3.h>

#include "attest/owner/database.hpp"

namespace sev::attest::owner {
namespace {

constexpr int busy_timeout_ms = 10'000;

struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
    void operator()(sqlite3* database) const noexcept { sqlite3_close_v2(database); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

class Sqlite final : public Database {
public:
    Sqlite(const Path& path, bool read_only) : path_{path} {
        if (!read_only) make_file();
        sqlite3* raw = nullptr;
        const int flags = (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX;
        const int result = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
        database_.reset(raw);
        if (result != SQLITE_OK) fail("open");
        sqlite3_busy_timeout(raw, busy_timeout_ms);
        sqlite3_extended_result_codes(raw, 1);
        sqlite3_limit(raw, SQLITE_LIMIT_LENGTH, 16 << 20);
        if (!read_only) script("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;");
        script("PRAGMA secure_delete=ON; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA cache_size=-4096;");
    }

    SqlResult run(std::string_view text, std::span<const SqlValue> values) override {
        sqlite3_stmt* statement = prepared(text);
        struct Reset {
            sqlite3_stmt* statement;
            ~Reset() {
                sqlite3_reset(statement);
                sqlite3_clear_bindings(statement);
            }
        } const reset{statement};
        for (std::size_t i = 0; i < values.size(); ++i) bind(statement, static_cast<int>(i + 1), values[i]);
        SqlResult out;
        for (;;) {
            const int step = sqlite3_step(statement);
            if (step == SQLITE_DONE) break;
            if (step != SQLITE_ROW) fail("run");
            out.rows.push_back(row(statement));
        }
        out.changed = static_cast<std::uint64_t>(sqlite3_changes64(database_.get()));
        return out;
    }

    void begin() override { script("BEGIN IMMEDIATE"); }
    void commit() override { script("COMMIT"); }
    void roll_back() noexcept override { sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr); }
    std::string_view lock_clause() const override { return ""; }
    std::string schema() const override {
        return table_statements("BLOB") +
               "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;"
               "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;";
    }
    bool has_tables() override {
        return !run("SELECT 1 FROM sqlite_master WHERE type='table' AND name='meta'", std::span<const SqlValue>{}).rows.empty();
    }
    bool broken() const override { return false; }
    void reconnect() override {}
    /// Several statements without values.
    void script(const std::string& text) {
        if (sqlite3_exec(database_.get(), text.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail("run");
    }

private:
    /// SQLite gives its journal the mode of the database, so only the first creation matters.
    void make_file() const {
        const Fd fd{open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
        if (!fd) throw Error{Fault::system, fmt::format("{}: {}", path_.string(), std::error_code{errno, std::generic_category()}.message())};
        struct stat status {};
        if (fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) throw Error{Fault::system, path_.string() + ": is no regular file"};
        if ((status.st_mode & 077) != 0)
            throw Error{Fault::system, fmt::format("{}: has mode {:04o}, want 0600", path_.string(), status.st_mode & 07777),
                        "chmod 600 " + path_.string()};
    }

    [[noreturn]] void fail(std::string_view doing) const {
        throw Error{Fault::system, fmt::format("store {}: {}: {}", path_.string(), doing, database_ ? sqlite3_errmsg(database_.get()) : "no memory")};
    }

    sqlite3_stmt* prepared(std::string_view text) {
        const auto found = statements_.find(text);
        if (found != statements_.end()) return found->second.get();
        sqlite3_stmt* raw = nullptr;
        if (sqlite3_prepare_v3(database_.get(), text.data(), static_cast<int>(text.size()), SQLITE_PREPARE_PERSISTENT, &raw, nullptr) != SQLITE_OK)
            fail("prepare");
        return statements_.emplace(std::string{text}, Statement{raw}).first->second.get();
    }

    void bind(sqlite3_stmt* statement, int number, const SqlValue& value) const {
        // "$3" is a named parameter to SQLite: its place is looked up, not counted
        const int at = sqlite3_bind_parameter_index(statement, fmt::format("${}", number).c_str());
        require(at > 0, "every value has its place in the statement");
        int result = SQLITE_OK;
        if (const auto* integer = std::get_if<std::int64_t>(&value)) result = sqlite3_bind_int64(statement, at, *integer);
        else if (const auto* text = std::get_if<std::string>(&value))
            result = sqlite3_bind_text64(statement, at, text->data(), text->size(), SQLITE_TRANSIENT, SQLITE_UTF8);
        else if (const auto* blob = std::get_if<Bytes>(&value))
            result = sqlite3_bind_blob64(statement, at, blob->empty() ? "" : static_cast<const void*>(blob->data()), blob->size(), SQLITE_TRANSIENT);
        else result = sqlite3_bind_null(statement, at);
        if (result != SQLITE_OK) fail("bind");
    }

    static SqlRow row(sqlite3_stmt* statement) {
        SqlRow out;
        for (int i = 0; i < sqlite3_column_count(statement); ++i) {
            const auto size = [&] { return static_cast<std::size_t>(sqlite3_column_bytes(statement, i)); };
            switch (sqlite3_column_type(statement, i)) {
            case SQLITE_INTEGER: out.columns.emplace_back(std::int64_t{sqlite3_column_int64(statement, i)}); break;
            case SQLITE_TEXT: {
                const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
                out.columns.emplace_back(std::string{text, size()});
                break;
            }
            case SQLITE_BLOB: {
                const auto* blob = static_cast<const std::uint8_t*>(sqlite3_column_blob(statement, i));
                out.columns.emplace_back(Bytes(blob, blob + size()));
                break;
            }
            default: out.columns.emplace_back(SqlNull{});
            }
        }
        return out;
    }

    Path path_;
    std::unique_ptr<sqlite3, Finalize> database_;
    std::map<std::string, Statement, std::less<>> statements_; // after database_: finalised first
};

} // namespace

std::unique_ptr<Database> open_sqlite(const Path& path, bool read_only) {
    auto out = std::make_unique<Sqlite>(path, read_only);
    if (read_only) return out;
    out->begin();
    try {
        if (!out->has_tables()) out->script(out->schema());
        out->commit();
    } catch (...) {
        out->roll_back();
        throw;
    }
    return out;
}

} // namespace sev::attest::owner
