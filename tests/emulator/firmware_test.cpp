// SPDX-License-Identifier: Apache-2.0
#include "psp/command.hpp"
#include "psp/emulator/emulated_firmware.hpp"
#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;
using namespace sev::psp;
using psp::emulator::EmulatedFirmware;

namespace {

/// Memory with a TMR and a guest image, as a program on the host has it.
struct Machine {
    Host host{"epyc-7003"};
    AddressSpace memory;
    EmulatedFirmware firmware{*host.emulator, memory, std::chrono::milliseconds{50}};
    Bytes tmr = Bytes(0x10'0000), image = pattern(0x8000, 6), vmsa = pattern(0x1000, 7);
    SystemAddress tmr_at = memory.attach(tmr, 0x10'0000), image_at = memory.attach(image), vmsa_at = memory.attach(vmsa);
    void start() {
        run(firmware, Init{.es = true, .tmr = tmr_at, .tmr_length_bytes = 0x10'0000});
        firmware.flush_caches();
        run(firmware, DfFlush{});
    }
};

template <std::size_t Size>
ByteArray<Size> array_of(const Bytes& bytes) {
    return wire::bytes<0, Size>(wire::exactly<Size>(bytes, "test"));
}

} // namespace

TEST_CASE("a whole SEV-ES launch with typed commands") {
    Machine machine;
    auto& firmware = machine.firmware;
    CHECK(firmware.backend() == "emulated");
    machine.start();
    const PlatformStatus status = run(firmware, GetPlatformStatus{});
    CHECK(status == PlatformStatus{.build = {1, 55, 29}, .state = PlatformState::init, .externally_owned = false, .es_configured = true,
            .guest_count = 0});
    const PlatformCertificates certificates = run(firmware, PdhCertExport{});
    CHECK(run(firmware, GetId{}) == std::vector<ChipId>{machine.host.emulator->identity().chip_id});
    const Policy policy{0x5};
    const Owner owner = Owner::make(certificates.pdh.serialize(), policy.value);
    const GuestHandle guest = run(firmware, LaunchStart{.policy = policy,
                                                        .share_with = {},
                                                        .godh = parse_sev_certificate(owner.godh, "GODH"),
                                                        .session = array_of<0x80>(owner.session)});
    run(firmware, Activate{.guest = guest, .asid = Asid{127}});
    const Bytes image = machine.image, vmsa = machine.vmsa;
    run(firmware, LaunchUpdateData{.guest = guest, .at = machine.image_at, .length_bytes = 0x8000});
    run(firmware, LaunchUpdateVmsa{.guest = guest, .at = machine.vmsa_at});
    CHECK(machine.image != image);
    CHECK(machine.vmsa != vmsa);
    const LaunchMeasurement measured = run(firmware, LaunchMeasure{.guest = guest});
    const Digest digest = sha256(image + vmsa);
    CHECK(Bytes(measured.measure.begin(), measured.measure.end()) == owner.expected_measure({1, 55, 29}, policy.value, digest, measured.mnonce));
    const Bytes secret = pattern(0x100, 1);
    const auto packet = owner.seal(secret, measured.measure);
    run(firmware, LaunchSecret{.guest = guest, .header = array_of<0x34>(packet.header), .at = machine.image_at + 0x4000, .data = packet.data});
    const AttestationReport report = run(firmware, Attestation{.guest = guest, .mnonce = filled<16>(3)});
    CHECK(report.signed_by(certificates.pek));
    CHECK(report.launch_digest == digest);
    CHECK(report.mnonce == filled<16>(3));
    run(firmware, LaunchFinish{.guest = guest});
    Bytes seen(0x100);
    machine.host.emulator->read_as_guest(guest, machine.image_at + 0x4000, seen, machine.memory);
    CHECK(seen == secret);
    CHECK(run(firmware, GetGuestStatus{.guest = guest}) ==
          GuestStatus{.handle = guest, .policy = policy, .asid = Asid{127}, .state = GuestState::running});
    CHECK(attempt(firmware, DbgDecrypt{.guest = guest, .from = machine.image_at, .to = machine.vmsa_at,
            .length_bytes = 16}).status == Status::policy_failure);
    run(firmware, Deactivate{.guest = guest});
    run(firmware, DfFlush{});
    run(firmware, Decommission{.guest = guest});
    CHECK(run(firmware, GetPlatformStatus{}).state == PlatformState::init);
    run(firmware, Shutdown{});
    run(firmware, PlatformReset{});
}

TEST_CASE("ownership with typed commands") {
    Machine machine;
    machine.start();
    SevCertificate pek = run(machine.firmware, PekCsr{});
    const P384Key owner = P384Key::generate();
    SevCertificate oca = unsigned_certificate(Usage::oca, Algorithm::ecdsa_sha256, {}, owner.public_point());
    sign(oca, 0, Usage::oca, owner);
    sign(pek, 0, Usage::oca, owner);
    run(machine.firmware, PekCertImport{.pek = pek, .oca = oca});
    CHECK(run(machine.firmware, GetPlatformStatus{}).externally_owned);
    CHECK(run(machine.firmware, PdhCertExport{}).oca == oca);
    run(machine.firmware, PdhGen{});
    run(machine.firmware, PekGen{});
    CHECK_FALSE(run(machine.firmware, GetPlatformStatus{}).externally_owned);
}

TEST_CASE("refusals and hangs as the firmware interface reports them; no scratch memory stays behind") {
    Machine machine;
    CHECK_THROWS_WITH_AS(run(machine.firmware, PdhGen{}), doctest::Contains("PDH_GEN: INVALID_PLATFORM_STATE (0x0001)"), Error);
    machine.host.emulator->faults().add({.command = CommandId::nop, .status = std::nullopt});
    machine.host.emulator->faults().add({.command = CommandId::platform_status, .status = std::nullopt});
    CHECK_THROWS_WITH_AS(run(machine.firmware, GetPlatformStatus{}), "PLATFORM_STATUS: the emulated PSP did not answer within 50 ms", Error);
    machine.start();
    Call query{.buffer = Bytes(0x1C), .blobs = {{Blob::Direction::out, 0x00, 0x08, Bytes(1)}, {Blob::Direction::out, 0x10, 0x18, {}}}};
    CHECK(machine.firmware.issue(CommandId::pdh_cert_export, query) == Status::invalid_length);
    CHECK(wire::le32<8>(wire::exactly<0x1C>(query.buffer, "buffer")) == 0x824);
    CHECK(wire::le32<0x18>(wire::exactly<0x1C>(query.buffer, "buffer")) == 0x186C);
    const auto scratch_at = wire::le64<0>(wire::exactly<0x1C>(query.buffer, "buffer"));
    CHECK(machine.memory.at(SystemAddress{scratch_at}, 1).empty());
}
