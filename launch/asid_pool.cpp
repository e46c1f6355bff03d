// SPDX-License-Identifier: Apache-2.0
#include "launch/asid_pool.hpp"

#include <utility>

#include <fmt/format.h>

#include "psp/command.hpp"

namespace sev::launch {

AsidPool::AsidPool(AsidRange range) : range_{range} {
    if (range.min_sev == 0 || range.min_sev > range.max + std::uint64_t{1})
        throw Error{Fault::malformed, fmt::format("ASIDs: lowest SEV ASID is {}, want 1 … {}", range.min_sev, range.max + std::uint64_t{1})};
    for (std::uint32_t asid = 1; asid <= range.max; ++asid) half(dirty_, asid).insert(asid);
}

std::optional<psp::Asid> AsidPool::take(bool es, psp::Firmware& firmware) {
    const std::scoped_lock one_at_a_time{take_mutex_};
    std::unique_lock lock{mutex_};
    std::set<std::uint32_t>& clean = clean_[es ? 1 : 0];
    if (clean.empty() && !dirty_[es ? 1 : 0].empty()) {
        // What is released while the PSP flushes stays dirty; and who only counts does not wait for the PSP.
        const std::set<std::uint32_t> flushed[2] = {dirty_[0], dirty_[1]};
        lock.unlock();
        firmware.flush_caches();
        psp::run(firmware, psp::DfFlush{});
        lock.lock();
        for (const std::size_t i : {0U, 1U})
            for (const std::uint32_t asid : flushed[i])
                if (dirty_[i].erase(asid) == 1) clean_[i].insert(asid);
    }
    if (clean.empty()) return std::nullopt;
    const std::uint32_t asid = *clean.begin();
    clean.erase(clean.begin());
    ++in_use_;
    return psp::Asid{asid};
}

void AsidPool::release(psp::Asid asid) {
    const std::scoped_lock lock{mutex_};
    half(dirty_, psp::raw(asid)).insert(psp::raw(asid));
    --in_use_;
}

void AsidPool::retire(psp::Asid asid) {
    const std::scoped_lock lock{mutex_};
    --in_use_;
    retired_.insert(psp::raw(asid));
}

void AsidPool::set_aside(psp::Asid asid) {
    const std::scoped_lock lock{mutex_};
    const std::uint32_t value = psp::raw(asid);
    if (value == 0 || value > range_.max || retired_.contains(value)) return;
    half(clean_, value).erase(value);
    half(dirty_, value).erase(value);
    retired_.insert(value);
}

void AsidPool::restore(psp::Asid asid) {
    const std::scoped_lock lock{mutex_};
    if (retired_.erase(psp::raw(asid)) == 1) half(dirty_, psp::raw(asid)).insert(psp::raw(asid));
}

void AsidPool::adopt(psp::Asid asid) {
    const std::scoped_lock lock{mutex_};
    const std::uint32_t value = psp::raw(asid);
    if (half(clean_, value).erase(value) + half(dirty_, value).erase(value) + retired_.erase(value) == 1) ++in_use_;
}

void AsidPool::give_back(psp::Asid asid) {
    const std::scoped_lock lock{mutex_};
    half(clean_, psp::raw(asid)).insert(psp::raw(asid));
    --in_use_;
}

void AsidPool::note_stuck(const Stuck& stuck) {
    const std::scoped_lock lock{mutex_};
    stuck_.push_back(stuck);
}

std::vector<AsidPool::Stuck> AsidPool::take_stuck() {
    const std::scoped_lock lock{mutex_};
    return std::exchange(stuck_, {});
}

AsidPool::Half AsidPool::count(bool es) const {
    const std::scoped_lock lock{mutex_};
    Half out{
        .total = es ? range_.es_count() : range_.sev_count(), .clean = clean_[es ? 1 : 0].size(), .dirty = dirty_[es ? 1 : 0].size(), .retired = 0};
    for (const std::uint32_t asid : retired_) out.retired += (asid < range_.min_sev) == es ? 1 : 0;
    return out;
}

Error no_asid_free(const AsidPool& asids, bool es) {
    return Error{Fault::system, fmt::format("no {} ASID is free ({} in use)", es ? "SEV-ES" : "SEV", asids.in_use()),
                 es ? "stop a SEV-ES guest, or raise the BIOS setting 'SEV-ES ASID Space Limit'"
                    : "stop a SEV guest, or lower the BIOS setting 'SEV-ES ASID Space Limit'"};
}

std::size_t AsidPool::in_use() const {
    const std::scoped_lock lock{mutex_};
    return in_use_;
}

std::size_t AsidPool::retired() const {
    const std::scoped_lock lock{mutex_};
    return retired_.size();
}

} // namespace sev::launch
