// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"
#include "launch/probe/probe.hpp"

/// Readers of procfs, sysfs and of a kernel log. They take paths, so that a test can hand them a tree of its own.
namespace sev::probe {

/// The first line of a small file of the kernel's (whose stated size means nothing), without its line end and made printable; at most 512 bytes.
Reading<std::string> read_line(const Path& path);
/// All of such a file, at most `limit_bytes`; a longer one is Failure EFBIG.
Reading<std::string> read_all(const Path& path, std::size_t limit_bytes);
/// A hexadecimal number without prefix, as /sys/hypervisor/properties/features has it.
Reading<std::uint64_t> read_hexadecimal(const Path& path);
/// One MSR of one CPU from /dev/cpu/N/msr: 8 bytes at the register's number.
Reading<std::uint64_t> read_msr(const Path& device, std::uint32_t number);

/// `root`/sys/bus/pci/devices: AMD encryption controllers (vendor 1022, class 1080xx), and whatever the ccp driver has bound.
Reading<std::vector<PspDevice>> read_psp_devices(const Path& root);

/// What /proc/cpuinfo says of its first CPU: microcode, and the flags that matter here.
struct CpuInfo {
    Reading<std::string> microcode, flags;
};
CpuInfo read_cpu_info(const Path& root);

/// The words of the kernel's command line that are about memory encryption; the rest may be private and is dropped.
Reading<std::string> read_kernel_arguments(const Path& root);
/// /sys/hypervisor/version as "4.17.4-pre".
Reading<std::string> read_xen_version(const Path& root);

/// The lines that are about SEV, SME, TSME and the PSP, at most Bundle::limit_lines, each cut to 256 bytes and made printable. The kernel's command
/// line and all else that a log may hold are dropped.
KernelLog about_encryption(std::string_view log);
/// The running kernel's log. Failure EPERM where dmesg_restrict keeps it from us.
Reading<KernelLog> read_kernel_log();
/// A saved log (dmesg or journalctl -k), at most 8 MiB. Throws Error as read_text does.
KernelLog read_saved_log(const Path& path);

} // namespace sev::probe
