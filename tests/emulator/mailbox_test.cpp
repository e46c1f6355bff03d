// SPDX-License-Identifier: Apache-2.0
// The mailbox server, driven by a machine that is a memfd and a socket.
#include <cstring>
#include <thread>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "psp/command_id.hpp"
#include "psp/emulator/loaded_ranges.hpp"
#include "psp/emulator/mailbox_server.hpp"
#include "psp/emulator/mailbox_transcript.hpp"
#include "tests/emulator/host.hpp"

using namespace sev;
using namespace sev::test;
using namespace sev::psp::emulator;
using Kind = MailboxFrame::Kind;

namespace {

constexpr std::uint64_t mib = 1 << 20, four_gib = std::uint64_t{1} << 32;
constexpr RamLayout layout{.below_bytes = 4 * mib, .above_start = four_gib, .above_bytes = 2 * mib};

/// RAM in a memfd, which the server opens by its name in /proc.
class Memfd {
public:
    explicit Memfd(std::uint64_t size_bytes = layout.below_bytes + layout.above_bytes) : fd_{::memfd_create("ram", MFD_CLOEXEC)} {
        resize(size_bytes);
        void* const mapped = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
        REQUIRE(mapped != MAP_FAILED);
        bytes_ = {static_cast<std::uint8_t*>(mapped), size_bytes};
    }
    Memfd(const Memfd&) = delete;
    Memfd& operator=(const Memfd&) = delete;
    ~Memfd() { ::munmap(bytes_.data(), bytes_.size()); }
    Path path() const { return fmt::format("/proc/self/fd/{}", fd_.get()); }
    void resize(std::uint64_t size_bytes) const { REQUIRE(::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) == 0); }
    std::span<std::uint8_t> bytes() noexcept { return bytes_; }

private:
    Fd fd_;
    std::span<std::uint8_t> bytes_;
};

/// The device's end of a connection.
class Wire {
public:
    explicit Wire(const Path& path) : socket_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
        REQUIRE(::connect(socket_.get(), static_cast<const sockaddr*>(static_cast<const void*>(&address)), sizeof address) == 0);
        const timeval patience{.tv_sec = 20, .tv_usec = 0};
        REQUIRE(::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    }
    void send(ByteView bytes) const {
        REQUIRE(::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    }
    void send(const MailboxFrame& frame) const { send(frame.serialize()); }
    /// The next frame; nullopt when the server closed the connection. A server that says nothing for 20 s fails the test.
    std::optional<MailboxFrame> receive() const {
        ByteArray<MailboxFrame::wire_size> in{};
        const ssize_t got = ::recv(socket_.get(), in.data(), in.size(), MSG_WAITALL);
        if (got == 0 || (got < 0 && errno == ECONNRESET)) return std::nullopt;
        REQUIRE(got == static_cast<ssize_t>(in.size()));
        return MailboxFrame::parse(wire::view(in));
    }

private:
    Fd socket_;
};

struct Served {
    explicit Served(Options options = {}, MailboxServerOptions server_options = {}) : host{"epyc-3151", std::move(options)} {
        server_options.socket = socket;
        server_options.memory = ram.path();
        server_options.message_deadline = std::chrono::milliseconds{300};
        server_options.transcript = [this](std::string_view line) { transcript.emplace_back(line); };
        server.emplace(*host.emulator, std::move(server_options));
        thread = std::thread{[this] { server->serve(stop.get()); }};
    }
    ~Served() { end(); }
    void end() {
        if (!thread.joinable()) return;
        const std::uint64_t one = 1;
        CHECK(::write(stop.get(), &one, sizeof one) == sizeof one);
        thread.join();
    }
    Host host;
    Path socket = host.directory / "mailbox";
    Memfd ram;
    std::vector<std::string> transcript; // read it after an answer only
    Fd stop{::eventfd(0, EFD_CLOEXEC)};
    std::optional<MailboxServer> server;
    std::thread thread;
};

constexpr MailboxFrame hello{.kind = Kind::hello, .values = {layout.below_bytes, layout.above_start, layout.above_bytes}};

class Machine {
public:
    explicit Machine(Served& served) : ram{served.ram.bytes()}, wire{served.socket} {
        wire.send(hello);
        REQUIRE(wire.receive() == MailboxFrame{.kind = Kind::welcome});
    }
    MailboxFrame raw(std::uint32_t id, std::uint64_t at) {
        wire.send({.kind = Kind::command, .sequence = ++sequence, .number = id, .values = {at}});
        const auto answer = wire.receive();
        REQUIRE(answer.has_value());
        REQUIRE(answer->sequence == sequence);
        return *answer;
    }
    Status command_at_address(std::uint32_t id, std::uint64_t at) {
        const MailboxFrame answer = raw(id, at);
        REQUIRE(answer.kind == Kind::answer);
        return static_cast<Status>(answer.number);
    }
    Status command(CommandId id, const Raw& buffer = Raw{0}) {
        std::ranges::copy(buffer.bytes, ram.subspan(command_at).begin());
        const Status status = command_at_address(static_cast<std::uint32_t>(id), command_at);
        reply.assign(ram.begin() + command_at, ram.begin() + command_at + static_cast<std::ptrdiff_t>(buffer.bytes.size()));
        return status;
    }
    void put(std::uint64_t at, ByteView bytes) { std::ranges::copy(bytes, ram.subspan(at).begin()); }
    Bytes get(std::uint64_t at, std::size_t length_bytes) {
        const auto from = ram.subspan(at, length_bytes);
        return {from.begin(), from.end()};
    }
    Status init() { return command(CommandId::init, Raw{0x14}.u32(0, 1).u64(8, tmr_at).u32(0x10, 0x10'0000)); }
    /// A guest of this policy in LUPDATE, with an ASID of its kind.
    std::uint32_t launch(std::uint32_t policy) {
        REQUIRE(init() == Status::success);
        REQUIRE(command(CommandId::df_flush) == Status::success);
        REQUIRE(command(CommandId::launch_start, Raw{0x24}.u32(4, policy)) == Status::success);
        const std::uint32_t handle = reply[0];
        REQUIRE(command(CommandId::activate, Raw{8}.u32(0, handle).u32(4, (policy & 4) != 0 ? 1 : 9)) == Status::success);
        return handle;
    }
    Status update_data(std::uint32_t handle, std::uint64_t at, std::uint32_t length_bytes) {
        return command(CommandId::launch_update_data, Raw{0x14}.u32(0, handle).u64(8, at).u32(0x10, length_bytes));
    }
    Status measure(std::uint32_t handle) {
        return command(CommandId::launch_measure, Raw{0x14}.u32(0, handle).u64(8, blob_at).u32(0x10, 0x30));
    }
    Status finish(std::uint32_t handle) { return command(CommandId::launch_finish, Raw{4}.u32(0, handle)); }
    std::uint8_t platform_state() {
        REQUIRE(command(CommandId::platform_status, Raw{0x0C}) == Status::success);
        return reply[2];
    }

    std::span<std::uint8_t> ram;
    Wire wire;
    Bytes reply;
    std::uint32_t sequence = 0;
};

} // namespace

TEST_CASE("mailbox frames: known answers made with Python's struct") {
    const auto known = [](const MailboxFrame& frame, std::string_view text) {
        CHECK(hex(frame.serialize()) == text);
        CHECK(MailboxFrame::parse(wire::view(unhex<MailboxFrame::wire_size>(text))) == frame);
    };
    known({.kind = Kind::hello, .values = {0x8000'0000, four_gib, 0x4000'0000}},
          "56505350010001000000000000000000000000800000000000000000010000000000004000000000");
    known({.kind = Kind::command, .sequence = 7, .number = 0x33, .values = {0x1234'5000}},
          "56505350010004000700000033000000005034120000000000000000000000000000000000000000");
    known({.kind = Kind::answer, .sequence = 7, .number = 4}, "56505350010005000700000004000000000000000000000000000000000000000000000000000000");
    known({.kind = Kind::refused, .number = MailboxFrame::memory},
          "56505350010003000000000002000000000000000000000000000000000000000000000000000000");
}

TEST_CASE("mailbox frames: every flipped bit is another frame or refused; each refusal says where") {
    for (const MailboxFrame& frame : {hello, MailboxFrame{.kind = Kind::command, .sequence = 1, .number = 4, .values = {0x1000}},
                                      MailboxFrame{.kind = Kind::reset}, MailboxFrame{.kind = Kind::silence, .sequence = 3}}) {
        const auto good = frame.serialize();
        for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
            CAPTURE(bit);
            auto bad = good;
            bad[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
            try {
                const MailboxFrame parsed = MailboxFrame::parse(wire::view(bad));
                CHECK(parsed != frame);
                CHECK(parsed.serialize() == bad);
                CHECK(bit >= 8 * 6); // magic and version are never another
            } catch (const Error& error) {
                CHECK(error.fault() == sev::Fault::malformed);
            }
        }
    }
    const auto refused = [](MailboxFrame frame, const char* message) {
        const auto raw = frame.serialize();
        CHECK_THROWS_WITH_AS(MailboxFrame::parse(wire::view(raw)), message, Error);
    };
    refused({.kind = Kind{0}}, "mailbox frame: 06h kind is 0, want 1 to 7");
    refused({.kind = Kind{8}}, "mailbox frame: 06h kind is 8, want 1 to 7");
    refused({.kind = Kind::hello, .sequence = 1}, "mailbox frame: 08h sequence is 0x1, want at most 0x0");
    refused({.kind = Kind::command, .number = 0x800}, "mailbox frame: 0Ch number is 0x800, want at most 0x7ff");
    refused({.kind = Kind::answer, .number = 0x1'0000}, "mailbox frame: 0Ch number is 0x10000, want at most 0xffff");
    refused({.kind = Kind::refused}, "mailbox frame: 0Ch number is 0, want the reason of a refusal");
    refused({.kind = Kind::command, .values = {0, 1, 0}}, "mailbox frame: 18h value is 0x1, want at most 0x0");
    refused({.kind = Kind::reset, .values = {0, 0, 5}}, "mailbox frame: 20h value is 0x5, want at most 0x0");
}

TEST_CASE("mailbox: every command, known or not, answers as the PSP itself does, in each platform state") {
    Served served;
    Machine machine{served};
    Host direct;
    const auto compare = [&] {
        for (std::uint32_t id = 0; id <= MailboxFrame::command_limit; id = id < 0x90 ? id + 1 : id + 101) {
            const psp::CommandInfo* const info = psp::find_command(id);
            if (info && (info->id == CommandId::init || info->id == CommandId::shutdown)) continue; // the state stays
            CAPTURE(id);
            const Bytes buffer(info ? info->buffer_size : 0);
            machine.put(command_at, buffer);
            CHECK(machine.command_at_address(id, command_at) == direct.command_raw(id, buffer));
            if (info && info->id != CommandId::get_id) CHECK(machine.get(command_at, buffer.size()) == direct.reply);
        }
    };
    compare();
    CHECK(machine.init() == direct.init());
    CHECK(machine.platform_state() == 1);
    compare();
    CHECK(machine.command(CommandId::launch_start, Raw{0x24}.u32(4, 1)) == Status::success);
    CHECK(direct.command(CommandId::launch_start, Raw{0x24}.u32(4, 1)) == Status::success);
    CHECK(machine.platform_state() == 2);
    compare();
    CHECK(machine.command(CommandId::shutdown) == Status::success);
    CHECK(machine.platform_state() == 0);
}

TEST_CASE("mailbox: a launch whose memory and command buffer lie above 4 GiB; the digest is the owner's") {
    Served served;
    Machine machine{served};
    const std::uint32_t handle = machine.launch(5);
    const std::uint64_t above_offset = layout.below_bytes;
    const Bytes data = pattern(0x3000, 4);
    machine.put(above_offset + 0x1'0000, data);
    const Raw update = Raw{0x14}.u32(0, handle).u64(8, four_gib + 0x1'0000).u32(0x10, 0x3000);
    machine.put(above_offset + 0x80, update.bytes);
    CHECK(machine.command_at_address(0x31, four_gib + 0x80) == Status::success);
    CHECK(machine.get(above_offset + 0x1'0000, 0x3000) != data);
    REQUIRE(machine.measure(handle) == Status::success);
    REQUIRE(machine.command(CommandId::guest_status, Raw{0x0D}.u32(0, handle)) == Status::success);
    CHECK(machine.reply[0x0C] == 2);
}

TEST_CASE("mailbox: addresses outside RAM, across its ends and in the hole are INVALID_ADDRESS, and change nothing") {
    Served served;
    Machine machine{served};
    const std::uint32_t handle = machine.launch(5);
    const auto bad = [&](std::uint64_t at, std::uint32_t length_bytes) {
        CAPTURE(at);
        const Digest before = sha256(machine.ram.subspan(blob_at));
        CHECK(machine.update_data(handle, at, length_bytes) == Status::invalid_address);
        CHECK(sha256(machine.ram.subspan(blob_at)) == before);
    };
    bad(layout.below_bytes, 16);
    bad(layout.below_bytes - 16, 32);
    bad(four_gib - 16, 16);
    bad(four_gib - 16, 32);
    bad(four_gib + layout.above_bytes, 16);
    bad(four_gib + layout.above_bytes - 16, 32);
    bad(0xFFFF'FFFF'FFFF'FFF0, 16);
    bad(0x7FFF'FFFF'FFFF'FFF0, 0xFFFF'FFF0);
    bad(tmr_at, 16);
    CHECK(machine.update_data(handle, layout.below_bytes - 16, 16) == Status::success);
    CHECK(machine.update_data(handle, four_gib + layout.above_bytes - 16, 16) == Status::success);
    for (const std::uint64_t at : {layout.below_bytes - 0x13, layout.below_bytes, four_gib - 4, four_gib + layout.above_bytes - 4, ~std::uint64_t{0}})
        CHECK(machine.command_at_address(0x31, at) == Status::invalid_address);
    // lengths
    for (const std::uint32_t length : {0U, 1U, 15U, 17U, 0xFFFF'FFFFU})
        CHECK(machine.update_data(handle, guest_at, length) == Status::invalid_length);
}

TEST_CASE("mailbox: RAM whose file was cut is gone, and the emulator lives on") {
    Served served;
    {
        Machine machine{served};
        const std::uint32_t handle = machine.launch(1);
        served.ram.resize(4096);
        CHECK(machine.command_at_address(0x31, 0) == Status::invalid_address);
        CHECK(machine.command_at_address(0x0A, 0) == Status::success); // DF_FLUSH needs no memory
        served.ram.resize(layout.below_bytes + layout.above_bytes);
        CHECK(machine.update_data(handle, guest_at, 16) == Status::success);
    }
}

TEST_CASE("mailbox: hello with a layout that is not the file's, or no machine's, is refused") {
    Served served;
    const auto refused = [&](std::uint64_t below, std::uint64_t start, std::uint64_t above) {
        CAPTURE(below);
        const Wire wire{served.socket};
        wire.send({.kind = Kind::hello, .values = {below, start, above}});
        CHECK(wire.receive() == MailboxFrame{.kind = Kind::refused, .number = MailboxFrame::memory});
        CHECK(!wire.receive());
    };
    refused(layout.below_bytes, four_gib, layout.above_bytes + 4096);
    refused(layout.below_bytes + layout.above_bytes + 4096, 0, 0);
    refused(0, four_gib, layout.below_bytes + layout.above_bytes);
    refused(layout.below_bytes, four_gib - 4096, layout.above_bytes);
    refused(layout.below_bytes - 1, four_gib, layout.above_bytes + 1);
    refused(layout.below_bytes, ~std::uint64_t{4095}, layout.above_bytes);
    refused(layout.below_bytes + mib, four_gib, ~std::uint64_t{0} - mib + 1);
    const Machine machine{served};
    CHECK(machine.sequence == 0);
}

TEST_CASE("mailbox: memory that is no file is refused") {
    TemporaryDirectory directory;
    CHECK_THROWS_WITH_AS(MailboxMemory("/dev/null", layout), doctest::Contains("no regular file"), Error);
    CHECK_THROWS_WITH_AS(MailboxMemory(directory / "absent", layout), doctest::Contains("No such file"), Error);
    CHECK_THROWS_WITH_AS(MailboxMemory(directory.path(), layout), doctest::Contains("Is a directory"), Error);
}

TEST_CASE("mailbox: a second machine is told so and turned away; the first goes on") {
    Served served;
    Machine machine{served};
    REQUIRE(machine.init() == Status::success);
    for (int i = 0; i < 3; ++i) {
        const Wire second{served.socket};
        CHECK(second.receive() == MailboxFrame{.kind = Kind::refused, .number = MailboxFrame::busy});
        CHECK(!second.receive());
    }
    CHECK(machine.platform_state() == 1);
}

TEST_CASE("mailbox: whoever breaks the protocol is cut off, and the next machine finds a PSP that is switched off") {
    Served served;
    const auto cut_off = [&](const char* what, auto&& misbehave) {
        CAPTURE(what);
        {
            Machine machine{served};
            REQUIRE(machine.init() == Status::success);
            misbehave(machine.wire);
            CHECK(!machine.wire.receive());
        }
        Machine next{served};
        CHECK(next.platform_state() == 0);
    };
    cut_off("hello again", [](const Wire& wire) { wire.send(hello); });
    cut_off("an emulator's frame", [](const Wire& wire) { wire.send({.kind = Kind::answer, .sequence = 1}); });
    cut_off("noise", [](const Wire& wire) { wire.send(filled<40>(0xFF)); });
    cut_off("half a frame, and silence", [](const Wire& wire) { wire.send(ByteView{hello.serialize()}.first(17)); });
    {
        const Wire wire{served.socket};
        wire.send({.kind = Kind::command, .sequence = 1, .number = 4, .values = {command_at}});
        CHECK(!wire.receive()); // no hello
    }
    {
        const Wire wire{served.socket};
        CHECK(!wire.receive()); // nothing at all
    }
}

TEST_CASE("mailbox: a machine that goes away in the middle of a frame or of a command leaves nothing behind") {
    Served served;
    {
        Machine machine{served};
        machine.launch(1);
        machine.wire.send(ByteView{hello.serialize()}.first(9));
    }
    {
        Machine machine{served};
        CHECK(machine.platform_state() == 0);
        const std::uint32_t handle = machine.launch(1);
        machine.put(command_at, Raw{0x14}.u32(0, handle).u64(8, guest_at).u32(0x10, static_cast<std::uint32_t>(2 * mib)).bytes);
        machine.wire.send({.kind = Kind::command, .sequence = 99, .number = 0x31, .values = {command_at}});
    }
    Machine machine{served};
    CHECK(machine.platform_state() == 0);
    CHECK(machine.init() == Status::success);
}

TEST_CASE("mailbox: a command that hangs is met by silence, as all that follow, until the machine is reset") {
    Served served;
    served.host.emulator->faults().add(psp::emulator::Fault::parse("DF_FLUSH=hang"));
    Machine machine{served};
    REQUIRE(machine.init() == Status::success);
    CHECK(machine.raw(0x0A, 0).kind == Kind::silence);
    CHECK(machine.raw(0x04, command_at).kind == Kind::silence);
    machine.wire.send({.kind = Kind::reset});
    CHECK(machine.platform_state() == 0);
    CHECK(machine.init() == Status::success);
    CHECK(machine.command(CommandId::df_flush) == Status::success);
    CHECK(served.transcript.at(1) == "DF_FLUSH (hangs)");
}

TEST_CASE("mailbox: a fault answers its status once; a reset is a power cycle that keeps the keys") {
    Served served;
    served.host.emulator->faults().add(psp::emulator::Fault::parse("PDH_CERT_EXPORT=HWERROR_UNSAFE"));
    Machine machine{served};
    REQUIRE(machine.init() == Status::success);
    const Raw export_command = Raw{0x1C}.u64(0, blob_at).u32(8, 0x824).u64(0x10, blob2_at).u32(0x18, 0x186C);
    CHECK(machine.command(CommandId::pdh_cert_export, export_command) == Status::hwerror_unsafe);
    REQUIRE(machine.command(CommandId::pdh_cert_export, export_command) == Status::success);
    const Bytes pdh = machine.get(blob_at, 0x824);
    machine.wire.send({.kind = Kind::reset});
    CHECK(machine.platform_state() == 0);
    REQUIRE(machine.init() == Status::success);
    REQUIRE(machine.command(CommandId::pdh_cert_export, export_command) == Status::success);
    CHECK(machine.get(blob_at, 0x824) == pdh);
}

TEST_CASE("mailbox: the transcript names commands, their fields and statuses") {
    Served served;
    Machine machine{served};
    const std::uint32_t handle = machine.launch(5);
    CHECK(machine.update_data(handle, guest_at, 0x40) == Status::success);
    CHECK(machine.command(CommandId::launch_measure, Raw{0x14}.u32(0, handle).u64(8, blob_at)) == Status::invalid_length);
    CHECK(machine.command_at_address(0x55, 0) == Status::invalid_command);
    CHECK(machine.command_at_address(0x23, ~std::uint64_t{0}) == Status::invalid_address);
    CHECK(served.transcript == std::vector<std::string>{
                                   "INIT flags=0x1 tmr_address=0x100000 tmr_length=1048576 SUCCESS",
                                   "DF_FLUSH SUCCESS",
                                   "LAUNCH_START handle=0->1 policy=0x5 godh_address=0x0 godh_length=0 session_address=0x0 session_length=0 SUCCESS",
                                   "ACTIVATE handle=1 asid=1 SUCCESS",
                                   "LAUNCH_UPDATE_DATA handle=1 address=0x200000 length=64 SUCCESS",
                                   "LAUNCH_MEASURE handle=1 address=0x2000 length=0->48 INVALID_LENGTH",
                                   "0x55 INVALID_COMMAND",
                                   "GUEST_STATUS INVALID_ADDRESS",
                               });
}

TEST_CASE("plain-after-finish: ciphertext up to LAUNCH_FINISH, plaintext after it; without the option it stays encrypted") {
    for (const bool plain : {false, true}) {
        CAPTURE(plain);
        Served served{{.plain_after_finish = plain}};
        Machine machine{served};
        REQUIRE(machine.init() == Status::success);
        REQUIRE(machine.command(CommandId::df_flush) == Status::success);
        REQUIRE(machine.command(CommandId::pdh_cert_export, Raw{0x1C}.u64(0, blob_at).u32(8, 0x824).u64(0x10, blob2_at).u32(0x18, 0x186C)) ==
                Status::success);
        const Owner owner = Owner::make(machine.get(blob_at, 0x824), 1);
        machine.put(blob_at, owner.godh);
        machine.put(blob2_at, owner.session);
        REQUIRE(machine.command(CommandId::launch_start, Raw{0x24}.u32(4, 1).u64(8, blob_at).u32(0x10, owner.godh.size()).u64(0x18, blob2_at)
                                                             .u32(0x20, owner.session.size())) == Status::success);
        const std::uint32_t handle = machine.reply[0];
        REQUIRE(machine.command(CommandId::activate, Raw{8}.u32(0, handle).u32(4, 9)) == Status::success);
        const Bytes data = pattern(0x3000, 1);
        machine.put(guest_at, data);
        for (const std::uint64_t offset : {0x0000U, 0x1000U, 0x1800U})
            REQUIRE(machine.update_data(handle, guest_at + offset, 0x800 + (offset == 0) * 0x800) == Status::success);
        const Bytes encrypted = machine.get(guest_at, 0x2000);
        REQUIRE(machine.measure(handle) == Status::success);
        const auto packet = owner.seal(pattern(0x100, 77), machine.get(blob_at, 32));
        machine.put(blob_at, packet.header);
        machine.put(blob2_at, packet.data);
        REQUIRE(machine.command(CommandId::launch_secret, Raw{0x34}.u32(0, handle).u64(8, blob_at).u32(0x10, 0x34).u64(0x18, guest_at + 0x800)
                                                              .u32(0x20, 0x100).u64(0x28, blob2_at).u32(0x30, 0x100)) == Status::success);
        CHECK(machine.get(guest_at + 0x800, 0x100) != pattern(0x100, 77)); // over what was loaded before
        CHECK(machine.get(guest_at, 0x800) == Bytes(encrypted.begin(), encrypted.begin() + 0x800));
        REQUIRE(machine.finish(handle) == Status::success);
        Bytes with_secret = data;
        std::ranges::copy(pattern(0x100, 77), with_secret.begin() + 0x800);
        const Bytes seen = machine.get(guest_at, 0x3000);
        CHECK((seen == with_secret) == plain);
        CHECK((Bytes(seen.begin(), seen.begin() + 0x800) == Bytes(encrypted.begin(), encrypted.begin() + 0x800)) == !plain);
        CHECK(Bytes(seen.begin() + 0x2000, seen.end()) == Bytes(data.begin() + 0x2000, data.end())); // never loaded
    }
}

TEST_CASE("plain-after-finish: memory that is not there any more fails LAUNCH_FINISH, and nothing has changed") {
    Host host{"epyc-3151", {.plain_after_finish = true}};
    host.start();
    const std::uint32_t handle = host.launch(1);
    REQUIRE(host.activate(handle, 9) == Status::success);
    REQUIRE(host.update_data(handle, guest_at, 0x1000) == Status::success);
    REQUIRE(host.update_data(handle, guest_at, 0x1000) == Status::success); // loaded twice: the guest sees the first time's ciphertext
    REQUIRE(host.measure(handle) == Status::success);
    const Bytes view = host.guest_view(handle, guest_at, 0x1000);
    struct Less final : psp::PhysicalMemory {
        explicit Less(Ram& all) : all_{all} {}
        std::span<std::uint8_t> at(SystemAddress at, std::uint64_t length_bytes) override {
            return psp::raw(at) >= guest_at ? std::span<std::uint8_t>{} : all_.at(at, length_bytes);
        }
        Ram& all_;
    } less{host.ram};
    host.put(command_at, Raw{4}.u32(0, handle).bytes);
    const Bytes before = host.snapshot(handle);
    CHECK(host.emulator->execute(0x35, SystemAddress{command_at}, less, std::chrono::seconds{1}) == Status::invalid_address);
    CHECK(host.snapshot(handle) == before);
    REQUIRE(host.on_guest(CommandId::launch_finish, handle) == Status::success);
    CHECK(host.get(guest_at, 0x1000) == view);
    CHECK(host.guest_view(handle, guest_at, 0x1000) == view);
}

TEST_CASE("loaded ranges: each byte once, whatever overlaps, against a map of single bytes") {
    std::uint32_t state = 1;
    const auto below = [&state](std::uint32_t limit) {
        state = state * 1664525 + 1013904223;
        return (state >> 16) % limit;
    };
    for (int round = 0; round < 200; ++round) {
        LoadedRanges ranges;
        std::array<bool, 256> wanted{}, found{};
        for (std::uint32_t i = 1 + below(20); i > 0; --i) {
            const std::uint32_t start = below(200), length = 1 + below(56);
            ranges.add(start, length);
            for (std::uint32_t at = start; at < start + length; ++at) wanted[at] = true;
        }
        std::uint64_t before = 0;
        for (const auto& [start, end] : ranges.pieces()) {
            REQUIRE(start < end);
            REQUIRE(start >= before);
            before = end;
            for (std::uint64_t at = start; at < end; ++at) found.at(at) = true;
        }
        REQUIRE(found == wanted);
    }
}
