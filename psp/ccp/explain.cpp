// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "psp/ccp/ccp_firmware.hpp"

namespace sev::psp::ccp {
namespace {

struct Meaning {
    int error_number;
    std::string_view name, sentence, remedy;
};

// ENOTSUPP is the kernel's own and in no header of user space: the firmware is older than the command (GET_ID before API 0.16).
constexpr int enotsupp = 524;

constexpr std::array openings{
    Meaning{ENOENT, "ENOENT", "there is no such device: the ccp driver has not found a PSP with SEV, or is not loaded",
            "load it (modprobe ccp) and look into the kernel log (dmesg | grep -i -e ccp -e sev); SEV must be enabled in the firmware setup (SMEE, "
            "SEV), and under Xen "
            "dom0's kernel does not offer it; 'sevctl status' says which layer is missing"},
    Meaning{ENODEV, "ENODEV", "the device is registered, but no PSP with SEV is behind it",
            "look into the kernel log (dmesg | grep -i -e ccp -e sev) for why the driver let it go"},
    Meaning{ENXIO, "ENXIO", "the device file is there, but no driver serves it",
            "load the driver (modprobe ccp), or remove the stale device file and let udev make it anew"},
    Meaning{EACCES, "EACCES", "permission denied: on most systems it belongs to root alone",
            "run this as root, or give your user access to the device (a udev rule with a group, not mode 0666)"},
    Meaning{EPERM, "EPERM",
            "the operation is not permitted, whatever the file's mode says: a container's device filter or a security module refuses it",
            "pass the device into the container (--device), or look into the audit log"},
    Meaning{EBUSY, "EBUSY", "it is in use by somebody who does not share it", "find the user with 'fuser' and stop it"},
    Meaning{EISDIR, "EISDIR", "it is a directory", "name the character device of Linux's ccp driver: /dev/sev, if the machine has one"},
    Meaning{ENOTDIR, "ENOTDIR", "a part of its path is no directory",
            "name the character device of Linux's ccp driver: /dev/sev, if the machine has one"},
    Meaning{EROFS, "EROFS", "it lies on a file system that is mounted read-only", "open it on the host's own /dev"},
    Meaning{EMFILE, "EMFILE", "this process has too many files open", "raise the limit (ulimit -n)"},
    Meaning{ENFILE, "ENFILE", "the system has too many files open", "close some, or raise fs.file-max"},
};

constexpr std::array refusals{
    Meaning{EIO, "EIO", "the kernel gave up before it reached the firmware (SEV_RET_NO_FW_CALL)",
            "look into the kernel log (dmesg | grep -i -e ccp -e sev): INIT by the driver may have failed"},
    Meaning{ENODEV, "ENODEV", "the PSP is gone: its driver was unbound or lost the device while the file was open",
            "load the driver again (modprobe ccp) and repeat the command"},
    Meaning{EPERM, "EPERM", "the command changes the platform, and the device is open for reading only",
            "open it for writing: run this as root, or with write permission on the device"},
    Meaning{EACCES, "EACCES", "a security module forbids this command on the device", "look into the audit log for the rule"},
    Meaning{ENOENT, "ENOENT", "the driver lacks a file that it needs for this command",
            "look into the kernel log; with ccp's init_ex_path the file of persistent data must be reachable"},
    Meaning{ENOTTY, "ENOTTY", "it does not know the SEV_ISSUE_CMD request, so it is no /dev/sev",
            "name the right device: the one that Linux's ccp driver makes is /dev/sev"},
    Meaning{EFAULT, "EFAULT", "the kernel could not read or write one of the buffers, or one is longer than the 16384 bytes it takes",
            "this is a bug in the caller: report it, with what was asked and the kernel's version"},
    Meaning{EINVAL, "EINVAL", "the kernel does not know this command, or a buffer has a length that it refuses (0, or more than 16384 bytes)",
            "check the kernel's version: GET_ID2 came with Linux 5.2; and that certificates have 2084 bytes"},
    Meaning{ENOMEM, "ENOMEM", "the kernel has no memory left for a buffer of this length", "free memory, and repeat the command"},
    Meaning{ECONNABORTED, "ECONNABORTED", "the program that serves the device (by CUSE, as sev-emulator does) ended while the command ran",
            "start it again, and look at the platform (sevctl show flags) before the command is repeated: it may have been carried out"},
    Meaning{ENOTCONN, "ENOTCONN", "the program that served the device (by CUSE, as sev-emulator does) has ended",
            "start it again; the device is then another one, to be opened anew"},
    Meaning{enotsupp, "ENOTSUPP", "the firmware is too old for this command", "update the BIOS: GET_ID needs SEV API 0.16 or newer"},
    Meaning{EOPNOTSUPP, "EOPNOTSUPP", "the kernel does not offer this command here",
            "look into the kernel log; ccp's init_ex_path may be set without a usable file"},
};

const Meaning* find(std::span<const Meaning> meanings, int error_number) {
    const auto found = std::ranges::find(meanings, error_number, &Meaning::error_number);
    return found == meanings.end() ? nullptr : &*found;
}

std::string shown(const Path& device) { return printable(device.string(), 4096); }

Error unknown(std::string subject, int error_number) {
    return {Fault::system, fmt::format("{}: {} (errno {})", subject, std::strerror(error_number), error_number),
            "look into the kernel log (dmesg | grep -i -e ccp -e sev)"};
}

} // namespace

Error explain_open(const Path& device, Access access, int error_number) {
    const std::string subject =
        fmt::format("{}: cannot be opened for {}", shown(device), access == Access::read_only ? "reading" : "reading and writing");
    const Meaning* const meaning = find(openings, error_number);
    if (!meaning) return unknown(subject, error_number);
    return {Fault::system, fmt::format("{}: {} ({})", subject, meaning->sentence, meaning->name), std::string{meaning->remedy}};
}

Error explain(const Path& device, dev_sev::Command command, int error_number, std::uint32_t firmware_error) {
    const std::string subject = shown(device); // the command's name comes from whoever issued it
    if (error_number == ETIMEDOUT)
        return {
            Fault::firmware, fmt::format("{}: the PSP did not answer in time, and the driver has given it up (ETIMEDOUT)", subject),
            "no command reaches the PSP until the driver is loaded anew or the machine is power-cycled; if it comes back, look for a BIOS update"};
    if (error_number == EBUSY) {
        // The driver says EBUSY for a reset while guests exist, and for everything once a command has timed out.
        if (command == dev_sev::Command::factory_reset)
            return {Fault::system, fmt::format("{}: guests are running, or the PSP has been given up after a timeout (EBUSY)", subject),
                    "stop all SEV guests first; if there are none, look into the kernel log for 'timed out, disabling PSP' and reboot"};
        return {Fault::system, fmt::format("{}: the driver has given the PSP up after a command that timed out (EBUSY)", subject),
                "look into the kernel log for 'timed out, disabling PSP', and reboot"};
    }
    const Meaning* const meaning = find(refusals, error_number);
    if (!meaning) return unknown(subject, error_number);
    const std::string_view note = error_number == EIO && firmware_error == 0 ? "; the firmware reported no error" : "";
    return {Fault::system, fmt::format("{}: {} ({}){}", subject, meaning->sentence, meaning->name, note), std::string{meaning->remedy}};
}

} // namespace sev::psp::ccp
