// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/rate.hpp"

#include <algorithm>

namespace sev::attest::owner {

double RateLimit::filled(const Bucket& bucket, Clock::time_point now) const {
    const std::chrono::duration<double> passed = std::max(now - bucket.at, Clock::duration::zero());
    return std::min(burst_, bucket.level + passed.count() * per_second_);
}

bool RateLimit::take(const std::string& channel, Clock::time_point now) {
    const std::lock_guard lock{mutex_};
    if (buckets_.size() >= channel_limit && !buckets_.contains(channel)) {
        std::erase_if(buckets_, [&](const auto& entry) { return filled(entry.second, now) >= burst_; }); // as good as new: nothing is forgotten
        if (buckets_.size() >= channel_limit) return false;
    }
    Bucket& bucket = buckets_.try_emplace(channel, Bucket{.level = burst_, .at = now}).first->second;
    bucket = {.level = filled(bucket, now), .at = std::max(bucket.at, now)};
    if (bucket.level < 1) return false;
    bucket.level -= 1;
    return true;
}

} // namespace sev::attest::owner
