// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <vector>

#include "base/secret.hpp"
#include "ovmf-measure/firmware_table.hpp"

namespace sev::attest {

/// One secret of the table. 736869e5-84f0-4973-92ec-06879ce3da0b is a LUKS passphrase.
struct SecretEntry {
    measure::Guid guid;
    SecretBytes data;
};

/// OVMF's GUIDed secret table, plaintext: table GUID, u32 length (20 and all entries), entries {GUID, u32 20 + data, data}, zeros up to a
/// multiple of 16. Throws Error{Fault::usage} for no entry and for a table of more than 16 KiB. Source: edk2 OvmfPkg AmdSev SecretPei;
/// virtee sevctl and virt-qemu-sev-validate write the same.
SecretBytes build_secret_table(std::span<const SecretEntry> entries);

/// Reads it back. Throws Error{Fault::malformed} "secret table: …" with offset and field: wrong GUID, lengths that do not fit, padding of more than
/// 15 bytes or not zero.
std::vector<SecretEntry> parse_secret_table(ByteView table);

} // namespace sev::attest
