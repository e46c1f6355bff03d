// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace sev::service {

/// syslog's numbers.
enum class Priority { error = 3, warning = 4, notice = 5, info = 6, debug = 7 };

/// One fact of a log entry. `key` is lower-case letters, digits and "_"; `value` may come from outside: it is made printable and cut at 1024
/// characters.
struct Field {
    std::string_view key;
    std::string value;
};

enum class Sink { standard_error, journal };

/// A program's log. Under systemd, entries of the journal with fields (XEN_SEV_LAUNCH=…); elsewhere one `key=value` line each on stderr:
/// "2026-01-02T03:04:05.678Z notice sevd: launch is running launch=7 name=web". Thread-safe. Libraries are given one; they never make one. No secret
/// goes in.
class Log {
public:
    Log(std::string program, Sink sink, Priority most = Priority::info) : program_{std::move(program)}, sink_{sink}, most_{most} {}
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;
    void write(Priority priority, std::string_view message, std::initializer_list<Field> fields = {});
    void error(std::string_view message, std::initializer_list<Field> fields = {}) { write(Priority::error, message, fields); }
    void warning(std::string_view message, std::initializer_list<Field> fields = {}) { write(Priority::warning, message, fields); }
    void notice(std::string_view message, std::initializer_list<Field> fields = {}) { write(Priority::notice, message, fields); }
    void info(std::string_view message, std::initializer_list<Field> fields = {}) { write(Priority::info, message, fields); }
    void debug(std::string_view message, std::initializer_list<Field> fields = {}) { write(Priority::debug, message, fields); }
    void set_most(Priority most);

private:
    std::string program_;
    Sink sink_;
    Priority most_;
    std::mutex mutex_;
};

/// The text of one stderr line without its final newline; `stamp` is the time as it is to stand there.
std::string log_line(std::string_view stamp, std::string_view program, Priority priority, std::string_view message, const std::vector<Field>& fields);

} // namespace sev::service
