// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "launch/probe/bundle.hpp"
#include "launch/probe/ok.hpp"
#include "launch/probe/report.hpp"
#include "tests/support.hpp"

namespace sev::test {

/// A shipped bundle, docs/probe-bundles/NAME.json.
inline probe::Probe shipped(std::string_view name) {
    const Path path = Path{"docs/probe-bundles"} / (std::string{name} + ".json");
    return probe::Bundle::parse(read_text(path, probe::Bundle::limit_bytes), path.string());
}
inline const std::vector<std::string>& shipped_names() {
    static const std::vector<std::string> names{"cloud-sev-guest", "epyc-3151", "epyc-3151-xen-4.17", "epyc-7302", "epyc-7443",
                                                "epyc-7601",       "intel",     "ryzen-pro-4750u"};
    return names;
}

/// The parts of a leaf that a test turns.
inline probe::CpuidLeaf& leaf_of(probe::Reading<probe::CpuidLeaves>& reading, std::uint32_t leaf) {
    auto leaves = *reading.value();
    reading = leaves;
    auto& all =
        const_cast<probe::CpuidLeaves*>(reading.value())->leaves; // NOLINT(cppcoreguidelines-pro-type-const-cast): the reading is the test's own
    for (auto& one : all)
        if (one.leaf == leaf) return one;
    throw Error{Fault::bug, "the bundle has no such leaf"};
}

/// The coco status of op 0 as 64 bytes: platform, platform flags, flags.
inline Bytes coco_bytes(std::uint8_t platform, std::uint8_t platform_flags, std::uint8_t flags) {
    Bytes out(64);
    out[0] = platform;
    out[4] = platform_flags;
    out[8] = flags;
    return out;
}

} // namespace sev::test
