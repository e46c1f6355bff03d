// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "launch/probe/cpuid.hpp"
#include "launch/probe/reading.hpp"
#include "psp/types.hpp"

namespace sev::probe {

/// One AMD security processor on the PCI bus, or any device that the ccp driver has bound.
struct PspDevice {
    static constexpr std::size_t limit = 32;
    std::string address; // "0000:04:00.2"
    std::string device;  // "0x1456"
    std::string driver;  // "ccp"; empty: none is bound
    Reading<std::string> tsme_status; // sysfs attribute tsme_status: "0" or "1"
    friend bool operator==(const PspDevice&, const PspDevice&) = default;
};

/// What the PLATFORM_STATUS ioctl brought back: the firmware's status code, and the 12 bytes.
struct PlatformAnswer {
    std::uint16_t status = 0;
    ByteArray<12> bytes{};
    friend bool operator==(const PlatformAnswer&, const PlatformAnswer&) = default;
};

using KernelLog = std::vector<std::string>;

/// Everything that was read on one machine, raw. Two probes of one machine differ only by what changed. No serial number or UUID is ever read.
struct Probe {
    std::string tool;                // "xen-sev 0.1.0"
    std::string recorded;            // "2026-11-22T15:00:00Z"; empty: not recorded
    bool constructed = false;        // made from published facts, not recorded on a machine
    std::string note;                // for a constructed one: from which facts

    Reading<std::uint64_t> user_id;  // effective
    Reading<std::string> kernel_release, kernel_machine;

    Reading<CpuidLeaves> cpuid_instruction, cpuid_device, cpuid_xen_raw;
    Reading<std::uint64_t> msr_syscfg, msr_hwcr, msr_sev_status; // CPU 0: 0xc0010010, 0xc0010015, 0xc0010131
    Reading<std::string> cpu_microcode, cpu_flags; // /proc/cpuinfo, first CPU; flags: only those about memory encryption and virtualisation

    Reading<std::string> xen_type, xen_version, xen_guest_type, xen_capabilities; // /sys/hypervisor, /proc/xen/capabilities
    Reading<std::uint64_t> xen_features;                                          // /sys/hypervisor/properties/features
    Reading<std::string> xen_module;        // the helper module: the Xen release that it was built for
    Reading<bool> xen_control;              // libxenctrl's interface opened
    Reading<bool> xen_toolstack_coco;       // libxl was built with the coco setting
    Reading<Bytes> coco_status;             // op 0 of the coco hypercall, 64 bytes
    Reading<bool> coco_certificates;        // op 3 answered

    Reading<std::vector<PspDevice>> psp_devices;
    Reading<KernelLog> kernel_log;          // lines about memory encryption and the PSP only
    Reading<std::string> kernel_arguments;  // the words of the kernel's command line about memory encryption
    Reading<std::string> kvm_sev, kvm_sev_es, kvm_sev_snp; // /sys/module/kvm_amd/parameters
    Reading<std::uint64_t> kvm_api;
    Reading<std::uint64_t> memlock_soft, memlock_hard;

    Reading<bool> sev_device_kernel_made;   // /sys/class/misc/sev is there
    Reading<bool> sev_device_read, sev_device_write;
    Reading<PlatformAnswer> platform_status;
    Reading<Bytes> chip_id;                 // 64 bytes, only when asked for

    Reading<std::string> dmi_system_vendor, dmi_product_name, dmi_board_vendor, dmi_board_name, dmi_bios_vendor, dmi_bios_version, dmi_bios_date;

    friend bool operator==(const Probe&, const Probe&) = default;
};

/// Calls visit(name, reading) for each reading, in the order of the file format; the names are the format's keys.
template <class AnyProbe, class Visit>
void each_reading(AnyProbe& p, Visit&& visit) {
    visit("user_id", p.user_id);
    visit("kernel_release", p.kernel_release);
    visit("kernel_machine", p.kernel_machine);
    visit("cpuid_instruction", p.cpuid_instruction);
    visit("cpuid_device", p.cpuid_device);
    visit("cpuid_xen_raw", p.cpuid_xen_raw);
    visit("msr_syscfg", p.msr_syscfg);
    visit("msr_hwcr", p.msr_hwcr);
    visit("msr_sev_status", p.msr_sev_status);
    visit("cpu_microcode", p.cpu_microcode);
    visit("cpu_flags", p.cpu_flags);
    visit("xen_type", p.xen_type);
    visit("xen_version", p.xen_version);
    visit("xen_guest_type", p.xen_guest_type);
    visit("xen_capabilities", p.xen_capabilities);
    visit("xen_features", p.xen_features);
    visit("xen_module", p.xen_module);
    visit("xen_control", p.xen_control);
    visit("xen_toolstack_coco", p.xen_toolstack_coco);
    visit("coco_status", p.coco_status);
    visit("coco_certificates", p.coco_certificates);
    visit("psp_devices", p.psp_devices);
    visit("kernel_log", p.kernel_log);
    visit("kernel_arguments", p.kernel_arguments);
    visit("kvm_sev", p.kvm_sev);
    visit("kvm_sev_es", p.kvm_sev_es);
    visit("kvm_sev_snp", p.kvm_sev_snp);
    visit("kvm_api", p.kvm_api);
    visit("memlock_soft", p.memlock_soft);
    visit("memlock_hard", p.memlock_hard);
    visit("sev_device_kernel_made", p.sev_device_kernel_made);
    visit("sev_device_read", p.sev_device_read);
    visit("sev_device_write", p.sev_device_write);
    visit("platform_status", p.platform_status);
    visit("chip_id", p.chip_id);
    visit("dmi_system_vendor", p.dmi_system_vendor);
    visit("dmi_product_name", p.dmi_product_name);
    visit("dmi_board_vendor", p.dmi_board_vendor);
    visit("dmi_board_name", p.dmi_board_name);
    visit("dmi_bios_vendor", p.dmi_bios_vendor);
    visit("dmi_bios_version", p.dmi_bios_version);
    visit("dmi_bios_date", p.dmi_bios_date);
}

} // namespace sev::probe
