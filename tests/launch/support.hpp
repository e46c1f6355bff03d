// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "attest/judge.hpp"
#include "attest/secret_packet.hpp"
#include "launch/guest_launch.hpp"
#include "launch/image_guest.hpp"
#include "launch/platform.hpp"
#include "psp/emulator/emulated_firmware.hpp"
#include "tests/support.hpp"

namespace sev::test {

using psp::emulator::EmulatedFirmware;
using psp::emulator::Emulator;

/// A host with an emulated PSP, initialised.
struct Host {
    explicit Host(std::string_view personality = "epyc-3151")
        : emulator{Emulator::create(directory / "psp", *psp::emulator::find_personality(personality))},
          firmware{*emulator, space, std::chrono::milliseconds{300}}, platform{firmware, space}, asids{range()} {}
    launch::AsidRange range() const { return {.max = emulator->personality().max_asid, .min_sev = emulator->personality().min_sev_asid}; }
    launch::Endorsement endorsement() const { return {emulator->identity().cek, emulator->identity().ask, emulator->identity().ark}; }
    psp::PlatformStatus status() { return psp::run(firmware, psp::GetPlatformStatus{}); }

    TemporaryDirectory directory;
    psp::AddressSpace space;
    std::unique_ptr<Emulator> emulator;
    EmulatedFirmware firmware;
    launch::InitialisedPlatform platform;
    launch::AsidPool asids;
};

/// What an owner asks of a launch, without judging anything: the session and its offer.
inline attest::CreatedSession session_for(Host& host, std::uint32_t policy_bits) {
    return attest::create_session(psp::run(host.firmware, psp::PdhCertExport{}).pdh, psp::Policy{policy_bits}, "test");
}

inline void ignore(const launch::Progress& /*progress*/) {}

} // namespace sev::test
