// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <set>

#include "base/service/metrics.hpp"
#include "base/service/server.hpp"
#include "launch/daemon/host_key.hpp"
#include "launch/daemon/launches.hpp"

namespace sev::daemon {

/// docs/sevd.openapi.json, as it was when the program was built.
std::string_view openapi_json();

/// The daemon's HTTP face: docs/sevd.openapi.json. With `readers` (a group), only that group, root, this process's own user and the writers may read;
/// without, who can connect. Only `writers` (uids) may change anything. Referred-to things outlive the routes.
class Api {
public:
    struct Parts {
        const Backend& backend;
        PspQueue& psp;
        Launches& launches;
        service::EventHub& events;
        HostKeyFile& host_key;
        std::string version;
        std::optional<gid_t> readers{};
    };
    Api(Parts parts, const Configuration& configuration);
    std::vector<service::Route> routes();
    /// Owners and writers of a new configuration.
    void reconfigure(const Configuration& configuration);
    service::Metrics& metrics() noexcept { return metrics_; }

private:
    json::Value status();
    service::Response platform();
    service::Response certificates();
    service::Response create(const service::Request& request);
    service::Response list(const service::Request& request);
    service::Response one(const service::Request& request);
    service::Response bundle(const service::Request& request);
    service::Response cancel(const service::Request& request);
    std::optional<service::Response> may_read(const service::Peer& peer);
    std::optional<service::Response> may_write(const service::Peer& peer);
    void declare_metrics();

    Parts parts_;
    service::Metrics metrics_;
    attest::Time started_;
    std::mutex mutex_; // guards the two below
    std::set<unsigned> writers_;
    json::Value owners_;
};

} // namespace sev::daemon
