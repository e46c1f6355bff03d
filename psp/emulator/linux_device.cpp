// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/linux_device.hpp"

#include <array>
#include <cerrno>

namespace sev::psp::emulator {
namespace {

using dev_sev::Command;

constexpr int kernel_enotsupp = 524;            // in no header of user space
constexpr std::size_t tmr_bytes = 1U << 20;
constexpr std::uint32_t page_limit_bytes = 4U << 20; // what the kernel's page allocator gives in one piece (MAX_ORDER)
constexpr ApiVersion api_of_get_id{0, 16};

void put32(std::span<std::uint8_t> buffer, std::size_t at, std::uint32_t value) {
    for (std::size_t i = 0; i < 4; ++i) buffer[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}
void put64(std::span<std::uint8_t> buffer, std::size_t at, std::uint64_t value) {
    for (std::size_t i = 0; i < 8; ++i) buffer[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}
std::uint32_t get32(std::span<const std::uint8_t> buffer, std::size_t at) {
    return std::uint32_t{buffer[at]} | std::uint32_t{buffer[at + 1]} << 8 | std::uint32_t{buffer[at + 2]} << 16 | std::uint32_t{buffer[at + 3]} << 24;
}

/// Kernel memory that the PSP reaches, for the time of one command.
class KernelPages {
public:
    KernelPages(AddressSpace& memory, std::span<std::uint8_t> bytes) : memory_{memory}, at_{memory.attach(bytes)} {}
    KernelPages(const KernelPages&) = delete;
    KernelPages& operator=(const KernelPages&) = delete;
    ~KernelPages() { memory_.detach(at_); }
    SystemAddress at() const noexcept { return at_; }

private:
    AddressSpace& memory_;
    SystemAddress at_;
};

} // namespace

/// A buffer of the caller, and the kernel's copy of it.
struct LinuxDevice::Blob {
    std::uint64_t user_address = 0;
    std::uint32_t length_bytes = 0; // as the caller gave it; after the command, as the firmware did
    bool output = false;
    Bytes kernel;
};

/// One ioctl between its copies in and its copies out.
struct LinuxDevice::Job {
    std::uint64_t argument = 0;
    dev_sev::IssueCommand issue;
    std::vector<Blob> blobs; // of the sub-structure, in its order
    Bytes reply;             // PLATFORM_STATUS and GET_ID: what goes to issue.data
    bool lengths_back = false; // the sub-structure is written back with the firmware's lengths
};

LinuxDevice::LinuxDevice(Emulator& emulator, LinuxDeviceOptions options) : emulator_{emulator}, options_{std::move(options)}, tmr_(tmr_bytes) {
    tmr_at_ = memory_.attach(tmr_, tmr_bytes);
    try {
        std::uint32_t error = 0;
        ByteArray<PlatformStatus::wire_size> raw{};
        if (command(CommandId::platform_status, raw, error) != 0) {
            options_.log(fmt::format("ccp: SEV: failed to get status, error {:#x}", error));
            return;
        }
        const PlatformStatus status = PlatformStatus::parse(wire::view(raw));
        build_ = status.build;
        initialised_ = status.state != PlatformState::uninit;
        if (initialised_) static_cast<void>(shut_down(error));
        if (const int result = init(error); result != 0) options_.log(fmt::format("ccp: SEV: failed to INIT error {:#x}, rc -{}", error, result));
    } catch (...) {
        memory_.detach(tmr_at_);
        throw;
    }
}

LinuxDevice::~LinuxDevice() { memory_.detach(tmr_at_); }

/// One mailbox command. The buffer is written back also when the firmware refuses.
int LinuxDevice::command(CommandId id, std::span<std::uint8_t> buffer, std::uint32_t& error) {
    if (dead_) return EBUSY;
    const auto timeout = probed_ ? options_.command_timeout : options_.probe_timeout;
    Bytes scratch(std::max<std::size_t>(buffer.size(), 1));
    std::ranges::copy(buffer, scratch.begin());
    std::optional<Status> status;
    {
        const KernelPages pages{memory_, scratch};
        try {
            status = emulator_.execute(static_cast<std::uint32_t>(id), buffer.empty() ? SystemAddress{} : pages.at(), memory_, timeout);
        } catch (const Error& failure) {
            // the emulator's own trouble, such as a full disk under its state: to the driver, a PSP that fails
            options_.log(fmt::format("emulated PSP: {}", failure.what()));
            status = Status::hwerror_platform;
        }
    }
    if (!status) {
        error = 0;
        dead_ = true;
        options_.log(fmt::format("ccp: sev command {:#x} timed out, disabling PSP", static_cast<std::uint32_t>(id)));
        return ETIMEDOUT;
    }
    probed_ = true;
    std::ranges::copy_n(scratch.begin(), static_cast<std::ptrdiff_t>(buffer.size()), buffer.begin());
    error = static_cast<std::uint32_t>(*status);
    return *status == Status::success ? 0 : EIO;
}

int LinuxDevice::init(std::uint32_t& error) {
    ByteArray<0x14> buffer{};
    wire::put_le32<0x00>(wire::span(buffer), 1); // FLAGS.ES
    wire::put_le64<0x08>(wire::span(buffer), raw(tmr_at_));
    wire::put_le32<0x10>(wire::span(buffer), static_cast<std::uint32_t>(tmr_bytes));
    error = dev_sev::no_firmware_call;
    int result = command(CommandId::init, buffer, error);
    if (result != 0 && error == static_cast<std::uint32_t>(Status::secure_data_invalid)) {
        options_.log("ccp: SEV: retrying INIT command because of SECURE_DATA_INVALID error");
        result = command(CommandId::init, buffer, error);
    }
    if (result != 0) return result;
    initialised_ = true;
    emulator_.wbinvd();
    if (result = command(CommandId::df_flush, {}, error); result != 0) return result;
    options_.log(fmt::format("ccp: SEV API:{}.{} build:{}", build_.major, build_.minor, build_.build));
    return 0;
}

int LinuxDevice::init_if_needed(std::uint32_t& error) { return initialised_ ? 0 : init(error); }

int LinuxDevice::shut_down(std::uint32_t& error) {
    if (!initialised_) return 0;
    const int result = command(CommandId::shutdown, {}, error);
    if (result == 0) initialised_ = false;
    return result;
}

int LinuxDevice::reset(std::uint32_t& error) {
    ByteArray<PlatformStatus::wire_size> raw{};
    if (const int result = command(CommandId::platform_status, raw, error); result != 0) return result;
    const PlatformState state = PlatformStatus::parse(wire::view(raw)).state;
    if (state == PlatformState::working) return EBUSY;
    if (state == PlatformState::init) {
        if (const int result = shut_down(error); result != 0) return result;
    }
    return command(CommandId::platform_reset, {}, error);
}

/// Everything that is copied in, and every refusal that needs neither the firmware nor its state.
LinuxDevice::Answer LinuxDevice::prepare(Job& job, bool writable, UserMemory& memory) {
    Answer answer;
    const auto go_on = [&](UserMemory::Access access) {
        if (access == UserMemory::Access::fault) answer.error_number = EFAULT;
        if (access == UserMemory::Access::again) answer.again = true;
        return access == UserMemory::Access::done;
    };
    const auto read_pair = [&](std::array<dev_sev::Buffer, 2>& pair, std::size_t count) {
        ByteArray<dev_sev::BufferPair::wire_size> raw{};
        const std::size_t size = count * dev_sev::Buffer::wire_size;
        if (!go_on(memory.read(job.issue.data, std::span{raw}.first(size)))) return false;
        const auto parsed = dev_sev::BufferPair::parse(wire::view(raw));
        pair = {parsed.first, parsed.second};
        job.lengths_back = true;
        return go_on(memory.announce(job.issue.data, static_cast<std::uint32_t>(size)));
    };
    const auto refuse = [&](int error_number) { answer.error_number = error_number; };
    std::array<dev_sev::Buffer, 2> buffers;

    switch (job.issue.command) {
    case Command::factory_reset:
    case Command::pek_gen:
    case Command::pdh_gen:
        if (!writable) refuse(EPERM);
        return answer;
    case Command::platform_status:
        go_on(memory.announce(job.issue.data, dev_sev::status_size));
        return answer;
    case Command::get_id:
        if (build_.api() < api_of_get_id)
            refuse(kernel_enotsupp);
        else
            go_on(memory.announce(job.issue.data, dev_sev::get_id_size));
        return answer;
    case Command::get_id2:
    case Command::pek_csr: {
        const bool id = job.issue.command == Command::get_id2;
        if (id && build_.api() < api_of_get_id) return refuse(kernel_enotsupp), answer;
        if (!id && !writable) return refuse(EPERM), answer;
        if (!read_pair(buffers, 1)) return answer;
        Blob blob{.user_address = buffers[0].address, .output = true, .kernel = {}};
        if (buffers[0].address != 0 && buffers[0].length_bytes != 0) { // else the caller asks for the length
            if (id && buffers[0].length_bytes > page_limit_bytes) return refuse(ENOMEM), answer;
            if (!id && buffers[0].length_bytes > dev_sev::blob_limit_bytes) return refuse(EFAULT), answer;
            blob.length_bytes = buffers[0].length_bytes;
        }
        job.blobs.push_back(std::move(blob));
        break;
    }
    case Command::pdh_cert_export: {
        if (!read_pair(buffers, 2)) return answer;
        const bool asks_length = buffers[0].address == 0 || buffers[0].length_bytes == 0 || buffers[1].address == 0;
        for (const dev_sev::Buffer& buffer : buffers) {
            if (!asks_length && buffer.length_bytes > dev_sev::blob_limit_bytes) return refuse(EFAULT), answer;
            job.blobs.push_back(
                {.user_address = buffer.address, .length_bytes = asks_length ? 0 : buffer.length_bytes, .output = true, .kernel = {}});
        }
        break;
    }
    case Command::pek_cert_import:
        if (!writable) return refuse(EPERM), answer;
        if (!read_pair(buffers, 2)) return answer;
        job.lengths_back = false;
        for (const dev_sev::Buffer& buffer : buffers) {
            if (buffer.address == 0 || buffer.length_bytes == 0 || buffer.length_bytes > dev_sev::blob_limit_bytes) return refuse(EINVAL), answer;
            Blob blob{.user_address = buffer.address, .length_bytes = buffer.length_bytes, .kernel = Bytes(buffer.length_bytes)};
            if (!go_on(memory.read(blob.user_address, blob.kernel))) return answer;
            job.blobs.push_back(std::move(blob));
        }
        return answer;
    }
    for (Blob& blob : job.blobs) {
        // Only so much of a longer buffer is ever written: ids of 8 sockets, or the driver's limit.
        const std::uint32_t reachable = std::min(blob.length_bytes, dev_sev::blob_limit_bytes);
        if (reachable != 0 && !go_on(memory.announce(blob.user_address, reachable))) return answer;
        blob.kernel.resize(reachable);
    }
    return answer;
}

/// The command itself, under the driver's mutex.
int LinuxDevice::execute(Job& job, bool writable) {
    std::uint32_t& error = job.issue.error;
    switch (job.issue.command) {
    case Command::factory_reset: return reset(error);
    case Command::platform_status: {
        job.reply = Bytes(dev_sev::status_size);
        return command(CommandId::platform_status, job.reply, error);
    }
    case Command::pdh_cert_export:
        if (!initialised_ && !writable) return EPERM;
        [[fallthrough]];
    case Command::pek_gen:
    case Command::pdh_gen:
    case Command::pek_csr:
    case Command::pek_cert_import:
        if (const int result = init_if_needed(error); result != 0) return result;
        break;
    case Command::get_id:
        job.blobs.push_back({.length_bytes = dev_sev::get_id_size, .output = true, .kernel = Bytes(dev_sev::get_id_size)});
        break;
    case Command::get_id2: break;
    }
    return run_command(job);
}

/// A command with at most two buffers: lays out the firmware's command buffer, and reads the lengths back.
int LinuxDevice::run_command(Job& job) {
    struct Layout {
        Command command;
        CommandId id;
        std::size_t size;
        std::array<std::size_t, 2> address_at; // the length follows the address in each
    };
    static constexpr std::array layouts{
        Layout{Command::pek_gen, CommandId::pek_gen, 0, {}},
        Layout{Command::pdh_gen, CommandId::pdh_gen, 0, {}},
        Layout{Command::pek_csr, CommandId::pek_csr, 0x0C, {0x00}},
        Layout{Command::pdh_cert_export, CommandId::pdh_cert_export, 0x1C, {0x00, 0x10}},
        Layout{Command::pek_cert_import, CommandId::pek_cert_import, 0x1C, {0x00, 0x10}},
        Layout{Command::get_id, CommandId::get_id, 0x0C, {0x00}},
        Layout{Command::get_id2, CommandId::get_id, 0x0C, {0x00}},
    };
    const auto layout = std::ranges::find(layouts, job.issue.command, &Layout::command);
    require(layout != layouts.end(), "every command of /dev/sev has a layout");

    Bytes buffer(layout->size);
    std::vector<std::unique_ptr<KernelPages>> pages;
    for (std::size_t i = 0; i < job.blobs.size(); ++i) {
        Blob& blob = job.blobs[i];
        if (blob.kernel.empty()) continue; // address and length 0: a query
        pages.push_back(std::make_unique<KernelPages>(memory_, blob.kernel));
        put64(buffer, layout->address_at[i], raw(pages.back()->at()));
        put32(buffer, layout->address_at[i] + 8, static_cast<std::uint32_t>(blob.kernel.size()));
    }
    const int result = command(layout->id, buffer, job.issue.error);
    for (std::size_t i = 0; i < job.blobs.size(); ++i) job.blobs[i].length_bytes = get32(buffer, layout->address_at[i] + 8);
    if (job.issue.command == Command::get_id && result == 0) {
        Blob& blob = job.blobs[0];
        blob.kernel.resize(std::min<std::size_t>(blob.length_bytes, blob.kernel.size()));
        job.reply = std::move(blob.kernel);
        job.blobs.clear();
    }
    return result;
}

LinuxDevice::Answer LinuxDevice::copy_out(const Job& job, int error_number, UserMemory& memory) {
    const auto write = [&](std::uint64_t address, ByteView bytes) {
        if (memory.write(address, bytes) != UserMemory::Access::done) error_number = EFAULT;
    };
    if (error_number == 0 && !job.reply.empty()) write(job.issue.data, job.reply);
    // Once the firmware was asked, its lengths go back, whatever it said.
    if (job.lengths_back && (error_number == 0 || error_number == EIO) && job.issue.error != dev_sev::no_firmware_call) {
        ByteArray<dev_sev::BufferPair::wire_size> raw{};
        for (std::size_t i = 0; i < job.blobs.size(); ++i)
            std::ranges::copy(dev_sev::Buffer{.address = job.blobs[i].user_address, .length_bytes = job.blobs[i].length_bytes}.serialize(),
                              raw.begin() + static_cast<std::ptrdiff_t>(i * dev_sev::Buffer::wire_size));
        write(job.issue.data, ByteView{raw}.first(job.blobs.size() * dev_sev::Buffer::wire_size));
    }
    if (error_number == 0) {
        for (const Blob& blob : job.blobs)
            if (blob.output && !blob.kernel.empty())
                write(blob.user_address, ByteView{blob.kernel}.first(std::min<std::size_t>(blob.length_bytes, blob.kernel.size())));
    }
    write(job.argument, job.issue.serialize());
    return {.error_number = error_number};
}

LinuxDevice::Answer LinuxDevice::ioctl(std::uint32_t request, std::uint64_t argument, bool writable, UserMemory& memory) {
    if (request != dev_sev::issue_command) return {.error_number = EINVAL};
    Job job{.argument = argument, .issue = {}, .blobs = {}, .reply = {}};
    ByteArray<dev_sev::IssueCommand::wire_size> raw{};
    const auto access = memory.read(argument, raw);
    if (access == UserMemory::Access::done) {
        job.issue = dev_sev::IssueCommand::parse(wire::view(raw));
        if (static_cast<std::uint32_t>(job.issue.command) > dev_sev::last_command) return {.error_number = EINVAL};
    }
    const auto announced = access == UserMemory::Access::done ? memory.announce(argument, dev_sev::IssueCommand::wire_size) : access;
    if (announced != UserMemory::Access::done)
        return {.error_number = announced == UserMemory::Access::fault ? EFAULT : 0, .again = announced == UserMemory::Access::again};

    Answer answer = prepare(job, writable, memory);
    if (answer.again) return answer;
    if (answer.error_number != 0) {
        job.lengths_back = false;
    } else {
        const std::lock_guard lock{mutex_};
        answer.error_number = execute(job, writable);
    }
    return copy_out(job, answer.error_number, memory);
}

} // namespace sev::psp::emulator
