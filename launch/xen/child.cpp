// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/child.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::launch::xen {
namespace {

constexpr std::size_t complaint_limit = 4096;

Error trouble(const Path& program, int error_number) { return Error{Fault::system, fmt::format("{}: {}", printable(program.filename().string()), std::strerror(error_number))}; }

int left_ms(Deadline deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
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

} // namespace

Child::Child(const Path& program, const std::vector<std::string>& arguments) : program_{program} {
    int sockets[2], pipe[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) throw trouble(program, errno);
    socket_ = Fd{sockets[0]};
    const Fd theirs{sockets[1]};
    if (::pipe2(pipe, O_CLOEXEC | O_NONBLOCK) != 0) throw trouble(program, errno);
    error_pipe_ = Fd{pipe[0]};
    const Fd their_errors{pipe[1]};
    ::fcntl(socket_.get(), F_SETFL, O_NONBLOCK);

    Actions actions;
    ::posix_spawn_file_actions_adddup2(&actions.files, theirs.get(), 0);
    ::posix_spawn_file_actions_adddup2(&actions.files, theirs.get(), 1);
    ::posix_spawn_file_actions_adddup2(&actions.files, their_errors.get(), 2);
    ::posix_spawn_file_actions_addclosefrom_np(&actions.files, 3);
    sigset_t none, standard;
    sigemptyset(&none);
    sigemptyset(&standard);
    for (const int signal : {SIGPIPE, SIGCHLD, SIGTERM, SIGHUP, SIGINT}) sigaddset(&standard, signal);
    ::posix_spawnattr_setsigmask(&actions.attributes, &none);
    ::posix_spawnattr_setsigdefault(&actions.attributes, &standard);
    ::posix_spawnattr_setflags(&actions.attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::vector<std::string> words{program.string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", locale[] = "LC_ALL=C";
    char* const environment[]{path, locale, nullptr}; // nothing of ours
    pid_t pid = -1;
    if (const int failed = ::posix_spawn(&pid, program.c_str(), &actions.files, &actions.attributes, pointers.data(), environment); failed != 0) throw trouble(program, failed);
    pid_ = pid;
}

Child::~Child() {
    socket_ = Fd{};
    if (pid_ < 0) return;
    for (int i = 0; i < 20; ++i) {
        if (::waitpid(pid_, nullptr, WNOHANG) != 0) return;
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
}

void Child::write(std::string_view text, Deadline deadline) {
    while (!text.empty()) {
        const ssize_t sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
        if (sent > 0) {
            text.remove_prefix(static_cast<std::size_t>(sent));
            continue;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN) ended();
        pollfd one{.fd = socket_.get(), .events = POLLOUT, .revents = 0};
        if (::poll(&one, 1, left_ms(deadline)) == 0) throw Error{Fault::system, fmt::format("{}: does not take its input in time", printable(program_.filename().string()))};
    }
}

bool Child::fill(Deadline deadline, std::size_t limit_bytes) {
    for (;;) {
        char buffer[16 * 1024];
        const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
        if (got > 0) {
            if (pending_.size() + static_cast<std::size_t>(got) > limit_bytes)
                throw Error{Fault::system, fmt::format("{}: says more than {} bytes", printable(program_.filename().string()), limit_bytes)};
            pending_.append(buffer, static_cast<std::size_t>(got));
            return true;
        }
        if (got == 0) return false;
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return false;
        pollfd one{.fd = socket_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&one, 1, left_ms(deadline)) == 0) throw Error{Fault::system, fmt::format("{}: no answer in time", printable(program_.filename().string()))};
    }
}

void Child::ended() {
    const std::string said = complaint();
    throw Error{Fault::system, fmt::format("{}: has ended{}{}", printable(program_.filename().string()), said.empty() ? "" : ": ", said)};
}

std::string Child::line(std::size_t limit_bytes, Deadline deadline) {
    std::size_t end = 0;
    while ((end = pending_.find('\n')) == std::string::npos)
        if (!fill(deadline, limit_bytes)) ended();
    std::string out = pending_.substr(0, end);
    pending_.erase(0, end + 1);
    return out;
}

std::string Child::all(std::size_t limit_bytes, Deadline deadline) {
    while (fill(deadline, limit_bytes)) {}
    return std::exchange(pending_, {});
}

void Child::close_input() { ::shutdown(socket_.get(), SHUT_WR); }

std::string Child::complaint() {
    std::string said;
    char buffer[1024];
    // what a dying program has written is there, or comes at once
    pollfd one{.fd = error_pipe_.get(), .events = POLLIN, .revents = 0};
    while (::poll(&one, 1, 50) > 0) {
        const ssize_t got = ::read(error_pipe_.get(), buffer, sizeof buffer);
        if (got <= 0) break;
        said.append(buffer, static_cast<std::size_t>(got));
        if (said.size() > complaint_limit) said.erase(0, said.size() - complaint_limit);
    }
    while (!said.empty() && said.back() == '\n') said.pop_back();
    std::ranges::replace(said, '\n', ' ');
    return printable(said, 512);
}

int Child::wait(Deadline deadline) {
    for (;;) {
        int status = 0;
        const pid_t done = ::waitpid(pid_, &status, WNOHANG);
        if (done == pid_) {
            pid_ = -1;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        if (done < 0 && errno != EINTR) throw trouble(program_, errno);
        if (std::chrono::steady_clock::now() >= deadline) throw Error{Fault::system, fmt::format("{}: has not ended in time", printable(program_.filename().string()))};
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
}

} // namespace sev::launch::xen
