// SPDX-License-Identifier: Apache-2.0
#include "launch/steps.hpp"

#include <type_traits>

#include "tests/launch/support.hpp"

using namespace sev;
using namespace sev::launch;
using test::Host;

// The firmware's states are types: what is out of order does not compile.
template <class T>
concept CanLoad = requires(T step, const GuestMemory& memory) { step.update_data(memory, psp::Gpa{}, 16); };
template <class T>
concept CanInject = requires(T step, const GuestMemory& memory, ByteArray<0x34> header) {
    step.inject_secret(memory, psp::Gpa{}, header, ByteView{});
};
template <class T>
concept CanMeasureNamed = requires(T& step) { step.measure(); };
template <class T>
concept CanMeasureMoved = requires(T step) { std::move(step).measure(); };
template <class T>
concept CanFinish = requires(T step) { std::move(step).finish(); };
static_assert(CanLoad<Started> && !CanLoad<Measured> && !CanLoad<Running>);
static_assert(CanInject<Measured> && !CanInject<Started> && !CanInject<Running>);
static_assert(CanFinish<Measured> && !CanFinish<Started> && !CanFinish<Running>);
static_assert(CanMeasureMoved<Started> && !CanMeasureNamed<Started>);
static_assert(!std::is_copy_constructible_v<Started> && !std::is_copy_constructible_v<Measured> && !std::is_copy_constructible_v<Running>);

namespace {

/// One page of guest memory.
class PageGuest final : public GuestMemory {
public:
    explicit PageGuest(psp::AddressSpace& space) : space_{space}, at_{space.attach(page_.bytes)} {}
    ~PageGuest() override { space_.detach(at_); }
    std::vector<Run> locate(psp::Gpa start, std::uint64_t length_bytes) const override { return {{at_ + psp::raw(start), length_bytes}}; }
    void read_as_host(psp::Gpa start, std::span<std::uint8_t> out) const override {
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = page_.bytes[psp::raw(start) + i];
    }

private:
    struct alignas(4096) Page {
        ByteArray<4096> bytes{};
    } page_;
    psp::AddressSpace& space_;
    psp::SystemAddress at_;
};

psp::LaunchStart plain(std::uint32_t policy = 0) {
    return {.policy = psp::Policy{policy}, .share_with = {}, .godh = std::nullopt, .session = std::nullopt};
}

} // namespace

TEST_CASE("steps: a step out of scope gives its guest and its ASID back") {
    Host host;
    PageGuest guest{host.space};
    {
        Started started = Started::start(host.firmware, host.asids, plain());
        started.update_data(guest, psp::Gpa{0}, 4096);
        CHECK(host.status().guest_count == 1);
        CHECK(host.asids.in_use() == 1);
        Measured measured = std::move(started).measure();
        CHECK(host.status().guest_count == 1);
        Running running = std::move(measured).finish();
        CHECK(psp::run(host.firmware, psp::GetGuestStatus{running.handle()}).state == psp::GuestState::running);
    }
    CHECK(host.status().guest_count == 0);
    CHECK(host.asids.in_use() == 0);
    CHECK(host.status().state == psp::PlatformState::init);
}

TEST_CASE("steps: every command that fails leaves no guest and no ASID behind") {
    for (const auto command : {psp::CommandId::launch_start, psp::CommandId::activate, psp::CommandId::launch_update_data,
                               psp::CommandId::launch_measure, psp::CommandId::launch_finish}) {
        Host host;
        PageGuest guest{host.space};
        host.emulator->faults().add({.command = command, .status = psp::Status::hwerror_platform, .skip = 0, .count = 1});
        CAPTURE(psp::find_command(static_cast<std::uint32_t>(command))->name);
        CHECK_THROWS_WITH_AS(
            [&] {
                Started started = Started::start(host.firmware, host.asids, plain());
                started.update_data(guest, psp::Gpa{0}, 4096);
                std::ignore = std::move(started).measure().finish();
            }(),
            doctest::Contains("HWERROR_PLATFORM (0x0013)"), Error);
        CHECK(host.status().guest_count == 0);
        CHECK(host.asids.in_use() == 0);
        CHECK(host.asids.retired() == 0);
    }
}

TEST_CASE("steps: an ASID whose DEACTIVATE went wrong is retired, not reused") {
    Host host;
    host.emulator->faults().add({.command = psp::CommandId::deactivate, .status = psp::Status::hwerror_unsafe, .skip = 0, .count = 1});
    Started started = Started::start(host.firmware, host.asids, plain());
    const auto asid = started.asid();
    CHECK_THROWS_WITH_AS(std::move(started).destroy(), doctest::Contains("DEACTIVATE: HWERROR_UNSAFE"), Error);
    CHECK(host.asids.retired() == 1);
    for (int i = 0; i < 20; ++i) {
        Started next = Started::start(host.firmware, host.asids, plain());
        CHECK(next.asid() != asid);
    }
}

TEST_CASE("steps: an ACTIVATE that is not answered retires the ASID, because the key may be installed") {
    Host host;
    host.emulator->faults().add({.command = psp::CommandId::activate, .status = std::nullopt, .skip = 0, .count = 1});
    CHECK_THROWS_AS(Started::start(host.firmware, host.asids, plain()), Error);
    CHECK(host.asids.retired() == 1);
    CHECK(host.asids.in_use() == 0);
}

TEST_CASE("ASIDs: each half runs out by itself, is said so, and comes back after DF_FLUSH") {
    Host host; // 15 ASIDs, 8 of them for SEV-ES
    CHECK(host.range().es_count() == 8);
    CHECK(host.range().sev_count() == 7);
    std::vector<Started> guests;
    for (int i = 0; i < 8; ++i) guests.push_back(Started::start(host.firmware, host.asids, plain(psp::Policy::es)));
    CHECK_THROWS_WITH_AS(Started::start(host.firmware, host.asids, plain(psp::Policy::es)), "no SEV-ES ASID is free (8 in use)", Error);
    for (int i = 0; i < 7; ++i) guests.push_back(Started::start(host.firmware, host.asids, plain()));
    CHECK_THROWS_WITH_AS(Started::start(host.firmware, host.asids, plain()), "no SEV ASID is free (15 in use)", Error);
    CHECK(host.status().guest_count == 15);
    guests.clear();
    CHECK(host.asids.in_use() == 0);
    for (int round = 0; round < 30; ++round) CHECK(psp::raw(Started::start(host.firmware, host.asids, plain(psp::Policy::es)).asid()) <= 8);
    CHECK(host.status().guest_count == 0);
}

TEST_CASE("ASIDs: a range that cannot be is refused") {
    CHECK_THROWS_AS(AsidPool({.max = 15, .min_sev = 0}), Error);
    CHECK_THROWS_AS(AsidPool({.max = 15, .min_sev = 17}), Error);
    AsidPool all_es({.max = 2, .min_sev = 3});
    Host host;
    CHECK_FALSE(all_es.take(false, host.firmware).has_value());
    CHECK(all_es.take(true, host.firmware) == psp::Asid{1});
}
