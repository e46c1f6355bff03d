// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <map>

#include <fmt/format.h>
#include <libpq-fe.h>
#include <poll.h>

#include "attest/owner/database.hpp"

namespace sev::attest::owner {
namespace {

constexpr Oid oid_bytea = 17, oid_int8 = 20, oid_text = 25, oid_int4 = 23;
constexpr int binary = 1;

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;
constexpr auto answer_patience = 12s; // more than the server's own timeouts: those come back as errors of a connection that still works
constexpr auto silence = 1s;          // for so long after a server said nothing it is not asked again: others wait behind each question

struct Clear {
    void operator()(PGconn* connection) const noexcept { PQfinish(connection); }
    void operator()(PGresult* result) const noexcept { PQclear(result); }
    void operator()(PQconninfoOption* options) const noexcept { PQconninfoFree(options); }
};
using Result = std::unique_ptr<PGresult, Clear>;

/// libpq's message, in one line. It never holds a bound value of ours: PostgreSQL's log_parameter settings do not reach clients.
std::string one_line(const char* message) {
    std::string out{message ? message : ""};
    while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
    std::ranges::replace(out, '\n', ' ');
    return printable(out, 300);
}

using Options = std::unique_ptr<PQconninfoOption, Clear>;

/// What libpq will use for a keyword: what was given, or else what the environment or libpq itself has for it.
std::string effective(const Options& given, const Options& defaults, std::string_view keyword) {
    for (const auto* options : {&given, &defaults})
        for (const PQconninfoOption* option = options->get(); option && option->keyword; ++option)
            if (option->val && *option->val && option->keyword == keyword) return option->val;
    return {};
}

/// A server across a network is one whose certificate is verified, or none: libpq's own default takes anybody who answers.
void check_way(const Options& given) {
    const Options defaults{PQconndefaults()};
    const std::string hosts = effective(given, defaults, "host"), address = effective(given, defaults, "hostaddr");
    std::string remote = address;
    for (std::size_t at = 0; at < hosts.size();) {
        const std::size_t end = std::min(hosts.find(',', at), hosts.size());
        if (const std::string host = hosts.substr(at, end - at); !host.starts_with('/')) remote = host;
        at = end + 1;
    }
    const std::string mode = effective(given, defaults, "sslmode");
    if (!remote.empty() && mode != "verify-full")
        throw Error{
            Fault::usage,
            fmt::format("postgresql connection: {} is no socket's folder, and sslmode is {}, want verify-full", printable(remote), printable(mode)),
            "sslmode=verify-full sslrootcert=FILE, or host=/run/postgresql on the same machine"};
}

/// Keywords as libpq takes them; a password in them would stand in a configuration file that others may read.
void check_connection(const std::string& text) {
    char* problem = nullptr;
    const Options options{PQconninfoParse(text.c_str(), &problem)};
    if (!options) {
        std::string why = one_line(problem);
        PQfreemem(problem);
        throw Error{Fault::usage, "postgresql connection: " + why};
    }
    for (const PQconninfoOption* option = options.get(); option->keyword; ++option)
        if (option->val && (std::string_view{option->keyword} == "password" || std::string_view{option->keyword} == "sslpassword"))
            throw Error{Fault::usage, fmt::format("postgresql connection: has a {}, which does not belong in a configuration", option->keyword),
                        "use passfile=FILE (mode 0600), or peer or certificate authentication"};
    if (!effective(options, nullptr, "service").empty())
        throw Error{Fault::usage, "postgresql connection: names a service, whose file could say anything", "write here what the service's file says"};
    if (const std::string patience = effective(options, nullptr, "connect_timeout"); !patience.empty()) {
        int seconds = 0;
        const auto [end, error] = std::from_chars(patience.data(), patience.data() + patience.size(), seconds);
        if (error != std::errc{} || end != patience.data() + patience.size() || seconds < 2 || seconds > 60)
            throw Error{Fault::usage, fmt::format("postgresql connection: connect_timeout is {}, want 2 to 60 s", printable(patience))};
    }
    check_way(options);
}

class Postgresql final : public Database {
public:
    Postgresql(std::string connection, std::string schema) : text_{std::move(connection)}, schema_{std::move(schema)} {
        if (schema_.empty() || schema_.size() > 48 || schema_.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos)
            throw Error{Fault::usage, fmt::format("postgresql schema \"{}\": want 1 to 48 of a-z 0-9 _", printable(schema_))};
        check_connection(text_);
        reconnect();
    }

    SqlResult run(std::string_view text, std::span<const SqlValue> values) override {
        const std::string& name = prepared(text);
        std::vector<const char*> pointers;
        std::vector<int> lengths, formats;
        std::vector<std::string> numbers(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            const SqlValue& value = values[i];
            formats.push_back(std::holds_alternative<Bytes>(value) ? binary : 0);
            if (const auto* integer = std::get_if<std::int64_t>(&value)) {
                numbers[i] = std::to_string(*integer);
                pointers.push_back(numbers[i].c_str());
                lengths.push_back(0);
            } else if (const auto* string = std::get_if<std::string>(&value)) {
                pointers.push_back(string->c_str());
                lengths.push_back(0);
            } else if (const auto* blob = std::get_if<Bytes>(&value)) {
                static constexpr char nothing = 0;
                pointers.push_back(blob->empty() ? &nothing : reinterpret_cast<const char*>(blob->data()));
                lengths.push_back(static_cast<int>(blob->size()));
            } else {
                pointers.push_back(nullptr);
                lengths.push_back(0);
            }
        }
        const Result result = answer(PQsendQueryPrepared(connection_.get(), name.c_str(), static_cast<int>(values.size()), pointers.data(),
                                                         lengths.data(), formats.data(), binary));
        expect(result, "run");
        SqlResult out;
        for (int row = 0; row < PQntuples(result.get()); ++row) out.rows.push_back(row_of(result.get(), row));
        const std::string_view changed = PQcmdTuples(result.get());
        std::from_chars(changed.data(), changed.data() + changed.size(), out.changed);
        return out;
    }

    void begin() override { script("BEGIN ISOLATION LEVEL READ COMMITTED"); }
    void commit() override {
        const Result result = answer(PQsendQuery(connection_.get(), "COMMIT"));
        expect(result, "commit");
        // COMMIT of a failed transaction succeeds, and says ROLLBACK
        if (std::string_view{PQcmdStatus(result.get())} != "COMMIT")
            throw Error{Fault::system, "store: the transaction was rolled back by PostgreSQL"};
    }
    void roll_back() noexcept override {
        if (broken()) return; // the server rolls back what nobody commits
        try {
            answer(PQsendQuery(connection_.get(), "ROLLBACK"));
        } catch (const std::exception&) {
            connection_.reset();
        }
    }
    std::string_view lock_clause() const override { return " FOR UPDATE"; }
    std::string schema() const override {
        return table_statements("BYTEA") +
               "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END "
               "$$;"
               "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();";
    }
    bool has_tables() override {
        return !run("SELECT 1 FROM information_schema.tables WHERE table_schema = $1 AND table_name = 'meta'", std::vector<SqlValue>{schema_})
                    .rows.empty();
    }
    bool broken() const override { return !connection_ || PQstatus(connection_.get()) != CONNECTION_OK; }

    void reconnect() override {
        names_.clear();
        connection_.reset();
        if (Clock::now() < silent_until_) throw Error{Fault::system, "store: PostgreSQL: did not answer a moment ago"};
        // for each host and address that is tried; a connect_timeout that is given stands after it, and is taken
        constexpr std::array<const char*, 3> keywords{"connect_timeout", "dbname", nullptr};
        const std::array<const char*, 3> values{"5", text_.c_str(), nullptr};
        const auto begun = Clock::now();
        connection_.reset(PQconnectdbParams(keywords.data(), values.data(), 1));
        if (broken()) {
            if (Clock::now() - begun > silence) silent_until_ = Clock::now() + silence;
            throw Error{Fault::system, "store: PostgreSQL: " + one_line(connection_ ? PQerrorMessage(connection_.get()) : "no memory")};
        }
        PQsetnonblocking(connection_.get(), 1);
        PQsetNoticeProcessor(connection_.get(), [](void*, const char*) {}, nullptr);
        // whatever the server is set to: a commit is durable, and a statement or lock that hangs comes back as an error
        script("SET synchronous_commit = on; SET statement_timeout = '10s'; SET lock_timeout = '8s'; SET idle_in_transaction_session_timeout = "
               "'30s'; SET client_min_messages = warning;");
        script(fmt::format("SET search_path = {}, pg_catalog", schema_));
    }
    /// Several statements without values.
    void script(const std::string& text) {
        const Result result = answer(PQsendQuery(connection_.get(), text.c_str()));
        expect(result, "run");
    }
    void make_tables() {
        script(fmt::format("BEGIN; SELECT pg_advisory_xact_lock(7355608, hashtext('{}'));", schema_)); // two instances may start at once
        try {
            if (!has_tables()) {
                script(fmt::format("CREATE SCHEMA IF NOT EXISTS {}", schema_));
                script(schema());
            }
            commit();
        } catch (...) {
            roll_back();
            throw;
        }
    }

private:
    /// Waits for the socket; false when the deadline has passed.
    static bool ready(int socket, int events, Clock::time_point until) {
        for (;;) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
            if (left <= 0) return false;
            pollfd waiting{.fd = socket, .events = static_cast<short>(events), .revents = 0};
            const int found = ::poll(&waiting, 1, static_cast<int>(left));
            if (found > 0) return true;
            if (found < 0 && errno != EINTR) throw Error{Fault::system, fmt::format("store: PostgreSQL: poll: {}", one_line(std::strerror(errno)))};
        }
    }

    /// The last result of what was sent, which libpq says it was. A server that says nothing for too long has lost its connection.
    Result answer(int sent) {
        if (sent != 1)
            throw Error{Fault::system, "store: PostgreSQL: " + one_line(connection_ ? PQerrorMessage(connection_.get()) : "no connection")};
        PGconn* const pg = connection_.get();
        const auto until = Clock::now() + answer_patience;
        const auto wait = [&](int events) {
            if (ready(PQsocket(pg), events, until)) {
                PQconsumeInput(pg);
                return;
            }
            silent_until_ = Clock::now() + silence;
            connection_.reset();
            throw Error{Fault::system, fmt::format("store: PostgreSQL: no answer within {} s", answer_patience.count())};
        };
        // what cannot be sent or read is in the result that follows
        while (PQstatus(pg) == CONNECTION_OK && PQflush(pg) == 1) wait(POLLIN | POLLOUT);
        Result last;
        for (;;) {
            while (PQstatus(pg) == CONNECTION_OK && PQisBusy(pg) == 1) wait(POLLIN);
            Result next{PQgetResult(pg)};
            if (!next) return last;
            last = std::move(next);
        }
    }

    void expect(const Result& result, std::string_view doing) {
        const ExecStatusType status = result ? PQresultStatus(result.get()) : PGRES_FATAL_ERROR;
        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) return;
        const char* primary = result ? PQresultErrorField(result.get(), PG_DIAG_MESSAGE_PRIMARY) : nullptr;
        throw Error{Fault::system, fmt::format("store: PostgreSQL: {}: {}", doing, one_line(primary ? primary : PQerrorMessage(connection_.get())))};
    }

    const std::string& prepared(std::string_view text) {
        const auto found = names_.find(text);
        if (found != names_.end()) return found->second;
        std::string name = fmt::format("s{}", names_.size());
        const Result result = answer(PQsendPrepare(connection_.get(), name.c_str(), std::string{text}.c_str(), 0, nullptr));
        expect(result, "prepare");
        return names_.emplace(std::string{text}, std::move(name)).first->second;
    }

    static SqlRow row_of(const PGresult* result, int row) {
        SqlRow out;
        for (int column = 0; column < PQnfields(result); ++column) {
            if (PQgetisnull(result, row, column)) {
                out.columns.emplace_back(SqlNull{});
                continue;
            }
            const auto* data = reinterpret_cast<const std::uint8_t*>(PQgetvalue(result, row, column));
            const auto size = static_cast<std::size_t>(PQgetlength(result, row, column));
            const Oid type = PQftype(result, column);
            if (type == oid_int8 || type == oid_int4) {
                std::uint64_t value = 0;
                for (std::size_t i = 0; i < size; ++i) value = value << 8 | data[i];
                out.columns.emplace_back(type == oid_int4 ? std::int64_t{static_cast<std::int32_t>(value)} : static_cast<std::int64_t>(value));
            } else if (type == oid_bytea) out.columns.emplace_back(Bytes(data, data + size));
            else if (type == oid_text) out.columns.emplace_back(std::string{reinterpret_cast<const char*>(data), size});
            else throw Error{Fault::system, fmt::format("store: PostgreSQL: column {} has type {}, want text, bigint or bytea", column, type)};
        }
        return out;
    }

    std::string text_, schema_;
    std::unique_ptr<PGconn, Clear> connection_;
    std::map<std::string, std::string, std::less<>> names_;
    Clock::time_point silent_until_{};
};

} // namespace

std::unique_ptr<Database> open_postgresql(const std::string& connection, const std::string& schema) {
    auto out = std::make_unique<Postgresql>(connection, schema);
    out->make_tables();
    return out;
}

} // namespace sev::attest::owner
