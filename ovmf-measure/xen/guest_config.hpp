// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "ovmf-measure/xen/version.hpp"

namespace sev::measure {

/// Most vCPUs of an HVM or PVH guest (Xen's HVM_MAX_VCPUS).
inline constexpr unsigned xen_max_vcpus = 128;

/// vCPUs that are online when the guest starts (libxl's avail_vcpus): bit i is vCPU i.
using XenVcpuSet = std::bitset<xen_max_vcpus>;
/// The first `count`.
XenVcpuSet first_vcpus(unsigned count);
/// "0-3", "0,2-3"; "none" for the empty set.
std::string text(const XenVcpuSet& set);
/// Reads what `text` writes. Throws Error{Fault::usage} that names `what`.
XenVcpuSet parse_vcpu_set(std::string_view text, std::string_view what);

enum class XenFirmware { seabios, ovmf };
std::string_view name(XenFirmware firmware); // "seabios", "ovmf"
enum class XenVga { none, cirrus, stdvga, qxl };
std::string_view name(XenVga vga);
/// Video memory libxl gives by default: 0, 8, 16 and 128 MiB.
std::uint64_t default_video_kib(XenVga vga);

/// What of a guest's configuration decides its initial memory image: one value, whatever file it was read from. Paths are as the file has them.
struct XenGuestConfig {
    std::string name; // of the domain; empty when it has none (measured nowhere)
    XenGuestType type = XenGuestType::pvh;
    std::uint64_t memory_kib = 0; // max_memkb, video memory included; target_memkb is equal, or the guest is refused
    std::uint64_t video_kib = 0;
    unsigned vcpus = 1;         // max_vcpus
    XenVcpuSet online{1};       // avail_vcpus
    bool apic = true;           // xl always gives PVH guests one

    // PVH; an HVM guest may have them too, and then they reach it through QEMU, unmeasured
    std::optional<std::string> kernel, ramdisk;
    std::optional<std::string> cmdline; // set and empty is not the same as not set

    // HVM
    XenFirmware firmware = XenFirmware::seabios;
    std::optional<std::string> hvmloader;       // firmware_override: instead of Xen's own
    std::optional<std::string> system_firmware; // bios_path_override: instead of the firmware libxl was built with
    std::optional<std::string> acpi_firmware, smbios_firmware;
    std::optional<std::uint64_t> mmio_hole_kib;
    XenVga vga = XenVga::none;
    bool emulated_nics = false; // QEMU adds their option ROMs to guest memory, so that the number of pages is not known

    friend bool operator==(const XenGuestConfig&, const XenGuestConfig&) = default;
};

/// Refuses what no toolstack would build or what cannot be predicted: Error{Fault::usage} that names the field: memory of 0, not a whole number of
/// MiB after video memory is taken off, or above 16 TiB; 0 or more than `xen_max_vcpus` vCPUs; an online set that is empty, lacks vCPU 0 or goes
/// beyond the vCPUs; a PVH guest without a kernel, with HVM's files or without APIC; a command line of more than 64 KiB or with a NUL; HVM's MMIO
/// hole beyond its bounds.
void check(const XenGuestConfig& config);

} // namespace sev::measure
