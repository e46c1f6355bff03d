// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"

#include <charconv>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::json {
namespace {

/// Says what a value is, for messages; never its content.
std::string kind(const Value& value) {
    switch (value.type()) {
    case Value::value_t::null: return "null";
    case Value::value_t::object: return "an object";
    case Value::value_t::array: return "an array";
    case Value::value_t::string: return "a string";
    case Value::value_t::boolean: return "a boolean";
    case Value::value_t::number_float: return "a number with a fraction or exponent";
    case Value::value_t::number_integer:
    case Value::value_t::number_unsigned: return "a number";
    default: return "a value";
    }
}

/// Builds a value from nlohmann's parser events, with a limit on depth and no key twice in one object.
class Builder final : public nlohmann::json_sax<Value> {
public:
    Builder(std::string_view what, unsigned depth_limit) : what_{what}, depth_limit_{depth_limit} {}
    Value take() { return std::move(root_); }

    bool null() override { return add(nullptr); }
    bool boolean(bool value) override { return add(value); }
    bool number_integer(number_integer_t value) override { return add(value); }
    bool number_unsigned(number_unsigned_t value) override { return add(value); }
    bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
    bool string(string_t& value) override { return add(std::move(value)); }
    bool binary(binary_t& /*value*/) override { return false; }
    bool start_object(std::size_t /*elements*/) override { return open(Value::object()); }
    bool key(string_t& value) override {
        if (open_.back()->contains(value))
            throw Error{Fault::malformed, fmt::format("{}: key \"{}\" stands twice in one object", what_, printable(value))};
        // look-ups in an ordered object are linear: without a limit a megabyte of short keys would take half a minute
        if (open_.back()->size() >= keys_limit) throw Error{Fault::malformed, fmt::format("{}: more than {} keys in one object", what_, keys_limit)};
        key_ = std::move(value);
        return true;
    }
    bool end_object() override { return close(); }
    bool start_array(std::size_t /*elements*/) override { return open(Value::array()); }
    bool end_array() override { return close(); }
    bool parse_error(std::size_t position, const std::string& /*last_token*/, const nlohmann::detail::exception& /*error*/) override {
        throw Error{Fault::malformed, fmt::format("{}: not JSON at byte {}", what_, position)};
    }

private:
    static constexpr std::size_t keys_limit = 1024;
    template <class Leaf>
    bool add(Leaf&& leaf) {
        place(Value(std::forward<Leaf>(leaf)));
        return true;
    }
    Value& place(Value value) {
        if (open_.empty()) return root_ = std::move(value);
        Value& parent = *open_.back();
        if (parent.is_object()) return parent[key_] = std::move(value);
        parent.push_back(std::move(value));
        return parent.back();
    }
    bool open(Value container) {
        if (open_.size() >= depth_limit_) throw Error{Fault::malformed, fmt::format("{}: nested deeper than {} levels", what_, depth_limit_)};
        open_.push_back(&place(std::move(container)));
        return true;
    }
    bool close() {
        open_.pop_back();
        return true;
    }

    std::string what_;
    unsigned depth_limit_;
    Value root_;
    std::vector<Value*> open_; // the containers we are inside of; a parent does not grow while a child is open, so they stay valid
    std::string key_;
};

} // namespace

Value parse(std::string_view text, std::string_view what, Limits limits) {
    if (text.size() > limits.bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes of JSON, more than the limit of {}", what, text.size(), limits.bytes)};
    if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) throw Error{Fault::malformed, fmt::format("{}: empty, want JSON", what)};
    Builder builder{what, limits.depth};
    if (!Value::sax_parse(text, &builder)) throw Error{Fault::malformed, fmt::format("{}: not JSON", what)};
    return builder.take();
}

Object::Object(const Value& value, std::string what) : value_{&value}, what_{std::move(what)} {
    if (!value.is_object()) throw Error{Fault::malformed, fmt::format("{}: is {}, want an object", what_, kind(value))};
}

void Object::refuse(std::string_view key, std::string_view problem) const {
    throw Error{Fault::malformed, fmt::format("{}: {} {}", what_, printable(key), problem)};
}

bool Object::has(std::string_view key) const { return value_->contains(std::string{key}); }

const Value* Object::find(std::string_view key) {
    const auto found = value_->find(std::string{key});
    if (found == value_->end()) return nullptr;
    read_.emplace(key);
    return &*found;
}

const Value& Object::at(std::string_view key) {
    const Value* found = find(key);
    if (!found) refuse(key, "is missing");
    return *found;
}

std::string Object::string(std::string_view key, std::size_t limit_bytes) {
    const Value& value = at(key);
    if (!value.is_string()) refuse(key, fmt::format("is {}, want a string", kind(value)));
    const auto& text = value.get_ref<const std::string&>();
    if (text.size() > limit_bytes) refuse(key, fmt::format("has {} bytes, more than the limit of {}", text.size(), limit_bytes));
    return text;
}

std::string Object::string_or(std::string_view key, std::string fallback, std::size_t limit_bytes) {
    return has(key) ? string(key, limit_bytes) : std::move(fallback);
}

std::uint64_t Object::number(std::string_view key, std::uint64_t max) {
    const Value& value = at(key);
    std::uint64_t number = 0;
    if (value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0)) {
        number = value.get<std::uint64_t>();
    } else if (value.is_string()) {
        std::string_view text = value.get_ref<const std::string&>();
        const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
        if (hexadecimal) text.remove_prefix(2);
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, hexadecimal ? 16 : 10);
        if (error == std::errc::result_out_of_range) refuse(key, fmt::format("is out of range, want 0 … {}", max));
        if (error != std::errc{} || end != text.data() + text.size()) refuse(key, "is no number, want a decimal or 0x… number");
    } else {
        refuse(key, fmt::format("is {}, want a whole number from 0 to {}", value.is_number_integer() ? "negative" : kind(value), max));
    }
    if (number > max) refuse(key, fmt::format("is {}, want 0 … {}", number, max));
    return number;
}

std::uint64_t Object::number_or(std::string_view key, std::uint64_t fallback, std::uint64_t max) { return has(key) ? number(key, max) : fallback; }

bool Object::boolean(std::string_view key) {
    const Value& value = at(key);
    if (!value.is_boolean()) refuse(key, fmt::format("is {}, want true or false", kind(value)));
    return value.get<bool>();
}

bool Object::boolean_or(std::string_view key, bool fallback) { return has(key) ? boolean(key) : fallback; }

const Value& Object::array(std::string_view key, std::size_t limit) {
    const Value& value = at(key);
    if (!value.is_array()) refuse(key, fmt::format("is {}, want an array", kind(value)));
    if (value.size() > limit) refuse(key, fmt::format("has {} elements, more than the limit of {}", value.size(), limit));
    return value;
}

Object Object::object(std::string_view key) { return Object{at(key), fmt::format("{}: {}", what_, printable(key))}; }

Bytes Object::base64(std::string_view key, std::size_t limit_bytes) {
    Bytes out = unbase64(string(key, (limit_bytes + 2) / 3 * 4 + 64), what_ + ": " + std::string{key});
    if (out.size() > limit_bytes) refuse(key, fmt::format("has {} bytes, more than the limit of {}", out.size(), limit_bytes));
    return out;
}

void Object::done() const {
    for (const auto& [key, value] : value_->items())
        if (!read_.contains(key)) refuse(fmt::format("\"{}\"", key), "is not a key that is known here");
}

std::string pretty(const Value& value) { return value.dump(2, ' ', false, Value::error_handler_t::replace) + "\n"; }

} // namespace sev::json
