// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <mutex>

#include "launch/xen/domain_guest.hpp"
#include "launch/xen/wanted.hpp"

namespace sev::launch::xen {

/// Xen domains as guests of a daemon, as WantedDomain says: created from an xl.cfg, or one that was created paused and never ran. Refused are a name
/// that a domain has already; a domain that its toolstack would start again when it ends; and, between any two of the calls below, a domain
/// number that has become another's, or an xl.cfg that says something else by now.
class DomainSource final : public GuestSource {
public:
    struct Parts {
        std::unique_ptr<Toolstack> toolstack;
        psp::PageSource& pages;
        HostFiles host;
        Path scratch; // a folder of ours, for xl.cfg texts
        std::function<std::shared_ptr<ForeignMemory>()> open_memory = [] { return std::shared_ptr<ForeignMemory>{open_foreign_memory()}; };
    };
    explicit DomainSource(Parts parts) : parts_{std::move(parts)} {}
    std::string_view kind() const noexcept override { return "xen"; }
    unsigned level() const noexcept override { return 1; }
    Plan plan(const json::Value& guest) override;
    std::unique_ptr<Guest> open(const json::Value& guest, const json::Value& identity) override;
    std::unique_ptr<Guest> adopt(const json::Value& identity) override;
    bool same_guest(const json::Value& one, const json::Value& other) const override;
    std::string destroy_leftover(const json::Value& identity) override;

private:
    std::string libxl_json(const WantedDomain& wanted);
    std::shared_ptr<ForeignMemory> memory();
    Parts parts_;
    std::mutex mutex_;
    std::shared_ptr<ForeignMemory> memory_;
};

} // namespace sev::launch::xen
