// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <mutex>

#include "launch/xen/domain_guest.hpp"

namespace sev::launch::xen {

/// Xen domains as guests of a daemon: {"kind": "xen"} with exactly one of "xl_cfg" (absolute path of an xl.cfg), "xl_cfg_text" (its content) and
/// "domid" (a domain that was created paused and never ran). The first two are created; a name that a domain has already is refused.
class DomainSource final : public GuestSource {
public:
    struct Parts {
        std::unique_ptr<Toolstack> toolstack;
        psp::PageSource& pages;
        HostFiles host;
        Path scratch; // a folder of ours, for xl.cfg texts
    };
    explicit DomainSource(Parts parts) : parts_{std::move(parts)} {}
    std::string_view kind() const noexcept override { return "xen"; }
    unsigned level() const noexcept override { return 1; }
    Plan plan(const json::Value& guest) override;
    std::unique_ptr<Guest> open(const json::Value& guest) override;
    std::unique_ptr<Guest> adopt(const json::Value& identity) override;
    std::string destroy_leftover(const json::Value& identity) override;

private:
    struct Wanted;
    std::string libxl_json(const Wanted& wanted);
    std::shared_ptr<ForeignMemory> memory();
    Parts parts_;
    std::mutex mutex_;
    std::shared_ptr<ForeignMemory> memory_;
    std::multimap<std::string, std::string> planned_; // UUIDs drawn in `plan`, by the request they are for
};

} // namespace sev::launch::xen
