// SPDX-License-Identifier: Apache-2.0
// The server against programs that send nonsense, stall and die. Well-behaved ones are tested with the preloaded library (tests/cli/device_test.py).
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "psp/emulator/device_server.hpp"
#include "psp/emulator/packet_socket.hpp"
#include "psp/emulator/remote_memory.hpp"
#include "tests/emulator/host.hpp"
#include "tests/emulator/user_program.hpp"

using namespace sev;
using namespace sev::test;
using namespace sev::psp::emulator;
namespace dw = sev::psp::emulator::device_wire;

namespace {

constexpr std::chrono::milliseconds patience{5000};

struct Served {
    explicit Served(DeviceServerOptions options = {}) {
        options.socket = host.directory / "socket";
        options.message_deadline = std::chrono::milliseconds{200};
        options.on_drain = [this] { host.emulator->faults().release(); };
        server.emplace(device, std::move(options));
        thread = std::thread{[this] { server->serve(stop.get()); }};
    }
    ~Served() { end(); }
    void end() {
        if (!thread.joinable()) return;
        const std::uint64_t one = 1;
        CHECK(::write(stop.get(), &one, sizeof one) == sizeof one);
        thread.join();
        server.reset();
    }
    Fd connect() const {
        Fd out{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, (host.directory / "socket").c_str(), sizeof address.sun_path - 1);
        REQUIRE(::connect(out.get(), static_cast<const sockaddr*>(static_cast<const void*>(&address)), sizeof address) == 0);
        return out;
    }
    /// A handle, or the errno of its refusal.
    std::pair<Fd, int> open(bool writable = true) const {
        Fd out = connect();
        REQUIRE(send_packet(out, device_message({.kind = dw::Kind::open, .number = writable ? 1U : 0U}), patience));
        Packet packet;
        REQUIRE(receive_packet(out, dw::message_limit_bytes, patience, packet) == Received::packet);
        dw::Header header;
        REQUIRE(dw::parse(packet.bytes.data(), packet.bytes.size(), header));
        REQUIRE(header.kind == dw::Kind::opened);
        return {std::move(out), static_cast<int>(header.number)};
    }

    Host host;
    LinuxDevice device{*host.emulator};
    Fd stop{::eventfd(0, EFD_CLOEXEC)};
    std::optional<DeviceServer> server;
    std::thread thread;
};

/// Begins an ioctl; returns our end of its conversation.
Fd begin_ioctl(const Fd& handle, std::uint64_t argument = 0x1000) {
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    Fd ours{pair[0]};
    const Fd theirs{pair[1]};
    Bytes message = device_message({.kind = dw::Kind::ioctl, .number = dev_sev::issue_command, .address = argument});
    iovec part{.iov_base = message.data(), .iov_len = message.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const entry = CMSG_FIRSTHDR(&header);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SCM_RIGHTS;
    entry->cmsg_len = CMSG_LEN(sizeof(int));
    const int descriptor = theirs.get();
    std::memcpy(CMSG_DATA(entry), &descriptor, sizeof descriptor);
    REQUIRE(::sendmsg(handle.get(), &header, MSG_NOSIGNAL) == static_cast<ssize_t>(message.size()));
    return ours;
}

std::optional<dw::Header> next_header(const Fd& socket) {
    Packet packet;
    dw::Header header;
    if (receive_packet(socket, dw::message_limit_bytes, patience, packet) != Received::packet) return std::nullopt;
    REQUIRE(dw::parse(packet.bytes.data(), packet.bytes.size(), header));
    return header;
}

/// A whole, well-behaved PLATFORM_STATUS: the other programs' proof that the server lives. Returns the errno.
int status_ioctl(const Fd& handle) {
    const Fd conversation = begin_ioctl(handle);
    for (;;) {
        const auto header = next_header(conversation);
        REQUIRE(header);
        if (header->kind == dw::Kind::done) return static_cast<int>(header->number);
        if (header->kind == dw::Kind::read) {
            const auto issue = dev_sev::IssueCommand{.command = dev_sev::Command::platform_status, .data = 0x2000}.serialize();
            REQUIRE(header->length_bytes == issue.size());
            REQUIRE(send_packet(conversation, device_message({.kind = dw::Kind::data, .length_bytes = 16}, issue), patience));
        } else {
            REQUIRE(header->kind == dw::Kind::write);
            REQUIRE(send_packet(conversation, device_message({.kind = dw::Kind::written}), patience));
        }
    }
}

} // namespace

TEST_CASE("device server: the socket is this user's alone; it goes with the server, and a stale one is replaced") {
    Path path;
    {
        Served served;
        path = served.host.directory / "socket";
        struct stat status {};
        REQUIRE(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 07777) == 0600);
        CHECK(status_ioctl(served.open().first) == 0);
        CHECK_THROWS_WITH_AS(static_cast<void>(listen_on(path)), doctest::Contains("is served already"), Error);
        served.end();
        CHECK_FALSE(std::filesystem::exists(path));
        { const Fd left_behind = listen_on(path); } // its owner died without removing it
        CHECK(std::filesystem::is_socket(path));
        CHECK(listen_on(path));
    }
    TemporaryDirectory directory;
    write_file(directory / "file", as_bytes("x"), Visibility::readable, Existing::refuse);
    CHECK_THROWS_WITH_AS(static_cast<void>(listen_on(directory / "file")), doctest::Contains("is no socket"), Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(listen_on(directory / std::string(120, 'x'))), doctest::Contains("want a socket path of 1 to 107"), Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(listen_on(directory / "none" / "socket")), doctest::Contains("bind"), Error);
}

TEST_CASE("device server: who may open") {
    for (const auto& [permit, reader, writer] :
         {std::tuple{Permit::read_write, 0, 0}, std::tuple{Permit::read_only, 0, EACCES}, std::tuple{Permit::nobody, EACCES, EACCES}}) {
        DeviceServerOptions options;
        options.permit = permit;
        const Served served{std::move(options)};
        CHECK(served.open(false).second == reader);
        CHECK(served.open(true).second == writer);
    }
}

TEST_CASE("device server: nonsense, stalling and dying hurt only who does it") {
    Served served;
    const Fd good = served.open().first;
    const Fd silent = served.connect(); // never says how it opens
    {
        const Fd rude = served.connect();
        REQUIRE(send_packet(rude, as_bytes("GET / HTTP/1.1\r\n\r\n"), patience));
        CHECK_FALSE(next_header(rude));
    }
    {
        const Fd oversized = served.connect();
        static_cast<void>(send_packet(oversized, Bytes(60'000), patience));
        CHECK_FALSE(next_header(oversized));
    }
    // an ioctl without a descriptor, and write()s to the device
    const Fd writer = served.open().first;
    REQUIRE(send_packet(writer, device_message({.kind = dw::Kind::ioctl, .number = dev_sev::issue_command}), patience));
    REQUIRE(send_packet(writer, as_bytes("hello"), patience));
    CHECK(status_ioctl(writer) == 0);
    char byte = 0;
    CHECK(::recv(writer.get(), &byte, 1, 0) == 0); // reading from the device: end of file
    // stalls in the middle of an ioctl: others go on meanwhile
    const Fd stalling = served.open().first;
    const Fd stalled = begin_ioctl(stalling);
    CHECK(next_header(stalled)->kind == dw::Kind::read);
    CHECK(status_ioctl(good) == 0);
    CHECK_FALSE(next_header(stalled)); // given up after the deadline
    CHECK(status_ioctl(stalling) == 0); // and may do better
    // dies in the middle of an ioctl
    { const Fd gone = begin_ioctl(stalling); }
    // answers with nonsense
    const Fd wrong = begin_ioctl(stalling);
    CHECK(next_header(wrong)->kind == dw::Kind::read);
    REQUIRE(send_packet(wrong, as_bytes("?"), patience));
    CHECK_FALSE(next_header(wrong));
    // memory that is not there is the program's own affair
    const Fd bad = begin_ioctl(stalling, 0);
    CHECK(next_header(bad)->kind == dw::Kind::read);
    REQUIRE(send_packet(bad, device_message({.kind = dw::Kind::fault}), patience));
    const auto answer = next_header(bad);
    CHECK(answer->kind == dw::Kind::done);
    CHECK(answer->number == EFAULT);
    CHECK(status_ioctl(good) == 0);
    // and who writes on and on is cut off
    for (int i = 0; i < 100 && send_packet(writer, as_bytes("hello"), patience); ++i) {}
    CHECK(status_ioctl(good) == 0);
}

TEST_CASE("device server: more open files than the limit are refused, not waited for") {
    DeviceServerOptions options;
    options.handle_limit = 3;
    Served served{std::move(options)};
    std::vector<Fd> held;
    for (int i = 0; i < 3; ++i) {
        auto [handle, error_number] = served.open();
        CHECK(error_number == 0);
        held.push_back(std::move(handle));
    }
    CHECK(served.open().second == ENFILE);
    held.pop_back();
    int error_number = ENFILE;
    for (int i = 0; i < 100 && error_number == ENFILE; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
        error_number = served.open().second;
    }
    CHECK(error_number == 0);
}

TEST_CASE("device server: stopping lets a running command finish, and takes nobody new") {
    Served served;
    const Fd handle = served.open().first, idle = served.open().first;
    served.host.emulator->faults().add(psp::emulator::Fault::parse("PLATFORM_STATUS=hang"));
    int result = -1;
    std::thread program{[&] { result = status_ioctl(handle); }};
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
    served.end();
    program.join();
    CHECK(result == 0); // the injected hang was released
    CHECK_FALSE(send_packet(idle, device_message({.kind = dw::Kind::ioctl, .number = dev_sev::issue_command}), patience));
}

TEST_CASE("device server: many programs at once") {
    Served served;
    std::vector<std::thread> programs;
    std::atomic<int> good = 0;
    for (int i = 0; i < 8; ++i)
        programs.emplace_back([&] {
            const Fd handle = served.open().first;
            for (int n = 0; n < 50; ++n) good += status_ioctl(handle) == 0;
        });
    for (std::thread& program : programs) program.join();
    CHECK(good == 400);
}
