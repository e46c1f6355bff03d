// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <memory>
#include <optional>

#include "launch/asid_pool.hpp"
#include "launch/guest_memory.hpp"
#include "psp/command.hpp"

/// One guest from LAUNCH_START to LAUNCH_FINISH. Each state of the firmware is a type, and a step consumes the state it leaves: loading after the
/// measurement, or a secret before it, does not compile. What goes out of scope before it is released is taken apart again.
namespace sev::launch {

/// A guest context of the PSP and its ASID. Move-only; its end is DEACTIVATE, DECOMMISSION, and the ASID back to the pool.
class GuestContext {
public:
    GuestContext(psp::Firmware& firmware, AsidPool& asids, psp::GuestHandle handle, psp::Asid asid = {})
        : firmware_{&firmware}, asids_{&asids}, handle_{handle}, asid_{asid} {}
    GuestContext(GuestContext&& other) noexcept;
    GuestContext& operator=(GuestContext&&) = delete;
    ~GuestContext();
    /// DEACTIVATE, DECOMMISSION. Throws Error{Fault::firmware} when the PSP refuses; then the ASID is retired rather than reused, and the pool told
    /// of the stuck context. Once only; later calls do nothing.
    void destroy();
    /// What must be over before the context may end, however that comes about: its guest. While `first` throws, the guest may still be there: the
    /// context stays, is told to the pool as a stuck one, and its ASID is retired.
    void end_after(std::function<void()> first) { before_end_ = std::move(first); }
    /// Leaves guest and ASID as they are: for a guest that is to run on when this program ends. Nothing is given back.
    void leave() noexcept {
        handle_ = {};
        asid_ = {};
    }
    /// ACTIVATE. On failure the ASID goes back to the pool, or is retired when the PSP did not answer.
    void activate(psp::Asid asid);
    psp::Firmware& firmware() const noexcept { return *firmware_; }
    psp::GuestHandle handle() const noexcept { return handle_; }
    psp::Asid asid() const noexcept { return asid_; }

private:
    psp::Firmware* firmware_;
    AsidPool* asids_;
    psp::GuestHandle handle_;
    psp::Asid asid_{};    // 0: none
    psp::Asid suspect_{}; // one that an ACTIVATE without an answer may have installed
    std::function<void()> before_end_;
};

/// LAUNCH_FINISH was given: the guest may run. Destroying it takes the guest's key away.
class Running {
public:
    psp::GuestHandle handle() const noexcept { return context_.handle(); }
    psp::Asid asid() const noexcept { return context_.asid(); }
    /// ATTESTATION with the caller's nonce.
    psp::AttestationReport report(const psp::Mnonce& mnonce) const;
    /// DEACTIVATE, DECOMMISSION; throws what the PSP says.
    void destroy() && { context_.destroy(); }
    /// The guest runs on without this program, which can `adopt` it in its next life.
    void leave() && { context_.leave(); }
    /// A guest that an earlier run of this program brought here, when GUEST_STATUS says that it is RUNNING under this ASID, which `asids` then counts
    /// as in use. nullopt when the PSP holds no guest, does not know this one (INVALID_GUEST), or has another under its handle. Throws
    /// Error{Fault::firmware} for every other status and for no answer: the context may be there.
    static std::optional<Running> adopt(psp::Firmware& firmware, AsidPool& asids, psp::GuestHandle handle, psp::Asid asid);

private:
    friend class Measured;
    explicit Running(GuestContext context) : context_{std::move(context)} {}
    GuestContext context_;
};

/// LAUNCH_MEASURE was given: nothing can be loaded any more; secrets can.
class Measured {
public:
    const psp::LaunchMeasurement& measurement() const noexcept { return measurement_; }
    psp::GuestHandle handle() const noexcept { return context_.handle(); }
    psp::Asid asid() const noexcept { return context_.asid(); }
    /// ATTESTATION: a report signed by the PEK over the caller's nonce.
    psp::AttestationReport report(const psp::Mnonce& mnonce) const;
    /// LAUNCH_SECRET: header and ciphertext as the guest owner sealed them. The range must lie in one piece.
    void inject_secret(const GuestMemory& memory, psp::Gpa at, const ByteArray<0x34>& header, ByteView data);
    Running finish() &&;
    void destroy() && { context_.destroy(); }

private:
    friend class Started;
    Measured(GuestContext context, const psp::LaunchMeasurement& measurement) : context_{std::move(context)}, measurement_{measurement} {}
    GuestContext context_;
    psp::LaunchMeasurement measurement_;
};

/// LAUNCH_START and ACTIVATE were given: memory can be loaded and is hashed into the launch digest.
class Started {
public:
    /// Throws Error{Fault::firmware} with status and remedy, and Error{Fault::system} "no SEV-ES ASID is free (8 in use)"; nothing is left behind
    /// then.
    static Started start(psp::Firmware& firmware, AsidPool& asids, const psp::LaunchStart& command);
    /// The same with an ASID taken before, which goes back to `asids` when this throws. `started` hears the handle before ACTIVATE is given.
    static Started start(psp::Firmware& firmware, AsidPool& asids, psp::Asid asid, const psp::LaunchStart& command,
                         const std::function<void(psp::GuestHandle)>& started);
    psp::GuestHandle handle() const noexcept { return context_.handle(); }
    psp::Asid asid() const noexcept { return context_.asid(); }
    /// As GuestContext::end_after, for this and all states that follow.
    void end_after(std::function<void()> first) { context_.end_after(std::move(first)); }
    /// LAUNCH_UPDATE_DATA for [start, start + length_bytes), a command a contiguous run. Both are multiples of 16.
    void update_data(const GuestMemory& memory, psp::Gpa start, std::uint64_t length_bytes);
    /// LAUNCH_UPDATE_VMSA for one vCPU's page.
    void update_vmsa(psp::SystemAddress page);
    Measured measure() &&;
    void destroy() && { context_.destroy(); }

private:
    explicit Started(GuestContext context) : context_{std::move(context)} {}
    GuestContext context_;
};

} // namespace sev::launch
