// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/bundle.hpp"

#include <limits>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::probe {
namespace {

constexpr std::uint64_t max64 = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint32_t max32 = std::numeric_limits<std::uint32_t>::max();

std::string hex32(std::uint32_t value) { return fmt::format("0x{:08x}", value); }

// One pair of functions a type of value: to JSON, and strictly back from the key "value" of a reading.

json::Value write(const std::string& value) { return value; }
json::Value write(bool value) { return value; }
json::Value write(std::uint64_t value) { return fmt::format("0x{:x}", value); }
json::Value write(const Bytes& value) { return hex(value); }
json::Value write(const KernelLog& lines) { return lines; }
json::Value write(const PlatformAnswer& answer) { return {{"status", fmt::format("0x{:04x}", answer.status)}, {"bytes", hex(answer.bytes)}}; }
json::Value write(const CpuidLeaves& cpuid) {
    json::Value leaves = json::Value::array();
    for (const CpuidLeaf& leaf : cpuid.leaves)
        leaves.push_back({{"leaf", hex32(leaf.leaf)},
                          {"subleaf", leaf.subleaf},
                          {"eax", hex32(leaf.eax)},
                          {"ebx", hex32(leaf.ebx)},
                          {"ecx", hex32(leaf.ecx)},
                          {"edx", hex32(leaf.edx)}});
    return {{"zero_leaves_left_out", cpuid.zero_leaves_left_out}, {"leaves", leaves}};
}
template <class T>
json::Value write(const Reading<T>& reading);
json::Value write(const std::vector<PspDevice>& devices) {
    json::Value out = json::Value::array();
    for (const PspDevice& one : devices)
        out.push_back({{"address", one.address}, {"device", one.device}, {"driver", one.driver}, {"tsme_status", write(one.tsme_status)}});
    return out;
}
template <class T>
json::Value write(const Reading<T>& reading) {
    if (reading.value()) return {{"value", write(*reading.value())}};
    if (reading.failure()) return {{"errno", reading.failure()->error_number}, {"text", reading.failure()->text}};
    return {{"not_tried", reading.not_tried()->why}};
}

void read(json::Object& from, std::string_view key, std::string& out) { out = from.string(key, Bundle::limit_text); }
void read(json::Object& from, std::string_view key, bool& out) { out = from.boolean(key); }
void read(json::Object& from, std::string_view key, std::uint64_t& out) { out = from.number(key, max64); }
void read(json::Object& from, std::string_view key, Bytes& out) {
    const std::string text = from.string(key, 2 * 64);
    auto bytes = try_unhex(text);
    if (!bytes || bytes->size() != 64) from.refuse(key, "is not 64 bytes of hex");
    out = *std::move(bytes);
}
void read(json::Object& from, std::string_view key, KernelLog& out) {
    std::size_t index = 0;
    for (const json::Value& line : from.array(key, Bundle::limit_lines)) {
        if (!line.is_string()) from.refuse(key, fmt::format("[{}] is not a string", index));
        out.push_back(line.get<std::string>());
        if (out.back().size() > Bundle::limit_text)
            from.refuse(key, fmt::format("[{}] is {} bytes, more than the limit of {}", index, out.back().size(), Bundle::limit_text));
        ++index;
    }
}
void read(json::Object& from, std::string_view key, PlatformAnswer& out) {
    json::Object object = from.object(key);
    out = {.status = static_cast<std::uint16_t>(object.number("status", 0xFFFF)), .bytes = object.hex<12>("bytes")};
    object.done();
}
void read(json::Object& from, std::string_view key, CpuidLeaves& out) {
    json::Object object = from.object(key);
    out.zero_leaves_left_out = object.boolean("zero_leaves_left_out");
    std::size_t index = 0;
    for (const json::Value& value : object.array("leaves", CpuidLeaves::limit)) {
        json::Object leaf{value, fmt::format("{}: leaves[{}]", object.what(), index++)};
        const auto word = [&](std::string_view name) { return static_cast<std::uint32_t>(leaf.number(name, max32)); };
        out.leaves.push_back(
            {.leaf = word("leaf"), .subleaf = word("subleaf"), .eax = word("eax"), .ebx = word("ebx"), .ecx = word("ecx"), .edx = word("edx")});
        leaf.done();
    }
    object.done();
}
template <class T>
Reading<T> read_reading(json::Object from);
void read(json::Object& from, std::string_view key, std::vector<PspDevice>& out) {
    std::size_t index = 0;
    for (const json::Value& value : from.array(key, PspDevice::limit)) {
        json::Object device{value, fmt::format("{}: {}[{}]", from.what(), key, index++)};
        out.push_back({.address = device.string("address", 64),
                       .device = device.string("device", 64),
                       .driver = device.string("driver", 64),
                       .tsme_status = read_reading<std::string>(device.object("tsme_status"))});
        device.done();
    }
}
template <class T>
Reading<T> read_reading(json::Object from) {
    Reading<T> out;
    if (from.has("value")) {
        T value{};
        read(from, "value", value);
        out = std::move(value);
    } else if (from.has("errno")) {
        const int error_number = static_cast<int>(from.number("errno", 4095));
        out = Failure{error_number, from.string("text", Bundle::limit_text)};
    } else {
        out = NotTried{from.string("not_tried", Bundle::limit_text)};
    }
    from.done();
    return out;
}

} // namespace

Probe Bundle::parse(std::string_view text, std::string_view what) {
    const json::Value value = json::parse(text, what, {.bytes = limit_bytes, .depth = limit_depth});
    json::Object top{value, std::string{what}};
    if (const std::string found = top.string("format", 64); found != format)
        top.refuse("format", fmt::format("is {}, want {}", printable(found), format));
    if (const std::uint64_t found = top.number("version", max32); found != version)
        top.refuse("version", fmt::format("is {}, want {}", found, version));
    Probe probe;
    probe.tool = top.string("tool", limit_text);
    probe.recorded = top.string("recorded", 64);
    probe.constructed = top.boolean("constructed");
    probe.note = top.string("note", 2048);
    json::Object readings = top.object("readings");
    each_reading(probe, [&]<class T>(std::string_view name, Reading<T>& reading) {
        if (readings.has(name)) reading = read_reading<T>(readings.object(name));
    });
    readings.done();
    top.done();
    return probe;
}

json::Value Bundle::to_json(const Probe& probe) {
    json::Value readings = json::Value::object();
    each_reading(probe, [&](std::string_view name, const auto& reading) { readings[std::string{name}] = write(reading); });
    return {{"format", format},
            {"version", version},
            {"tool", probe.tool},
            {"recorded", probe.recorded},
            {"constructed", probe.constructed},
            {"note", probe.note},
            {"readings", readings}};
}

} // namespace sev::probe
