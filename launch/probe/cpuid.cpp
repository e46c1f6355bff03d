// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/cpuid.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/file.hpp"

namespace sev::probe {
namespace {

constexpr std::uint32_t range_mask = 0xFFFF'0000;

void append(std::string& out, std::uint32_t word) {
    for (unsigned i = 0; i < 4; ++i) out += static_cast<char>(word >> (8 * i));
}

const CpuidLeaf* recorded(const std::vector<CpuidLeaf>& leaves, std::uint32_t leaf) {
    const auto found = std::ranges::find_if(leaves, [&](const CpuidLeaf& one) { return one.leaf == leaf && one.subleaf == 0; });
    return found == leaves.end() ? nullptr : &*found;
}

class Instruction : public CpuidSource {
public:
    Reading<CpuidLeaf> read([[maybe_unused]] std::uint32_t leaf) override {
#if defined(__x86_64__)
        CpuidLeaf out{.leaf = leaf};
        __cpuid_count(leaf, 0, out.eax, out.ebx, out.ecx, out.edx);
        return out;
#else
        return NotTried{"this program was not built for x86-64"};
#endif
    }
};

/// The cpuid device: the position is the leaf in the low 32 bits and the subleaf in the high ones, the answer 16 bytes. Source: Linux cpuid(4).
class Device : public CpuidSource {
public:
    explicit Device(int fd) : fd_{fd} {}
    Reading<CpuidLeaf> read(std::uint32_t leaf) override {
        std::array<std::uint32_t, 4> words{};
        const ssize_t got = ::pread(fd_, words.data(), sizeof words, static_cast<off_t>(leaf));
        if (got < 0) return failure_of(errno);
        if (got != sizeof words) return Failure{0, "short read of a CPUID leaf"};
        return CpuidLeaf{.leaf = leaf, .eax = words[0], .ebx = words[1], .ecx = words[2], .edx = words[3]};
    }

private:
    int fd_;
};

} // namespace

Failure failure_of(int error_number) { return {error_number, std::strerror(error_number)}; } // NOLINT(concurrency-mt-unsafe): glibc's is thread-safe

std::uint32_t CpuidLeaves::highest(std::uint32_t range) const {
    const CpuidLeaf* const first = recorded(leaves, range & range_mask);
    if (!first || (first->eax & range_mask) != (range & range_mask)) return 0;
    return first->eax;
}

std::optional<CpuidLeaf> CpuidLeaves::find(std::uint32_t leaf) const {
    const CpuidLeaf* const found = recorded(leaves, leaf);
    const std::uint32_t range = leaf & range_mask;
    // the first leaf of a range says what the rest may be believed about
    if (leaf == range) return found ? std::optional{*found} : std::nullopt;
    if (leaf > highest(range)) return std::nullopt;
    if (found) return *found;
    return zero_leaves_left_out ? std::optional{CpuidLeaf{.leaf = leaf}} : std::nullopt;
}

std::string CpuidLeaves::vendor() const {
    const auto leaf = find(0);
    if (!leaf) return {};
    std::string out;
    for (const std::uint32_t word : {leaf->ebx, leaf->edx, leaf->ecx}) append(out, word);
    return out;
}

std::string CpuidLeaves::brand() const {
    std::string out;
    for (std::uint32_t at = leaf_extended + 2; at <= leaf_extended + 4; ++at) {
        const auto leaf = find(at);
        if (!leaf) return {};
        for (const std::uint32_t word : {leaf->eax, leaf->ebx, leaf->ecx, leaf->edx}) append(out, word);
    }
    out.resize(std::min(out.find('\0'), out.size()));
    const auto first = out.find_first_not_of(' ');
    if (first == std::string::npos) return {};
    return out.substr(first, out.find_last_not_of(' ') - first + 1);
}

EncryptionLeaf EncryptionLeaf::decode(const CpuidLeaf& leaf) {
    const auto bit = [&](unsigned at) { return (leaf.eax >> at & 1) != 0; };
    return {.sme = bit(0),
            .sev = bit(1),
            .sev_es = bit(3),
            .snp = bit(4),
            .vmpl = bit(5),
            .page_flush_msr = bit(2),
            .c_bit = leaf.ebx & 0x3F,
            .address_bits_lost = leaf.ebx >> 6 & 0x3F,
            .vmpls = leaf.ebx >> 12 & 0xF,
            .asids = leaf.ecx,
            .min_sev_asid = leaf.edx};
}

std::uint32_t EncryptionLeaf::es_asids() const noexcept { return min_sev_asid == 0 ? 0 : std::min(min_sev_asid - 1, asids); }

std::uint32_t EncryptionLeaf::sev_asids() const noexcept { return asids - es_asids(); }

Reading<CpuidLeaves> read_leaves(CpuidSource& source) {
    CpuidLeaves out;
    std::optional<Reading<CpuidLeaves>> trouble;
    const auto take = [&](std::uint32_t leaf) -> std::optional<CpuidLeaf> {
        if (trouble) return std::nullopt;
        const auto reading = source.read(leaf);
        if (reading.failure()) trouble = *reading.failure();
        if (reading.not_tried()) trouble = *reading.not_tried();
        if (!reading.value()) return std::nullopt;
        out.leaves.push_back(*reading.value());
        return *reading.value();
    };
    take(0);
    if (out.highest(0) >= 1) {
        const auto features = take(1);
        if (features && (features->ecx >> 31 & 1) != 0) take(leaf_hypervisor);
    }
    take(leaf_extended);
    for (const std::uint32_t leaf :
         {leaf_extended + 2, leaf_extended + 3, leaf_extended + 4, leaf_extended + 8, leaf_extended + 0xA, leaf_encryption, leaf_extended + 0x21})
        if (leaf <= out.highest(leaf_extended)) take(leaf);
    return trouble ? *trouble : Reading<CpuidLeaves>{out};
}

Reading<CpuidLeaves> cpuid_by_instruction() {
    Instruction source;
    return read_leaves(source);
}

Reading<CpuidLeaves> cpuid_by_device(const std::string& path) {
    const Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) return failure_of(errno);
    Device source{fd.get()};
    return read_leaves(source);
}

} // namespace sev::probe
