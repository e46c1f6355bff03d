// SPDX-License-Identifier: Apache-2.0
#include "launch/daemon/transfer.hpp"

#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.hpp"

namespace sev::daemon {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void failed(std::string_view problem) { throw Error{Fault::network, std::string{problem}}; }

/// Writes what goes; false when the other end does not read any more.
bool write_some(int fd, bool is_socket, std::string_view& text) {
    const ssize_t written = is_socket ? ::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) : ::write(fd, text.data(), text.size());
    if (written >= 0) {
        text.remove_prefix(static_cast<std::size_t>(written));
        return true;
    }
    return errno == EAGAIN || errno == EINTR;
}

std::string carry(int to, int from, bool is_socket, Fd* closed_after, std::string_view text, const TransferLimits& limits, const Cancel& cancel) {
    std::string answer;
    bool writing = !text.empty();
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(limits.until - Clock::now());
        if (left.count() <= 0) failed("no whole answer before the deadline");
        std::array<struct pollfd, 3> entries{{{.fd = from, .events = POLLIN, .revents = 0},
                                              {.fd = cancel.fd(), .events = POLLIN, .revents = 0},
                                              {.fd = writing ? to : -1, .events = POLLOUT, .revents = 0}}};
        if (::poll(entries.data(), entries.size(), static_cast<int>(std::min<std::int64_t>(left.count(), 3'600'000))) < 0 && errno != EINTR)
            failed(std::strerror(errno));
        if (entries[1].revents != 0) failed("called off");
        if (writing && entries[2].revents != 0) {
            // One that does not read to the end may have answered already.
            writing = write_some(to, is_socket, text) && !text.empty();
            if (!writing && closed_after) *closed_after = Fd{};
        }
        if (entries[0].revents == 0) continue;
        std::array<char, 16384> piece{};
        const ssize_t got = ::read(from, piece.data(), piece.size());
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got < 0) failed(std::strerror(errno));
        if (got == 0) return answer;
        if (static_cast<std::size_t>(got) > limits.answer_bytes - answer.size())
            failed(fmt::format("answer of more than {} bytes", limits.answer_bytes));
        answer.append(piece.data(), static_cast<std::size_t>(got));
    }
}

void make_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

} // namespace

Cancel::Cancel() : event_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
    if (!event_) throw Error{Fault::system, fmt::format("eventfd: {}", std::strerror(errno))};
}

void Cancel::now() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);
}

bool Cancel::called() const noexcept {
    struct pollfd entry {.fd = event_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 0) == 1;
}

std::string transfer(Fd to, Fd from, std::string_view text, const TransferLimits& limits, const Cancel& cancel) {
    make_nonblocking(to.get());
    make_nonblocking(from.get());
    return carry(to.get(), from.get(), false, &to, text, limits, cancel);
}

std::string transfer(Fd socket, std::string_view text, const TransferLimits& limits, const Cancel& cancel) {
    make_nonblocking(socket.get());
    return carry(socket.get(), socket.get(), true, nullptr, text, limits, cancel);
}

} // namespace sev::daemon
