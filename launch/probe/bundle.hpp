// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/json.hpp"
#include "launch/probe/probe.hpp"

namespace sev::probe {

/// The probe bundle: a Probe as a file (JSON, docs/schemas/probe-bundle.schema.json), so that a report from a user's machine can be replayed
/// elsewhere. Each reading is {"value": …}, {"errno": 13, "text": "Permission denied"} or {"not_tried": "…"}; one that is absent was not recorded.
struct Bundle {
    static constexpr std::string_view format = "xen-sev/probe-bundle";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 256 * 1024;
    static constexpr unsigned limit_depth = 8;
    static constexpr std::size_t limit_text = 512, limit_lines = 128;

    /// Strict: an unknown key, reading or version, a value of the wrong kind, and anything above a limit throw Error{Fault::malformed} that names
    /// `what` and the key.
    static Probe parse(std::string_view text, std::string_view what);
    static json::Value to_json(const Probe& probe);
};

} // namespace sev::probe
