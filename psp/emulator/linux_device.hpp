// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <functional>
#include <mutex>

#include "psp/dev_sev.hpp"
#include "psp/emulator/emulator.hpp"
#include "psp/emulator/user_memory.hpp"
#include "psp/structures.hpp"

namespace sev::psp::emulator {

struct LinuxDeviceOptions {
    /// The driver's psp_probe_timeout, for its first command, and psp_cmd_timeout.
    std::chrono::milliseconds probe_timeout{5'000}, command_timeout{100'000};
    /// What the kernel would log. May be called from any thread that makes an ioctl.
    std::function<void(std::string_view line)> log = [](std::string_view) {};
};

/// /dev/sev on top of an emulated PSP, as Linux's ccp driver (sev-dev.c of 6.1, behaviour only) presents it: INIT for SEV-ES with a 1 MiB TMR, WBINVD
/// and DF_FLUSH when loaded, INIT once more after SECURE_DATA_INVALID; INIT before a command that needs it; the rules of write access; limits of
/// lengths; EIO with the firmware's status; a command that is not answered in time gives ETIMEDOUT, and every later one EBUSY until the device is
/// loaded anew. Thread-safe: commands run one at a time, and never while a caller's memory is copied, so that a caller who stalls holds up nobody
/// else.
///
/// Two differences from the driver, both to the caller's good: after INVALID_LENGTH only the lengths are copied out, not a buffer that the firmware
/// left untouched; and reads of the caller's memory come before the implicit INIT.
class LinuxDevice {
public:
    /// Loads the driver: a platform that is not UNINIT is shut down first, as after kexec. A PSP that fails here is logged, and the device is there
    /// all the same.
    explicit LinuxDevice(Emulator& emulator, LinuxDeviceOptions options = {});
    LinuxDevice(const LinuxDevice&) = delete;
    LinuxDevice& operator=(const LinuxDevice&) = delete;
    ~LinuxDevice();

    struct Answer {
        int error_number = 0; // 0 or a positive errno
        bool again = false;   // the memory said so: nothing has happened yet
        friend bool operator==(const Answer&, const Answer&) = default;
    };
    /// One ioctl on a file opened with (`writable`) or without write access. Never throws for what the caller hands in.
    Answer ioctl(std::uint32_t request, std::uint64_t argument, bool writable, UserMemory& memory);

private:
    struct Blob;
    struct Job;
    Answer prepare(Job& job, bool writable, UserMemory& memory);
    int execute(Job& job, bool writable);
    int run_command(Job& job);
    Answer copy_out(const Job& job, int error_number, UserMemory& memory);
    int command(CommandId id, std::span<std::uint8_t> buffer, std::uint32_t& error);
    int init(std::uint32_t& error);
    int shut_down(std::uint32_t& error);
    int init_if_needed(std::uint32_t& error);
    int reset(std::uint32_t& error);

    Emulator& emulator_;
    LinuxDeviceOptions options_;
    AddressSpace memory_;
    Bytes tmr_;
    SystemAddress tmr_at_{};
    std::mutex mutex_; // sev_cmd_mutex
    bool initialised_ = false, dead_ = false, probed_ = false;
    Build build_;
};

} // namespace sev::psp::emulator
