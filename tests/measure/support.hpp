// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "base/json.hpp"
#include "ovmf-measure/firmware_table.hpp"
#include "tests/support.hpp"

namespace sev::test {

/// A small firmware image of tests/fixtures/measure.
inline Bytes image(std::string_view name) { return read_file(fixture("measure") / name, 1U << 20); }

/// What tests/fixtures/measure/make.py computed.
inline const json::Value& answers() {
    static const json::Value value = json::parse(read_text(fixture("measure/answers.json"), 1U << 20), "answers.json");
    return value;
}

/// A JSON file of the shared vectors; nullopt, said aloud, when absent.
inline std::optional<json::Value> vector_json(std::string_view name) {
    const auto path = vector_file(name);
    if (!path) return std::nullopt;
    return json::parse(read_text(*path, 1U << 20), name);
}

struct Entry {
    measure::Guid guid;
    Bytes data;
};
/// A page that ends as a flash image does, with a GUID table of these entries (the first nearest to the end).
inline Bytes image_with(const std::vector<Entry>& entries, std::size_t size_bytes = 4096) {
    measure::FirmwareTable table;
    for (const Entry& entry : entries) table.entries.push_back({.guid = entry.guid, .file_offset = 0, .data = entry.data});
    const Bytes bytes = table.serialize();
    Bytes image(size_bytes, 0xFF);
    std::ranges::copy(bytes, image.end() - 32 - static_cast<std::ptrdiff_t>(bytes.size()));
    return image;
}

/// The message of the Error that body throws; empty when it throws none.
template <class Body>
std::string message_of(Body&& body) {
    try {
        static_cast<void>(std::forward<Body>(body)());
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

} // namespace sev::test
