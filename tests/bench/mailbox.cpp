// SPDX-License-Identifier: Apache-2.0
// A command through the mailbox of the virtual SEV machine, at its socket: from the frame that the device sends to the answer, with the program
// `sev-emulator serve` behind it, against a bare echo of as many bytes by another process. Both ends of either share one core for the ratio: waking
// another core costs several times the work itself, and whether it happens is the scheduler's choice of the moment. At most 3 times the echo, by
// medians of rounds taken in turns, and at most 200 us also when the two ends have a core each.
//
// usage: bench_mailbox SEV-EMULATOR
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "psp/command_id.hpp"
#include "psp/emulator/mailbox_wire.hpp"
#include "psp/status.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using psp::emulator::MailboxFrame;

constexpr double want_seconds = 200e-6, want_ratio = 3;
constexpr int rounds = 41, commands_a_round = 500;
constexpr std::uint64_t ram_bytes = 4 << 20, buffer_at = 0x1000;
using Frame = ByteArray<MailboxFrame::wire_size>;

[[noreturn]] void fail(const std::string& what) { throw Error{Fault::system, what + ": " + std::strerror(errno)}; }

/// A process of ours, ended with us.
class Child {
public:
    explicit Child(pid_t pid) : pid_{pid} {}
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
        ::kill(pid_, SIGTERM);
        ::waitpid(pid_, nullptr, 0);
    }

private:
    pid_t pid_;
};

pid_t spawn(std::vector<std::string> words) {
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t child = 0;
    const int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw Error{Fault::system, words[0] + ": cannot be started"};
    return child;
}

void send_and_receive(const Fd& socket, const Frame& out, Frame& in) {
    if (::send(socket.get(), out.data(), out.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out.size())) fail("send");
    if (::recv(socket.get(), in.data(), in.size(), MSG_WAITALL) != static_cast<ssize_t>(in.size())) fail("recv");
}

/// This thread, and what it starts, on one core of those it may use: `which` counts them round and round.
void stay_on(const cpu_set_t& allowed, int which) {
    which %= CPU_COUNT(&allowed);
    for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
        if (!CPU_ISSET(core, &allowed) || which-- > 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(core, &one);
        if (::sched_setaffinity(0, sizeof one, &one) != 0) fail("sched_setaffinity");
        return;
    }
}

/// The other end of a socket on which a process sends back what it gets.
Fd echo(pid_t& child) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) fail("socketpair");
    child = ::fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        ::close(ends[0]);
        Frame frame{};
        while (::recv(ends[1], frame.data(), frame.size(), MSG_WAITALL) == static_cast<ssize_t>(frame.size()))
            if (::send(ends[1], frame.data(), frame.size(), MSG_NOSIGNAL) < 0) break;
        ::_exit(0);
    }
    ::close(ends[1]);
    return Fd{ends[0]};
}

Fd connected(const Path& path) {
    Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    for (int tries = 0; ::connect(socket.get(), static_cast<const sockaddr*>(static_cast<const void*>(&address)), sizeof address) != 0; ++tries) {
        if (tries == 500) fail(path.string());
        std::this_thread::sleep_for(std::chrono::milliseconds{20});
    }
    return socket;
}

/// One PLATFORM_STATUS, which must succeed and write its buffer: a refusal is no measure.
class Mailbox {
public:
    Mailbox(const Path& path, std::span<std::uint8_t> ram) : socket_{connected(path)}, ram_{ram} {
        Frame in{};
        send_and_receive(socket_, MailboxFrame{.kind = MailboxFrame::Kind::hello, .values = {ram_bytes, std::uint64_t{1} << 32, 0}}.serialize(), in);
        if (MailboxFrame::parse(wire::view(in)).kind != MailboxFrame::Kind::welcome) throw Error{Fault::system, "the emulator did not welcome us"};
    }
    void command() {
        ram_[buffer_at] = 0xFF; // API_MAJOR, which is 0
        const MailboxFrame frame{.kind = MailboxFrame::Kind::command,
                                 .sequence = ++sequence_,
                                 .number = static_cast<std::uint32_t>(psp::CommandId::platform_status),
                                 .values = {buffer_at}};
        Frame in{};
        send_and_receive(socket_, frame.serialize(), in);
        const auto answer = MailboxFrame::parse(wire::view(in));
        if (answer != MailboxFrame{.kind = MailboxFrame::Kind::answer, .sequence = sequence_} || ram_[buffer_at] != 0)
            throw Error{Fault::system, fmt::format("PLATFORM_STATUS answered {}, number {}", static_cast<int>(answer.kind), answer.number)};
    }

private:
    Fd socket_;
    std::span<std::uint8_t> ram_;
    std::uint32_t sequence_ = 0;
};

} // namespace

int main(int argc, char** argv) try {
    if (argc != 2) throw Error{Fault::usage, "want the path of sev-emulator"};
    bench::print_machine();
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) fail("sched_getaffinity");
    stay_on(allowed, 0);
    pid_t echoing = 0;
    const Fd bare = echo(echoing);
    const Child echo_process{echoing};

    std::string folder = "/tmp/bench-mailbox-XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr) fail(folder);
    const Path directory{folder};
    const struct Removed {
        const Path& path;
        ~Removed() {
            std::error_code ignored;
            std::filesystem::remove_all(path, ignored);
        }
    } removed{directory};
    const Fd memory{::memfd_create("ram", MFD_CLOEXEC)};
    if (::ftruncate(memory.get(), ram_bytes) != 0) fail("memfd");
    void* const mapped = ::mmap(nullptr, ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
    if (mapped == MAP_FAILED) fail("mmap");

    const std::string state = directory / "psp";
    const pid_t creating = spawn({argv[1], "create", "--state", state});
    int status = 0;
    if (::waitpid(creating, &status, 0) != creating || status != 0) throw Error{Fault::system, "sev-emulator create failed"};
    const Child server{spawn({argv[1], "serve", "--state", state, "--mailbox", directory / "mailbox", "--memory",
                              fmt::format("/proc/{}/fd/{}", ::getpid(), memory.get())})};
    Mailbox mailbox{directory / "mailbox", {static_cast<std::uint8_t*>(mapped), ram_bytes}};

    const auto commands = [&] {
        for (int i = 0; i < commands_a_round; ++i) mailbox.command();
    };
    bench::Samples ours, theirs, apart;
    for (int round = 0; round < rounds; ++round) {
        theirs.time([&] {
            Frame in{};
            for (int i = 0; i < commands_a_round; ++i) send_and_receive(bare, Frame{}, in);
        });
        ours.time(commands);
    }
    stay_on(allowed, 1);
    for (int round = 0; round < rounds; ++round) apart.time(commands);

    const double command = ours.median_seconds() / commands_a_round, raw = theirs.median_seconds() / commands_a_round;
    const double woken = apart.median_seconds() / commands_a_round, ratio = 1 / ours.median_speedup_over(theirs);
    const bool good = command <= want_seconds && woken <= want_seconds && ratio <= want_ratio;
    fmt::print(
        "PLATFORM_STATUS through the mailbox's socket: {:.1f} us; bare echo of {} bytes: {:.1f} us; ratio {:.2f}; with {}: {:.1f} us (medians of {} "
        "rounds of {}){}\n",
        command * 1e6, MailboxFrame::wire_size, raw * 1e6, ratio, CPU_COUNT(&allowed) > 1 ? "a core for each end" : "one core for both", woken * 1e6,
        rounds, commands_a_round, good ? "" : fmt::format("  TOO SLOW: want {:.0f} us and a ratio of {:.0f}", want_seconds * 1e6, want_ratio));
    return good ? 0 : 1;
} catch (const std::exception& error) {
    fmt::print(stderr, "bench_mailbox: {}\n", error.what());
    return 2;
}
