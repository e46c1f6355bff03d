// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/file.hpp"

/// One connection to an SQL database: what SQLite and PostgreSQL have in common, no more. Statements use $1, $2, … and what both dialects understand.
namespace sev::attest::owner {

using SqlNull = std::monostate;
using SqlValue = std::variant<SqlNull, std::int64_t, std::string, Bytes>;

struct SqlRow {
    std::vector<SqlValue> columns;
    /// Throw Error{Fault::system} when the column is of another type: the store was changed by something else.
    std::int64_t integer(std::size_t at) const;
    const std::string& text(std::size_t at) const;
    std::string text_or_empty(std::size_t at) const; // NULL is empty
    Bytes blob(std::size_t at) const;                // NULL is empty
    bool null(std::size_t at) const { return std::holds_alternative<SqlNull>(columns.at(at)); }
};
struct SqlResult {
    std::vector<SqlRow> rows;
    std::uint64_t changed = 0; // rows that INSERT, UPDATE or DELETE touched
};

/// Not thread-safe. Throws Error{Fault::system} with the database's message, but never with a value that was bound.
class Database {
public:
    virtual ~Database() = default;
    Database() = default;
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    virtual SqlResult run(std::string_view statement, std::span<const SqlValue> values) = 0;
    SqlResult run(std::string_view statement, std::initializer_list<SqlValue> values = {}) {
        return run(statement, std::span{values.begin(), values.size()});
    }
    /// Begins a transaction in which what is read stays true until the commit, as far as `lock_clause` locks it.
    virtual void begin() = 0;
    /// Durable when it returns.
    virtual void commit() = 0;
    /// Never throws: the transaction is gone either way.
    virtual void roll_back() noexcept = 0;
    /// Appended to a SELECT whose rows must not change until the commit: " FOR UPDATE", or nothing where a transaction locks everything.
    virtual std::string_view lock_clause() const = 0;
    /// Statements that make the tables.
    virtual std::string schema() const = 0;
    /// Whether the tables are there.
    virtual bool has_tables() = 0;
    /// Whether the connection broke; `run` and `begin` then throw until `reconnect`.
    virtual bool broken() const = 0;
    virtual void reconnect() = 0;
};

std::unique_ptr<Database> open_sqlite(const Path& path, bool read_only);
std::unique_ptr<Database> open_postgresql(const std::string& connection, const std::string& schema);

/// The tables, with "{blob}" for the type of bytes.
std::string table_statements(std::string_view blob_type);

} // namespace sev::attest::owner
