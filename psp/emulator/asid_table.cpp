// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/asid_table.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace sev::psp::emulator {

AsidTable::AsidTable(const Personality& personality) : personality_{personality}, slots_(std::size_t{personality.max_asid} + 1) {}

void AsidTable::reset() { std::ranges::fill(slots_, Slot{}); }

Status AsidTable::check(Asid asid, bool es, KeyGroup group) const {
    if (raw(asid) < 1 || raw(asid) > personality_.max_asid) return Status::invalid_asid;
    if (es != (raw(asid) < personality_.min_sev_asid)) return Status::invalid_asid;
    const Slot& slot = slots_[raw(asid)];
    // guests that share a VEK may share the ASID, and then nothing is left to flush
    if (slot.users > 0) return slot.group == group ? Status::success : Status::asid_owned;
    if (slot.needs_wbinvd) return Status::wbinvd_required;
    if (slot.needs_df_flush) return Status::df_flush_required;
    return Status::success;
}

void AsidTable::install(Asid asid, KeyGroup group) {
    Slot& slot = slots_.at(raw(asid));
    slot.group = group;
    ++slot.users;
}

void AsidTable::release(Asid asid) {
    Slot& slot = slots_.at(raw(asid));
    require(slot.users > 0, "a released ASID was in use");
    if (--slot.users > 0) return;
    slot = Slot{};
}

void AsidTable::wbinvd() {
    for (Slot& slot : slots_) slot.needs_wbinvd = false;
}

Status AsidTable::df_flush() {
    // slot 0 stands for no ASID, and is in step with the others after INIT and WBINVD only
    if (std::any_of(slots_.begin() + 1, slots_.end(), [](const Slot& slot) { return slot.needs_wbinvd; })) return Status::wbinvd_required;
    for (Slot& slot : slots_) slot.needs_df_flush = false;
    return Status::success;
}

} // namespace sev::psp::emulator
