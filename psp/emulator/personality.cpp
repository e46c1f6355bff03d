// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/personality.hpp"

#include <algorithm>
#include <array>

namespace sev::psp::emulator {

std::span<const Personality> all_personalities() {
    static constexpr std::array<Personality, 3> all{{
        {.name = "epyc-3151",
         .title = "AMD EPYC Embedded 3151 (Naples)",
         .product = Product::naples,
         .build = {0, 17, 48},
         .max_asid = 15,
         .min_sev_asid = 9, // BIOS: SEV-ES ASID space limit 9, so 8 of 15 are for SEV-ES
         .c_bit = 47,
         .address_reduction = 5,
         .sockets = 1,
         .rsa_bits = 2048,
         .cpuid_1_eax = 0x0080'0F12,
         .cpuid_8000001f_eax = 0x0000'000F},
        {.name = "epyc-7002",
         .title = "AMD EPYC 7002 (Rome)",
         .product = Product::rome,
         .build = {0, 24, 15},
         .max_asid = 509,
         .min_sev_asid = 1, // as dumped from a machine whose BIOS gives SEV-ES no ASIDs
         .c_bit = 47,
         .address_reduction = 5,
         .sockets = 2,
         .rsa_bits = 4096,
         .cpuid_1_eax = 0x0083'0F10,
         .cpuid_8000001f_eax = 0x0001'000F},
        {.name = "epyc-7003",
         .title = "AMD EPYC 7003 (Milan)",
         .product = Product::milan,
         .build = {1, 55, 29},
         .max_asid = 509,
         .min_sev_asid = 128,
         .c_bit = 51,
         .address_reduction = 5,
         .sockets = 1,
         .rsa_bits = 4096,
         .cpuid_1_eax = 0x00A0'0F11,
         .cpuid_8000001f_eax = 0x0101'FD3F},
    }};
    return all;
}

const Personality* find_personality(std::string_view name) {
    const auto all = all_personalities();
    const auto found = std::ranges::find(all, name, &Personality::name);
    return found == all.end() ? nullptr : &*found;
}

} // namespace sev::psp::emulator
