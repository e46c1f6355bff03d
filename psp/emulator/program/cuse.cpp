// SPDX-License-Identifier: Apache-2.0
#define FUSE_USE_VERSION 35
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>

#include <cuse_lowlevel.h>
#include <fmt/format.h>
#include <fuse_lowlevel.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "psp/emulator/cuse_memory.hpp"
#include "psp/emulator/program/device_options.hpp"

namespace sev::psp::emulator {
namespace {

struct Served {
    LinuxDevice& device;
    Permit permit;
};

Served& served(fuse_req_t request) { return *static_cast<Served*>(::fuse_req_userdata(request)); }

void on_open(fuse_req_t request, struct fuse_file_info* file) {
    const Served& its = served(request);
    const bool writable = (file->flags & O_ACCMODE) != O_RDONLY;
    if (its.permit == Permit::nobody || (its.permit == Permit::read_only && writable)) {
        ::fuse_reply_err(request, EACCES);
        return;
    }
    file->fh = writable ? 1 : 0;
    ::fuse_reply_open(request, file);
}

std::vector<iovec> as_iovecs(const std::vector<UserRange>& ranges) {
    std::vector<iovec> out;
    for (const UserRange& range : ranges) out.push_back({.iov_base = std::bit_cast<void*>(range.address), .iov_len = range.length_bytes});
    return out;
}

void on_ioctl(fuse_req_t request, int command, void* argument, struct fuse_file_info* file, unsigned flags, const void* input,
              std::size_t input_bytes, std::size_t output_bytes) {
    try {
        if (flags & FUSE_IOCTL_COMPAT) { // a 32-bit program: Linux's driver has no compat entry of its own
            ::fuse_reply_err(request, ENOTTY);
            return;
        }
        CuseMemory memory{ByteView{static_cast<const std::uint8_t*>(input), input_bytes}};
        const auto answer =
            served(request).device.ioctl(static_cast<std::uint32_t>(command), std::bit_cast<std::uint64_t>(argument), file->fh == 1, memory);
        if (answer.again) {
            const auto in = as_iovecs(memory.inputs()), out = as_iovecs(memory.outputs());
            ::fuse_reply_ioctl_retry(request, in.data(), in.size(), out.data(), out.size());
            return;
        }
        // The kernel takes no more than the room it was told of in the last round.
        const Bytes& output = memory.output();
        ::fuse_reply_ioctl(request, -answer.error_number, output.data(), std::min(output.size(), output_bytes));
    } catch (const std::exception& error) {
        fmt::print(stderr, "sev-emulator: error: {}\n", error.what());
        ::fuse_reply_err(request, EIO);
    }
}

/// One line for each way in which a kernel has no CUSE.
void check_cuse() {
    constexpr const char* node = "/dev/cuse";
    const Fd probe{::open(node, O_RDWR | O_CLOEXEC)};
    if (probe) return;
    switch (errno) {
    case ENOENT:
        throw Error{sev::Fault::system, "/dev/cuse: is not there: this kernel has no CUSE, or its module is not loaded",
                    "modprobe cuse (CONFIG_CUSE); without it, sev-emulator run serves dynamically linked programs"};
    case ENODEV:
    case ENXIO: throw Error{sev::Fault::system, "/dev/cuse: no driver behind it: the kernel's module cuse is not loaded", "modprobe cuse"};
    case EACCES:
    case EPERM: throw Error{sev::Fault::system, "/dev/cuse: permission denied", "making character devices is root's business: run this as root"};
    default: throw Error{sev::Fault::system, fmt::format("/dev/cuse: {}", std::strerror(errno))};
    }
}

void check_name(const std::string& name) {
    const bool plain =
        !name.empty() && name.size() <= 32 && std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; });
    if (!plain) throw Error{sev::Fault::usage, fmt::format("--name is {}, want 1 to 32 letters, digits, - or _", printable(name))};
    struct stat status {};
    if (::lstat(("/dev/" + name).c_str(), &status) == 0)
        throw Error{sev::Fault::usage, fmt::format("/dev/{}: is there already", name),
                    "a machine with a real one needs another --name; the program must then be told of it"};
}

struct SessionEnd {
    void operator()(fuse_session* session) const noexcept { ::cuse_lowlevel_teardown(session); }
};

} // namespace

void serve_cuse(const CuseOptions& options, cli::Console& console) {
    check_name(options.name);
    check_cuse();
    Platform platform{options.device, {}};
    Served its{.device = platform.device(), .permit = parse_permit(options.device.permit)};

    const std::string device_name = "DEVNAME=" + options.name;
    const char* device_info[] = {device_name.c_str()};
    cuse_info info{};
    info.dev_info_argc = 1;
    info.dev_info_argv = device_info;
    info.flags = CUSE_UNRESTRICTED_IOCTL;
    cuse_lowlevel_ops operations{};
    operations.open = on_open;
    operations.ioctl = on_ioctl;

    std::string program = "sev-emulator", foreground = "-f", single = "-s";
    char* arguments[] = {program.data(), foreground.data(), single.data(), nullptr};
    int multithreaded = 0;
    const std::unique_ptr<fuse_session, SessionEnd> session{::cuse_lowlevel_setup(3, arguments, &info, &operations, &multithreaded, &its)};
    if (!session)
        throw Error{sev::Fault::system, fmt::format("/dev/{}: the kernel's CUSE would not make it", options.name), "look into the kernel log"};
    console.print(fmt::format("serving {} as /dev/{}\n", platform.emulator().personality().title, options.name));
    console.finish();
    const int result = ::fuse_session_loop(session.get()); // ends at SIGTERM, SIGINT and SIGHUP
    if (result < 0) throw Error{sev::Fault::system, fmt::format("/dev/{}: {}", options.name, std::strerror(-result))};
}

} // namespace sev::psp::emulator
