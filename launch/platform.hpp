// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "attest/protocol/platform_evidence.hpp"
#include "psp/chain.hpp"
#include "psp/command.hpp"
#include "psp/physical_memory.hpp"

namespace sev::launch {

/// What AMD's key server (or an emulated PSP's maker) says of this chip: the CEK signed by the ASK, and the CA.
struct Endorsement {
    psp::SevCertificate cek;
    psp::CaCertificate ask, ark;
    friend bool operator==(const Endorsement&, const Endorsement&) = default;
};

/// INIT for SEV-ES with a TMR of ours, WBINVD and DF_FLUSH, when the platform is UNINIT, as Linux's driver does it. Move-only: holds the TMR, and
/// gives the command SHUTDOWN when it dies if it was the one that gave INIT.
class InitialisedPlatform {
public:
    /// Throws Error{Fault::firmware}. A platform that is already initialised is left as it is.
    InitialisedPlatform(psp::Firmware& firmware, psp::PageSource& pages);
    InitialisedPlatform(const InitialisedPlatform&) = delete;
    InitialisedPlatform& operator=(const InitialisedPlatform&) = delete;
    ~InitialisedPlatform();
    /// No SHUTDOWN when it dies: guests are to run on.
    void leave() noexcept { leave_ = true; }

private:
    psp::Firmware& firmware_;
    bool leave_ = false;
    std::unique_ptr<psp::Pages> tmr_; // null: somebody else gave INIT
};

/// PDH_CERT_EXPORT's certificates, with the endorsement's CEK in place of the unsigned one. Throws Error{Fault::malformed} "endorsement is of another
/// chip" when the endorsed CEK is not the one the PSP exports. Without an endorsement the chain ends at the unsigned CEK, which no guest owner
/// trusts.
psp::Chain platform_chain(psp::Firmware& firmware, const std::optional<Endorsement>& endorsement);

/// What the host says of its platform: PLATFORM_STATUS, `platform_chain`, GET_ID. Throws as they do.
attest::PlatformEvidence platform_evidence(psp::Firmware& firmware, const std::optional<Endorsement>& endorsement, unsigned level);

} // namespace sev::launch
