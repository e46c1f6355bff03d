// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/json.hpp"
#include "ovmf-measure/vmsa.hpp"
#include "psp/types.hpp"

namespace sev::launch {

/// One file of an image guest, loaded at `gpa` and measured as its bytes, zero-padded to `length_bytes` when given, else to a multiple of 16.
struct ImagePart {
    std::string label;
    psp::Gpa gpa{};
    Path file;
    std::optional<std::uint64_t> length_bytes;
    friend bool operator==(const ImagePart&, const ImagePart&) = default;
};

/// Where secrets go: a range of guest memory by name ("initrd", "efi"). Inside a part, which is then measured with what the file has there
/// (zeros, by custom); or memory of its own, zeroed and unmeasured.
struct ImageSlot {
    std::string name;
    psp::Gpa gpa{};
    std::uint64_t length_bytes = 0;
    friend bool operator==(const ImageSlot&, const ImageSlot&) = default;
};

/// A guest as a list of files with addresses: needs no hypervisor. JSON, format "xen-sev/image-layout", docs/schemas/image-layout.schema.json;
/// unknown keys are refused. Parts are loaded in the order in which they stand, then the VMSAs; application processors start where the SEV-ES reset
/// block of the last part says.
struct ImageLayout {
    static constexpr std::string_view format = "xen-sev/image-layout";
    static constexpr std::size_t limit_bytes = 1U << 20;
    static constexpr std::size_t part_limit = 256, slot_limit = 16;
    static constexpr std::uint64_t part_limit_bytes = std::uint64_t{16} << 30;
    std::vector<ImagePart> parts;
    std::vector<ImageSlot> slots;
    unsigned vcpus = 0; // 0: no VMSA, plain SEV
    std::string vmsa_profile;
    measure::CpuSignature cpu;
    std::uint64_t sev_features = 0;

    /// Files are relative to `base`. Throws Error{Fault::malformed} with the key, got and want.
    static ImageLayout from_json(const json::Value& value, const std::string& what, const Path& base);
    static ImageLayout load(const Path& path);
    friend bool operator==(const ImageLayout&, const ImageLayout&) = default;
};

} // namespace sev::launch
