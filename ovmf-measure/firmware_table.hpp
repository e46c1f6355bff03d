// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"

namespace sev::measure {

/// GUID in EFI order: the first three groups little-endian, the last two as written.
struct Guid {
    ByteArray<16> bytes{};
    /// "96b582de-1fb2-45f7-baea-a366c55a082d"; nullopt when it is no GUID.
    static std::optional<Guid> parse(std::string_view text);
    std::string text() const;
    friend auto operator<=>(const Guid&, const Guid&) = default;
};

/// A piece of guest memory that the firmware names: base and size in bytes. Base 0 means the build does not support it.
struct Area {
    std::uint32_t base = 0, size_bytes = 0;
    friend bool operator==(const Area&, const Area&) = default;
};

struct TableEntry {
    Guid guid;
    std::size_t file_offset; // of the data
    Bytes data;
    friend bool operator==(const TableEntry&, const TableEntry&) = default;
};

/// OVMF's GUID table at the end of a flash image (edk2 ResetVectorVtf0.nasm.inc; read as QEMU reads it).
struct FirmwareTable {
    std::vector<TableEntry> entries; // from the end of the image backwards
    std::optional<std::uint32_t> ap_reset_address; // SEV-ES reset block
    std::optional<Area> secret_block, hash_block;
    std::optional<std::uint32_t> snp_metadata_offset, tdx_metadata_offset;

    /// Reads the table of a whole image, or of its last part. An image without a table gives an empty one. Throws
    /// Error{Fault::malformed} for a table that is there but broken, with file offset and field.
    static FirmwareTable parse(ByteView image);
};

} // namespace sev::measure
