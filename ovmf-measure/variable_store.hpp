// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <vector>

#include "base/bytes.hpp"

namespace sev::measure {

/// An EFI firmware volume that holds UEFI variables (file system GUID fff12b8d-7696-4c8b-a985-2747075b4f50): what the guest
/// writes there is in the flash image from then on. Source: UEFI PI volume 3, EFI_FIRMWARE_VOLUME_HEADER; edk2 OvmfPkg VarStore.fdf.inc.
struct VariableStore {
    std::size_t file_offset; // of the volume header
    std::uint64_t size_bytes; // as its header says; it may reach beyond the image
    friend bool operator==(const VariableStore&, const VariableStore&) = default;
};

/// All of them, ascending. A header counts at any multiple of 8 bytes when it has GUID and signature; a GUID alone, as in code
/// that looks for one, does not.
std::vector<VariableStore> variable_stores(ByteView image);

} // namespace sev::measure
