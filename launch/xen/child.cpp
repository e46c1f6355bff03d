// SPDX-License-Identifier: Apache-2.0
#include "launch/xen/child.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::launch::xen {
namespace {

constexpr std::size_t complaint_limit = 4096;

int left_ms(Deadline deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
}

} // namespace

Child::Child(Starter& starter, const Path& program, const std::vector<std::string>& arguments)
    : program_{program}, started_{starter.start(program, arguments)} {}

void Child::write(std::string_view text, Deadline deadline) {
    while (!text.empty()) {
        const ssize_t sent = ::send(started_.socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
        if (sent > 0) {
            text.remove_prefix(static_cast<std::size_t>(sent));
            continue;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN) ended();
        pollfd one{.fd = started_.socket.get(), .events = POLLOUT, .revents = 0};
        if (::poll(&one, 1, left_ms(deadline)) == 0)
            throw Error{Fault::system, fmt::format("{}: does not take its input in time", printable(program_.filename().string()))};
    }
}

bool Child::fill(Deadline deadline, std::size_t limit_bytes) {
    for (;;) {
        char buffer[16 * 1024];
        const ssize_t got = ::recv(started_.socket.get(), buffer, sizeof buffer, 0);
        if (got > 0) {
            if (pending_.size() + static_cast<std::size_t>(got) > limit_bytes)
                throw Error{Fault::system, fmt::format("{}: says more than {} bytes", printable(program_.filename().string()), limit_bytes)};
            pending_.append(buffer, static_cast<std::size_t>(got));
            return true;
        }
        if (got == 0) return false;
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return false;
        pollfd one{.fd = started_.socket.get(), .events = POLLIN, .revents = 0};
        if (::poll(&one, 1, left_ms(deadline)) == 0)
            throw Error{Fault::system, fmt::format("{}: no answer in time", printable(program_.filename().string()))};
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

void Child::close_input() { ::shutdown(started_.socket.get(), SHUT_WR); }

std::string Child::complaint() {
    std::string said;
    char buffer[1024];
    // what a dying program has written is there, or comes at once
    pollfd one{.fd = started_.errors.get(), .events = POLLIN, .revents = 0};
    while (::poll(&one, 1, 50) > 0) {
        const ssize_t got = ::read(started_.errors.get(), buffer, sizeof buffer);
        if (got <= 0) break;
        said.append(buffer, static_cast<std::size_t>(got));
        if (said.size() > complaint_limit) said.erase(0, said.size() - complaint_limit);
    }
    while (!said.empty() && said.back() == '\n') said.pop_back();
    std::ranges::replace(said, '\n', ' ');
    return printable(said, 512);
}

} // namespace sev::launch::xen
