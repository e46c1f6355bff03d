// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/guest_config.hpp"

#include <charconv>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::measure {
namespace {

constexpr std::uint64_t memory_limit_kib = std::uint64_t{16} << 30; // 16 TiB
constexpr std::uint64_t hole_min_kib = 256 * 1024, hole_max_kib = 3840 * 1024; // from 4 GiB downwards; xl's own bounds
constexpr std::size_t cmdline_limit_bytes = 64 * 1024;

[[noreturn]] void refuse(std::string_view field, std::string_view problem) {
    throw Error{Fault::usage, fmt::format("Xen guest: {} {}", field, problem)};
}

void check_memory(const XenGuestConfig& config) {
    if (config.memory_kib == 0) refuse("memory", "is 0");
    if (config.memory_kib > memory_limit_kib) refuse("memory", fmt::format("is {} KiB, want at most 16 TiB", config.memory_kib));
    if (config.video_kib >= config.memory_kib)
        refuse("video memory", fmt::format("is {} KiB of {} KiB in all, want less", config.video_kib, config.memory_kib));
    if ((config.memory_kib - config.video_kib) % 1024 != 0)
        refuse("memory", fmt::format("is {} KiB less {} KiB of video memory, want whole MiB: the builder rounds in two ways", config.memory_kib,
                                     config.video_kib));
    if (config.mmio_hole_kib && (*config.mmio_hole_kib < hole_min_kib || *config.mmio_hole_kib > hole_max_kib || *config.mmio_hole_kib % 1024 != 0))
        refuse("mmio_hole", fmt::format("is {} KiB, want 256 to 3840 MiB in whole MiB", *config.mmio_hole_kib));
}

void check_vcpus(const XenGuestConfig& config) {
    if (config.vcpus == 0 || config.vcpus > xen_max_vcpus) refuse("vcpus", fmt::format("is {}, want 1 to {}", config.vcpus, xen_max_vcpus));
    if (!config.online.test(0)) refuse("online vCPUs", fmt::format("are {}, want vCPU 0 among them", text(config.online)));
    if ((config.online & ~first_vcpus(config.vcpus)).any())
        refuse("online vCPUs", fmt::format("are {}, beyond the {} the guest has", text(config.online), config.vcpus));
}

void check_pvh(const XenGuestConfig& config) {
    if (!config.kernel) refuse("kernel", "is missing: a PVH guest has one");
    if (!config.apic) refuse("apic", "is off, want on: the ACPI tables of a PVH guest without APIC are not known");
    if (config.video_kib != 0 || config.vga != XenVga::none) refuse("video memory", "is there, and a PVH guest has none");
    const auto absent = [](bool is_there, std::string_view field) {
        if (is_there) refuse(field, "is there, and a PVH guest has none");
    };
    absent(config.hvmloader.has_value(), "hvmloader");
    absent(config.system_firmware.has_value(), "system firmware");
    absent(config.acpi_firmware.has_value(), "acpi_firmware");
    absent(config.smbios_firmware.has_value(), "smbios_firmware");
    absent(config.mmio_hole_kib.has_value(), "mmio_hole");
}

} // namespace

std::string_view name(XenFirmware firmware) { return firmware == XenFirmware::seabios ? "seabios" : "ovmf"; }

std::string_view name(XenVga vga) {
    switch (vga) {
    case XenVga::none: return "none";
    case XenVga::cirrus: return "cirrus";
    case XenVga::stdvga: return "stdvga";
    case XenVga::qxl: return "qxl";
    }
    throw Error{Fault::bug, "a VGA kind without a name"};
}

std::uint64_t default_video_kib(XenVga vga) {
    switch (vga) {
    case XenVga::none: return 0;
    case XenVga::cirrus: return 8 * 1024;
    case XenVga::stdvga: return 16 * 1024;
    case XenVga::qxl: return 128 * 1024;
    }
    throw Error{Fault::bug, "a VGA kind without video memory"};
}

XenVcpuSet first_vcpus(unsigned count) {
    XenVcpuSet out;
    for (unsigned i = 0; i < count && i < xen_max_vcpus; ++i) out.set(i);
    return out;
}

std::string text(const XenVcpuSet& set) {
    std::string out;
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (!set.test(i)) continue;
        std::size_t last = i;
        while (last + 1 < set.size() && set.test(last + 1)) ++last;
        out += fmt::format("{}{}", out.empty() ? "" : ",", i);
        if (last > i) out += fmt::format("-{}", last);
        i = last;
    }
    return out.empty() ? "none" : out;
}

XenVcpuSet parse_vcpu_set(std::string_view text, std::string_view what) {
    const auto refuse_text = [&] {
        return Error{Fault::usage, fmt::format("{} is {}, want vCPU numbers below {} such as 0-3 or 0,2-3", what,
                                               text.empty() ? "empty" : printable(text), xen_max_vcpus)};
    };
    XenVcpuSet out;
    std::string_view rest = text;
    const auto number = [&] {
        unsigned value = 0;
        const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
        if (error != std::errc{} || value >= xen_max_vcpus) throw refuse_text();
        rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
        return value;
    };
    for (;;) {
        const unsigned first = number();
        unsigned last = first;
        if (rest.starts_with('-')) {
            rest.remove_prefix(1);
            last = number();
        }
        if (last < first) throw refuse_text();
        for (unsigned i = first; i <= last; ++i) out.set(i);
        if (rest.empty()) return out;
        if (!rest.starts_with(',')) throw refuse_text();
        rest.remove_prefix(1);
    }
}

void check(const XenGuestConfig& config) {
    check_memory(config);
    check_vcpus(config);
    if (config.cmdline) {
        if (config.cmdline->size() > cmdline_limit_bytes)
            refuse("command line", fmt::format("has {} bytes, want at most {}", config.cmdline->size(), cmdline_limit_bytes));
        if (config.cmdline->find('\0') != std::string::npos) refuse("command line", "has a NUL inside: Xen would cut it there");
    }
    for (const auto* path :
         {&config.kernel, &config.ramdisk, &config.hvmloader, &config.system_firmware, &config.acpi_firmware, &config.smbios_firmware})
        if (*path && ((*path)->empty() || (*path)->find('\0') != std::string::npos)) refuse("a file name", "is empty or has a NUL inside");
    if (config.ramdisk && !config.kernel) refuse("ramdisk", "is there without a kernel");
    if (config.type == XenGuestType::hvm && config.cmdline && !config.kernel)
        refuse("command line", "is there without a kernel: libxl starts no such HVM guest");
    if (config.type == XenGuestType::pvh) check_pvh(config);
    else if (config.vga == XenVga::none && config.video_kib != 0)
        refuse("video memory", fmt::format("is {} KiB, and the guest has no VGA", config.video_kib));
}

} // namespace sev::measure
