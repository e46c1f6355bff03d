// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <map>
#include <mutex>
#include <string>

namespace sev::attest::owner {

/// How often a channel may ask: a bucket of `burst` requests that refills at `per_second`. Thread-safe; remembers a bounded number of channels.
class RateLimit {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::size_t channel_limit = 4096;
    RateLimit(double per_second, double burst) : per_second_{per_second}, burst_{burst} {}
    /// Takes one request from the channel's bucket; false when it is empty.
    bool take(const std::string& channel, Clock::time_point now);

private:
    struct Bucket {
        double level;
        Clock::time_point at;
    };
    double filled(const Bucket& bucket, Clock::time_point now) const;
    double per_second_, burst_;
    std::mutex mutex_;
    std::map<std::string, Bucket> buckets_;
};

} // namespace sev::attest::owner
