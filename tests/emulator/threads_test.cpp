// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>

#include "psp/command.hpp"
#include "psp/emulator/emulated_firmware.hpp"
#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;
using namespace sev::psp;
using psp::emulator::EmulatedFirmware;

namespace {

constexpr unsigned threads = 8, launches_each = 12;
constexpr std::uint32_t image_bytes = 0x11000;

/// One guest from launch to end; its view, its digest and its keys are its own. Returns what went wrong, or nothing.
std::string one_launch(Emulator& emulator, Firmware& firmware, AddressSpace& memory, const SevCertificate& pek, unsigned number, Asid asid) {
    Bytes image = pattern(image_bytes, static_cast<std::uint8_t>(number));
    const Bytes plain = image;
    const SystemAddress at = memory.attach(image);
    const GuestHandle guest = run(firmware, LaunchStart{});
    run(firmware, Activate{.guest = guest, .asid = asid});
    std::string wrong;
    for (std::uint32_t done = 0; done < image_bytes; done += 0x1100)
        run(firmware, LaunchUpdateData{.guest = guest, .at = at + done, .length_bytes = 0x1100});
    run(firmware, LaunchMeasure{.guest = guest});
    const auto report = run(firmware, Attestation{.guest = guest, .mnonce = filled<16>(static_cast<std::uint8_t>(number))});
    if (report.launch_digest != sha256(plain)) wrong = "digest";
    if (!report.signed_by(pek)) wrong = "report";
    run(firmware, LaunchFinish{.guest = guest});
    Bytes seen(image_bytes);
    emulator.read_as_guest(guest, at, seen, memory);
    if (seen != plain || image == plain) wrong = "guest's view";
    run(firmware, Deactivate{.guest = guest});
    run(firmware, Decommission{.guest = guest});
    run(firmware, DfFlush{});
    memory.detach(at);
    return wrong;
}

} // namespace

TEST_CASE("8 threads, many guests: each launch is as if it were alone") {
    Host host{"epyc-7003"};
    AddressSpace memory;
    EmulatedFirmware firmware{*host.emulator, memory};
    run(firmware, Init{});
    run(firmware, DfFlush{});
    const SevCertificate pek = run(firmware, PdhCertExport{}).pek;
    std::atomic<unsigned> failures = 0, finished = 0;
    std::vector<std::thread> running;
    for (unsigned thread = 0; thread < threads; ++thread) {
        running.emplace_back([&, thread] {
            for (unsigned i = 0; i < launches_each; ++i) {
                try {
                    const std::string wrong = one_launch(*host.emulator, firmware, memory, pek, thread * launches_each + i, Asid{128 + thread});
                    if (!wrong.empty()) ++failures;
                    ++finished;
                } catch (const Error&) {
                    ++failures;
                }
            }
        });
    }
    std::thread platform{[&] { // what a host does beside its launches
        for (unsigned i = 0; i < 6; ++i) {
            run(firmware, PdhGen{});
            run(firmware, GetPlatformStatus{});
            run(firmware, PdhCertExport{});
        }
    }};
    for (std::thread& thread : running) thread.join();
    platform.join();
    CHECK(failures == 0);
    CHECK(finished == threads * launches_each);
    const PlatformStatus status = run(firmware, GetPlatformStatus{});
    CHECK(status.guest_count == 0);
    CHECK(status.state == PlatformState::init);
}

TEST_CASE("SHUTDOWN and a power cycle in the middle of launches: every command answers, and nothing is left over") {
    Host host{"epyc-7003"};
    AddressSpace memory;
    EmulatedFirmware firmware{*host.emulator, memory};
    std::atomic<bool> stop = false;
    std::atomic<unsigned> answers = 0;
    std::vector<std::thread> running;
    for (unsigned thread = 0; thread < 4; ++thread) {
        running.emplace_back([&, thread] {
            Bytes image(0x4000);
            const SystemAddress at = memory.attach(image);
            while (!stop) {
                const auto started = attempt(firmware, LaunchStart{});
                const GuestHandle guest = started.reply.value_or(GuestHandle{1});
                attempt(firmware, Activate{.guest = guest, .asid = Asid{128 + thread}});
                attempt(firmware, LaunchUpdateData{.guest = guest, .at = at, .length_bytes = 0x4000});
                attempt(firmware, LaunchMeasure{.guest = guest});
                attempt(firmware, Attestation{.guest = guest, .mnonce = {}});
                attempt(firmware, Deactivate{.guest = guest});
                attempt(firmware, Decommission{.guest = guest});
                ++answers;
            }
            memory.detach(at);
        });
    }
    for (unsigned i = 0; i < 30; ++i) {
        attempt(firmware, Init{});
        attempt(firmware, DfFlush{});
        std::this_thread::sleep_for(std::chrono::milliseconds{3});
        if (i % 3 == 0)
            host.emulator->reset();
        else
            attempt(firmware, Shutdown{});
    }
    stop = true;
    for (std::thread& thread : running) thread.join();
    CHECK(answers > 0);
    run(firmware, Shutdown{});
    run(firmware, Init{});
    run(firmware, DfFlush{});
    const PlatformStatus status = run(firmware, GetPlatformStatus{});
    CHECK(status.guest_count == 0);
    const GuestHandle guest = run(firmware, LaunchStart{});
    for (std::uint32_t asid = 128; asid < 132; ++asid) { // no ASID was lost
        run(firmware, Activate{.guest = guest, .asid = Asid{asid}});
        run(firmware, Deactivate{.guest = guest});
        run(firmware, DfFlush{});
    }
}

TEST_CASE("a long LAUNCH_UPDATE_DATA of one guest does not hold up another") {
    Host host{"epyc-7003"};
    AddressSpace memory;
    EmulatedFirmware firmware{*host.emulator, memory};
    run(firmware, Init{});
    run(firmware, DfFlush{});
    Bytes large(std::size_t{96} << 20), small(0x1000);
    const SystemAddress large_at = memory.attach(large), small_at = memory.attach(small);
    const GuestHandle slow = run(firmware, LaunchStart{}), quick = run(firmware, LaunchStart{});
    run(firmware, Activate{.guest = slow, .asid = Asid{128}});
    run(firmware, Activate{.guest = quick, .asid = Asid{129}});
    std::atomic<bool> begun = false, done = false;
    std::thread busy{[&] {
        begun = true;
        run(firmware, LaunchUpdateData{.guest = slow, .at = large_at, .length_bytes = static_cast<std::uint32_t>(large.size())});
        done = true;
    }};
    while (!begun) std::this_thread::yield();
    unsigned meanwhile = 0;
    while (!done) {
        run(firmware, LaunchUpdateData{.guest = quick, .at = small_at, .length_bytes = 0x1000});
        run(firmware, GetPlatformStatus{});
        ++meanwhile;
    }
    busy.join();
    CHECK(meanwhile > 3);
}
