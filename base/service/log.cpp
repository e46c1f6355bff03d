// SPDX-License-Identifier: Apache-2.0
#include "base/service/log.hpp"

#include <cstdio>
#include <ctime>

#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace sev::service {
namespace {

constexpr std::size_t value_limit = 1024;

std::string_view word(Priority priority) {
    switch (priority) {
    case Priority::error: return "error";
    case Priority::warning: return "warning";
    case Priority::notice: return "notice";
    case Priority::info: return "info";
    case Priority::debug: return "debug";
    }
    return "error";
}

bool key_is_good(std::string_view key) {
    return !key.empty() && key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string_view::npos && key.front() != '_';
}

/// A value as it stands after "=": quoted when it is empty or holds what would blur where it ends.
std::string as_value(std::string_view text) {
    const std::string clean = printable(text, value_limit);
    if (!clean.empty() && clean.find_first_of(" \"=") == std::string::npos) return clean;
    std::string out = "\"";
    for (const char c : clean) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

std::string now_stamp() {
    struct timespec now {};
    ::clock_gettime(CLOCK_REALTIME, &now);
    struct tm parts {};
    ::gmtime_r(&now.tv_sec, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                       parts.tm_min, parts.tm_sec, now.tv_nsec / 1'000'000);
}

/// XEN_SEV_LAUNCH for "launch": fields of our own do not collide with the journal's.
std::string journal_name(std::string_view key) {
    std::string out = "XEN_SEV_";
    for (const char c : key) out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    return out;
}

void to_journal(Priority priority, const std::string& program, std::string_view message, const std::vector<Field>& fields) {
    std::string text = printable(message, value_limit);
    std::vector<std::string> entries{fmt::format("PRIORITY={}", static_cast<int>(priority)), "SYSLOG_IDENTIFIER=" + program};
    for (const Field& field : fields) {
        text += fmt::format(" {}={}", field.key, as_value(field.value));
        entries.push_back(journal_name(field.key) + "=" + printable(field.value, value_limit));
    }
    entries.push_back("MESSAGE=" + text);
    std::vector<struct iovec> parts;
    for (std::string& entry : entries) parts.push_back({.iov_base = entry.data(), .iov_len = entry.size()});
    ::sd_journal_sendv(parts.data(), static_cast<int>(parts.size())); // a log that cannot be written stops nothing
}

} // namespace

std::string log_line(std::string_view stamp, std::string_view program, Priority priority, std::string_view message,
                     const std::vector<Field>& fields) {
    std::string line = fmt::format("{} {} {}: {}", stamp, word(priority), program, printable(message, value_limit));
    for (const Field& field : fields) line += fmt::format(" {}={}", field.key, as_value(field.value));
    return line;
}

void Log::set_most(Priority most) {
    const std::scoped_lock lock{mutex_};
    most_ = most;
}

void Log::write(Priority priority, std::string_view message, std::initializer_list<Field> fields) {
    for (const Field& field : fields) require(key_is_good(field.key), "a log field has a lower-case name");
    const std::scoped_lock lock{mutex_};
    if (priority > most_) return;
    if (sink_ == Sink::journal) return to_journal(priority, program_, message, fields);
    const std::string line = log_line(now_stamp(), program_, priority, message, fields) + "\n";
    // One write a line, so that lines of several processes do not mix. A stderr that is gone or full stops nothing.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

} // namespace sev::service
