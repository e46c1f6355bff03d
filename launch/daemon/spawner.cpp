// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/spawner.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.hpp"
#include "launch/daemon/configuration.hpp"

namespace sev::daemon {
namespace {

constexpr std::size_t name_limit_bytes = 64, descriptor_count = 3; // stdin, stdout, control
constexpr std::uint8_t could_not_start = 255;

/// Sends a name with three descriptors.
bool send_order(int socket, std::string_view owner, const std::array<int, descriptor_count>& descriptors) {
    struct iovec part {.iov_base = const_cast<char*>(owner.data()), .iov_len = owner.size()}; // sendmsg only reads it
    alignas(struct cmsghdr) std::array<char, CMSG_SPACE(sizeof descriptors)> control{};
    struct msghdr message {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    struct cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptors);
    std::memcpy(CMSG_DATA(header), descriptors.data(), sizeof descriptors);
    return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(owner.size());
}

struct Order {
    std::string owner;
    std::array<Fd, descriptor_count> descriptors;
};

/// False when the daemon is gone.
bool receive_order(int socket, Order& out) {
    std::array<char, name_limit_bytes + 1> name{};
    struct iovec part {.iov_base = name.data(), .iov_len = name.size()};
    std::array<int, descriptor_count> descriptors{-1, -1, -1};
    alignas(struct cmsghdr) std::array<char, CMSG_SPACE(sizeof descriptors)> control{};
    struct msghdr message {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = -1;
    while ((got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {}
    if (got <= 0) return false;
    out.owner.assign(name.data(), static_cast<std::size_t>(got));
    const struct cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof descriptors))
        std::memcpy(descriptors.data(), CMSG_DATA(header), sizeof descriptors);
    for (std::size_t i = 0; i < descriptor_count; ++i) out.descriptors[i] = Fd{descriptors[i]};
    return true;
}

[[noreturn]] void become(const std::vector<std::string>& argv, const Order& order) {
    ::setpgid(0, 0);
    ::dup2(order.descriptors[0].get(), STDIN_FILENO);
    ::dup2(order.descriptors[1].get(), STDOUT_FILENO);
    ::close_range(3, ~0U, 0);
    std::vector<char*> words;
    for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str())); // execv does not write
    words.push_back(nullptr);
    ::execv(words[0], words.data());
    ::_exit(could_not_start);
}

/// One exchange's keeper: starts the command, and ends its whole group when it is over, or when the daemon lets go of the control socket.
[[noreturn]] void keep(Order order, const Path& configuration) {
    std::vector<std::string> argv;
    try {
        const auto loaded = Configuration::load(configuration);
        const auto owner = loaded.owners.find(order.owner);
        const auto* const command = owner == loaded.owners.end() ? nullptr : std::get_if<Owner::CommandChannel>(&owner->second.channel);
        if (command) argv = command->argv;
    } catch (const std::exception&) {
        // said by the daemon, which reads the same file
    }
    std::uint8_t status = could_not_start;
    if (!argv.empty()) {
        const pid_t child = ::fork();
        if (child == 0) become(argv, order);
        order.descriptors[0] = Fd{};
        order.descriptors[1] = Fd{};
        const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, child, 0))};
        std::array<struct pollfd, 2> entries{
            {{.fd = process.get(), .events = POLLIN, .revents = 0}, {.fd = order.descriptors[2].get(), .events = POLLIN, .revents = 0}}};
        while (::poll(entries.data(), entries.size(), -1) < 0 && errno == EINTR) {}
        ::kill(-child, SIGKILL);
        ::kill(child, SIGKILL); // it may not have its group yet
        int result = 0;
        ::waitpid(child, &result, 0);
        if (WIFEXITED(result)) status = static_cast<std::uint8_t>(WEXITSTATUS(result));
    }
    [[maybe_unused]] const ssize_t sent = ::send(order.descriptors[2].get(), &status, 1, MSG_NOSIGNAL);
    ::_exit(0);
}

[[noreturn]] void attend(int socket, const Path& configuration) {
    ::prctl(PR_SET_NAME, "sevd-spawner");
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::signal(SIGCHLD, SIG_IGN); // keepers are reaped by the kernel
    for (const int ignored : {SIGHUP, SIGINT}) ::signal(ignored, SIG_IGN); // meant for the daemon
    ::signal(SIGTERM, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    Order order;
    while (receive_order(socket, order)) {
        if (::fork() == 0) {
            ::signal(SIGCHLD, SIG_DFL);
            ::close(socket);
            keep(std::move(order), configuration);
        }
        order = {};
    }
    ::_exit(0);
}

} // namespace

Spawner::Spawner(Path configuration) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        throw Error{Fault::system, fmt::format("socketpair: {}", std::strerror(errno))};
    socket_ = Fd{ends[0]};
    const Fd theirs{ends[1]};
    process_ = ::fork();
    if (process_ < 0) throw Error{Fault::system, fmt::format("fork: {}", std::strerror(errno))};
    if (process_ == 0) {
        socket_ = Fd{};
        attend(theirs.get(), configuration);
    }
}

Spawner::~Spawner() {
    socket_ = Fd{};
    if (process_ > 0) ::waitpid(process_, nullptr, 0);
}

std::string Spawner::exchange(const std::string& owner, std::string_view text, const TransferLimits& limits, const Cancel& cancel) const {
    std::array<int, 2> in{-1, -1}, out{-1, -1}, control{-1, -1};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0 ||
        ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control.data()) != 0)
        throw Error{Fault::system, fmt::format("pipes to a channel command: {}", std::strerror(errno))};
    Fd their_in{in[0]}, our_in{in[1]}, our_out{out[0]}, their_out{out[1]}, our_control{control[0]}, their_control{control[1]};
    if (!send_order(socket_.get(), owner, {their_in.get(), their_out.get(), their_control.get()}))
        throw Error{Fault::system, "the process that starts channel commands is gone", "restart sevd"};
    their_in = Fd{};
    their_out = Fd{};
    their_control = Fd{};
    std::string answer = transfer(std::move(our_in), std::move(our_out), text, limits, cancel);
    const std::string status = transfer(std::move(our_control), "", {.answer_bytes = 1, .until = limits.until}, cancel);
    const int code = status.empty() ? could_not_start : static_cast<std::uint8_t>(status.front());
    if (code != 0)
        throw Error{Fault::network, code == could_not_start ? "the channel command could not be started"
                                                            : fmt::format("the channel command ended with status {}", code)};
    return answer;
}

} // namespace sev::daemon
