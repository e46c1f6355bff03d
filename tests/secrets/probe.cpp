// SPDX-License-Identifier: Apache-2.0
// Runs whole launches and stops at named points, so that scan.py can look through this process's memory and core. It knows every key and secret of
// the launch, but keeps them masked; it prints them masked too. One value, the canary, is kept in the clear: the scan must find it, or it has not
// looked.
#include <cstdio>
#include <iostream>
#include <map>

#include <fmt/format.h>

#include "attest/judge.hpp"
#include "attest/secret_packet.hpp"
#include "launch/guest_launch.hpp"
#include "launch/image_guest.hpp"
#include "launch/platform.hpp"
#include "psp/emulator/emulated_firmware.hpp"

using namespace sev;

namespace {

constexpr std::uint8_t mask = 0x5A;

/// Masked copies, by name. Fed from spans, so that no unmasked copy is made here.
class Known {
public:
    void add(const std::string& name, ByteView value) {
        Bytes masked(value.size());
        for (std::size_t i = 0; i < value.size(); ++i) masked[i] = static_cast<std::uint8_t>(value[i] ^ mask);
        values_[name] = std::move(masked);
    }
    void print() const {
        for (const auto& [name, value] : values_) fmt::print("value {} {}\n", name, hex(value));
    }

private:
    std::map<std::string, Bytes> values_;
};

/// Says where we are and waits for a line.
void stop_at(std::string_view point) {
    fmt::print("at {}\n", point);
    std::fflush(stdout);
    std::string line;
    std::getline(std::cin, line);
}

/// TEK and TIK of the owner's session, recorded as they are drawn.
attest::SessionMaterial material(Known& known) {
    const auto draw = [&known](const char* name) {
        return [&known, name](std::span<std::uint8_t, 16> out) {
            random_bytes(out);
            known.add(name, out);
        };
    };
    return {.godh = P384Key::generate(),
            .nonce = random_array<16>(),
            .wrap_iv = random_array<16>(),
            .tek = psp::Tek::filled_by(draw("owner-TEK")),
            .tik = psp::Tik::filled_by(draw("owner-TIK")),
            .id = random_array<16>(),
            .report_nonce = random_array<16>()};
}

int run(const Path& directory) {
    Known known;
    psp::emulator::Options options;
    options.random = [&known](std::span<std::uint8_t> out, std::string_view purpose) {
        random_bytes(out);
        if (purpose == "VEK" || purpose == "TEK" || purpose == "TIK") known.add("psp-" + std::string{purpose}, out);
    };
    Bytes canary(16);
    random_bytes(canary);
    known.add("canary", canary);

    psp::AddressSpace space;
    const auto emulator = psp::emulator::Emulator::open(directory / "psp", options);
    psp::emulator::EmulatedFirmware firmware{*emulator, space};
    const launch::InitialisedPlatform platform{firmware, space};
    launch::AsidPool asids{{.max = emulator->personality().max_asid, .min_sev = emulator->personality().min_sev_asid}};
    launch::ImageGuest guest{launch::ImageLayout::load(directory / "guest.json"), space};
    const auto policy = attest::OwnerPolicy::load(directory / "owner.json");
    const auto references = attest::resolve_references(policy);
    const auto& identity = emulator->identity();
    const auto evidence = launch::platform_evidence(firmware, launch::Endorsement{identity.cek, identity.ask, identity.ark}, 0);
    const attest::Time now = attest::parse_time("2026-06-01T00:00:00Z", "now");
    const auto verdict = attest::judge_platform(policy, evidence, now);
    if (!verdict.accepted()) throw Error{sev::Fault::bug, "the platform was refused"};

    const launch::Observer quiet = [](const launch::Progress&) {};
    std::optional<launch::Running> running;
    {
        auto created = attest::create_session_from(*verdict.pdh, policy.session_policy(), "probe", material(known));
        launch::GuestLaunch launched{firmware, asids, guest, created.offer, evidence.build(), attest::EvidenceKind::measurement, quiet};
        known.print();
        stop_at("measured");
        const auto judgement =
            attest::judge(std::move(created.session), evidence, launched.evidence(), {.policy = policy, .references = references}, now);
        if (!judgement.trusted) throw Error{sev::Fault::bug, "the launch was not trusted"};
        running.emplace(std::move(launched).release(attest::release_secrets(*judgement.trusted, policy), quiet));
    }
    stop_at("running");
    std::move(*running).destroy();
    running.reset();
    stop_at("destroyed");
    return canary.size() == 16 ? 0 : 2;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    try {
        return run(argv[1]);
    } catch (const std::exception& error) {
        fmt::print(stderr, "{}\n", error.what());
        return 2;
    }
}
