// SPDX-License-Identifier: Apache-2.0
#include "launch/guest_launch.hpp"

#include <chrono>

#include <fmt/format.h>

namespace sev::launch {
namespace {

psp::Asid taken(AsidPool& asids, bool es, psp::Firmware& firmware) {
    const auto asid = asids.take(es, firmware);
    if (!asid) throw no_asid_free(asids, es);
    return *asid;
}

} // namespace

GuestLaunch::GuestLaunch(psp::Firmware& firmware, AsidPool& asids, Guest& guest, const attest::SessionOffer& offer, psp::Build build,
                         EvidenceKind kind, const Observer& observer)
    : GuestLaunch{firmware, asids, taken(asids, offer.policy.wants_es(), firmware), guest, offer, build, kind, observer} {}

GuestLaunch::GuestLaunch(psp::Firmware& firmware, AsidPool& asids, psp::Asid asid, Guest& guest, const attest::SessionOffer& offer, psp::Build build,
                         EvidenceKind kind, const Observer& observer, const Gate& gate)
    : guest_{guest}, firmware_{firmware} {
    const bool es = offer.policy.wants_es();
    psp::LaunchStart start{.policy = offer.policy, .share_with = {}, .godh = std::nullopt, .session = offer.session};
    try {
        if (es && guest.vmsas().empty())
            throw Error{Fault::usage, "policy asks for SEV-ES, and the image layout has no vCPUs", "set vcpus, vmsa_profile and cpu in the layout"};
        if (!es && !guest.vmsas().empty())
            throw Error{Fault::usage, "the image layout has vCPUs with SEV-ES register state, and the policy does not ask for SEV-ES",
                        "set the policy's ES bit, or vcpus to 0"};
        evidence_ = {.session_id = offer.session_id,
                     .launch_name = offer.launch_name,
                     .policy = offer.policy,
                     .build = build,
                     .proof = {},
                     .descriptor = guest.descriptor()};
        require(evidence_.descriptor->regions.size() >= guest.parts().size(), "a guest's descriptor has a region for each of its parts");
        start.godh = psp::SevCertificate::parse(offer.godh);
        gate(psp::LaunchStart::name);
    } catch (...) {
        asids.release(asid);
        throw;
    }
    Started started = Started::start(firmware, asids, asid, start, [&](psp::GuestHandle handle) {
        observer({.step = "LAUNCH_START",
                  .detail = fmt::format("guest handle {}, policy {}", psp::raw(handle), offer.policy.text()),
                  .handle = handle,
                  .asid = {}});
        gate(psp::Activate::name);
    });
    started.end_after([&guest] { guest.destroy(); });
    observer({.step = "ACTIVATE", .detail = fmt::format("ASID {}", psp::raw(started.asid())), .handle = started.handle(), .asid = started.asid()});
    const auto loading_since = std::chrono::steady_clock::now();
    std::uint64_t loaded_bytes = 0;
    for (std::size_t i = 0; i < guest.parts().size(); ++i) {
        const GuestPart& part = guest.parts()[i];
        loaded_bytes += part.length_bytes;
        gate(psp::LaunchUpdateData::name);
        started.update_data(guest, part.gpa, part.length_bytes);
        observer({"LAUNCH_UPDATE_DATA",
                  fmt::format("{}, {} bytes at {:#x}", evidence_.descriptor->regions[i].label, part.length_bytes, psp::raw(part.gpa))});
    }
    if (es) gate(psp::LaunchUpdateVmsa::name);
    for (const psp::SystemAddress page : guest.vmsas()) started.update_vmsa(page);
    if (es) observer({"LAUNCH_UPDATE_VMSA", fmt::format("{} vCPUs", guest.vmsas().size())});
    const std::chrono::duration<double> loading = std::chrono::steady_clock::now() - loading_since;
    gate(psp::LaunchMeasure::name);
    measured_.emplace(std::move(started).measure());
    const double mebibytes = static_cast<double>(loaded_bytes) / (1 << 20);
    observer({"LAUNCH_MEASURE", fmt::format("measurement {}…; {:.1f} MiB loaded, {:.0f} MiB/s", hex(measured_->measurement().measure).substr(0, 16),
                                            mebibytes, loading.count() > 0 ? mebibytes / loading.count() : 0.0)});
    if (kind == EvidenceKind::report) {
        gate(psp::Attestation::name);
        evidence_.proof = measured_->report(offer.report_nonce);
        observer({"ATTESTATION", "report signed by the PEK"});
    } else {
        evidence_.proof = measured_->measurement();
    }
}

psp::Gpa GuestLaunch::place(const attest::SecretPacketMessage& packet) const {
    if (packet.session_id != evidence_.session_id) throw Error{Fault::malformed, "secret packet: is for another session"};
    const auto slot = guest_.slot(packet.slot);
    if (!slot)
        throw Error{Fault::malformed, fmt::format("secret packet: slot \"{}\" is not in the image layout", packet.slot),
                    "name it under \"slots\", with gpa and length"};
    if (packet.offset_bytes > slot->length_bytes || packet.data.size() > slot->length_bytes - packet.offset_bytes)
        throw Error{Fault::malformed, fmt::format("secret packet: {} bytes at offset {} do not fit the {} bytes of slot \"{}\"", packet.data.size(),
                                                  packet.offset_bytes, slot->length_bytes, slot->name)};
    if (packet.gpa && *packet.gpa != slot->gpa + packet.offset_bytes)
        throw Error{Fault::malformed, fmt::format("secret packet: is for {:#x}, and slot \"{}\" puts it at {:#x}", psp::raw(*packet.gpa), slot->name,
                                                  psp::raw(slot->gpa + packet.offset_bytes))};
    return slot->gpa + packet.offset_bytes;
}

Running GuestLaunch::release(const std::vector<attest::SecretPacketMessage>& packets, const Observer& observer, const Gate& gate) && {
    Measured measured = std::move(*measured_);
    measured_.reset();
    std::vector<psp::Gpa> places;
    for (const auto& packet : packets) places.push_back(place(packet));
    for (std::size_t i = 0; i < packets.size(); ++i) {
        gate(psp::LaunchSecret::name);
        measured.inject_secret(guest_, places[i], packets[i].header, packets[i].data);
        observer({"LAUNCH_SECRET", fmt::format("{} bytes into slot {} at {:#x}", packets[i].data.size(), packets[i].slot, psp::raw(places[i]))});
    }
    gate(psp::LaunchFinish::name);
    Running running = std::move(measured).finish();
    observer({"LAUNCH_FINISH", "the guest may run"});
    return running;
}

void GuestLaunch::destroy(const Observer& observer) && {
    std::move(*measured_).destroy();
    observer({"DEACTIVATE", "the ASID is free again after the flush"});
    observer({"DECOMMISSION", "the guest's key is erased"});
    firmware_.flush_caches();
    psp::run(firmware_, psp::DfFlush{});
    observer({"DF_FLUSH", "done"});
}

} // namespace sev::launch
