// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "psp/ccp/ccp_firmware.hpp"
#include "psp/command.hpp"
#include "sevctl/inputs.hpp"

/// What the commands share that talk to this machine's PSP.
namespace sev::cli {

inline constexpr Argument device_option{.name = "--device", .kind = Kind::path, .metavar = "PATH", .help = "The PSP's device. Default: /dev/sev."};
inline constexpr Argument yes_option{
    .name = "--yes", .letter = 'y', .kind = Kind::flag, .help = "Do it without asking. Needed when standard input is no terminal."};

/// The PSP of this machine, as far as Linux lets this user.
class Platform {
public:
    /// Says on stderr when the device is an emulated one: nothing it says is about this machine.
    Platform(const Arguments& given, Console& console, psp::ccp::Access access);
    psp::Firmware& firmware() noexcept { return firmware_; }
    const Path& device() const noexcept { return firmware_.device(); }
    /// The device is one of sev-emulator's, as far as can be known: behind a preloaded library or a character device that is not Linux's misc device.
    bool emulated() const noexcept { return emulated_; }
    psp::PlatformStatus status() { return psp::run(firmware_, psp::GetPlatformStatus{}); }
    /// The id of each socket's chip.
    std::vector<psp::ChipId> chip_ids();
    /// PDH, PEK, OCA and the CEK as the firmware gives it, without AMD's signature. Linux needs write access if the platform is not initialised yet.
    psp::PlatformCertificates certificates() { return psp::run(firmware_, psp::PdhCertExport{}); }

private:
    psp::ccp::CcpFirmware firmware_;
    bool emulated_;
};

/// Reading suffices, unless the platform has to be initialised first: then the device is opened for writing.
Platform open_for_certificates(const Arguments& given, Console& console);

/// Says what will be lost, and asks on the terminal for "yes". Throws Error{Fault::usage} when the answer is another, or when there is neither a
/// terminal nor
/// --yes; nothing has happened then.
void confirm(const Arguments& given, Console& console, std::string_view what_is_lost);

/// A result with "device" and "emulated" in it.
json::Value platform_result(const Arguments& given, const Platform& platform);

/// Says when a chain that somebody cached (cached_chain_files) is not this platform's any more.
void warn_of_cached_chain(Console& console);

} // namespace sev::cli
