// SPDX-License-Identifier: Apache-2.0
// /dev/sev as Linux's driver presents it. What is expected here was read in sev-dev.c of Linux 6.1 and its successors, and in <linux/psp-sev.h>.
#include <cerrno>
#include <csignal>

#include <sys/resource.h>

#include "psp/chain.hpp"
#include "psp/emulator/emulated_firmware.hpp"
#include "tests/emulator/host.hpp"
#include "tests/emulator/user_program.hpp"

using namespace sev;
using namespace sev::test;
using dev_sev::Command;

namespace {

struct Machine {
    explicit Machine(psp::emulator::LinuxDeviceOptions options = {}, std::string_view fault = {}) {
        if (!fault.empty()) host.emulator->faults().add(psp::emulator::Fault::parse(fault));
        device.emplace(*host.emulator, std::move(options));
    }
    psp::PlatformStatus status() {
        const std::uint64_t data = memory.put(Bytes(12));
        REQUIRE(issue(*device, memory, Command::platform_status, data, false) == IoctlResult{0, 0});
        return psp::PlatformStatus::parse(wire::exactly<12>(memory.at(data), "status"));
    }
    IoctlResult issue_plain(Command command, bool writable = true) { return issue(*device, memory, command, 0, writable); }

    Host host;
    ProgramMemory memory;
    std::optional<LinuxDevice> device;
};

std::uint32_t number(psp::Status status) { return static_cast<std::uint32_t>(status); }

} // namespace

TEST_CASE("/dev/sev: the loaded driver has initialised the platform for SEV-ES") {
    Machine machine;
    const auto status = machine.status();
    CHECK(status.state == psp::PlatformState::init);
    CHECK(status.es_configured);
    CHECK(status.build == psp::Build{0, 17, 48});
    CHECK(status.guest_count == 0);
}

TEST_CASE("/dev/sev: other requests, unknown commands and bad addresses are refused, and nothing is written") {
    Machine machine;
    const std::uint64_t at = machine.memory.put(dev_sev::IssueCommand{.command = Command{9}, .data = 0, .error = 7}.serialize());
    const Bytes before = machine.memory.at(at);
    const auto error_of = [&](std::uint32_t request, std::uint64_t argument) {
        return machine.device->ioctl(request, argument, true, machine.memory).error_number;
    };
    CHECK(error_of(0xC0105301, at) == EINVAL);                     // another number
    CHECK(error_of(0xC0145300, at) == EINVAL);                     // another size
    CHECK(error_of(0x5401, at) == EINVAL);                         // TCGETS
    CHECK(error_of(dev_sev::issue_command, at) == EINVAL);         // command 9
    CHECK(error_of(dev_sev::issue_command, 0) == EFAULT);
    CHECK(error_of(dev_sev::issue_command, at + 1) == EFAULT);     // one byte too few
    CHECK(machine.memory.at(at) == before);
}

TEST_CASE("/dev/sev: what a reader may do") {
    Machine machine;
    for (const Command command : {Command::factory_reset, Command::pek_gen, Command::pdh_gen, Command::pek_csr, Command::pek_cert_import})
        CHECK(machine.issue_plain(command, false) == IoctlResult{EPERM, 0xABCD});
    CHECK(exported(*machine.device, machine.memory, false).size() == 8336); // INIT has been run
    REQUIRE(machine.issue_plain(Command::factory_reset) == IoctlResult{0, 0});
    CHECK(machine.issue_plain(Command::pdh_cert_export, false).error_number == EFAULT); // no sub-structure at address 0
    const std::uint64_t data = machine.memory.put(dev_sev::BufferPair{}.serialize());
    CHECK(issue(*machine.device, machine.memory, Command::pdh_cert_export, data, false) == IoctlResult{EPERM, 0xABCD}); // INIT would have to be run
    CHECK(machine.status().state == psp::PlatformState::uninit);
    CHECK(exported(*machine.device, machine.memory, true).size() == 8336);
    CHECK(machine.status().state == psp::PlatformState::init);
}

TEST_CASE("/dev/sev: the chain is the one the firmware gives, and it verifies to the emulated root") {
    Machine machine;
    const Bytes bytes = exported(*machine.device, machine.memory);
    psp::Chain chain = psp::parse_chain(bytes, "chain");
    const auto& identity = machine.host.emulator->identity();
    CHECK(chain.cek->fingerprint() == identity.cek.fingerprint());
    chain.cek = identity.cek;
    chain.ask = identity.ask;
    chain.ark = identity.ark;
    CHECK(psp::verify_chain(chain, {{.label = "test", .product = identity.product, .fingerprint = identity.ark.fingerprint()}}).trusted());
}

TEST_CASE("/dev/sev: lengths can be asked for") {
    Machine machine;
    for (const dev_sev::BufferPair& asking : {dev_sev::BufferPair{}, dev_sev::BufferPair{.first = {0x1000, 10}, .second = {0, 10}},
                                              dev_sev::BufferPair{.first = {0x1000, 0}, .second = {0x1000, 9}}}) {
        const std::uint64_t data = machine.memory.put(asking.serialize());
        CHECK(issue(*machine.device, machine.memory, Command::pdh_cert_export, data) == IoctlResult{EIO, number(Status::invalid_length)});
        const auto answered = pair_at(machine.memory, data);
        CHECK(answered.first == dev_sev::Buffer{asking.first.address, 2084});
        CHECK(answered.second == dev_sev::Buffer{asking.second.address, 6252});
    }
    for (const auto& [command, want] : {std::pair{Command::pek_csr, 2084U}, std::pair{Command::get_id2, 64U}}) {
        const std::uint64_t data = machine.memory.put(dev_sev::Buffer{}.serialize());
        CHECK(issue(*machine.device, machine.memory, command, data) == IoctlResult{EIO, number(Status::invalid_length)});
        CHECK(buffer_at(machine.memory, data).length_bytes == want);
    }
    // A buffer that is too small: the length comes back, the buffer stays as it was.
    const std::uint64_t small = machine.memory.put(Bytes(100, 0x5A));
    const std::uint64_t data = machine.memory.put(dev_sev::Buffer{small, 100}.serialize());
    CHECK(issue(*machine.device, machine.memory, Command::pek_csr, data) == IoctlResult{EIO, number(Status::invalid_length)});
    CHECK(buffer_at(machine.memory, data).length_bytes == 2084);
    CHECK(machine.memory.at(small) == Bytes(100, 0x5A));
}

TEST_CASE("/dev/sev: a longer buffer is written only as far as the firmware writes") {
    Machine machine;
    const std::uint64_t buffer = machine.memory.put(Bytes(0x4000, 0x5A));
    const std::uint64_t data = machine.memory.put(dev_sev::Buffer{buffer, 0x4000}.serialize());
    REQUIRE(issue(*machine.device, machine.memory, Command::pek_csr, data) == IoctlResult{0, 0});
    CHECK(buffer_at(machine.memory, data).length_bytes == 2084);
    const auto request = psp::parse_sev_certificate(ByteView{machine.memory.at(buffer)}.first(2084), "CSR");
    CHECK(request.usage == psp::Usage::pek);
    CHECK(request.signatures[0].empty());
    CHECK(request.signatures[1].empty());
    CHECK(machine.memory.at(buffer)[2084] == 0x5A);
}

TEST_CASE("/dev/sev: lengths beyond the driver's limits") {
    Machine machine;
    const std::uint64_t big = machine.memory.put(Bytes(0x4001));
    const auto result = [&](Command command, const auto& sub) {
        return issue(*machine.device, machine.memory, command, machine.memory.put(sub.serialize()));
    };
    CHECK(result(Command::pek_csr, dev_sev::Buffer{big, 0x4001}) == IoctlResult{EFAULT, 0xABCD});
    CHECK(result(Command::get_id2, dev_sev::Buffer{big, 0x0040'0001}) == IoctlResult{ENOMEM, 0xABCD});
    CHECK(result(Command::pdh_cert_export, dev_sev::BufferPair{.first = {big, 0x4001}, .second = {big, 1}}) == IoctlResult{EFAULT, 0xABCD});
    CHECK(result(Command::pdh_cert_export, dev_sev::BufferPair{.first = {big, 1}, .second = {big, 0x4001}}) == IoctlResult{EFAULT, 0xABCD});
    for (const auto& import :
         {dev_sev::BufferPair{.first = {big, 0x4001}, .second = {big, 1}}, dev_sev::BufferPair{.first = {big, 1}, .second = {big, 0x4001}},
          dev_sev::BufferPair{.first = {0, 1}, .second = {big, 1}}, dev_sev::BufferPair{.first = {big, 1}, .second = {big, 0}}})
        CHECK(result(Command::pek_cert_import, import) == IoctlResult{EINVAL, 0xABCD});
    CHECK(result(Command::pek_cert_import, dev_sev::BufferPair{.first = {1, 1}, .second = {big, 1}}) == IoctlResult{EFAULT, 0xABCD});
}

TEST_CASE("/dev/sev: a result that cannot be written is EFAULT, though the command was carried out") {
    Machine machine;
    CHECK(issue(*machine.device, machine.memory, Command::platform_status, 0x1000) == IoctlResult{EFAULT, 0});
    const std::uint64_t data = machine.memory.put(dev_sev::Buffer{0x1000, 2084}.serialize());
    CHECK(issue(*machine.device, machine.memory, Command::pek_csr, data) == IoctlResult{EFAULT, 0});
}

TEST_CASE("/dev/sev: ids, with the old request and the new one") {
    Machine machine;
    const std::uint64_t ids = machine.memory.put(Bytes(128, 0x5A)), id = machine.memory.put(Bytes(64));
    REQUIRE(issue(*machine.device, machine.memory, Command::get_id, ids, false) == IoctlResult{0, 0});
    REQUIRE(issue(*machine.device, machine.memory, Command::get_id2, machine.memory.put(dev_sev::Buffer{id, 64}.serialize()), false) ==
            IoctlResult{0, 0});
    const auto& want = machine.host.emulator->identity().chip_id;
    CHECK(machine.memory.at(id) == Bytes(want.begin(), want.end()));
    CHECK(std::ranges::equal(ByteView{machine.memory.at(ids)}.first(64), want));
    CHECK(std::ranges::count(ByteView{machine.memory.at(ids)}.subspan(64), 0x5A) == 64); // one socket alone
}

TEST_CASE("/dev/sev: FACTORY_RESET shuts an initialised platform down first, and is refused while there are guests") {
    Machine machine;
    const Bytes before = exported(*machine.device, machine.memory);
    const std::uint32_t guest = machine.host.launch(0);
    CHECK(machine.status().state == psp::PlatformState::working);
    CHECK(machine.issue_plain(Command::factory_reset).error_number == EBUSY);
    CHECK(machine.issue_plain(Command::pek_gen) == IoctlResult{EIO, number(Status::invalid_platform_state)}); // the driver still thinks INIT
    CHECK(exported(*machine.device, machine.memory) == before);
    REQUIRE(machine.host.command(CommandId::decommission, Raw{4}.u32(0, guest)) == Status::success);
    CHECK(machine.issue_plain(Command::factory_reset) == IoctlResult{0, 0});
    CHECK(machine.status().state == psp::PlatformState::uninit);
    CHECK(machine.issue_plain(Command::factory_reset) == IoctlResult{0, 0}); // in UNINIT as well
    const Bytes after = exported(*machine.device, machine.memory);
    CHECK_FALSE(std::ranges::equal(ByteView{after}.first(3 * 2084), ByteView{before}.first(3 * 2084)));
    CHECK(std::ranges::equal(ByteView{after}.subspan(3 * 2084), ByteView{before}.subspan(3 * 2084))); // the CEK stays
}

TEST_CASE("/dev/sev: taking ownership, and PDH_GEN") {
    Machine machine;
    const std::uint64_t csr = machine.memory.put(Bytes(2084));
    REQUIRE(issue(*machine.device, machine.memory, Command::pek_csr, machine.memory.put(dev_sev::Buffer{csr, 2084}.serialize())) ==
            IoctlResult{0, 0});
    auto pek = psp::parse_sev_certificate(machine.memory.at(csr), "CSR");
    const P384Key key = P384Key::generate();
    auto oca = psp::unsigned_certificate(psp::Usage::oca, psp::Algorithm::ecdsa_sha256, {0, 0}, key.public_point());
    psp::sign(oca, 0, psp::Usage::oca, key);
    psp::sign(pek, 0, psp::Usage::oca, key);
    const auto import =
        dev_sev::BufferPair{.first = {machine.memory.put(pek.serialize()), 2084}, .second = {machine.memory.put(oca.serialize()), 2084}};
    const std::uint64_t data = machine.memory.put(import.serialize());
    REQUIRE(issue(*machine.device, machine.memory, Command::pek_cert_import, data) == IoctlResult{0, 0});
    CHECK(machine.status().externally_owned);
    CHECK(issue(*machine.device, machine.memory, Command::pek_cert_import, data) == IoctlResult{EIO, number(Status::already_owned)});
    const auto owned = psp::parse_chain(exported(*machine.device, machine.memory), "chain");
    CHECK(*owned.oca == oca);
    REQUIRE(machine.issue_plain(Command::pdh_gen) == IoctlResult{0, 0});
    const auto rotated = psp::parse_chain(exported(*machine.device, machine.memory), "chain");
    CHECK(*rotated.pek == *owned.pek);
    CHECK(*rotated.pdh != *owned.pdh);
    REQUIRE(machine.issue_plain(Command::pek_gen) == IoctlResult{0, 0});
    CHECK_FALSE(machine.status().externally_owned);
}

TEST_CASE("/dev/sev: every status of the firmware arrives as EIO with its number") {
    Machine machine;
    for (const psp::StatusInfo& info : psp::all_statuses()) {
        if (info.status == Status::success) continue;
        machine.host.emulator->faults().add({.command = CommandId::pdh_gen, .status = info.status, .skip = 0, .count = 1});
        CHECK(machine.issue_plain(Command::pdh_gen) == IoctlResult{EIO, number(info.status)});
    }
    CHECK(machine.issue_plain(Command::pdh_gen) == IoctlResult{0, 0});
}

TEST_CASE("/dev/sev: INIT is tried once more after SECURE_DATA_INVALID, and not a third time") {
    {
        Machine machine{{}, "INIT=SECURE_DATA_INVALID"};
        CHECK(machine.status().state == psp::PlatformState::init);
    }
    Machine machine{{}, "INIT=SECURE_DATA_INVALID,count=3"};
    CHECK(machine.status().state == psp::PlatformState::uninit);
    CHECK(machine.issue_plain(Command::pdh_gen) == IoctlResult{0, 0}); // the third failure, then it works: the command ran INIT
    CHECK(machine.status().state == psp::PlatformState::init);
}

TEST_CASE("/dev/sev: a command that needs INIT reports INIT's failure") {
    Machine machine{{}, "INIT=HWERROR_PLATFORM,count=2"};
    CHECK(machine.status().state == psp::PlatformState::uninit);
    CHECK(machine.issue_plain(Command::pdh_gen) == IoctlResult{EIO, number(Status::hwerror_platform)});
    CHECK(machine.issue_plain(Command::pdh_gen) == IoctlResult{0, 0});
}

TEST_CASE("/dev/sev: a PSP that does not answer is given up until the driver is loaded anew") {
    std::vector<std::string> log;
    psp::emulator::LinuxDeviceOptions options;
    options.command_timeout = std::chrono::milliseconds{30};
    options.log = [&](std::string_view line) { log.emplace_back(line); };
    Machine machine{options};
    machine.host.emulator->faults().add(psp::emulator::Fault::parse("PDH_GEN=hang"));
    CHECK(machine.issue_plain(Command::pdh_gen) == IoctlResult{ETIMEDOUT, 0});
    CHECK(machine.issue_plain(Command::pdh_gen).error_number == EBUSY);
    CHECK(issue(*machine.device, machine.memory, Command::platform_status, machine.memory.put(Bytes(12))).error_number == EBUSY);
    CHECK(machine.issue_plain(Command::factory_reset).error_number == EBUSY);
    CHECK(std::ranges::count(log, "ccp: sev command 0x9 timed out, disabling PSP") == 1);
    machine.device.emplace(*machine.host.emulator);
    CHECK(machine.issue_plain(Command::pdh_gen) == IoctlResult{0, 0});
}

TEST_CASE("/dev/sev: an emulator that cannot keep its state is a PSP that fails, and says why in the log") {
    std::vector<std::string> log;
    psp::emulator::LinuxDeviceOptions options;
    options.log = [&](std::string_view line) { log.emplace_back(line); };
    Machine machine{options};
    const Bytes before = exported(*machine.device, machine.memory);
    // As a full disk would: no file of this process can grow.
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit old_limit{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    const rlimit none{.rlim_cur = 0, .rlim_max = old_limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &none) == 0);
    const IoctlResult result = machine.issue_plain(Command::pdh_gen);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    std::signal(SIGXFSZ, old_handler);
    CHECK(result == IoctlResult{EIO, number(Status::hwerror_platform)});
    CHECK(log.back().starts_with("emulated PSP: "));
    CHECK(exported(*machine.device, machine.memory) == before);
    CHECK(machine.issue_plain(Command::pdh_gen) == IoctlResult{0, 0});
}
