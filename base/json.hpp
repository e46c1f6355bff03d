// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "base/bytes.hpp"

namespace sev::json {

using Value = nlohmann::ordered_json;

struct Limits {
    std::size_t bytes = 1U << 20;
    unsigned depth = 32;
};

/// The one function that parses JSON from outside. UTF-8, one value, no comments. Duplicate keys, too deep nesting, too many
/// bytes and bad syntax throw Error{Fault::malformed} "<what>: … at byte N".
Value parse(std::string_view text, std::string_view what, Limits limits = {});

/// Strict reader of one object: every key must be read by somebody before `done`, or it is refused as unknown.
/// Errors are Error{Fault::malformed} "<what>: <key> is <found>, want <wanted>".
class Object {
public:
    /// `what` names the object in messages, such as "policy file: reference[2]".
    Object(const Value& value, std::string what);
    const std::string& what() const noexcept { return what_; }
    bool has(std::string_view key) const;
    /// Marks the key as read. Throws when absent.
    const Value& at(std::string_view key);
    const Value* find(std::string_view key);
    std::string string(std::string_view key, std::size_t limit_bytes = 4096);
    std::string string_or(std::string_view key, std::string fallback, std::size_t limit_bytes = 4096);
    /// A non-negative integer ≤ max: a JSON number, or a string "0x…" or decimal.
    std::uint64_t number(std::string_view key, std::uint64_t max);
    std::uint64_t number_or(std::string_view key, std::uint64_t fallback, std::uint64_t max);
    bool boolean(std::string_view key);
    bool boolean_or(std::string_view key, bool fallback);
    /// An array of at most `limit` elements.
    const Value& array(std::string_view key, std::size_t limit);
    Object object(std::string_view key);
    template <std::size_t Size>
    ByteArray<Size> hex(std::string_view key) {
        return unhex<Size>(string(key, 2 * Size + 1), what_ + ": " + std::string{key});
    }
    Bytes base64(std::string_view key, std::size_t limit_bytes);
    /// Refuses keys that nobody read.
    void done() const;
    [[noreturn]] void refuse(std::string_view key, std::string_view problem) const;

private:
    const Value* value_;
    std::string what_;
    std::set<std::string, std::less<>> read_;
};

/// Text of a value for people: two spaces a level, final newline.
std::string pretty(const Value& value);

} // namespace sev::json
