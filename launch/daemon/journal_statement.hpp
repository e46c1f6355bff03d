// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>

#include <fmt/format.h>
#include <sqlite3.h>

#include "base/bytes.hpp"
#include "base/error.hpp"

/// Inside launch/daemon/: the journal's way to SQLite. All of it throws Error{Fault::system}.
namespace sev::daemon {

constexpr std::size_t journal_text_limit_bytes = 1U << 20;

/// One prepared statement and its values, in order.
class Statement {
public:
    Statement(sqlite3* database, std::string_view sql) : database_{database} {
        if (::sqlite3_prepare_v2(database, sql.data(), static_cast<int>(sql.size()), &statement_, nullptr) != SQLITE_OK) failed("preparing");
    }
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;
    ~Statement() { ::sqlite3_finalize(statement_); }
    Statement& bind(std::int64_t value) { return check(::sqlite3_bind_int64(statement_, ++bound_, value)); }
    Statement& bind(std::string_view text) {
        return check(::sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT));
    }
    Statement& bind_or_null(const std::optional<std::string>& text) {
        return text ? bind(std::string_view{*text}) : check(::sqlite3_bind_null(statement_, ++bound_));
    }
    /// True when there is a row.
    bool step() {
        const int result = ::sqlite3_step(statement_);
        if (result != SQLITE_ROW && result != SQLITE_DONE) failed("writing or reading");
        return result == SQLITE_ROW;
    }
    std::int64_t number(int column) const { return ::sqlite3_column_int64(statement_, column); }
    std::uint32_t u32(int column, const char* what) const {
        const std::int64_t value = number(column);
        if (value < 0 || value > 0xFFFF'FFFF) throw Error{Fault::system, fmt::format("journal: {} is {}, want 0 to 4294967295", what, value)};
        return static_cast<std::uint32_t>(value);
    }
    std::string text(int column, std::size_t limit_bytes = journal_text_limit_bytes) const {
        const auto size = static_cast<std::size_t>(::sqlite3_column_bytes(statement_, column));
        if (size > limit_bytes) throw Error{Fault::system, fmt::format("journal: a text of {} bytes, want at most {}", size, limit_bytes)};
        const auto* data = static_cast<const char*>(static_cast<const void*>(::sqlite3_column_text(statement_, column)));
        return data ? std::string{data, size} : std::string{};
    }
    bool null(int column) const { return ::sqlite3_column_type(statement_, column) == SQLITE_NULL; }

private:
    Statement& check(int result) {
        if (result != SQLITE_OK) failed("binding");
        return *this;
    }
    [[noreturn]] void failed(std::string_view doing) const {
        throw Error{Fault::system, fmt::format("journal: {}: {}", doing, printable(::sqlite3_errmsg(database_), 512)),
                    ::sqlite3_errcode(database_) == SQLITE_FULL ? "make room on its disk" : ""};
    }
    sqlite3* database_;
    sqlite3_stmt* statement_ = nullptr;
    int bound_ = 0;
};

/// Several statements of which all are on the disk at the end, or none.
class Transaction {
public:
    explicit Transaction(sqlite3* database) : database_{database} { Statement{database, "BEGIN IMMEDIATE"}.step(); }
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    ~Transaction() {
        // what failed for good, as a full disk does, may have been rolled back by SQLite itself
        if (::sqlite3_get_autocommit(database_) == 0) ::sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
    }
    void commit() { Statement{database_, "COMMIT"}.step(); }

private:
    sqlite3* database_;
};

} // namespace sev::daemon
