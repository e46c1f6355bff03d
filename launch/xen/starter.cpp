// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/starter.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::launch::xen {
namespace {

constexpr std::size_t order_limit = 16 * 1024;

Error trouble(const Path& program, int error_number) {
    return Error{Fault::system, fmt::format("{}: {}", printable(program.filename().string()), std::strerror(error_number))};
}

struct Actions {
    posix_spawn_file_actions_t files{};
    posix_spawnattr_t attributes{};
    Actions() {
        ::posix_spawn_file_actions_init(&files);
        ::posix_spawnattr_init(&attributes);
    }
    Actions(const Actions&) = delete;
    Actions& operator=(const Actions&) = delete;
    ~Actions() {
        ::posix_spawn_file_actions_destroy(&files);
        ::posix_spawnattr_destroy(&attributes);
    }
};

/// 0 or an errno.
int spawn(const std::vector<std::string>& words, int socket, int errors, pid_t& pid) {
    Actions actions;
    ::posix_spawn_file_actions_adddup2(&actions.files, socket, 0);
    ::posix_spawn_file_actions_adddup2(&actions.files, socket, 1);
    ::posix_spawn_file_actions_adddup2(&actions.files, errors, 2);
    ::posix_spawn_file_actions_addclosefrom_np(&actions.files, 3);
    sigset_t none, standard;
    sigemptyset(&none);
    sigemptyset(&standard);
    for (const int signal : {SIGPIPE, SIGCHLD, SIGTERM, SIGHUP, SIGINT}) sigaddset(&standard, signal);
    ::posix_spawnattr_setsigmask(&actions.attributes, &none);
    ::posix_spawnattr_setsigdefault(&actions.attributes, &standard);
    ::posix_spawnattr_setflags(&actions.attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::vector<std::string> copies = words;
    std::vector<char*> pointers;
    for (std::string& word : copies) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", locale[] = "LC_ALL=C";
    char* const environment[]{path, locale, nullptr};
    return ::posix_spawn(&pid, pointers[0], &actions.files, &actions.attributes, pointers.data(), environment);
}

struct Ends {
    Started ours;
    Fd socket, errors; // the program's
};
Ends make_ends(const Path& program) {
    int sockets[2], pipe[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) throw trouble(program, errno);
    Ends out;
    out.ours.socket = Fd{sockets[0]};
    out.socket = Fd{sockets[1]};
    if (::pipe2(pipe, O_CLOEXEC) != 0) throw trouble(program, errno);
    out.ours.errors = Fd{pipe[0]};
    out.errors = Fd{pipe[1]};
    ::fcntl(sockets[0], F_SETFL, O_NONBLOCK);
    ::fcntl(pipe[0], F_SETFL, O_NONBLOCK);
    return out;
}

class DirectStarter final : public Starter {
public:
    Started start(const Path& program, const std::vector<std::string>& arguments) override {
        Ends ends = make_ends(program);
        std::vector<std::string> words{program.string()};
        words.insert(words.end(), arguments.begin(), arguments.end());
        pid_t pid = -1;
        if (const int failed = spawn(words, ends.socket.get(), ends.errors.get(), pid); failed != 0) throw trouble(program, failed);
        return std::move(ends.ours);
    }
};

/// An order is its words, each with a NUL; two descriptors come with it. The answer is an errno as 4 bytes.
bool send_order(int to, std::string_view words, const std::array<int, 2>& descriptors) {
    iovec part{.iov_base = const_cast<char*>(words.data()), .iov_len = words.size()}; // sendmsg only reads it
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof descriptors)> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptors);
    std::memcpy(CMSG_DATA(header), descriptors.data(), sizeof descriptors);
    return ::sendmsg(to, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(words.size());
}

/// False when the daemon is gone.
bool receive_order(int from, std::vector<std::string>& words, std::array<Fd, 2>& descriptors) {
    std::array<char, order_limit> text{};
    iovec part{.iov_base = text.data(), .iov_len = text.size()};
    std::array<int, 2> received{-1, -1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof received)> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = -1;
    while ((got = ::recvmsg(from, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {}
    if (got <= 0) return false;
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof received))
        std::memcpy(received.data(), CMSG_DATA(header), sizeof received);
    for (std::size_t i = 0; i < received.size(); ++i) descriptors[i] = Fd{received[i]};
    words.clear();
    const std::string_view all{text.data(), static_cast<std::size_t>(got)};
    for (std::size_t at = 0, end = 0; at < all.size() && (end = all.find('\0', at)) != std::string_view::npos; at = end + 1)
        words.emplace_back(all.substr(at, end - at));
    return true;
}

/// Everything that this process has open but the standard streams and `kept`.
void close_others(int kept) {
    if (kept > 3) ::close_range(3, static_cast<unsigned>(kept) - 1, 0);
    ::close_range(static_cast<unsigned>(kept) + 1, ~0U, 0);
}

[[noreturn]] void attend(int socket, const std::vector<Path>& allowed) {
    close_others(socket); // above all locks, which would outlive a daemon that is killed, and keep its successor out
    ::prctl(PR_SET_NAME, "sevd-starter");
    ::signal(SIGCHLD, SIG_IGN); // the kernel reaps
    for (const int ignored : {SIGHUP, SIGINT, SIGPIPE}) ::signal(ignored, SIG_IGN); // meant for the daemon
    std::vector<std::string> words;
    std::array<Fd, 2> descriptors;
    while (receive_order(socket, words, descriptors)) {
        std::int32_t failed = EPERM;
        pid_t pid = -1;
        const bool known = !words.empty() && std::ranges::find(allowed, Path{words[0]}) != allowed.end();
        if (known && descriptors[0] && descriptors[1]) failed = spawn(words, descriptors[0].get(), descriptors[1].get(), pid);
        for (Fd& one : descriptors) one = Fd{};
        if (::send(socket, &failed, sizeof failed, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof failed)) break;
    }
    ::_exit(0);
}

class ForkedStarter final : public Starter {
public:
    explicit ForkedStarter(const std::vector<Path>& allowed) {
        int sockets[2];
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
            throw Error{Fault::system, fmt::format("starter: {}", std::strerror(errno))};
        socket_ = Fd{sockets[0]};
        const Fd theirs{sockets[1]};
        process_ = ::fork();
        if (process_ < 0) throw Error{Fault::system, fmt::format("starter: fork: {}", std::strerror(errno))};
        if (process_ == 0) {
            socket_ = Fd{};
            attend(theirs.get(), allowed);
        }
    }
    ForkedStarter(const ForkedStarter&) = delete;
    ForkedStarter& operator=(const ForkedStarter&) = delete;
    ~ForkedStarter() override {
        socket_ = Fd{};
        ::waitpid(process_, nullptr, 0);
    }
    Started start(const Path& program, const std::vector<std::string>& arguments) override {
        Ends ends = make_ends(program);
        std::string words = program.string() + '\0';
        for (const std::string& argument : arguments) words += argument + '\0';
        if (words.size() > order_limit)
            throw Error{Fault::usage,
                        fmt::format("{}: {} bytes of arguments, want at most {}", printable(program.filename().string()), words.size(), order_limit)};
        const std::scoped_lock lock{mutex_};
        std::int32_t failed = EPIPE;
        if (!send_order(socket_.get(), words, {ends.socket.get(), ends.errors.get()}) ||
            ::recv(socket_.get(), &failed, sizeof failed, 0) != static_cast<ssize_t>(sizeof failed))
            throw Error{Fault::system, "the process that starts others is gone", "restart sevd"};
        if (failed != 0) throw trouble(program, failed);
        return std::move(ends.ours);
    }

private:
    std::mutex mutex_;
    Fd socket_;
    pid_t process_ = -1;
};

} // namespace

std::unique_ptr<Starter> direct_starter() { return std::make_unique<DirectStarter>(); }
std::unique_ptr<Starter> forked_starter(std::vector<Path> allowed) { return std::make_unique<ForkedStarter>(allowed); }

} // namespace sev::launch::xen
