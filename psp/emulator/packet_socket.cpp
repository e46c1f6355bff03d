// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/packet_socket.hpp"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.hpp"

namespace sev::psp::emulator {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Clock::time_point for_ever = Clock::time_point::max();

/// Waits until the socket is ready; false when the deadline passed first.
bool wait_for(const Fd& socket, short events, Clock::time_point until) {
    for (;;) {
        int timeout_ms = -1;
        if (until != for_ever) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
            if (left.count() <= 0) return false;
            timeout_ms = static_cast<int>(std::min<std::int64_t>(left.count(), 3'600'000));
        }
        struct pollfd entry {.fd = socket.get(), .events = events, .revents = 0};
        const int ready = ::poll(&entry, 1, timeout_ms);
        if (ready > 0) return true;
        if (ready < 0 && errno != EINTR) return false;
    }
}

[[noreturn]] void failed(const Path& path, std::string_view doing, int error_number) {
    throw Error{Fault::system, fmt::format("{}: {}: {}", printable(path.string(), 4096), doing, std::strerror(error_number))};
}

sockaddr_un address_of(const Path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string text = path.string();
    if (text.empty() || text.size() >= sizeof address.sun_path)
        throw Error{Fault::usage,
                    fmt::format("{}: {} bytes, want a socket path of 1 to {}", printable(text, 4096), text.size(), sizeof address.sun_path - 1)};
    std::ranges::copy(text, address.sun_path);
    return address;
}

const sockaddr* generic(const sockaddr_un& address) { return static_cast<const sockaddr*>(static_cast<const void*>(&address)); }

Fd new_socket(const Path& path, int type) {
    Fd out{::socket(AF_UNIX, type | SOCK_CLOEXEC, 0)};
    if (!out) failed(path, "socket", errno);
    return out;
}

/// Removes a socket file that a server left behind.
void clear_way(const Path& path, const sockaddr_un& address, int type) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) return;
        failed(path, "stat", errno);
    }
    if (!S_ISSOCK(status.st_mode))
        throw Error{Fault::usage, fmt::format("{}: exists and is no socket", printable(path.string(), 4096)), "name a path that is free"};
    const Fd probe = new_socket(path, type);
    if (::connect(probe.get(), generic(address), sizeof address) == 0 || errno != ECONNREFUSED)
        throw Error{Fault::usage, fmt::format("{}: is served already", printable(path.string(), 4096)),
                    "name another path, or use that server: sev-emulator run --socket PATH -- PROGRAM"};
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) failed(path, "remove", errno);
}

} // namespace

Received receive_packet(const Fd& socket, std::size_t limit_bytes, std::optional<std::chrono::milliseconds> deadline, Packet& out) {
    const Clock::time_point until = deadline ? Clock::now() + *deadline : for_ever;
    out.bytes.assign(limit_bytes, 0);
    for (;;) {
        if (!wait_for(socket, POLLIN, until)) return Received::late;
        alignas(cmsghdr) std::array<char, CMSG_SPACE(8 * sizeof(int))> control{};
        iovec part{.iov_base = out.bytes.data(), .iov_len = out.bytes.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t got = ::recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) return Received::closed;
        out.descriptor = Fd{};
        for (cmsghdr* entry = CMSG_FIRSTHDR(&message); entry; entry = CMSG_NXTHDR(&message, entry)) {
            if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
            for (std::size_t at = 0; at + sizeof(int) <= entry->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
                int descriptor = -1;
                std::memcpy(&descriptor, CMSG_DATA(entry) + at, sizeof descriptor);
                Fd owned{descriptor};
                if (!out.descriptor) out.descriptor = std::move(owned);
            }
        }
        if (message.msg_flags & MSG_TRUNC) return Received::closed;
        out.bytes.resize(static_cast<std::size_t>(got));
        return Received::packet;
    }
}

bool send_packet(const Fd& socket, ByteView bytes, std::chrono::milliseconds deadline) {
    const auto until = Clock::now() + deadline;
    for (;;) {
        const ssize_t put = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put >= 0) return static_cast<std::size_t>(put) == bytes.size();
        if (errno != EINTR && errno != EAGAIN) return false;
        if (!wait_for(socket, POLLOUT, until)) return false;
    }
}

Fd listen_on(const Path& path, int type) {
    const sockaddr_un address = address_of(path);
    clear_way(path, address, type);
    Fd listener = new_socket(path, type);
    // Nobody can connect before listen(), so the mode is right from the first moment that counts.
    if (::bind(listener.get(), generic(address), sizeof address) != 0) failed(path, "bind", errno);
    if (::chmod(path.c_str(), 0600) != 0 || ::listen(listener.get(), 64) != 0) {
        const int error_number = errno;
        ::unlink(path.c_str());
        failed(path, "listen", error_number);
    }
    return listener;
}

bool peer_is_ours(const Fd& socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
    return peer.uid == ::geteuid() || peer.uid == 0;
}

bool is_packet_socket(const Fd& descriptor) {
    int domain = 0, type = 0;
    socklen_t domain_size = sizeof domain, type_size = sizeof type;
    return descriptor && ::getsockopt(descriptor.get(), SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) == 0 &&
           ::getsockopt(descriptor.get(), SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && domain == AF_UNIX && type == SOCK_SEQPACKET;
}

} // namespace sev::psp::emulator
