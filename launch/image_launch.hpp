// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <optional>

#include "attest/protocol/launch_evidence.hpp"
#include "attest/protocol/secret_packet_message.hpp"
#include "attest/protocol/session_offer.hpp"
#include "launch/image_guest.hpp"
#include "launch/steps.hpp"

namespace sev::launch {

/// One thing that was done, for whoever watches: the command or step, and what came of it.
struct Progress {
    std::string step;   // "LAUNCH_UPDATE_DATA"
    std::string detail; // "firmware, 3653632 bytes at 0xffc84000"
};
using Observer = std::function<void(const Progress&)>;

/// Which proof of the launch the host asks its PSP for.
using attest::EvidenceKind;

/// The host's part of one image guest's launch, between the messages: offer in, evidence out; packets in, running guest out.
class ImageLaunch {
public:
    /// LAUNCH_START, ACTIVATE, all LAUNCH_UPDATE_DATA in the layout's order, LAUNCH_UPDATE_VMSA for each vCPU when the policy has ES, LAUNCH_MEASURE. Throws
    /// Error{Fault::usage} when policy and layout disagree about SEV-ES; Error{Fault::firmware}; nothing stays in the PSP then.
    ImageLaunch(psp::Firmware& firmware, AsidPool& asids, ImageGuest& guest, const attest::SessionOffer& offer, psp::Build build, EvidenceKind kind, const Observer& observer);
    const attest::LaunchEvidence& evidence() const noexcept { return evidence_; }
    psp::GuestHandle handle() const noexcept { return measured_->handle(); }

    /// LAUNCH_SECRET for each packet, then LAUNCH_FINISH. Every packet is checked against the session and the guest's slots before the first goes in. Throws Error{Fault::malformed}
    /// for one of another session, an unknown slot, or one that does not fit; the context is destroyed then.
    Running release(const std::vector<attest::SecretPacketMessage>& packets, const Observer& observer) &&;
    /// Not trusted: DEACTIVATE, DECOMMISSION, WBINVD, DF_FLUSH.
    void destroy(const Observer& observer) &&;

private:
    psp::Gpa place(const attest::SecretPacketMessage& packet) const;
    ImageGuest& guest_;
    psp::Firmware& firmware_;
    std::optional<Measured> measured_;
    attest::LaunchEvidence evidence_;
};

} // namespace sev::launch
