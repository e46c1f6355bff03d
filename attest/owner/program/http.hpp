// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "attest/owner/program/instance.hpp"
#include "attest/owner/rate.hpp"
#include "base/service/log.hpp"
#include "base/service/metrics.hpp"
#include "base/service/router.hpp"

namespace sev::attest::owner {

/// What the routes work with. A reload puts a new instance in the place of the old one; requests that are under way keep theirs.
class Serving {
public:
    Serving(std::shared_ptr<Instance> instance, service::Log& log);
    std::shared_ptr<Instance> instance() const;
    void replace(std::shared_ptr<Instance> instance);
    service::Log& log() noexcept { return log_; }
    service::Metrics& metrics() noexcept { return metrics_; }
    RateLimit& rate() noexcept { return rate_; }

private:
    mutable std::mutex mutex_;
    std::shared_ptr<Instance> instance_;
    service::Log& log_;
    service::Metrics metrics_;
    RateLimit rate_;
};

/// The whole HTTP interface, docs/sev-owner.openapi.json. `serving` outlives the server.
std::vector<service::Route> owner_routes(Serving& serving);

} // namespace sev::attest::owner
