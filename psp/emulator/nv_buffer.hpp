// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "psp/emulator/chip.hpp"
#include "psp/emulator/choices.hpp"
#include "psp/emulator/platform_keys.hpp"

/// The 32 KiB in ordinary memory in which INIT_EX has the firmware keep its keys instead of in its flash. Encrypted and authenticated under the
/// chip's secret:
///   00h magic "SEV-EMU1"   08h LENGTH of the payload   0Ch reserved 0   10h IV, 16   20h MAC, 32   40h payload: PlatformKeys under AES-128-CTR;
///   then FFh
/// MAC: HMAC-SHA-256 of all 8000h bytes with the MAC's own taken as zero. All FFh means empty.
namespace sev::psp::emulator {

using NvView = std::span<const std::uint8_t, choices::nv_bytes>;
using NvSpan = std::span<std::uint8_t, choices::nv_bytes>;

struct NvContent {
    bool valid = false;                       // empty counts as valid
    std::shared_ptr<const PlatformKeys> keys; // null when empty
};
NvContent read_nv(NvView buffer, const Chip& chip);
void write_nv(NvSpan buffer, const Chip& chip, const PlatformKeys& keys, const Random& random);
void erase_nv(NvSpan buffer);

} // namespace sev::psp::emulator
