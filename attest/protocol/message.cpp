// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/message.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t name_limit_bytes = 128;

/// The digits at [at, at + length) as a number; nullopt when one is no digit.
std::optional<int> digits(std::string_view text, std::size_t at, std::size_t length) {
    int value = 0;
    const auto part = text.substr(at, length);
    if (!std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
    std::from_chars(part.data(), part.data() + part.size(), value);
    return value;
}

std::optional<Time> try_time(std::string_view text) {
    using namespace std::chrono;
    constexpr std::string_view shape = "0000-00-00T00:00:00Z";
    if (text.size() != shape.size()) return std::nullopt;
    for (std::size_t i = 0; i < shape.size(); ++i)
        if (shape[i] != '0' && text[i] != shape[i]) return std::nullopt;
    const auto y = digits(text, 0, 4), mo = digits(text, 5, 2), d = digits(text, 8, 2);
    const auto h = digits(text, 11, 2), mi = digits(text, 14, 2), s = digits(text, 17, 2);
    if (!y || !mo || !d || !h || !mi || !s || *h > 23 || *mi > 59 || *s > 59) return std::nullopt;
    const year_month_day date{year{*y}, month{static_cast<unsigned>(*mo)}, day{static_cast<unsigned>(*d)}};
    if (!date.ok()) return std::nullopt;
    return Time{sys_days{date}} + hours{*h} + minutes{*mi} + seconds{*s};
}

} // namespace

std::string text(Time time) {
    using namespace std::chrono;
    const auto days_part = floor<days>(time);
    const year_month_day date{days_part};
    const hh_mm_ss clock{time - days_part};
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                       static_cast<unsigned>(date.day()), clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

Time parse_time(std::string_view text, std::string_view what) {
    const auto time = try_time(text);
    if (!time) throw Error{Fault::malformed, fmt::format("{}: time is \"{}\", want YYYY-MM-DDThh:mm:ssZ", what, printable(text))};
    return *time;
}

std::string checked_name(std::string name, std::string_view what) {
    const auto refuse = [&](std::string_view problem) {
        throw Error{Fault::malformed, fmt::format("{}: \"{}\" {}", what, printable(name), problem)};
    };
    if (name.empty() || name.size() > name_limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, want 1 to {}", what, name.size(), name_limit_bytes)};
    if (!std::ranges::all_of(name, [](char c) { return c >= 0x20 && c <= 0x7E; })) refuse("has bytes outside printable ASCII");
    if (name.front() == ' ' || name.back() == ' ') refuse("begins or ends with a space");
    return name;
}

std::string checked_text(json::Object& object, std::string_view key, std::size_t limit_bytes) {
    std::string text = object.string(key, limit_bytes);
    if (printable(text, limit_bytes) != text) object.refuse(key, "has control characters or bytes that are no UTF-8");
    return text;
}

void base64_exactly(json::Object& object, std::string_view key, std::span<std::uint8_t> out) {
    // some more than wanted may pass here, so that the message below says how many there were
    const Bytes bytes = object.base64(key, out.size() + 1024);
    if (bytes.size() != out.size()) object.refuse(key, fmt::format("has {} bytes, want {}", bytes.size(), out.size()));
    std::ranges::copy(bytes, out.begin());
}

void expect_format(json::Object& object, std::string_view format, unsigned version) {
    const std::string found = object.string("format", 128);
    if (found != format) object.refuse("format", fmt::format("is \"{}\", want \"{}\"", printable(found), format));
    const auto found_version = object.number("version", UINT32_MAX);
    if (found_version != version) object.refuse("version", fmt::format("is {}, want {}", found_version, version));
}

json::Value with_format(std::string_view format, unsigned version) {
    json::Value value = json::Value::object();
    value["format"] = format;
    value["version"] = version;
    return value;
}

} // namespace sev::attest
