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

#include "base/crypto.hpp"
#include "base/error.hpp"

namespace sev::daemon {
namespace {

constexpr std::size_t text_limit_bytes = 64, descriptor_count = 3; // stdin, stdout, control
constexpr std::size_t reason_limit_bytes = 2048;
constexpr std::uint8_t could_not_start = 255;
constexpr std::chrono::seconds reload_patience{10};
constexpr std::string_view taken = "taken", gone = "the process that starts channel commands is gone";
constexpr char run_command = 'x', reload_commands = 'r'; // an order's first byte; an owner's name, or the commands' digest, follows

using Commands = std::map<std::string, std::vector<std::string>>; // by owner

Commands commands_of(const Configuration& configuration) {
    Commands out;
    for (const auto& [name, owner] : configuration.owners)
        if (const auto* command = std::get_if<Owner::CommandChannel>(&owner.channel)) out.emplace(name, command->argv);
    return out;
}

std::string digest(const Commands& commands) { return hex(sha256(as_bytes(json::Value(commands).dump()))); }

/// Sends an order with three descriptors.
bool send_order(int socket, char kind, std::string_view about, const std::array<int, descriptor_count>& descriptors) {
    std::string text = kind + std::string{about};
    struct iovec part {.iov_base = text.data(), .iov_len = text.size()};
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
    return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

struct Order {
    char kind = 0;
    std::string about;
    std::array<Fd, descriptor_count> descriptors;
};

/// False when the daemon is gone.
bool receive_order(int socket, Order& out) {
    std::array<char, 1 + text_limit_bytes + 1> text{};
    struct iovec part {.iov_base = text.data(), .iov_len = text.size()};
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
    out.kind = text[0];
    out.about.assign(text.data() + 1, static_cast<std::size_t>(got) - 1);
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
[[noreturn]] void keep(Order order, const Commands& commands) {
    const auto command = commands.find(order.about);
    std::uint8_t status = could_not_start;
    if (command != commands.end()) {
        const pid_t child = ::fork();
        if (child == 0) become(command->second, order);
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

/// Takes the file's commands, if they are those that the daemon speaks of, and says why not.
void take(Commands& commands, const Path& file, const Order& order) {
    std::string trouble;
    try {
        Commands fresh = commands_of(Configuration::load(file));
        if (digest(fresh) == order.about)
            commands = std::move(fresh);
        else
            trouble = fmt::format("{}: was changed while it was read", printable(file.string(), 1024));
    } catch (const std::exception& error) {
        trouble = printable(error.what(), reason_limit_bytes);
    }
    const std::string_view said = trouble.empty() ? taken : trouble;
    [[maybe_unused]] const ssize_t sent = ::send(order.descriptors[2].get(), said.data(), said.size(), MSG_NOSIGNAL);
}

[[noreturn]] void attend(int socket, const Path& file, Commands commands) {
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
        if (order.kind == reload_commands) {
            take(commands, file, order);
        } else if (::fork() == 0) {
            ::signal(SIGCHLD, SIG_DFL);
            ::close(socket);
            keep(std::move(order), commands);
        }
        order = {};
    }
    ::_exit(0);
}

} // namespace

Spawner::Spawner(Path file, const Configuration& loaded) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        throw Error{Fault::system, fmt::format("socketpair: {}", std::strerror(errno))};
    socket_ = Fd{ends[0]};
    const Fd theirs{ends[1]};
    process_ = ::fork();
    if (process_ < 0) throw Error{Fault::system, fmt::format("fork: {}", std::strerror(errno))};
    if (process_ == 0) {
        socket_ = Fd{};
        attend(theirs.get(), file, commands_of(loaded));
    }
}

Spawner::~Spawner() {
    socket_ = Fd{};
    if (process_ > 0) ::waitpid(process_, nullptr, 0);
}

void Spawner::reload(const Configuration& loaded) const {
    std::array<int, 2> control{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control.data()) != 0)
        throw Error{Fault::system, fmt::format("socketpair: {}", std::strerror(errno))};
    Fd ours{control[0]}, theirs{control[1]};
    if (!send_order(socket_.get(), reload_commands, digest(commands_of(loaded)), {theirs.get(), theirs.get(), theirs.get()}))
        throw Error{Fault::system, std::string{gone}, "restart sevd"};
    theirs = Fd{};
    const TransferLimits limits{.answer_bytes = reason_limit_bytes + 1024, .until = std::chrono::steady_clock::now() + reload_patience};
    const std::string said = transfer(std::move(ours), "", limits, Cancel{});
    if (said != taken) throw Error{Fault::system, fmt::format("the process that starts channel commands: {}", said.empty() ? "is gone" : said)};
}

std::string Spawner::exchange(const std::string& owner, std::string_view text, const TransferLimits& limits, const Cancel& cancel) const {
    std::array<int, 2> in{-1, -1}, out{-1, -1}, control{-1, -1};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0 ||
        ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control.data()) != 0)
        throw Error{Fault::system, fmt::format("pipes to a channel command: {}", std::strerror(errno))};
    Fd their_in{in[0]}, our_in{in[1]}, our_out{out[0]}, their_out{out[1]}, our_control{control[0]}, their_control{control[1]};
    if (!send_order(socket_.get(), run_command, owner, {their_in.get(), their_out.get(), their_control.get()}))
        throw Error{Fault::system, std::string{gone}, "restart sevd"};
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
