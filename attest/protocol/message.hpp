// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include "base/json.hpp"

/// What every message between host and guest owner has in common. A message is one JSON object with `format` (its name) and `version` (a number);
/// keys nobody knows, another format and another version are refused, so that neither side acts on what it does not understand.
namespace sev::attest {

/// Names one session; the guest owner draws it. 32 hex digits in JSON.
using SessionId = ByteArray<16>;

using Time = std::chrono::sys_seconds;
/// "2026-01-02T03:04:05Z".
std::string text(Time time);
/// Reads exactly that form. Throws Error{Fault::malformed} "<what>: time is …, want YYYY-MM-DDThh:mm:ssZ".
Time parse_time(std::string_view text, std::string_view what);

/// 1 to 128 bytes of printable ASCII, no space at either end. Throws Error{Fault::malformed} that names `what`.
std::string checked_name(std::string name, std::string_view what);

/// A text of at most `limit_bytes` that goes to terminals and logs: control characters and bytes that are no UTF-8 are refused.
std::string checked_text(json::Object& object, std::string_view key, std::size_t limit_bytes);

/// Base64 of exactly as many bytes as `out` has.
void base64_exactly(json::Object& object, std::string_view key, std::span<std::uint8_t> out);

/// Reads `format` and `version` of a message; anything but `format` and `version` is refused with got and want.
void expect_format(json::Object& object, std::string_view format, unsigned version);
/// A new object that begins with both.
json::Value with_format(std::string_view format, unsigned version);

/// Parses the text of one message. Throws Error{Fault::malformed} with `what`, the key, got and want; for more than Message::limit_bytes, too.
template <class Message>
Message read_message(std::string_view text, std::string_view what) {
    return Message::from_json(json::parse(text, what, {.bytes = Message::limit_bytes, .depth = 16}), what);
}

} // namespace sev::attest
