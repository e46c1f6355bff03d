// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>

#include "ovmf-measure/xen/image.hpp"

namespace sev::launch::xen {

/// The first byte of a range that is not as predicted, and what it belongs to.
struct Difference {
    std::string range; // its label
    std::uint64_t page = 0, gfn = 0; // page of the range, from 0; the guest's frame
    std::size_t offset = 0;          // in that page
    std::uint64_t pages = 0;         // how many pages of the range differ
    std::string what;                // "0x90 instead of 0x8d"; of start_info its fields: "command line is \"…\", want \"…\""
    /// "start_info: page 0 (gfn 0x3e00), offset 0x38: command line is …", one printable line.
    std::string text() const;
};

/// difference holds the captured bytes of a range, all of them, against the prediction. Pages that the builder does not write whole count with their
/// written bytes alone. nullopt: equal.
/// `skip_bytes` at the front are left out: a slot that has received its secret, which is held against what was written to it instead.
std::optional<Difference> difference(const measure::XenRange& range, ByteView captured, std::uint64_t skip_bytes = 0);

} // namespace sev::launch::xen
