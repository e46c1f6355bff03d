// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "launch/guest.hpp"
#include "launch/xen/capture.hpp"
#include "psp/physical_memory.hpp"

namespace sev::launch::xen {

/// A paused Xen domain under a launch at level L1. The PSP measures a copy of the captured pages, so that it changes nothing of the guest; secrets
/// arrive in that copy and are written to the guest's slots as the last thing before it runs, and wiped here.
class DomainGuest final : public Guest {
public:
    /// Everything that is launched: what is held, what it should be, and how to reach its memory.
    struct Parts {
        std::unique_ptr<Domain> domain;
        std::unique_ptr<Prepared> prepared;
        std::shared_ptr<ForeignMemory> memory;
        psp::PageSource& pages;
        bool unpause = true; // false: whoever asked for the launch resumes it
    };
    /// Captures the domain and holds it against the prediction. Throws Error{Fault::malformed} "domain 7 is not what its configuration says: …"
    /// with every difference, Error{Fault::system} when it cannot be looked at; the domain is destroyed then.
    explicit DomainGuest(Parts parts);
    ~DomainGuest() override;

    std::vector<Run> locate(psp::Gpa start, std::uint64_t length_bytes) const override;
    void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const override;
    const std::vector<GuestPart>& parts() const override { return guest_parts_; }
    const std::vector<psp::SystemAddress>& vmsas() const override { return no_vmsas_; }
    std::optional<GuestSlot> slot(std::string_view name) const override;
    attest::LaunchDescriptor descriptor() const override;
    /// All captured pages, the vCPUs' context, memory size and state, against the prediction once more; written slots against what was written.
    void recheck() override;
    /// Writes the opened slots, rechecks, and unpauses the domain or lets go of it. When any of it fails the domain has not run.
    void run() override;
    bool is_left_paused() const noexcept override { return !parts_.unpause; }
    void destroy() override;
    bool alive() override;
    const DomainState& state() const noexcept { return state_; }

private:
    struct Copy { // what the PSP sees of one range
        psp::Gpa gpa;
        std::unique_ptr<psp::Pages> pages;
    };
    void look();
    const Copy& copy_with(psp::Gpa start, std::uint64_t length_bytes) const;
    void write_slot(const GuestSlot& slot);
    void wipe_copies() noexcept;
    Parts parts_;
    DomainState state_;
    std::unique_ptr<Capture> capture_;
    std::vector<Copy> copies_;
    std::vector<GuestPart> guest_parts_;
    std::vector<psp::SystemAddress> no_vmsas_;
    mutable std::vector<std::string> opened_; // slots that were asked for: secrets go in
    std::vector<WrittenSlot> written_;        // slots in whose guest memory secrets are
    bool ran_ = false;
};

} // namespace sev::launch::xen
