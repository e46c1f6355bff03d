// SPDX-License-Identifier: Apache-2.0
#include "attest/endorsement/retry.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::endorsement {
namespace {

using std::chrono::seconds;
constexpr std::array<std::string_view, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
constexpr std::array<std::string_view, 7> days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::array<std::string_view, 7> long_days{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};

/// Reads a date front to back; after the first thing that does not fit it stays broken.
class DateReader {
public:
    explicit DateReader(std::string_view text) : rest_{text} {}
    bool whole() const noexcept { return good_ && rest_.empty(); }

    void literal(std::string_view text) {
        good_ = good_ && rest_.starts_with(text);
        if (good_) rest_.remove_prefix(text.size());
    }
    template <std::size_t Size>
    unsigned one_of(const std::array<std::string_view, Size>& names) {
        const auto found = std::ranges::find_if(names, [&](std::string_view name) { return rest_.starts_with(name); });
        good_ = good_ && found != names.end();
        if (!good_) return 0;
        rest_.remove_prefix(found->size());
        return static_cast<unsigned>(found - names.begin());
    }
    /// Exactly `digits` digits; a space may stand for the first when `padded`.
    int number(std::size_t digits, bool padded = false) {
        int value = 0;
        for (std::size_t i = 0; i < digits; ++i) {
            const bool blank = padded && i == 0 && rest_.starts_with(' ');
            good_ = good_ && !rest_.empty() && (blank || (rest_[0] >= '0' && rest_[0] <= '9'));
            if (!good_) return 0;
            if (!blank) value = value * 10 + (rest_[0] - '0');
            rest_.remove_prefix(1);
        }
        return value;
    }

private:
    std::string_view rest_;
    bool good_ = true;
};

struct Clock {
    int hour, minute, second;
};
Clock clock(DateReader& reader) {
    const int hour = reader.number(2);
    reader.literal(":");
    const int minute = reader.number(2);
    reader.literal(":");
    return {hour, minute, reader.number(2)};
}

std::optional<Time> date(int year, unsigned month, int day, Clock clock) {
    const auto date = std::chrono::year{year} / static_cast<int>(month + 1) / day;
    if (!date.ok() || clock.hour > 23 || clock.minute > 59 || clock.second > 60) return std::nullopt; // 60: a leap second
    return std::chrono::sys_days{date} + std::chrono::hours{clock.hour} + std::chrono::minutes{clock.minute} + seconds{clock.second};
}

/// "Sun, 06 Nov 1994 08:49:37 GMT"
std::optional<Time> imf_fixdate(std::string_view text) {
    DateReader reader{text};
    reader.one_of(days);
    reader.literal(", ");
    const int day = reader.number(2);
    reader.literal(" ");
    const unsigned month = reader.one_of(months);
    reader.literal(" ");
    const int year = reader.number(4);
    reader.literal(" ");
    const Clock at = clock(reader);
    reader.literal(" GMT");
    return reader.whole() ? date(year, month, day, at) : std::nullopt;
}

/// "Sunday, 06-Nov-94 08:49:37 GMT"; a year more than 50 years ahead is one of the past.
std::optional<Time> rfc850_date(std::string_view text, Time now) {
    DateReader reader{text};
    reader.one_of(long_days);
    reader.literal(", ");
    const int day = reader.number(2);
    reader.literal("-");
    const unsigned month = reader.one_of(months);
    reader.literal("-");
    const int two_digits = reader.number(2);
    reader.literal(" ");
    const Clock at = clock(reader);
    reader.literal(" GMT");
    if (!reader.whole()) return std::nullopt;
    const int this_year = static_cast<int>(std::chrono::year_month_day{std::chrono::floor<std::chrono::days>(now)}.year());
    int year = this_year - this_year % 100 + two_digits;
    if (year > this_year + 50) year -= 100;
    return date(year, month, day, at);
}

/// "Sun Nov  6 08:49:37 1994"
std::optional<Time> asctime_date(std::string_view text) {
    DateReader reader{text};
    reader.one_of(days);
    reader.literal(" ");
    const unsigned month = reader.one_of(months);
    reader.literal(" ");
    const int day = reader.number(2, true);
    reader.literal(" ");
    const Clock at = clock(reader);
    reader.literal(" ");
    const int year = reader.number(4);
    return reader.whole() ? date(year, month, day, at) : std::nullopt;
}

std::optional<Time> delta_seconds(std::string_view text, Time now) {
    if (text.empty() || !std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
    const std::int64_t most = std::chrono::duration_cast<seconds>(longest_wait).count();
    std::int64_t value = 0;
    for (const char c : text) value = std::min(most, value * 10 + (c - '0'));
    return now + seconds{value};
}

constexpr std::uint64_t latest_ms = 253'402'300'799'999; // the end of the year 9999: text() needs four digits to be enough

Time time_of(json::Object& object, std::string_view key) { return Time{Milliseconds{static_cast<std::int64_t>(object.number(key, latest_ms))}}; }

json::Object begun(const json::Value& value, std::string_view what, std::string_view format) {
    json::Object object{value, std::string{what}};
    if (const std::string got = object.string("format"); got != format)
        object.refuse("format", fmt::format("is {}, want {}", printable(got), format));
    if (const auto got = object.number("version", 1000); got != 1) object.refuse("version", fmt::format("is {}, want 1", got));
    return object;
}

} // namespace

std::string text(Time time) {
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date{day};
    const auto second = std::chrono::floor<seconds>(time - day).count();
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                       static_cast<unsigned>(date.day()), second / 3600, second / 60 % 60, second % 60);
}

std::optional<Time> retry_after(std::string_view value, Time now) {
    const auto blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!value.empty() && blank(value.front())) value.remove_prefix(1);
    while (!value.empty() && blank(value.back())) value.remove_suffix(1);
    std::optional<Time> at = delta_seconds(value, now);
    if (!at) at = imf_fixdate(value);
    if (!at) at = rfc850_date(value, now);
    if (!at) at = asctime_date(value);
    if (at) at = std::clamp(*at, now, now + longest_wait);
    return at;
}

Milliseconds back_off(unsigned failures, Milliseconds first, double random) {
    const auto longest = std::chrono::duration_cast<Milliseconds>(std::chrono::hours{1});
    const unsigned doublings = std::min(std::max(failures, 1U) - 1, 30U);
    const double whole =
        std::min(static_cast<double>(longest.count()), static_cast<double>(first.count()) * std::ldexp(1.0, static_cast<int>(doublings)));
    return Milliseconds{std::llround(whole * (0.5 + 0.5 * std::clamp(random, 0.0, 1.0)))};
}

WaitNote WaitNote::parse(std::string_view text, std::string_view what) {
    const json::Value value = json::parse(text, what, {.bytes = limit_bytes, .depth = 2});
    json::Object object = begun(value, what, format);
    WaitNote note;
    note.server = object.string("server", 1024);
    note.failures = static_cast<unsigned>(object.number("failures", 1'000'000));
    note.not_before = time_of(object, "not_before_ms");
    note.reason = object.string("reason", 1024);
    object.done();
    return note;
}

std::string WaitNote::serialize() const {
    return json::pretty({{"format", format},
                         {"version", 1},
                         {"server", server},
                         {"failures", failures},
                         {"not_before_ms", not_before.time_since_epoch().count()},
                         {"reason", reason}});
}

MissingNote MissingNote::parse(std::string_view text, std::string_view what) {
    const json::Value value = json::parse(text, what, {.bytes = limit_bytes, .depth = 2});
    json::Object object = begun(value, what, format);
    MissingNote note;
    note.subject = object.string("subject", 256);
    note.server = object.string("server", 1024);
    note.asked = time_of(object, "asked_ms");
    note.ask_again = time_of(object, "ask_again_ms");
    note.reason = object.string("reason", 1024);
    object.done();
    return note;
}

std::string MissingNote::serialize() const {
    return json::pretty({{"format", format},
                         {"version", 1},
                         {"subject", subject},
                         {"server", server},
                         {"asked_ms", asked.time_since_epoch().count()},
                         {"ask_again_ms", ask_again.time_since_epoch().count()},
                         {"reason", reason}});
}

} // namespace sev::endorsement
