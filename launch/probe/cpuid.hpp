// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/probe/reading.hpp"

namespace sev::probe {

/// One CPUID leaf as it was read.
struct CpuidLeaf {
    std::uint32_t leaf = 0, subleaf = 0;
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    friend bool operator==(const CpuidLeaf&, const CpuidLeaf&) = default;
};

/// The leaves that one source gave. A record may hold leaves that its CPU does not have (tools that dump blindly write them): `find` never hands one
/// out.
struct CpuidLeaves {
    static constexpr std::size_t limit = 64;
    std::vector<CpuidLeaf> leaves;
    bool zero_leaves_left_out = false; // Xen's policies: an absent leaf within the maximum is all zero

    /// The highest basic or extended leaf that the CPU says it has; 0 when it does not say. An answer outside 0x80000000 … 0x8000ffff is no maximum.
    std::uint32_t highest(std::uint32_t range) const;
    /// The leaf, subleaf 0. nullopt when it is not recorded, or when it lies above the maximum of its range: beyond it a CPU may return another
    /// leaf's data, whose bits can look like SME and SEV. Source: AMD64 Architecture Programmer's Manual volume 3, CPUID.
    std::optional<CpuidLeaf> find(std::uint32_t leaf) const;
    /// "AuthenticAMD"; empty when leaf 0 is absent.
    std::string vendor() const;
    /// The brand string of leaves 0x80000002 … 4, trimmed; empty when absent. For people only: nothing is decided by it.
    std::string brand() const;
    friend bool operator==(const CpuidLeaves&, const CpuidLeaves&) = default;
};

inline constexpr std::uint32_t leaf_extended = 0x8000'0000, leaf_hypervisor = 0x4000'0000, leaf_encryption = 0x8000'001F;

/// Leaf 0x8000001F. Source: AMD64 Architecture Programmer's Manual volume 3, Fn8000_001F.
struct EncryptionLeaf {
    bool sme = false, sev = false, sev_es = false, snp = false, vmpl = false, page_flush_msr = false;
    std::uint32_t c_bit = 0, address_bits_lost = 0, vmpls = 0;
    std::uint32_t asids = 0;         // highest ASID = number of guests at a time
    std::uint32_t min_sev_asid = 0;  // lowest ASID for a guest without SEV-ES

    static EncryptionLeaf decode(const CpuidLeaf& leaf);
    /// SEV-ES guests use 1 … min_sev_asid − 1, and never more than there are.
    std::uint32_t es_asids() const noexcept;
    /// Guests without SEV-ES use min_sev_asid … asids.
    std::uint32_t sev_asids() const noexcept;
    friend bool operator==(const EncryptionLeaf&, const EncryptionLeaf&) = default;
};

/// Where CPUID comes from: the instruction, or /dev/cpu/N/cpuid.
class CpuidSource {
public:
    CpuidSource() = default;
    CpuidSource(const CpuidSource&) = delete;
    CpuidSource& operator=(const CpuidSource&) = delete;
    virtual ~CpuidSource() = default;
    virtual Reading<CpuidLeaf> read(std::uint32_t leaf) = 0;
};

/// Reads the leaves that say something about memory encryption, each only when the source's own maximum covers it. A failure on any of them is the
/// failure of the whole.
Reading<CpuidLeaves> read_leaves(CpuidSource& source);

/// The CPUID instruction on the CPU we happen to run on.
Reading<CpuidLeaves> cpuid_by_instruction();
/// /dev/cpu/0/cpuid at `path`.
Reading<CpuidLeaves> cpuid_by_device(const std::string& path);

} // namespace sev::probe
