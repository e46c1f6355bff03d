// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attest/protocol/launch_descriptor.hpp"
#include "base/json.hpp"
#include "launch/guest_memory.hpp"

namespace sev::launch {

/// A piece of guest memory that is measured.
struct GuestPart {
    psp::Gpa gpa;
    std::uint64_t length_bytes; // a multiple of 16
    friend bool operator==(const GuestPart&, const GuestPart&) = default;
};

/// Where secrets go: a range of guest memory by name ("initrd", "efi", "smbios").
struct GuestSlot {
    std::string name;
    psp::Gpa gpa{};
    std::uint64_t length_bytes = 0;
    friend bool operator==(const GuestSlot&, const GuestSlot&) = default;
};

/// One guest that is being launched, whatever it is made of: files in this process, or a paused Xen domain. Owned and pinned by the launch.
///
/// Who calls what, when: one launch is driven by one thread, and all of the calls below but `destroy` come from it, in this order:
///   descriptor, parts, vmsas, locate (any number of times) → LAUNCH_UPDATE_DATA, LAUNCH_UPDATE_VMSA, LAUNCH_MEASURE → the owner is asked, which may
///   take minutes → recheck → slot, locate → LAUNCH_SECRET, LAUNCH_FINISH → recheck again → run. After `run` only `alive`, read_as_host and `destroy`
///   are called.
/// `destroy` may come at any time after construction, from the same thread, or from another once the launch's thread has ended; no two calls are
/// under way at once. Destructors do not destroy the guest: a daemon that stops leaves running guests alone. Memory that `locate` names stays visible
/// to the PSP, at the same addresses, until the object dies. Every call may throw Error{Fault::system} when the guest is gone or not what it was; the
/// launch is then given up and `destroy` called.
class Guest : public GuestMemory {
public:
    /// In the order in which they are loaded and measured; canonical for the guest's kind. Not empty.
    virtual const std::vector<GuestPart>& parts() const = 0;
    /// VMSA pages in vCPU order, as the PSP's transport names them; none for plain SEV and where the hypervisor adds them by itself.
    virtual const std::vector<psp::SystemAddress>& vmsas() const = 0;
    /// nullopt when the guest has no slot of that name.
    virtual std::optional<GuestSlot> slot(std::string_view name) const = 0;
    /// What is about to be loaded, hashed from guest memory as it is now: a region for each part, in their order, first. Called once, before
    /// LAUNCH_START.
    virtual attest::LaunchDescriptor descriptor() const = 0;
    /// The guest is still the one that was measured and nobody has let it run: same identity, still paused, no more vCPUs or memory. Throws
    /// otherwise.
    virtual void recheck() = 0;
    /// Lets it run. Once, after LAUNCH_FINISH.
    virtual void run() = 0;
    /// Whether `run` does everything but that, and leaves the guest paused, for whoever asked for the launch to resume.
    virtual bool is_left_paused() const noexcept { return false; }
    /// Ends it for good, running or not; idempotent. Throws only when it may still be there.
    virtual void destroy() = 0;
    /// Whether a guest that was let run is still there. Throws when nobody can tell, which is no reason to end it.
    virtual bool alive() = 0;
};

/// Where guests of one kind come from. Thread-safe: launches open guests side by side. A daemon has one for each kind it offers.
class GuestSource {
public:
    GuestSource() = default;
    GuestSource(const GuestSource&) = delete;
    GuestSource& operator=(const GuestSource&) = delete;
    virtual ~GuestSource() = default;
    /// "image", "xen": "kind" of the launch request's "guest" object.
    virtual std::string_view kind() const noexcept = 0;
    /// The level (DESIGN's ladder) that a guest of this kind reaches with an emulated PSP.
    virtual unsigned level() const noexcept = 0;

    struct Plan {
        bool es = false;      // needs a SEV-ES ASID
        json::Value identity; // what finds the guest again after a restart: journaled before anything is done. An object; small
    };
    /// Looks at the request's "guest" object (its "kind" included), before anything is reserved. Throws Error{Fault::usage} or {Fault::malformed}
    /// that says what is wrong with it. Changes nothing.
    virtual Plan plan(const json::Value& guest) = 0;
    /// Takes hold of the guest that `plan` has seen, by the request and the identity it gave; never of another one that has taken its place. From the
    /// launch's thread. It must not let it run.
    virtual std::unique_ptr<Guest> open(const json::Value& guest, const json::Value& identity) = 0;
    /// A guest that was let run by an earlier run of this program, by its journaled identity; nullptr when it is gone.
    virtual std::unique_ptr<Guest> adopt(const json::Value& identity) = 0;
    /// Whether two identities may be of one guest: two launches of it would take it from each other.
    virtual bool same_guest(const json::Value& one, const json::Value& other) const = 0;
    /// Ends a guest that was not let run, of an earlier run or of an `open` that failed, by its journaled identity, if it is still there and still
    /// the same one. Says what it found and did, in a few words ("domain 7 was destroyed", "nothing was left of it"). Throws when it may still be
    /// there.
    virtual std::string destroy_leftover(const json::Value& identity) = 0;
};

} // namespace sev::launch
