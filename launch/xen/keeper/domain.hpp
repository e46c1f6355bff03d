// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "base/json.hpp"
#include "launch/xen/keeper/libxl.hpp"

namespace sev::launch::xen::keeper {

/// The one domain that this process keeps. All of libxl is used from this process's only thread, and this process has no children but libxl's own, so
/// that libxl's rules on threads and SIGCHLD hold by themselves.
class Kept {
public:
    Kept();
    /// Answers one question {"do": …}. Throws Error.
    json::Value answer(const json::Value& question);
    /// Nobody asks any more. Destroys a domain that is held and was not let run. Returns whether this process still has a domain to look after.
    bool orphaned();
    /// Lets libxl wait for events together with `fd`, and works on what has happened. Returns whether `fd` is readable.
    bool wait(int fd);
    /// The domain that was looked after is no more.
    bool over() const noexcept { return over_; }

private:
    json::Value create(const std::string& config);
    json::Value adopt(const json::Value& question);
    json::Value state();
    std::string config();
    std::string context();
    json::Value smbios();
    void unpause();
    void let_go();
    void destroy();
    void look_after();
    void events();
    std::uint32_t domain() const;
    /// What the hypervisor says of it; false when it is gone, which it is too when another has its number. Throws when libxl cannot tell.
    bool look(DomainInfo& info);
    bool look(std::uint32_t domid, DomainInfo& info);
    [[noreturn]] void refuse(std::string_view what, int code);

    Logger logger_;
    Context context_;
    std::optional<std::uint32_t> domid_;
    std::string uuid_; // of the domain that is kept
    libxl_evgen_domain_death* death_ = nullptr;
    libxl_domain_type type_ = LIBXL_DOMAIN_TYPE_INVALID;
    bool held_ = false;    // destroy it unless it was let run
    bool created_ = false; // by us: clean up after it
    bool over_ = false;
};

} // namespace sev::launch::xen::keeper
