// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"

namespace sev::measure {

/// GUID in EFI order: the first three groups little-endian, the last two as written.
struct Guid {
    ByteArray<16> bytes{};
    /// "96b582de-1fb2-45f7-baea-a366c55a082d", digits of either case; nullopt when it is no GUID.
    static std::optional<Guid> parse(std::string_view text);
    std::string text() const; // lower case
    friend auto operator<=>(const Guid&, const Guid&) = default;
};

/// GUIDs of the table's entries. Source: edk2 OvmfPkg/ResetVector, files ResetVectorVtf0.nasm.inc.
namespace guid {
extern const Guid table_footer;         // 96b582de-1fb2-45f7-baea-a366c55a082d
extern const Guid sev_es_reset_block;   // 00f771de-1a7e-4fcb-890e-68c77e2fb44e
extern const Guid sev_secret_block;     // 4c2eb361-7d9b-4cc3-8081-127c90d3d294
extern const Guid sev_hash_table_block; // 7255371f-3a3b-4b04-927b-1da6efa8d454
extern const Guid snp_metadata_offset;  // dc886566-984a-4798-a75e-5585a7bf67cc
extern const Guid tdx_metadata_offset;  // e47a6535-984a-4798-865e-4685a7bf8ec2
extern const Guid igvm_parameter_offset; // 784fa70e-3176-4677-8a20-04b68699e374
} // namespace guid

/// What people call the entry: "SEV-ES reset block"; empty for a GUID that we do not know.
std::string_view name(const Guid& guid);

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
    bool present = false;            // the footer GUID is there
    /// The image is older than the table: the SEV-ES reset block stands alone where the footer would be.
    bool bare_reset_block = false;
    std::optional<std::uint32_t> ap_reset_address; // SEV-ES reset block
    std::optional<Area> secret_block, hash_block;
    std::optional<std::uint32_t> snp_metadata_offset, tdx_metadata_offset, igvm_parameter_offset; // from the end of the image

    /// Reads the table of a whole image, or of its last part. An image without a table gives an empty one. Throws
    /// Error{Fault::malformed} for a table that is there but broken, with file offset and field: a length that is too
    /// small or reaches beyond the image or the table, an entry shorter than its kind needs, a GUID that occurs twice
    /// (QEMU takes the last one in the file, other readers the first).
    static FirmwareTable parse(ByteView image);

    /// The table as it stands in a file, from the first entry to the footer GUID; 32 bytes of reset vector follow it there.
    Bytes serialize() const;

    /// AP reset address. Throws Error{Fault::malformed} that says what the image has and what is missing: no table, no
    /// SEV-ES reset block, address 0.
    std::uint32_t need_ap_reset_address() const;
    /// Where QEMU puts the kernel hashes table: base not 0, 176 bytes or more. Throws likewise.
    Area need_hash_block() const;
    /// Where LAUNCH_SECRET goes: base and size not 0. Throws likewise.
    Area need_secret_block() const;
};

} // namespace sev::measure
