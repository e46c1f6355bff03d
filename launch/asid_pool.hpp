// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "psp/firmware.hpp"

namespace sev::launch {

/// How a platform divides its ASIDs: SEV-ES guests use 1 … min_sev - 1, SEV guests min_sev … max (CPUID Fn8000_001F EDX and ECX).
struct AsidRange {
    std::uint32_t max = 0, min_sev = 1;
    std::uint32_t es_count() const noexcept { return std::min(max, min_sev - 1); }
    std::uint32_t sev_count() const noexcept { return max - es_count(); }
    friend bool operator==(const AsidRange&, const AsidRange&) = default;
};

/// The ASIDs of one platform. A dirty one is handed out only after WBINVD and DF_FLUSH, which are issued when no clean one is left in its half. All
/// are dirty at first, because nobody says what used them before, and so is each that is released. Thread-safe.
class AsidPool {
public:
    /// Throws Error{Fault::malformed} for min_sev 0 or above max + 1.
    explicit AsidPool(AsidRange range);
    /// A clean ASID from the half that the policy's ES bit asks for; nullopt when all of that half are in use.
    std::optional<psp::Asid> take(bool es, psp::Firmware& firmware);
    /// After DEACTIVATE.
    void release(psp::Asid asid);
    /// After a DEACTIVATE that failed: the ASID may still be in use, and stays out of circulation.
    void retire(psp::Asid asid);
    /// One that an earlier run of the program left in a guest context: retired from the start. No effect outside the range.
    void set_aside(psp::Asid asid);
    /// A retired one whose DEACTIVATE came about after all: dirty now. No effect on any other.
    void restore(psp::Asid asid);
    /// One that a guest of an earlier run of the program has, and keeps: in use, set aside before or not. No effect outside the range.
    void adopt(psp::Asid asid);
    /// One that was taken and never given to ACTIVATE: clean as before.
    void give_back(psp::Asid asid);
    /// Guest contexts that the PSP did not let go of, with their ASID where it is retired for that reason; they are not told twice.
    struct Stuck {
        psp::GuestHandle handle{};
        psp::Asid asid{};
        friend bool operator==(const Stuck&, const Stuck&) = default;
    };
    void note_stuck(const Stuck& stuck);
    std::vector<Stuck> take_stuck();
    struct Half {
        std::size_t total = 0, clean = 0, dirty = 0, retired = 0;
        std::size_t in_use() const noexcept { return total - clean - dirty - retired; }
    };
    Half count(bool es) const;
    std::size_t in_use() const;
    std::size_t retired() const;

private:
    std::set<std::uint32_t>& half(std::set<std::uint32_t> (&halves)[2], std::uint32_t asid) { return halves[asid < range_.min_sev ? 1 : 0]; }
    AsidRange range_;
    std::mutex take_mutex_; // before mutex_
    mutable std::mutex mutex_;
    std::set<std::uint32_t> clean_[2], dirty_[2]; // [1] is the SEV-ES half
    std::set<std::uint32_t> retired_;
    std::vector<Stuck> stuck_;
    std::size_t in_use_ = 0;
};

/// Error{Fault::system} "no SEV-ES ASID is free (8 in use)", with what to do about it.
Error no_asid_free(const AsidPool& asids, bool es);

} // namespace sev::launch
