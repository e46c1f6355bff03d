// SPDX-License-Identifier: Apache-2.0
#include "base/service/listener.hpp"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.hpp"

namespace sev::service {
namespace {

[[noreturn]] void failed(const std::string& subject, std::string_view doing) {
    throw Error{Fault::system, fmt::format("{}: {}: {}", subject, doing, std::strerror(errno))};
}

Fd new_socket(const std::string& subject) {
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!fd) failed(subject, "socket");
    return fd;
}

int option(int socket, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    return ::getsockopt(socket, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

/// A file that is in the way: gone if it is a socket that nobody answers.
void clear_the_way(const Path& path, const struct sockaddr_un& address, const std::string& subject) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) return;
        failed(subject, "looking at it");
    }
    if (!S_ISSOCK(status.st_mode)) throw Error{Fault::usage, subject + ": exists and is no socket"};
    const Fd probe = new_socket(subject);
    if (::connect(probe.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN)
        throw Error{Fault::usage, subject + ": somebody else is listening there", "stop the other one, or choose another path"};
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) failed(subject, "removing the old socket");
}

} // namespace

Fd listen_unix(const UnixEndpoint& endpoint) {
    const std::string subject = "socket " + printable(endpoint.path.string(), 256);
    struct sockaddr_un address {};
    address.sun_family = AF_UNIX;
    const std::string path = endpoint.path.string();
    if (path.empty() || path.size() >= sizeof address.sun_path)
        throw Error{Fault::usage, fmt::format("{}: path of {} bytes, want 1 to {}", subject, path.size(), sizeof address.sun_path - 1)};
    std::memcpy(address.sun_path, path.data(), path.size());
    clear_the_way(endpoint.path, address, subject);

    Fd fd = new_socket(subject);
    if (::bind(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof address) != 0) failed(subject, "bind");
    // Nobody can connect before listen(), so there is no moment with a wrong owner or mode.
    const bool ready = (!endpoint.group || ::chown(path.c_str(), static_cast<uid_t>(-1), *endpoint.group) == 0) &&
                       ::chmod(path.c_str(), endpoint.mode) == 0 && ::listen(fd.get(), SOMAXCONN) == 0;
    if (!ready) {
        const int reason = errno;
        ::unlink(path.c_str());
        errno = reason;
        failed(subject, "group, mode or listen");
    }
    return fd;
}

void check_inherited(const Fd& socket) {
    if (option(socket.get(), SO_DOMAIN) != AF_UNIX || option(socket.get(), SO_TYPE) != SOCK_STREAM || option(socket.get(), SO_ACCEPTCONN) != 1)
        throw Error{Fault::usage, fmt::format("inherited descriptor {}: is no listening Unix stream socket", socket.get()),
                    "in the .socket unit: ListenStream= with a path"};
}

Peer::Process peer_process(int socket) {
    struct ucred credentials {};
    socklen_t length = sizeof credentials;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 || length != sizeof credentials)
        throw Error{Fault::system, fmt::format("peer credentials: {}", std::strerror(errno))};
    std::vector<gid_t> groups(16);
    int result = -1;
    for (int i = 0; i < 2 && result != 0; ++i) { // the first attempt says how many there are
        length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
        result = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
        if (result != 0 && errno != ERANGE) length = 0; // a kernel that does not tell: no more than the group above is known
        groups.resize(length / sizeof(gid_t));
    }
    return {.uid = credentials.uid, .gid = credentials.gid, .pid = credentials.pid, .groups = std::move(groups)};
}

} // namespace sev::service
