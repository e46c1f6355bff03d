// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <optional>

#include "attest/protocol/launch_evidence.hpp"
#include "attest/protocol/secret_packet_message.hpp"
#include "attest/protocol/session_offer.hpp"
#include "launch/guest.hpp"
#include "launch/steps.hpp"

namespace sev::launch {

/// One thing that was done, for whoever watches: the command or step, and what came of it.
struct Progress {
    std::string step;   // "LAUNCH_UPDATE_DATA"
    std::string detail; // "firmware, 3653632 bytes at 0xffc84000"
    psp::GuestHandle handle{}; // LAUNCH_START: what the PSP calls the guest from now on
    psp::Asid asid{};          // ACTIVATE
};
using Observer = std::function<void(const Progress&)>;
/// Asked before a command is given: "LAUNCH_START". What it throws (a journal that cannot be written, a launch that was called off) ends the launch.
using Gate = std::function<void(std::string_view step)>;
inline void open_gate(std::string_view /*step*/) {}

/// Which proof of the launch the host asks its PSP for.
using attest::EvidenceKind;

/// The host's part of one guest's launch, between the messages: offer in, evidence out; packets in, running guest out. What ends from here on, by a
/// throw or by going out of scope, ends in the order guest, guest context, ASID: `guest` must outlive this, and the Running that comes of it.
class GuestLaunch {
public:
    /// LAUNCH_START, ACTIVATE, all LAUNCH_UPDATE_DATA in the guest's order, LAUNCH_UPDATE_VMSA for each vCPU when the policy has ES, LAUNCH_MEASURE.
    /// Throws Error{Fault::usage} when policy and guest disagree about SEV-ES; Error{Fault::firmware}; nothing stays in the PSP then, and the same
    /// after a throw of observer or gate.
    GuestLaunch(psp::Firmware& firmware, AsidPool& asids, Guest& guest, const attest::SessionOffer& offer, psp::Build build, EvidenceKind kind,
                const Observer& observer);
    /// The same with an ASID that was taken from `asids` before; it goes back when this throws.
    GuestLaunch(psp::Firmware& firmware, AsidPool& asids, psp::Asid asid, Guest& guest, const attest::SessionOffer& offer, psp::Build build,
                EvidenceKind kind, const Observer& observer, const Gate& gate = open_gate);
    const attest::LaunchEvidence& evidence() const noexcept { return evidence_; }
    psp::GuestHandle handle() const noexcept { return measured_->handle(); }

    /// LAUNCH_SECRET for each packet, then LAUNCH_FINISH. Every packet is checked against the session and the guest's slots before the first goes in.
    /// Throws Error{Fault::malformed} for one of another session, an unknown slot, or one that does not fit; the context is destroyed then.
    Running release(const std::vector<attest::SecretPacketMessage>& packets, const Observer& observer, const Gate& gate = open_gate) &&;
    /// Not trusted: DEACTIVATE, DECOMMISSION, WBINVD, DF_FLUSH.
    void destroy(const Observer& observer) &&;

private:
    psp::Gpa place(const attest::SecretPacketMessage& packet) const;
    Guest& guest_;
    psp::Firmware& firmware_;
    std::optional<Measured> measured_;
    attest::LaunchEvidence evidence_;
};

} // namespace sev::launch
