// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/device.hpp"

#include <bit>
#include <cerrno>

#include <fcntl.h>
#include <sys/ioctl.h>

#include "psp/dev_sev.hpp"

namespace sev::probe {
namespace {

namespace dev_sev = psp::dev_sev;
constexpr unsigned long kvm_get_api_version = 0xAE00;

Reading<bool> opens(const Path& path, int how) {
    const Fd fd{::open(path.c_str(), how | O_CLOEXEC)};
    if (!fd) return failure_of(errno);
    return true;
}

/// What one SEV_ISSUE_CMD came to: a firmware status, or the errno of a command that never reached the firmware.
struct Issued {
    int error_number = 0;
    std::uint32_t status = 0;
};

/// `data`: the sub-structure.
Issued issue(int fd, dev_sev::Command command, void* data) {
    auto request = dev_sev::IssueCommand{.command = command, .data = std::bit_cast<std::uint64_t>(data)}.serialize();
    const int result = ::ioctl(fd, dev_sev::issue_command, request.data());
    const int why = errno;
    const std::uint32_t status = dev_sev::IssueCommand::parse(wire::view(request)).error;
    if (result == 0) return {.error_number = 0, .status = 0};
    // EIO with a status is the firmware's refusal; anything else never reached it
    const bool refused = why == EIO && status != 0 && status != dev_sev::no_firmware_call;
    return {.error_number = refused ? 0 : why, .status = status};
}

} // namespace

Reading<bool> SevDevice::readable() { return opens(path_, O_RDONLY); }

Reading<bool> SevDevice::writable() { return opens(path_, O_WRONLY); }

Reading<PlatformAnswer> SevDevice::platform_status() {
    const Fd fd{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) return failure_of(errno);
    PlatformAnswer out;
    const Issued issued = issue(fd.get(), dev_sev::Command::platform_status, out.bytes.data());
    if (issued.error_number != 0) return failure_of(issued.error_number);
    out.status = static_cast<std::uint16_t>(issued.status);
    return out;
}

Reading<Bytes> SevDevice::chip_id() {
    const Fd fd{::open(path_.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) return failure_of(errno);
    Bytes id(128); // two sockets
    auto request =
        dev_sev::Buffer{.address = std::bit_cast<std::uint64_t>(id.data()), .length_bytes = static_cast<std::uint32_t>(id.size())}.serialize();
    const Issued issued = issue(fd.get(), dev_sev::Command::get_id2, request.data());
    if (issued.error_number != 0) return failure_of(issued.error_number);
    if (issued.status != 0) return Failure{0, "the firmware refused GET_ID"};
    id.resize(64);
    return id;
}

Reading<std::uint64_t> kvm_api_version(const Path& device) {
    const Fd fd{::open(device.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) return failure_of(errno);
    const int version = ::ioctl(fd.get(), kvm_get_api_version, 0);
    if (version < 0) return failure_of(errno);
    return static_cast<std::uint64_t>(version);
}

} // namespace sev::probe
