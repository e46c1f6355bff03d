// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/file.hpp"
#include "base/json.hpp"
#include "launch/xen/starter.hpp"
#include "ovmf-measure/xen/version.hpp"

namespace sev::launch::xen {

/// What the toolstack says of a domain.
struct DomainState {
    std::uint32_t domid = 0;
    std::string uuid; // lower case, with dashes
    std::string type; // "pvh", "hvm", "pv"
    bool paused = false, shutdown = false, dying = false;
    bool has_run = false;            // a vCPU has had time on a CPU
    std::uint64_t pages = 0;         // of its memory
    unsigned vcpus = 0, online = 0;
    static DomainState from_json(const json::Value& value, std::string_view what);
};

/// Where hvmloader finds what it passes on, as the toolstack has put it into xenstore.
struct ModulePlace {
    std::uint64_t gpa = 0, length_bytes = 0;
    friend bool operator==(const ModulePlace&, const ModulePlace&) = default;
};

/// One domain in the hands of a keeper: a process of its own that alone talks to libxl. While this object lives and neither `unpause` nor `let_go`
/// was called, the domain cannot outlive it: when this process ends, however it ends, the keeper destroys the domain. A domain is told from another
/// one that has its number later by its UUID: it is then gone.
/// Every call throws Error{Fault::system} with what libxl says, or when the keeper is gone or does not answer in time. One call at a time.
class Domain {
public:
    Domain() = default;
    Domain(const Domain&) = delete;
    Domain& operator=(const Domain&) = delete;
    virtual ~Domain() = default;
    virtual DomainState state() = 0;
    /// As `state`, and nullopt only when the toolstack says that there is no such domain. In a few seconds: a keeper that is gone or silent is no
    /// answer, and another is asked, which keeps the domain from then on. Throws when that one cannot tell either.
    virtual std::optional<DomainState> find() = 0;
    /// As libxl has it on record: JSON for measure::read_libxl_json.
    virtual std::string config() = 0;
    /// Xen's saved context of the paused domain: records for vcpu_differences.
    virtual Bytes context() = 0;
    /// nullopt when the domain has no such module. HVM.
    virtual std::optional<ModulePlace> smbios_module() = 0;
    /// Lets it run. From then on the keeper cleans up when a domain that it created ends, and never destroys a running one.
    virtual void unpause() = 0;
    /// Leaves it as it is, paused, to whoever will resume it: as after `unpause`. Throws when it is not paused any more, or has run.
    virtual void let_go() = 0;
    /// Ends it for good; nothing happens when it is gone.
    virtual void destroy() = 0;
};

/// The host's toolstack. Thread-safe.
class Toolstack {
public:
    Toolstack() = default;
    Toolstack(const Toolstack&) = delete;
    Toolstack& operator=(const Toolstack&) = delete;
    virtual ~Toolstack() = default;
    /// The hypervisor's release. Throws for a version that is no release (see measure::XenVersion::parse).
    virtual measure::XenVersion version() = 0;
    /// An xl.cfg as libxl's JSON, by xl itself, which creates nothing.
    virtual std::string read_xl_config(const Path& file) = 0;
    /// Creates a domain, paused, in a process that has created none before.
    virtual std::unique_ptr<Domain> create(const std::string& libxl_json) = 0;
    /// Takes a domain by id or UUID. `hold`: destroy it unless it is let run; otherwise it is only looked after. nullptr: there is none.
    virtual std::unique_ptr<Domain> adopt(std::uint32_t domid, bool hold) = 0;
    virtual std::unique_ptr<Domain> adopt(const std::string& uuid, bool hold) = 0;
    /// The one that has both this number and this UUID.
    virtual std::unique_ptr<Domain> adopt(std::uint32_t domid, const std::string& uuid, bool hold) = 0;
};

/// A random UUID (RFC 9562 version 4).
std::string random_uuid();

/// Where the programs are, and how long each question may take.
struct KeeperOptions {
    Path program;                       // xen-sev-keeper
    Path xl = "/usr/sbin/xl";
    std::chrono::milliseconds deadline = std::chrono::seconds{60}, create_deadline = std::chrono::minutes{5};
    std::chrono::milliseconds find_deadline = std::chrono::seconds{2}; // of Domain::find, for each keeper that it asks
};
/// The toolstack through keepers, started by `starter`. Throws nothing; what is missing shows when it is asked: "xen-sev-keeper: libxenlight.so.4.17:
/// cannot open …".
std::unique_ptr<Toolstack> keeper_toolstack(KeeperOptions options, std::shared_ptr<Starter> starter);

} // namespace sev::launch::xen
