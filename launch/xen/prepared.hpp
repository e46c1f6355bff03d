// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "attest/protocol/launch_descriptor.hpp"
#include "base/file.hpp"
#include "launch/guest.hpp"
#include "ovmf-measure/xen/predict.hpp"

namespace sev::launch::xen {

/// What a host adds to a guest's configuration. Empty paths: where Debian's package of that release has them.
struct HostFiles {
    Path hvmloader, ovmf, seabios;
    Path references = "/var/lib/xen-sev/references"; // where `sevctl reference capture` puts ACPI references
};

/// A guest as its configuration says it will be: its files read, its image predicted, its slots found. Pinned, since the image points into the
/// files' bytes. These are copies: a file that changes or shrinks later changes nothing here.
class Prepared {
public:
    /// Throws Error as measure::predict_xen does; Error{Fault::malformed} for a file beyond xen_unpack_limit_bytes;
    /// Error{Fault::usage} for a path that is not absolute, and when no ACPI reference, or more than one,
    /// is of this release, these vCPUs and this online set.
    Prepared(measure::XenGuestConfig config, measure::XenVersion version, const HostFiles& host);
    Prepared(const Prepared&) = delete;
    Prepared& operator=(const Prepared&) = delete;

    const measure::XenGuestConfig& config() const noexcept { return config_; }
    measure::XenVersion version() const noexcept { return version_; }
    const measure::XenImage& image() const noexcept { return image_; }
    /// The image with the ACPI tables of this build; the predicted one has the first's.
    void set_build(measure::XenBuild build);
    const std::vector<GuestSlot>& slots() const noexcept { return slots_; }
    attest::GuestKind kind() const noexcept;

private:
    ByteView file(const Path& path);
    void drop_unused_files();
    void find_slots(const measure::XenFiles& files);
    measure::XenGuestConfig config_;
    measure::XenVersion version_;
    std::vector<Bytes> files_; // those that the image points into
    measure::XenImage image_;
    std::vector<GuestSlot> slots_;
};

} // namespace sev::launch::xen
