// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/file.hpp"
#include "psp/dev_sev.hpp"
#include "psp/firmware.hpp"

namespace sev::psp::ccp {

inline constexpr const char* default_device = "/dev/sev";

/// Linux lets a reader ask for status and ids, and export certificates from a platform that is initialised; the rest wants a writer.
enum class Access { read_only, read_write };

/// The PSP behind Linux's /dev/sev (drivers ccp). Only the platform commands of <linux/psp-sev.h> go this way; INIT, SHUTDOWN and DF_FLUSH are the
/// driver's own business, guests are KVM's: for these `issue` throws Error{Fault::usage}. The driver runs INIT by itself before a command that needs
/// it, and SHUTDOWN before PLATFORM_RESET. Thread-safe: the driver serialises commands.
class CcpFirmware final : public Firmware {
public:
    /// Throws Error{Fault::system} when the device is absent, not permitted, busy, or no character device.
    explicit CcpFirmware(Path device = default_device, Access access = Access::read_write);
    /// A status of the firmware is returned; whatever the kernel says of its own is an Error, see `explain`.
    Status issue(CommandId id, Call& call) override;
    std::string_view backend() const noexcept override { return "ccp"; }
    const Path& device() const noexcept { return device_; }

private:
    struct Outcome {
        int error_number; // 0: success
        std::uint32_t firmware_error;
    };
    Outcome ioctl(dev_sev::Command command, std::span<std::uint8_t> data);
    Status status_of(dev_sev::Command command, const Outcome& outcome) const;
    Status get_id(Call& call);
    Status with_buffers(dev_sev::Command command, Call& call);

    Path device_;
    Fd fd_;
};

/// What /dev/sev means by failing to open, with the remedy as hint. Fault::system.
Error explain_open(const Path& device, Access access, int error_number);

/// What the kernel means by refusing a command itself: one sentence and one remedy for each errno, and for EIO without a status of the firmware
/// (SEV_RET_NO_FW_CALL). The command's name is left to `attempt`, which puts it in front. Fault::firmware for a PSP that did not answer in time, else
/// Fault::system.
Error explain(const Path& device, dev_sev::Command command, int error_number, std::uint32_t firmware_error);

} // namespace sev::psp::ccp
