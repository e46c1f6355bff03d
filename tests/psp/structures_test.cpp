// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include "psp/physical_memory.hpp"
#include "psp/status.hpp"
#include "psp/structures.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;

TEST_CASE("PLATFORM_STATUS: fields at the API's offsets, and the same bytes back") {
    // 00h API 0.24, 02h WORKING, 03h external owner, 04h CONFIG.ES, 07h build 15, 08h three guests: written by hand from the API's table
    constexpr ByteArray<12> raw_status{0x00, 0x18, 0x02, 0x01, 0x01, 0x00, 0x00, 0x0F, 0x03, 0x00, 0x00, 0x00};
    const PlatformStatus status = PlatformStatus::parse(raw_status);
    CHECK(status.build == Build{.major = 0, .minor = 24, .build = 15});
    CHECK(status.state == PlatformState::working);
    CHECK(status.externally_owned);
    CHECK(status.es_configured);
    CHECK(status.guest_count == 3);
    CHECK(status.serialize() == raw_status);
    CHECK(PlatformStatus::parse(PlatformStatus{}.serialize()) == PlatformStatus{});
}

TEST_CASE("PLATFORM_STATUS: an undefined state is refused, and the message says where") {
    constexpr ByteArray<12> raw_status{0x00, 0x18, 0x07};
    CHECK_THROWS_WITH_AS(PlatformStatus::parse(raw_status), "02h STATE is 7, want 0..2", Error);
}

TEST_CASE("PLATFORM_STATUS: reserved bits of newer firmware are ignored") {
    constexpr ByteArray<12> raw_status{0x01, 0x37, 0x01, 0xFE, 0xFE, 0xFF, 0xFF, 0x21};
    const PlatformStatus status = PlatformStatus::parse(raw_status);
    CHECK_FALSE(status.externally_owned);
    CHECK_FALSE(status.es_configured);
    CHECK(status.build.text() == "1.55.33");
}

TEST_CASE("GUEST_STATUS: fields at the API's offsets; an undefined state is refused") {
    ByteArray<13> raw_status{0x04, 0x03, 0x02, 0x01, 0x05, 0x00, 0x11, 0x00, 0x07, 0x00, 0x00, 0x00, 0x03};
    const GuestStatus status = GuestStatus::parse(raw_status);
    CHECK(raw(status.handle) == 0x01020304);
    CHECK(status.policy == Policy{0x00110005});
    CHECK(raw(status.asid) == 7);
    CHECK(status.state == GuestState::running);
    raw_status[12] = 7;
    CHECK_THROWS_WITH_AS(GuestStatus::parse(raw_status), "0Ch STATE is 7, want 0..6", Error);
}

TEST_CASE("LAUNCH_MEASURE output: MEASURE, then MNONCE") {
    ByteArray<48> raw_blob = test::filled<48>(0xAA);
    std::fill(raw_blob.begin() + 32, raw_blob.end(), std::uint8_t{0xBB});
    const LaunchMeasurement measurement = LaunchMeasurement::parse(raw_blob);
    CHECK(measurement.measure == test::filled<32>(0xAA));
    CHECK(measurement.mnonce == test::filled<16>(0xBB));
    CHECK(measurement.serialize() == raw_blob);
}

TEST_CASE("Build: text and parse") {
    CHECK(Build::parse("0.17.48", "build") == Build{.major = 0, .minor = 17, .build = 48});
    CHECK(Build::parse("1.55.255", "build").text() == "1.55.255");
    for (const auto* bad : {"", "0.17", "0.17.", "0.17.48.1", "0..48", "0.17.256", "-1.0.0", "0.17.48 ", " 0.17.48", "a.b.c", "0x0.1.2", "+1.2.3"}) {
        CHECK_THROWS_AS(Build::parse(bad, "build"), Error);
    }
    CHECK_THROWS_WITH_AS(Build::parse("0.17", "--build"),
                         "--build: \"0.17\" is no firmware version, want MAJOR.MINOR.BUILD such as 0.17.48, each 0..255", Error);
}

TEST_CASE("Policy: all 32 bits, in words and from text") {
    CHECK(Policy{0x1100'0005}.text() == "0x11000005: NODBG ES, firmware API 0.17 or newer");
    CHECK(Policy{0x0001'0000}.text() == "0x00010000: no restriction, firmware API 1.0 or newer");
    CHECK(Policy{0}.text() == "0x00000000: no restriction, any firmware API");
    CHECK(Policy{0x3F}.text() == "0x0000003f: NODBG NOKS ES NOSEND DOMAIN SEV, any firmware API");
    CHECK(Policy{0x8040}.text() == "0x00008040: reserved bits 0x8040, any firmware API");
    CHECK(Policy{0x1801'0000}.minimum_api() == ApiVersion{.major = 1, .minor = 24});
    CHECK(Policy::parse("0x1100000F", "policy") == Policy{0x1100'000F});
    CHECK(Policy::parse("4294967295", "policy") == Policy{0xFFFF'FFFF});
    CHECK(Policy::parse("010", "policy") == Policy{10}); // decimal, as sevctl reads it
    for (const auto* bad : {"", "0x", "4294967296", "0x100000000", "-1", "1 ", "five", "0x-1", "0x0x1"}) {
        CHECK_THROWS_AS(Policy::parse(bad, "policy"), Error);
    }
    try {
        Policy::parse("\x1b[31m", "policy");
        FAIL("accepted");
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::usage);
        CHECK(std::string_view{error.what()}.find('\x1b') == std::string_view::npos);
    }
}

TEST_CASE("names of states and products are the API's words") {
    CHECK(name(PlatformState::uninit) == "UNINIT");
    CHECK(name(PlatformState::working) == "WORKING");
    CHECK(name(GuestState::launch_update) == "LUPDATE");
    CHECK(name(GuestState::sent) == "SENT");
    for (const Product product : {Product::naples, Product::rome, Product::milan, Product::genoa, Product::turin}) {
        CHECK(product_named(name(product)) == product);
    }
    CHECK_FALSE(product_named("vega").has_value());
}

TEST_CASE("statuses: every code of the API has name, cause and remedy, and is found by each") {
    // codes and names as in the API's table of status codes
    CHECK(all_statuses().size() == 31);
    std::vector<std::string_view> names;
    for (const StatusInfo& info : all_statuses()) {
        CHECK_FALSE(info.name.empty());
        CHECK(info.cause.size() > 15);
        CHECK(info.remedy.size() >= 10);
        CHECK(info.cause.back() != '.');
        CHECK(info.remedy.back() != '.');
        const auto code = static_cast<std::uint16_t>(info.status);
        CHECK(find_status(code) == &info);
        CHECK(status_named(info.name) == info.status);
        CHECK(status_named(fmt::format("0x{:x}", code)) == info.status);
        CHECK(status_named(fmt::format("{}", code)) == info.status);
        CHECK(std::ranges::find(names, info.name) == names.end());
        names.push_back(info.name);
    }
    CHECK(status_named("bad_measurement") == Status::bad_measurement);
    CHECK(static_cast<int>(*status_named("SECURE_DATA_INVALID")) == 0x18);
    CHECK(find_status(0x1E) == nullptr);
    CHECK(find_status(0x1234) == nullptr);
    for (const auto* bad : {"", "BAD", "0x1E", "65536", "0x", "-1", "11x"}) CHECK_FALSE(status_named(bad).has_value());
    CHECK(text(Status::bad_measurement) == "BAD_MEASUREMENT (0x000B)");
    CHECK(text(Status{0x1234}) == "unknown status (0x1234)");
    CHECK(describe(Status::invalid_guest) == "INVALID_GUEST (0x0010): no guest has this handle");
    CHECK(describe(Status{0x1234}) == "unknown status (0x1234)");
}

TEST_CASE("AddressSpace: gives what is attached, in one piece, and nothing else") {
    Bytes first(8192), second(100);
    AddressSpace space;
    const SystemAddress at = space.attach(first), behind = space.attach(second, 1U << 20);
    CHECK(raw(at) % 4096 == 0);
    CHECK(raw(behind) % (1U << 20) == 0);
    CHECK(space.at(at, 8192).data() == first.data());
    CHECK(space.at(at + 8191, 1).data() == first.data() + 8191);
    CHECK(space.at(at + 16, 16).size() == 16);
    CHECK(space.at(at, 8193).empty());
    CHECK(space.at(at + 8192, 1).empty());
    CHECK(space.at(at, 0).empty());
    CHECK(space.at(at + 1, UINT64_MAX).empty());
    CHECK(space.at(SystemAddress{0}, 1).empty());
    CHECK(space.at(SystemAddress{UINT64_MAX}, 2).empty());
    CHECK(space.at(behind, 101).empty());
    CHECK(space.at(behind, 100).data() == second.data());
    space.detach(at);
    CHECK(space.at(at, 1).empty());
    CHECK_THROWS_AS(space.detach(at), Error);
    CHECK_THROWS_AS(space.attach({}), Error);
    CHECK_THROWS_AS(space.attach(first, 100), Error);
    CHECK_THROWS_AS(space.attach(first, 16), Error);
    CHECK(space.attach(first) != at); // a stale address stays stale
}

TEST_CASE("AddressSpace: two pieces are never neighbours") {
    Bytes one(4096), two(4096);
    AddressSpace space;
    const SystemAddress at = space.attach(one);
    space.attach(two);
    CHECK(space.at(at, 4097).empty());
    CHECK(space.at(at + 4096, 1).empty());
}

TEST_CASE("CommandMemory: allocated pages that a command was at stay mapped until it is over; a later command finds nothing there") {
    AddressSpace space;
    auto pages = space.allocate(0x10000);
    Bytes borrowed(4096);
    const SystemAddress at = pages->at(), other = space.attach(borrowed);
    std::optional<CommandMemory> command{std::in_place, space};
    const auto bytes = command->at(at + 0x1000, 0x2000);
    REQUIRE(bytes.size() == 0x2000);
    CHECK(command->at(other, 4096).data() == borrowed.data());
    CHECK(command->at(at, 0x10001).empty());
    pages.reset();
    bytes[0] = 7; // unmapped, this would end the process
    bytes[0x1FFF] = 8;
    CHECK(bytes[0] == 7);
    CHECK(command->at(at, 1).empty());
    CHECK(CommandMemory{space}.at(at, 1).empty());
    unsigned char resident = 0;
    CHECK(::mincore(bytes.data(), 0x1000, &resident) == 0);
    command.reset();
    CHECK(::mincore(bytes.data(), 0x1000, &resident) != 0); // and not for longer
    space.detach(other);
}
