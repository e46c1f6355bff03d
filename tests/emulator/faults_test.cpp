// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;
using Injected = psp::emulator::Fault;
using psp::emulator::Faults;

TEST_CASE("faults are read from text; what is wrong is said") {
    CHECK(Injected::parse("LAUNCH_START=BAD_MEASUREMENT") == Injected{CommandId::launch_start, Status::bad_measurement, 0, 1});
    CHECK(Injected::parse("pdh_gen=hang") == Injected{CommandId::pdh_gen, std::nullopt, 0, 1});
    CHECK(Injected::parse("ACTIVATE=0x0D,skip=2,count=0") == Injected{CommandId::activate, Status::invalid_asid, 2, 0});
    CHECK(Injected::parse("INIT=SECURE_DATA_INVALID,count=3") == Injected{CommandId::init, Status::secure_data_invalid, 0, 3});
    const auto refused = [](std::string_view text, const char* problem) {
        CAPTURE(std::string{text});
        CHECK_THROWS_WITH_AS(Injected::parse(text), doctest::Contains(problem), Error);
    };
    refused("", "no \"=\"");
    refused("INIT", "no \"=\"");
    refused("INNIT=hang", "unknown command \"INNIT\"");
    refused("INIT=", "unknown status \"\"");
    refused("INIT=VERY_BAD", "unknown status \"VERY_BAD\"");
    refused("INIT=hang,", "ends with a comma");
    refused("INIT=hang,skip=", "skip is \"\"");
    refused("INIT=hang,skip=-1", "skip is \"-1\"");
    refused("INIT=hang,count=4294967296", "count is \"4294967296\"");
    refused("INIT=hang,often=1", "unknown option \"often=1\"");
    refused("INIT=hang,skip=1,,count=1", "unknown option \"\"");
    refused("INIT=hang,skip=1\x1b", "skip is \"1\\x1b\"");
}

TEST_CASE("any command can be told to fail with any status, without effect") {
    Host host;
    for (const auto& command : psp::all_commands()) {
        for (const auto& info : psp::all_statuses()) {
            host.emulator->faults().add({.command = command.id, .status = info.status});
            CHECK(host.command(command.id, Raw{command.buffer_size}) == info.status);
        }
    }
    CHECK(host.status()[2] == 0);
    host.emulator->faults().add({.command = CommandId::pdh_gen, .status = Status::hwerror_unsafe, .skip = 2, .count = 2});
    host.start();
    std::vector<Status> got;
    for (int i = 0; i < 6; ++i) got.push_back(host.command(CommandId::pdh_gen));
    using enum Status;
    CHECK(got == std::vector<Status>{success, success, hwerror_unsafe, hwerror_unsafe, success, success});
    host.emulator->faults().add({.command = CommandId::pdh_gen, .status = hwerror_platform, .count = 0});
    for (int i = 0; i < 20; ++i) CHECK(host.command(CommandId::pdh_gen) == hwerror_platform);
    host.emulator->faults().clear();
    CHECK(host.command(CommandId::pdh_gen) == success);
}

TEST_CASE("INIT's SECURE_DATA_INVALID: the first call erases the flash, and the second makes new keys, as Linux expects") {
    Host host;
    host.start();
    const auto before = host.certificates();
    host.emulator->faults().add({.command = CommandId::init, .status = Status::secure_data_invalid});
    CHECK(host.init() == Status::secure_data_invalid); // WORKING or INIT: nothing is erased
    REQUIRE(host.command(CommandId::shutdown) == Status::success);
    host.start();
    CHECK(host.certificates() == before);
    REQUIRE(host.command(CommandId::shutdown) == Status::success);
    host.emulator->faults().add({.command = CommandId::init, .status = Status::secure_data_invalid});
    CHECK(host.init() == Status::secure_data_invalid);
    host.start();
    CHECK(host.certificates() != before);
}

TEST_CASE("a hanging command does not answer within its deadline and has no effect; others go on; release lets it answer") {
    Host host;
    host.start();
    const std::uint32_t guest = host.launch(0);
    const auto before = host.certificates();
    Faults& faults = host.emulator->faults();
    faults.add({.command = CommandId::pdh_gen, .status = std::nullopt});
    CHECK_FALSE(host.emulator->execute(0x09, SystemAddress{0}, host.ram, std::chrono::milliseconds{20}).has_value());
    CHECK(host.certificates() == before);
    faults.add({.command = CommandId::pdh_gen, .status = std::nullopt, .count = 0});
    std::optional<Status> late;
    std::thread waiting{[&] { late = host.emulator->execute(0x09, SystemAddress{0}, host.ram, std::chrono::milliseconds::max()); }};
    REQUIRE(host.activate(guest, 9) == Status::success); // meanwhile
    CHECK(host.certificates() == before);
    faults.release();
    waiting.join();
    CHECK(late == Status::success);
    CHECK(host.certificates() != before);
    CHECK(host.command(CommandId::pdh_gen) == Status::success); // released until the next add
    faults.add({.command = CommandId::nop, .status = std::nullopt});
    CHECK_FALSE(host.emulator->execute(0x09, SystemAddress{0}, host.ram, std::chrono::milliseconds{1}).has_value());
}
