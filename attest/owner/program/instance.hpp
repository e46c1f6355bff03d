// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "attest/owner/config.hpp"
#include "attest/owner/service.hpp"
#include "console/command.hpp"

namespace sev::attest::owner {

/// Reads the owner's signing key: DER or PEM, mode 0600. Throws Error.
P384Key load_owner_key(const Path& path);

/// The time of day, in seconds.
Time now();

/// Everything one process of sev-owner works with, opened from its configuration, in the order in which it must be taken down.
class Instance {
public:
    /// `times` outlive an instance: a reload makes a new one, and sessions live on.
    explicit Instance(const cli::Arguments& given, std::shared_ptr<SessionTimes> times = std::make_shared<SessionTimes>(now()));
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;

    const Path& config_path() const noexcept { return config_path_; }
    const OwnerConfig& config() const noexcept { return config_; }
    const P384Key& key() const noexcept { return key_; }
    SealKeys& seal_keys() noexcept { return seal_keys_; }
    Store& store() noexcept { return *store_; }
    Policies& policies() noexcept { return policies_; }
    OwnerService& service() noexcept { return service_; }
    const std::shared_ptr<SessionTimes>& times() const noexcept { return times_; }

private:
    std::shared_ptr<SessionTimes> times_;
    Path config_path_;
    OwnerConfig config_;
    P384Key key_;
    SealKeys seal_keys_;
    std::unique_ptr<Store> store_;
    Policies policies_;
    OwnerService service_;
};

/// What a person did at the command line, for the audit log.
AuditEvent operator_event(std::string_view event, std::string detail);

} // namespace sev::attest::owner
