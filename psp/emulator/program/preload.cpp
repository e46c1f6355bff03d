// SPDX-License-Identifier: Apache-2.0
// libsev-emulator-preload.so: gives an unmodified, dynamically linked program a /dev/sev whose other end is `sev-emulator`. It is preloaded into
// programs that nobody here wrote, so it needs nothing but libc, keeps no state but constants, allocates nothing, takes no lock, and throws nothing.
// Which descriptors are ours is asked of the kernel (a socket connected to the emulator's), so that dup, fork, exec and descriptor passing need no
// bookkeeping.
//
// Not served: static programs and those that make system calls without libc. Listing /dev does not show the device.
#include <bit>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "psp/emulator/device_wire.hpp"

namespace {

namespace wire = sev::psp::emulator::device_wire;

constexpr const char* device_directory = "/dev";
constexpr const char* device_name = "sev";
constexpr int answer_deadline_ms = 10'000; // for the greeting; a command itself takes as long as the driver allows

/// The function of that name which comes after this library: libc's.
template <class Function>
Function next(const char* name) {
    return std::bit_cast<Function>(::dlsym(RTLD_NEXT, name));
}
// A function-local static without a guard's lock would be a race; resolving each time costs a lookup, on paths that are rare.
#define NEXT(name) next<decltype(&::name)>(#name)

/// Keeps errno, and keeps the calling thread from being cancelled while it owns descriptors.
class Quiet {
public:
    Quiet() { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_); }
    ~Quiet() { ::pthread_setcancelstate(cancel_, nullptr); }
    Quiet(const Quiet&) = delete;
    Quiet& operator=(const Quiet&) = delete;

private:
    int cancel_ = 0;
};

/// libc's headers promise the compiler that a path is never null, and it drops checks accordingly. Programs promise
/// nothing: Rust's probe for statx has one.
const char* as_given(const char* path) {
    asm("" : "+r"(path));
    return path;
}

/// The emulator's socket, from the environment that `sev-emulator run` made; nullptr when there is none.
const char* emulator_socket() {
    const char* const path = ::getenv("SEV_EMULATOR_SOCKET");
    return path && *path && std::strlen(path) < sizeof(sockaddr_un::sun_path) ? path : nullptr;
}

sockaddr_un address_of(const char* path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}
const sockaddr* generic(const sockaddr_un* address) { return static_cast<const sockaddr*>(static_cast<const void*>(address)); }
sockaddr* generic(sockaddr_un* address) { return static_cast<sockaddr*>(static_cast<void*>(address)); }

/// Whether a descriptor is a handle on the emulator's device.
bool is_ours(int fd) {
    const char* const path = emulator_socket();
    if (!path) return false;
    const int before = errno;
    sockaddr_un peer{};
    socklen_t size = sizeof peer;
    const bool ours = ::getpeername(fd, generic(&peer), &size) == 0 && peer.sun_family == AF_UNIX && size > offsetof(sockaddr_un, sun_path) &&
                      std::strncmp(peer.sun_path, path, sizeof peer.sun_path) == 0;
    errno = before;
    return ours;
}

/// Whether a path, relative to `at` as for openat, names /dev/sev. Cheap for every path that does not end in "sev".
bool names_device(int at, const char* given) {
    const char* const path = as_given(given);
    if (!path || !emulator_socket()) return false;
    const std::size_t length = std::strlen(path), name_length = std::strlen(device_name);
    if (length < name_length || length >= PATH_MAX || std::strcmp(path + length - name_length, device_name) != 0) return false;
    if (length > name_length && path[length - name_length - 1] != '/') return false;
    const int before = errno;
    char folder[PATH_MAX], whole[PATH_MAX];
    std::memcpy(folder, path, length - name_length);
    folder[length - name_length] = '\0';
    bool named = false;
    if (path[0] == '/') {
        named = NEXT(realpath)(folder, whole) && std::strcmp(whole, device_directory) == 0;
    } else {
        char base[64] = "/proc/self/cwd";
        if (at != AT_FDCWD) std::snprintf(base, sizeof base, "/proc/self/fd/%d", at);
        char joined[PATH_MAX + 80];
        std::snprintf(joined, sizeof joined, "%s/%s", base, folder);
        named = NEXT(realpath)(joined, whole) && std::strcmp(whole, device_directory) == 0;
    }
    errno = before;
    return named;
}

/// The payload of a `data` message is `payload`, an address of the program's that the kernel checks, be it 0 or worse.
bool send_message(int socket, const wire::Header& header, const void* payload = nullptr, int descriptor = -1) {
    std::uint8_t raw[wire::header_size];
    wire::serialize(header, raw);
    iovec parts[2] = {{.iov_base = raw, .iov_len = sizeof raw},
                      {.iov_base = const_cast<void*>(payload), .iov_len = header.length_bytes}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = wire::has_payload(header.kind) ? 2 : 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (descriptor >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        cmsghdr* const entry = CMSG_FIRSTHDR(&message);
        entry->cmsg_level = SOL_SOCKET;
        entry->cmsg_type = SCM_RIGHTS;
        entry->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(entry), &descriptor, sizeof descriptor);
    }
    for (;;) {
        if (::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return true;
        if (errno == EAGAIN) { // the program made its descriptor non-blocking
            pollfd entry{.fd = socket, .events = POLLOUT, .revents = 0};
            static_cast<void>(::poll(&entry, 1, answer_deadline_ms));
            continue;
        }
        if (errno != EINTR) return false;
    }
}

/// Looks at the next message without taking it. False when the emulator is gone or late.
bool peek(int socket, int deadline_ms, std::uint8_t* raw, std::size_t limit, wire::Header& header) {
    for (;;) {
        pollfd entry{.fd = socket, .events = POLLIN, .revents = 0};
        const int ready = ::poll(&entry, 1, deadline_ms);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return false;
        const ssize_t got = ::recv(socket, raw, limit, MSG_PEEK);
        if (got < 0 && errno == EINTR) continue;
        return got > 0 && wire::parse(raw, static_cast<std::size_t>(got), header);
    }
}

/// Takes the message that was looked at, its payload straight into `to`: the kernel checks that address, so a bad one is EFAULT and no crash.
bool take(int socket, void* to = nullptr, std::size_t length = 0) {
    std::uint8_t raw[wire::header_size];
    iovec parts[2] = {{.iov_base = raw, .iov_len = sizeof raw}, {.iov_base = to, .iov_len = length}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    for (;;) {
        if (::recvmsg(socket, &message, 0) >= 0) return true;
        if (errno != EINTR) return false;
    }
}

void* pointer(std::uint64_t address) { return std::bit_cast<void*>(address); }

/// Serves the emulator's copies in and out until it says how the ioctl ended. -1: it is gone.
int converse(int socket) {
    for (;;) {
        std::uint8_t raw[wire::message_limit_bytes];
        wire::Header header;
        if (!peek(socket, -1, raw, sizeof raw, header)) return -1;
        switch (header.kind) {
        case wire::Kind::done: return static_cast<int>(header.number);
        case wire::Kind::read:
            if (!take(socket)) return -1;
            if (send_message(socket, {.kind = wire::Kind::data, .length_bytes = header.length_bytes}, pointer(header.address))) break;
            if (errno != EFAULT || !send_message(socket, {.kind = wire::Kind::fault})) return -1;
            break;
        case wire::Kind::write: {
            const bool written = take(socket, pointer(header.address), header.length_bytes);
            if (!written && errno != EFAULT) return -1;
            // An address that no program can have is refused before the message is taken. Nothing else can be waiting: the emulator is.
            if (!written) static_cast<void>(::recv(socket, raw, sizeof raw, MSG_DONTWAIT));
            if (!send_message(socket, {.kind = written ? wire::Kind::written : wire::Kind::fault})) return -1;
            break;
        }
        default: return -1;
        }
    }
}

/// The device's ioctl; returns as ioctl does.
int device_ioctl(int fd, unsigned long request, std::uint64_t argument) {
    const Quiet quiet;
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        errno = ENODEV;
        return -1;
    }
    int result = -1;
    const bool sent =
        send_message(fd, {.kind = wire::Kind::ioctl, .number = static_cast<std::uint32_t>(request), .address = argument}, nullptr, pair[1]);
    ::close(pair[1]); // so that the emulator's end is the only one, and its death is seen
    if (sent) result = converse(pair[0]);
    ::close(pair[0]);
    if (result == 0) return 0;
    errno = result > 0 ? result : ENODEV; // the PSP's driver is gone
    return -1;
}

/// Opens the device; returns as open does.
int device_open(int flags) {
    const Quiet quiet;
    if (flags & O_DIRECTORY) return errno = ENOTDIR, -1;
    if ((flags & O_CREAT) && (flags & O_EXCL)) return errno = EEXIST, -1;
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | ((flags & O_CLOEXEC) ? SOCK_CLOEXEC : 0), 0);
    if (fd < 0) return -1;
    const sockaddr_un address = address_of(emulator_socket());
    int failure = ENXIO; // a device file without a driver
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::connect(fd, generic(&address), sizeof address) == 0 && ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
        std::uint8_t raw[wire::message_limit_bytes];
        wire::Header header;
        const bool write_access = (flags & O_ACCMODE) != O_RDONLY;
        // The emulator may read and write this process's memory: only one of this user or of root is let.
        if (peer.uid != ::geteuid() && peer.uid != 0)
            failure = EACCES;
        else if (send_message(fd, {.kind = wire::Kind::open, .number = write_access ? 1U : 0U}) &&
                 peek(fd, answer_deadline_ms, raw, sizeof raw, header) && header.kind == wire::Kind::opened && take(fd))
            failure = static_cast<int>(header.number);
    } else if (errno == EACCES || errno == EPERM) {
        failure = errno;
    }
    if (failure == 0) return fd;
    ::close(fd);
    errno = failure;
    return -1;
}

/// What stat says of /dev/sev on most machines.
template <class Stat>
int fill(Stat* out) {
    std::memset(out, 0, sizeof *out);
    out->st_mode = S_IFCHR | 0600;
    out->st_nlink = 1;
    out->st_uid = ::geteuid();
    out->st_gid = ::getegid();
    out->st_rdev = makedev(10, 124);
    out->st_blksize = 4096;
    return 0;
}

int fill_statx(struct statx* out) {
    std::memset(out, 0, sizeof *out);
    out->stx_mask = STATX_BASIC_STATS;
    out->stx_mode = static_cast<std::uint16_t>(S_IFCHR | 0600);
    out->stx_nlink = 1;
    out->stx_uid = ::geteuid();
    out->stx_gid = ::getegid();
    out->stx_rdev_major = 10;
    out->stx_rdev_minor = 124;
    out->stx_blksize = 4096;
    return 0;
}

int device_access(int mode) {
    if (mode & X_OK) return errno = EACCES, -1;
    return 0;
}

bool by_descriptor(const char* given, int flags) {
    const char* const path = as_given(given);
    return path && !*path && (flags & AT_EMPTY_PATH);
}

bool takes_mode(int flags) { return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; }

/// These the kernel answers for every file, before any driver is asked.
bool is_generic_ioctl(unsigned long request) { return request == FIOCLEX || request == FIONCLEX || request == FIONBIO || request == FIOASYNC; }

} // namespace

// From here on: libc's functions, each asking "is it /dev/sev?" first. Under glibc the 64-bit spellings are the same functions; both are listed, as
// programs use both.
#pragma GCC visibility push(default)
extern "C" {

#define OPEN(name)                                                                   \
    int name(const char* path, int flags, ...) {                                     \
        mode_t mode = 0;                                                             \
        if (takes_mode(flags)) {                                                     \
            va_list rest;                                                            \
            va_start(rest, flags);                                                   \
            mode = va_arg(rest, mode_t);                                             \
            va_end(rest);                                                            \
        }                                                                            \
        return names_device(AT_FDCWD, path) ? device_open(flags) : NEXT(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                 \
    int name(int at, const char* path, int flags, ...) {                             \
        mode_t mode = 0;                                                             \
        if (takes_mode(flags)) {                                                     \
            va_list rest;                                                            \
            va_start(rest, flags);                                                   \
            mode = va_arg(rest, mode_t);                                             \
            va_end(rest);                                                            \
        }                                                                            \
        return names_device(at, path) ? device_open(flags) : NEXT(name)(at, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

// what _FORTIFY_SOURCE makes of the above
#define OPEN_2(name)                                                                                          \
    int name(const char* path, int flags);                                                                    \
    int name(const char* path, int flags) { return names_device(AT_FDCWD, path) ? device_open(flags) : NEXT(name)(path, flags); }
OPEN_2(__open_2)
OPEN_2(__open64_2)
#define OPENAT_2(name)                                                                                        \
    int name(int at, const char* path, int flags);                                                            \
    int name(int at, const char* path, int flags) { return names_device(at, path) ? device_open(flags) : NEXT(name)(at, path, flags); }
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

int creat(const char* path, mode_t mode) { return names_device(AT_FDCWD, path) ? device_open(O_WRONLY) : NEXT(creat)(path, mode); }
int creat64(const char* path, mode_t mode) { return names_device(AT_FDCWD, path) ? device_open(O_WRONLY) : NEXT(creat64)(path, mode); }

#define FOPEN(name)                                                                                           \
    FILE* name(const char* path, const char* mode) {                                                          \
        if (!names_device(AT_FDCWD, path)) return NEXT(name)(path, mode);                                     \
        const bool plain = mode && mode[0] == 'r' && !std::strchr(mode, '+');                                 \
        const int fd = device_open(plain ? O_RDONLY : O_RDWR);                                                \
        return fd < 0 ? nullptr : ::fdopen(fd, mode);                                                         \
    }
FOPEN(fopen)
FOPEN(fopen64)

int ioctl(int fd, unsigned long request, ...) noexcept {
    va_list rest;
    va_start(rest, request);
    void* const argument = va_arg(rest, void*);
    va_end(rest);
    if (!is_generic_ioctl(request) && is_ours(fd)) return device_ioctl(fd, request, std::bit_cast<std::uint64_t>(argument));
    return NEXT(ioctl)(fd, request, argument);
}

#define STAT(name, type) \
    int name(const char* path, type* out) noexcept { return names_device(AT_FDCWD, path) ? fill(out) : NEXT(name)(path, out); }
STAT(stat, struct stat)
STAT(stat64, struct stat64)
STAT(lstat, struct stat)
STAT(lstat64, struct stat64)
#define FSTAT(name, type) \
    int name(int fd, type* out) noexcept { return is_ours(fd) ? fill(out) : NEXT(name)(fd, out); }
FSTAT(fstat, struct stat)
FSTAT(fstat64, struct stat64)
#define FSTATAT(name, type)                                                                                                                          \
    int name(int at, const char* path, type* out, int flags) noexcept {                                                                              \
        return names_device(at, path) || (by_descriptor(path, flags) && is_ours(at)) ? fill(out) : NEXT(name)(at, path, out, flags);                 \
    }
FSTATAT(fstatat, struct stat)
FSTATAT(fstatat64, struct stat64)

// what stat was before glibc 2.33
#define XSTAT(name, type)                             \
    int name(int version, const char* path, type* out); \
    int name(int version, const char* path, type* out) { return names_device(AT_FDCWD, path) ? fill(out) : NEXT(name)(version, path, out); }
XSTAT(__xstat, struct stat)
XSTAT(__xstat64, struct stat64)
XSTAT(__lxstat, struct stat)
XSTAT(__lxstat64, struct stat64)
#define FXSTAT(name, type)                     \
    int name(int version, int fd, type* out);  \
    int name(int version, int fd, type* out) { return is_ours(fd) ? fill(out) : NEXT(name)(version, fd, out); }
FXSTAT(__fxstat, struct stat)
FXSTAT(__fxstat64, struct stat64)
#define FXSTATAT(name, type)                                                                                                                         \
    int name(int version, int at, const char* path, type* out, int flags);                                                                           \
    int name(int version, int at, const char* path, type* out, int flags) {                                                                          \
        return names_device(at, path) || (by_descriptor(path, flags) && is_ours(at)) ? fill(out) : NEXT(name)(version, at, path, out, flags);        \
    }
FXSTATAT(__fxstatat, struct stat)
FXSTATAT(__fxstatat64, struct stat64)

int statx(int at, const char* path, int flags, unsigned mask, struct statx* out) noexcept {
    if (names_device(at, path) || (by_descriptor(path, flags) && is_ours(at))) return fill_statx(out);
    return NEXT(statx)(at, path, flags, mask, out);
}

int access(const char* path, int mode) noexcept { return names_device(AT_FDCWD, path) ? device_access(mode) : NEXT(access)(path, mode); }
int eaccess(const char* path, int mode) noexcept { return names_device(AT_FDCWD, path) ? device_access(mode) : NEXT(eaccess)(path, mode); }
int euidaccess(const char* path, int mode) noexcept { return names_device(AT_FDCWD, path) ? device_access(mode) : NEXT(euidaccess)(path, mode); }
int faccessat(int at, const char* path, int mode, int flags) noexcept {
    return names_device(at, path) ? device_access(mode) : NEXT(faccessat)(at, path, mode, flags);
}

char* realpath(const char* path, char* resolved) noexcept {
    if (!names_device(AT_FDCWD, path)) return NEXT(realpath)(path, resolved);
    return resolved ? std::strcpy(resolved, "/dev/sev") : ::strdup("/dev/sev");
}
char* __realpath_chk(const char* path, char* resolved, std::size_t size) noexcept;
char* __realpath_chk(const char* path, char* resolved, std::size_t size) noexcept {
    if (!names_device(AT_FDCWD, path)) return NEXT(__realpath_chk)(path, resolved, size);
    return resolved ? std::strcpy(resolved, "/dev/sev") : ::strdup("/dev/sev");
}
char* canonicalize_file_name(const char* path) noexcept {
    return names_device(AT_FDCWD, path) ? ::strdup("/dev/sev") : NEXT(canonicalize_file_name)(path);
}
ssize_t readlink(const char* path, char* out, std::size_t size) noexcept {
    if (names_device(AT_FDCWD, path)) return errno = EINVAL, -1; // it is no link
    return NEXT(readlink)(path, out, size);
}
ssize_t readlinkat(int at, const char* path, char* out, std::size_t size) noexcept {
    if (names_device(at, path)) return errno = EINVAL, -1;
    return NEXT(readlinkat)(at, path, out, size);
}

} // extern "C"
#pragma GCC visibility pop
