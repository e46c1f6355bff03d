// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "launch/xen/foreign_memory.hpp"
#include "launch/xen/prepared.hpp"
#include "launch/xen/toolstack.hpp"

namespace sev::launch::xen {

/// Pages of one predicted range, mapped read-only.
struct CapturedRange {
    std::size_t range; // index in image().ranges
    Mapping mapping;
};

/// A slot whose guest memory holds a secret by now.
struct WrittenSlot {
    std::string name;
    Digest sha256; // of the slot's bytes, all of them, as they were written
};

/// The initial image of a paused domain: exactly the predicted pages, mapped, and held against the prediction as often as wanted.
class Capture {
public:
    /// Maps the pages, and takes the build of the ACPI tables that is there. Throws Error{Fault::system} for a page that is not there; says nothing
    /// of what is in them.
    Capture(Prepared& prepared, Domain& domain, ForeignMemory& memory, std::uint32_t domid);
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

    /// What is not as predicted, one line each; empty: the domain is, byte for byte, what its configuration says, has no more memory or vCPUs, is
    /// paused and has never run; and nothing of its vCPUs has changed since the first call. `written`: slots that hold what was written to them
    /// instead of what was measured.
    std::vector<std::string> differences(const std::vector<WrittenSlot>& written = {});
    /// Zeroes the bytes that the builder leaves undefined, where they are not zero: they are measured as zeros.
    void clear_unwritten();
    const std::vector<CapturedRange>& ranges() const noexcept { return ranges_; }
    ByteView bytes(std::size_t range) const { return ranges_.at(range).mapping.bytes(); }
    /// SHA-256 over all of it in the order of measurement, and of each region, from the domain's memory.
    measure::XenMeasurement measure() const;

private:
    void range_differences(const CapturedRange& one, const std::vector<WrittenSlot>& written, std::vector<std::string>& out) const;
    void state_differences(std::vector<std::string>& out);
    void vcpus_differences(std::vector<std::string>& out);
    void module_differences(std::vector<std::string>& out);
    Prepared& prepared_;
    Domain& domain_;
    ForeignMemory& memory_;
    std::uint32_t domid_;
    std::vector<CapturedRange> ranges_;
    std::optional<Bytes> first_context_; // of the vCPUs, at the first look
};

/// ACPI pages of a paused PVH guest as a reference, read from where its start_info says they are: no prediction is needed. Throws
/// Error{Fault::malformed} for a guest whose pages are not those of its vCPUs, Error{Fault::usage} for one that is not PVH, not paused, or has run.
measure::AcpiReference capture_acpi(Domain& domain, ForeignMemory& memory, const std::string& libxenlight);

} // namespace sev::launch::xen
