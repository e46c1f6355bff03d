// SPDX-License-Identifier: Apache-2.0
#include "psp/ccp/ccp_firmware.hpp"

#include <bit>
#include <cerrno>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

namespace sev::psp::ccp {
namespace {

template <class T>
std::uint64_t user_address(T* pointer) {
    static_assert(sizeof pointer == sizeof(std::uint64_t), "the interface is used by 64-bit programs alone here");
    return std::bit_cast<std::uint64_t>(pointer);
}

/// The ioctl command that carries an SEV command; nullopt for what /dev/sev does not carry.
std::optional<dev_sev::Command> carried_by(CommandId id) {
    switch (id) {
    case CommandId::platform_reset: return dev_sev::Command::factory_reset;
    case CommandId::platform_status: return dev_sev::Command::platform_status;
    case CommandId::pek_gen: return dev_sev::Command::pek_gen;
    case CommandId::pek_csr: return dev_sev::Command::pek_csr;
    case CommandId::pdh_gen: return dev_sev::Command::pdh_gen;
    case CommandId::pdh_cert_export: return dev_sev::Command::pdh_cert_export;
    case CommandId::pek_cert_import: return dev_sev::Command::pek_cert_import;
    case CommandId::get_id: return dev_sev::Command::get_id2;
    default: return std::nullopt;
    }
}

Error not_carried(const Path& device, CommandId id) {
    const CommandInfo* const info = find_command(static_cast<std::uint32_t>(id));
    const std::string name = info ? std::string{info->name} : fmt::format("command 0x{:02X}", static_cast<std::uint32_t>(id));
    const bool of_driver = id == CommandId::init || id == CommandId::init_ex || id == CommandId::shutdown || id == CommandId::df_flush ||
                           id == CommandId::download_firmware;
    return {Fault::usage, fmt::format("{}: {} does not go through this device", printable(device.string(), 4096), name),
            of_driver ? "Linux's ccp driver issues it by itself when it is loaded and when a command needs it"
                      : "on Linux guest commands go through KVM (KVM_MEMORY_ENCRYPT_OP)"};
}

void put_length(Bytes& buffer, std::size_t at, std::uint32_t value) {
    require(at + 4 <= buffer.size(), "a blob's length lies in its command buffer");
    for (std::size_t i = 0; i < 4; ++i) buffer[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

dev_sev::Buffer buffer_of(Blob& blob) {
    return {.address = user_address(blob.data.data()), .length_bytes = static_cast<std::uint32_t>(blob.data.size())};
}

} // namespace

CcpFirmware::CcpFirmware(Path device, Access access) : device_{std::move(device)} {
    fd_ = Fd{::open(device_.c_str(), (access == Access::read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    if (!fd_) throw explain_open(device_, access, errno);
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) throw explain_open(device_, access, errno);
    if (!S_ISCHR(status.st_mode))
        throw Error{Fault::system,
                    fmt::format("{}: is no device, want the character device of Linux's ccp driver", printable(device_.string(), 4096)),
                    "it is /dev/sev, if the machine has one"};
}

CcpFirmware::Outcome CcpFirmware::ioctl(dev_sev::Command command, std::span<std::uint8_t> data) {
    auto argument = dev_sev::IssueCommand{.command = command, .data = data.empty() ? 0 : user_address(data.data())}.serialize();
    int result = 0;
    do
        result = ::ioctl(fd_.get(), dev_sev::issue_command, argument.data());
    while (result != 0 && errno == EINTR);
    const int error_number = result == 0 ? 0 : errno;
    return {.error_number = error_number, .firmware_error = dev_sev::IssueCommand::parse(wire::view(argument)).error};
}

Status CcpFirmware::status_of(dev_sev::Command command, const Outcome& outcome) const {
    if (outcome.error_number == 0) return Status::success;
    // The firmware's statuses have 16 bits; EIO with anything else, or with success, is the kernel's own.
    if (outcome.error_number == EIO && outcome.firmware_error != 0 && outcome.firmware_error <= 0xFFFF)
        return Status{static_cast<std::uint16_t>(outcome.firmware_error)};
    throw explain(device_, command, outcome.error_number, outcome.firmware_error);
}

Status CcpFirmware::get_id(Call& call) {
    require(call.blobs.size() == 1, "GET_ID has one output");
    Blob& blob = call.blobs[0];
    auto argument = buffer_of(blob).serialize();
    const Outcome outcome = ioctl(dev_sev::Command::get_id2, argument);
    if (outcome.error_number != EINVAL) {
        const Status status = status_of(dev_sev::Command::get_id2, outcome);
        const std::uint32_t length = dev_sev::Buffer::parse(wire::view(argument)).length_bytes;
        put_length(call.buffer, blob.length_at, length);
        if (status != Status::success) return status;
        if (length > blob.data.size())
            throw Error{Fault::firmware, fmt::format("{}: GET_ID2 says it wrote {} bytes into a buffer of {}", printable(device_.string(), 4096),
                                                     length, blob.data.size())};
        blob.data.resize(length);
        return status;
    }
    // Linux before 5.2 has the older request alone: ids of two sockets, zero for one that is not there.
    ByteArray<dev_sev::get_id_size> ids{};
    const Status status = status_of(dev_sev::Command::get_id, ioctl(dev_sev::Command::get_id, ids));
    if (status != Status::success) return status;
    if (blob.data.size() > ids.size())
        throw Error{Fault::usage,
                    fmt::format("{}: GET_ID knows two sockets, not {}", printable(device_.string(), 4096), blob.data.size() / sizeof(ChipId))};
    std::ranges::copy_n(ids.begin(), static_cast<std::ptrdiff_t>(blob.data.size()), blob.data.begin());
    put_length(call.buffer, blob.length_at, static_cast<std::uint32_t>(blob.data.size()));
    return status;
}

Status CcpFirmware::with_buffers(dev_sev::Command command, Call& call) {
    require(call.blobs.size() == 1 || call.blobs.size() == 2, "a command of /dev/sev has one or two buffers");
    std::vector<dev_sev::Buffer> answered;
    Outcome outcome{};
    if (call.blobs.size() == 1) {
        auto argument = buffer_of(call.blobs[0]).serialize();
        outcome = ioctl(command, argument);
        answered = {dev_sev::Buffer::parse(wire::view(argument))};
    } else {
        auto argument = dev_sev::BufferPair{.first = buffer_of(call.blobs[0]), .second = buffer_of(call.blobs[1])}.serialize();
        outcome = ioctl(command, argument);
        const auto pair = dev_sev::BufferPair::parse(wire::view(argument));
        answered = {pair.first, pair.second};
    }
    const Status status = status_of(command, outcome);
    for (std::size_t i = 0; i < answered.size(); ++i) {
        Blob& blob = call.blobs[i];
        if (blob.direction == Blob::Direction::in) continue;
        put_length(call.buffer, blob.length_at, answered[i].length_bytes);
        if (status != Status::success) continue;
        if (answered[i].length_bytes > blob.data.size())
            throw Error{Fault::firmware, fmt::format("{}: {} says it wrote {} bytes into a buffer of {}", printable(device_.string(), 4096),
                                                     dev_sev::name(command), answered[i].length_bytes, blob.data.size())};
        blob.data.resize(answered[i].length_bytes);
    }
    return status;
}

Status CcpFirmware::issue(CommandId id, Call& call) {
    const auto command = carried_by(id);
    if (!command) throw not_carried(device_, id);
    switch (*command) {
    case dev_sev::Command::platform_status: {
        require(call.buffer.size() == dev_sev::status_size, "PLATFORM_STATUS has a buffer of 12 bytes");
        return status_of(*command, ioctl(*command, call.buffer));
    }
    case dev_sev::Command::get_id2: return get_id(call);
    case dev_sev::Command::pek_csr:
    case dev_sev::Command::pek_cert_import:
    case dev_sev::Command::pdh_cert_export: return with_buffers(*command, call);
    default: return status_of(*command, ioctl(*command, {}));
    }
}

} // namespace sev::psp::ccp
