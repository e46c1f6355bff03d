// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <vector>

#include "attest/protocol/message.hpp"
#include "psp/types.hpp"

namespace sev::attest {

enum class GuestKind { qemu, xen_pvh, xen_hvm, ovmf_pvh, image };
std::string_view name(GuestKind kind); // "qemu", "xen-pvh", "xen-hvm", "ovmf-pvh", "image"
std::optional<GuestKind> guest_kind_named(std::string_view name);

/// One piece of what was measured, in the order in which it was loaded.
struct Region {
    std::string label;           // "firmware", "kernel hashes", "vmsa 0"; 1 to 128 printable ASCII bytes
    std::optional<psp::Gpa> gpa; // a VMSA has none; JSON: "0x…" string
    std::uint64_t length_bytes = 0; // as measured, padding included; JSON: "length"
    Digest sha256{};             // of these bytes
    std::string source;          // where they came from, for people: a file name; empty when there is none
    friend bool operator==(const Region&, const Region&) = default;
};
Region region_from_json(const json::Value& value, const std::string& what);
json::Value to_json(const Region& region);

/// What the host says it loaded. It explains a verdict and never decides one: the guest owner recomputes the digest from its own reference values.
/// JSON: format "xen-sev/launch-descriptor", docs/schemas/launch-descriptor.schema.json. At most 4096 vCPUs and 8192 regions.
struct LaunchDescriptor {
    static constexpr std::string_view format = "xen-sev/launch-descriptor";
    static constexpr unsigned version = 1;
    static constexpr std::size_t limit_bytes = 4 * 1024 * 1024;
    static constexpr std::size_t region_limit = 8192;
    static constexpr unsigned vcpu_limit = 4096;
    struct VmsaProfileName {
        std::string name;
        unsigned version = 0;
        friend bool operator==(const VmsaProfileName&, const VmsaProfileName&) = default;
    };

    GuestKind kind = GuestKind::image;
    std::vector<Region> regions;
    std::optional<unsigned> vcpus;
    std::optional<VmsaProfileName> vmsa_profile; // {"name", "version"}
    std::optional<std::string> page_order;       // name of the canonical order of pages
    std::optional<std::string> xen_version, toolstack_version;

    static LaunchDescriptor from_json(const json::Value& value, std::string_view what);
    json::Value to_json() const;
    friend bool operator==(const LaunchDescriptor&, const LaunchDescriptor&) = default;
};

} // namespace sev::attest
