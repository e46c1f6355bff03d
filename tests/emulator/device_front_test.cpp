// SPDX-License-Identifier: Apache-2.0
// The ways into the device: messages of the preloaded library, rounds of CUSE.
#include <cerrno>

#include "psp/emulator/cuse_memory.hpp"
#include "psp/emulator/remote_memory.hpp"
#include "tests/emulator/host.hpp"
#include "tests/emulator/user_program.hpp"

using namespace sev;
using namespace sev::test;
using namespace sev::psp::emulator;
using dev_sev::Command;
namespace dw = sev::psp::emulator::device_wire;

namespace {

/// Answers from a list; keeps what was sent.
class Script final : public Channel {
public:
    explicit Script(std::vector<Bytes> answers) : answers_{std::move(answers)} {}
    bool send(ByteView message) override {
        sent.emplace_back(message.begin(), message.end());
        return true;
    }
    std::optional<Bytes> receive() override {
        if (next_ == answers_.size()) return std::nullopt;
        return answers_[next_++];
    }
    std::vector<Bytes> sent;

private:
    std::vector<Bytes> answers_;
    std::size_t next_ = 0;
};

bool parses(ByteView message) {
    dw::Header header;
    return dw::parse(message.data(), message.size(), header);
}

/// What Linux does for an unrestricted CUSE ioctl: fetches what was asked for and asks again. Returns the ioctl's errno and how many rounds it took.
std::pair<int, int> through_cuse(LinuxDevice& device, ProgramMemory& memory, std::uint64_t argument, bool writable) {
    Bytes input;
    std::vector<UserRange> outputs;
    for (int round = 1; round < 20; ++round) {
        CuseMemory cuse{input};
        const auto answer = device.ioctl(dev_sev::issue_command, argument, writable, cuse);
        if (!answer.again) {
            if (answer.error_number == EFAULT && cuse.output().empty()) return {EFAULT, round};
            CHECK(cuse.outputs() == outputs); // the room that the kernel was told of
            std::size_t at = 0;
            for (const UserRange& range : outputs) {
                if (memory.write(range.address, ByteView{cuse.output()}.subspan(at, range.length_bytes)) != UserMemory::Access::done)
                    return {EFAULT, round};
                at += range.length_bytes;
            }
            return {answer.error_number, round};
        }
        CHECK(cuse.output().size() <= input.size());
        input.clear();
        for (const UserRange& range : cuse.inputs()) {
            Bytes piece(range.length_bytes);
            if (memory.read(range.address, piece) != UserMemory::Access::done) return {EFAULT, round};
            input.insert(input.end(), piece.begin(), piece.end());
        }
        outputs = cuse.outputs();
    }
    FAIL("it goes round and round");
    return {};
}

} // namespace

TEST_CASE("device wire: known bytes") {
    const Bytes message = device_message({.kind = dw::Kind::write, .length_bytes = 3, .address = 0x1122334455667788}, unhex<3>("a1b2c3"));
    CHECK(hex(message) == "58534556" "0100" "0700" "00000000" "03000000" "8877665544332211" "a1b2c3");
    dw::Header header;
    REQUIRE(dw::parse(message.data(), message.size(), header));
    CHECK(header.kind == dw::Kind::write);
    CHECK(header.length_bytes == 3);
    CHECK(header.address == 0x1122334455667788);
}

TEST_CASE("device wire: what is refused") {
    const Bytes good = device_message({.kind = dw::Kind::data, .length_bytes = 4}, Bytes(4));
    REQUIRE(parses(good));
    for (std::size_t size = 0; size < good.size(); ++size) CHECK_FALSE(parses(ByteView{good}.first(size)));
    Bytes longer = good;
    longer.push_back(0);
    CHECK_FALSE(parses(longer));
    for (const auto& [at, value] : {std::pair<std::size_t, int>{0, 0}, {4, 2}, {6, 0}, {6, 10}, {7, 1}, {8, 1}, {16, 1}}) {
        Bytes bad = good;
        bad[at] = static_cast<std::uint8_t>(value);
        CHECK_FALSE(parses(bad));
    }
    CHECK_FALSE(parses(device_message({.kind = dw::Kind::open, .number = 2})));
    CHECK_FALSE(parses(device_message({.kind = dw::Kind::done, .number = 4096})));
    CHECK_FALSE(parses(device_message({.kind = dw::Kind::fault, .number = 1})));
    CHECK_FALSE(parses(device_message({.kind = dw::Kind::ioctl, .length_bytes = 1})));
    CHECK_FALSE(parses(device_message({.kind = dw::Kind::read, .length_bytes = dw::payload_limit_bytes + 1})));
    CHECK_FALSE(parses(device_message({.kind = dw::Kind::data, .length_bytes = dw::payload_limit_bytes + 1}, Bytes(dw::payload_limit_bytes + 1))));
    CHECK(parses(device_message({.kind = dw::Kind::data, .length_bytes = dw::payload_limit_bytes}, Bytes(dw::payload_limit_bytes))));
}

TEST_CASE("memory over the wire: read, write, fault, and a program that answers wrongly has no memory any more") {
    const Bytes data = device_message({.kind = dw::Kind::data, .length_bytes = 2}, Bytes{7, 8}),
                written = device_message({.kind = dw::Kind::written});
    const Bytes fault = device_message({.kind = dw::Kind::fault});
    {
        Script script{{data, written, fault, data}};
        RemoteMemory memory{script};
        Bytes two(2);
        CHECK(memory.read(0x1000, two) == UserMemory::Access::done);
        CHECK(two == Bytes{7, 8});
        CHECK(memory.write(0x2000, two) == UserMemory::Access::done);
        CHECK(script.sent[1] == device_message({.kind = dw::Kind::write, .length_bytes = 2, .address = 0x2000}, two));
        CHECK(memory.read(0x1000, two) == UserMemory::Access::fault); // a bad address is no broken protocol
        CHECK_FALSE(memory.broken());
        CHECK(memory.read(0x1000, two) == UserMemory::Access::done);
    }
    for (const Bytes& wrong : {Bytes{}, written, device_message({.kind = dw::Kind::data, .length_bytes = 3}, Bytes(3)),
                               device_message({.kind = dw::Kind::done}), Bytes(24)}) {
        Script script{{wrong, data}};
        RemoteMemory memory{script};
        Bytes two(2);
        CHECK(memory.read(0x1000, two) == UserMemory::Access::fault);
        CHECK(memory.broken());
        CHECK(memory.read(0x1000, two) == UserMemory::Access::fault);
        CHECK(script.sent.size() == 1); // nothing more is asked of it
    }
}

TEST_CASE("CUSE: every command comes to the same end as without, in a few rounds") {
    Host host;
    LinuxDevice device{*host.emulator};
    ProgramMemory memory;
    const auto run = [&](Command command, std::uint64_t data, bool writable = true) {
        const std::uint64_t at = memory.put(dev_sev::IssueCommand{.command = command, .data = data}.serialize());
        const auto [error_number, rounds] = through_cuse(device, memory, at, writable);
        CHECK(rounds <= 7);
        return IoctlResult{error_number, dev_sev::IssueCommand::parse(wire::exactly<16>(memory.at(at), "issue")).error};
    };
    const std::uint64_t status = memory.put(Bytes(12));
    CHECK(run(Command::platform_status, status) == IoctlResult{0, 0});
    CHECK(memory.at(status)[0x02] == 1);

    const std::uint64_t pdh = memory.put(Bytes(2084)), chain = memory.put(Bytes(0x3000, 0x5A));
    const std::uint64_t pair = memory.put(dev_sev::BufferPair{.first = {pdh, 2084}, .second = {chain, 0x3000}}.serialize());
    CHECK(run(Command::pdh_cert_export, pair) == IoctlResult{0, 0});
    CHECK(pair_at(memory, pair).second.length_bytes == 6252);
    CHECK(memory.at(chain)[6252] == 0x5A); // what the firmware did not write stays
    Bytes all = memory.at(pdh);
    all.insert(all.end(), memory.at(chain).begin(), memory.at(chain).begin() + 6252);
    CHECK(all == exported(device, memory));

    const std::uint64_t query = memory.put(dev_sev::Buffer{}.serialize());
    CHECK(run(Command::pek_csr, query) == IoctlResult{EIO, 4});
    CHECK(buffer_at(memory, query).length_bytes == 2084);
    const std::uint64_t id = memory.put(Bytes(64));
    CHECK(run(Command::get_id2, memory.put(dev_sev::Buffer{id, 64}.serialize()), false) == IoctlResult{0, 0});
    CHECK(memory.at(id) == Bytes(host.emulator->identity().chip_id.begin(), host.emulator->identity().chip_id.end()));
    CHECK(run(Command::pdh_gen, 0, false) == IoctlResult{EPERM, dev_sev::no_firmware_call});
    CHECK(run(Command::pdh_gen, 0) == IoctlResult{0, 0});
    CHECK(run(Command::pek_csr, 0x10).error_number == EFAULT);
    const std::uint64_t junk = memory.put(Bytes(2084, 1));
    CHECK(run(Command::pek_cert_import, memory.put(dev_sev::BufferPair{.first = {junk, 2084}, .second = {junk, 2084}}.serialize())) ==
          IoctlResult{EIO, 6});
    CHECK(run(Command::factory_reset, 0) == IoctlResult{0, 0});
}

TEST_CASE("CUSE: input of any other length asks for another round, and never reads beyond") {
    Host host;
    LinuxDevice device{*host.emulator};
    for (std::size_t size = 0; size < 32; ++size) {
        const Bytes input(size); // command 0, FACTORY_RESET, without write access
        CuseMemory memory{input};
        CHECK(device.ioctl(dev_sev::issue_command, 0x1000, false, memory) == LinuxDevice::Answer{.again = true});
    }
    const Bytes whole(32);
    CuseMemory memory{whole};
    CHECK(device.ioctl(dev_sev::issue_command, 0x1000, false, memory) == LinuxDevice::Answer{.error_number = EPERM});
}
