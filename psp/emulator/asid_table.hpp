// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "psp/emulator/personality.hpp"
#include "psp/status.hpp"

namespace sev::psp::emulator {

/// Names the guests that share one VEK.
enum class KeyGroup : std::uint64_t {};

/// Who has which ASID, and which ASIDs wait for WBINVD and DF_FLUSH. Source: SEV API (AMD 55766), ACTIVATE, DEACTIVATE, DF_FLUSH.
class AsidTable {
public:
    explicit AsidTable(const Personality& personality);
    /// INIT: nobody has an ASID, and each needs WBINVD and then DF_FLUSH.
    void reset();
    /// ACTIVATE's checks in their order: INVALID_ASID, ASID_OWNED, WBINVD_REQUIRED, DF_FLUSH_REQUIRED. Changes nothing.
    Status check(Asid asid, bool es, KeyGroup group) const;
    void install(Asid asid, KeyGroup group);
    void release(Asid asid);
    void wbinvd();
    /// WBINVD_REQUIRED when an ASID was released, or all were by INIT, since the last WBINVD; then nothing changes.
    Status df_flush();

private:
    struct Slot {
        KeyGroup group{};
        std::uint32_t users = 0;
        bool needs_wbinvd = true, needs_df_flush = true;
    };
    const Personality& personality_;
    std::vector<Slot> slots_; // by ASID; the first is never used
};

} // namespace sev::psp::emulator
