// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string_view>

#include "psp/types.hpp"

namespace sev::psp::emulator {

/// Which machine the emulated PSP pretends to be. Sources: CPUID dumps of real machines (EPYC 7601 in libvirt's cputestdata, public dumps of Rome and
/// Milan), firmware versions from public boot logs and AMD's release names; the ASID split of the 3151 is a BIOS setting chosen here.
struct Personality {
    std::string_view name;  // "epyc-3151", at most 31 characters
    std::string_view title; // "AMD EPYC Embedded 3151 (Naples)"
    Product product;
    Build build;
    std::uint32_t max_asid;      // CPUID Fn8000_001F ECX
    std::uint32_t min_sev_asid;  // CPUID Fn8000_001F EDX: SEV-ES guests use 1 … min_sev_asid - 1
    unsigned c_bit, address_reduction;
    unsigned sockets;
    unsigned rsa_bits;           // of ARK and ASK
    std::uint32_t cpuid_1_eax;   // family, model, stepping
    std::uint32_t cpuid_8000001f_eax;
};
/// "epyc-3151", "epyc-7002", "epyc-7003".
std::span<const Personality> all_personalities();
/// nullptr for an unknown name.
const Personality* find_personality(std::string_view name);

} // namespace sev::psp::emulator
