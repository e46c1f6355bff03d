// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/json.hpp"
#include "ovmf-measure/xen/config_readers.hpp"

namespace sev::measure {
namespace {

/// Fields of libxl_domain_build_info that cannot change the initial image.
constexpr std::array build_passed_over{"cpumap",
                                       "nodemap",
                                       "vcpu_hard_affinity",
                                       "vcpu_soft_affinity",
                                       "numa_placement",
                                       "tsc_mode",
                                       "shadow_memkb",
                                       "iommu_memkb",
                                       "rtc_timeoffset",
                                       "exec_ssidref",
                                       "exec_ssid_label",
                                       "localtime",
                                       "disable_migrate",
                                       "cpuid",
                                       "blkdev_start",
                                       "max_grant_frames",
                                       "max_maptrack_frames",
                                       "max_grant_version",
                                       "stubdomain_memkb",
                                       "stubdomain_kernel",
                                       "stubdomain_cmdline",
                                       "stubdomain_ramdisk",
                                       "device_model_ssidref",
                                       "device_model_ssid_label",
                                       "device_model_user",
                                       "extra_pv",
                                       "sched_params",
                                       "ioports",
                                       "irqs",
                                       "claim_mode",
                                       "event_channels",
                                       "acpi",
                                       "bootloader_args",
                                       "bootloader_restrict",
                                       "bootloader_user",
                                       "timer_mode",
                                       "nested_hvm",
                                       "dm_restrict",
                                       "tee",
                                       "arch_arm",
                                       "arch_x86",
                                       "altp2m",
                                       "altp2m_count",
                                       "vmtrace_buf_kb",
                                       "vpmu",
                                       "trap_unmapped_accesses",
                                       "xenstore_feature_mask",
                                       "xenstore_quota",
                                       "coco"};
/// Of its part for HVM guests.
constexpr std::array hvm_passed_over{"pae",
                                     "acpi",
                                     "acpi_s3",
                                     "acpi_s4",
                                     "acpi_laptop_slate",
                                     "nx",
                                     "viridian",
                                     "viridian_enable",
                                     "viridian_disable",
                                     "timeoffset",
                                     "hpet",
                                     "vpt_align",
                                     "timer_mode",
                                     "nested_hvm",
                                     "altp2m",
                                     "hdtype",
                                     "nographic",
                                     "vnc",
                                     "keymap",
                                     "sdl",
                                     "spice",
                                     "gfx_passthru_kind",
                                     "serial",
                                     "boot",
                                     "usb",
                                     "usbversion",
                                     "usbdevice",
                                     "vkb_device",
                                     "soundhw",
                                     "xen_platform_pci",
                                     "usbdevice_list",
                                     "vendor_device",
                                     "ms_vm_genid",
                                     "serial_list",
                                     "rdm_mem_boundary_memkb",
                                     "mca_caps",
                                     "smbios",
                                     "xen_platform_pci_bar_uc",
                                     "pirq"};
/// Of libxl_domain_config.
constexpr std::array config_passed_over{"disks",    "vfbs",     "vkbs",    "vtpms",       "p9s",       "pvcallsifs",  "vdispls",  "vsnds",
                                        "channels", "usbctrls", "usbdevs", "on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset"};

template <class List>
void pass_over(json::Object& object, const List& names) {
    for (const std::string_view name : names) object.find(name);
}

/// libxl writes a defbool as "True", "False" or "<default>"; true and false are taken too.
std::optional<bool> defbool(json::Object& object, std::string_view key) {
    const json::Value* value = object.find(key);
    if (!value || value->is_null()) return std::nullopt;
    if (value->is_boolean()) return value->get<bool>();
    if (*value == "True") return true;
    if (*value == "False") return false;
    if (*value == "<default>") return std::nullopt;
    object.refuse(key, fmt::format("is {}, want True, False or <default>", printable(value->dump())));
}

std::optional<std::string> text(json::Object& object, std::string_view key) {
    const json::Value* value = object.find(key);
    if (!value || value->is_null()) return std::nullopt;
    return object.string(key, xen_config_limit_bytes);
}

std::optional<std::uint64_t> number(json::Object& object, std::string_view key) {
    if (!object.find(key)) return std::nullopt;
    return object.number(key, std::uint64_t{1} << 44);
}

void refuse_unless_empty(json::Object& object, std::string_view key, std::string_view why) {
    const json::Value* value = object.find(key);
    if (!value || value->is_null() || (value->is_structured() && value->empty()) || *value == "") return;
    object.refuse(key, fmt::format("is set: {}", why));
}

void refuse_true(json::Object& object, std::string_view key, std::string_view why) {
    if (defbool(object, key).value_or(false)) object.refuse(key, fmt::format("is True: {}", why));
}

bool is_there(json::Object& object, std::string_view key) {
    const json::Value* value = object.find(key);
    return value && !value->is_null() && !(value->is_structured() && value->empty()) && *value != "";
}

XenVcpuSet online_of(json::Object& build) {
    const json::Value* list = build.find("avail_vcpus");
    if (!list) return first_vcpus(1);
    XenVcpuSet out;
    for (const json::Value& one : build.array("avail_vcpus", xen_max_vcpus)) {
        if (!one.is_number_unsigned() || one.get<std::uint64_t>() >= xen_max_vcpus)
            build.refuse("avail_vcpus", fmt::format("has {}, want vCPU numbers below {}", printable(one.dump()), xen_max_vcpus));
        out.set(one.get<std::size_t>());
    }
    return out.none() ? first_vcpus(1) : out;
}

void read_hvm(json::Object hvm, XenGuestConfig& out) {
    const std::string bios = text(hvm, "bios").value_or("unknown");
    if (bios == "ovmf") out.firmware = XenFirmware::ovmf;
    else if (bios != "seabios" && bios != "unknown") hvm.refuse("bios", fmt::format("is \"{}\", want seabios or ovmf", printable(bios)));
    out.hvmloader = text(hvm, "firmware");
    out.system_firmware = text(hvm, "system_firmware");
    out.acpi_firmware = text(hvm, "acpi_firmware");
    out.smbios_firmware = text(hvm, "smbios_firmware");
    if (const auto hole = number(hvm, "mmio_hole_memkb"); hole && *hole != 0) out.mmio_hole_kib = *hole;
    if (const auto old_apic = defbool(hvm, "apic")) out.apic = *old_apic;
    out.vga = XenVga::cirrus; // libxl's default
    if (hvm.has("vga")) {
        json::Object vga = hvm.object("vga");
        const std::string kind = text(vga, "kind").value_or("unknown");
        vga.done();
        if (kind == "none") out.vga = XenVga::none;
        else if (kind == "std") out.vga = XenVga::stdvga;
        else if (kind == "qxl") out.vga = XenVga::qxl;
        else if (kind != "cirrus" && kind != "unknown")
            hvm.refuse("vga", fmt::format("is of kind \"{}\", want none, cirrus, std or qxl", printable(kind)));
    }
    if (hvm.has("rdm")) {
        json::Object rdm = hvm.object("rdm");
        if (const std::string strategy = text(rdm, "strategy").value_or("ignore"); strategy != "ignore")
            rdm.refuse("strategy", fmt::format("is \"{}\", want ignore: reserved ranges of the host go into the memory map", printable(strategy)));
        rdm.find("policy");
        rdm.done();
    }
    refuse_true(hvm, "gfx_passthru", "graphics passthrough changes guest memory");
    pass_over(hvm, hvm_passed_over);
    hvm.done();
}

void read_build(json::Object build, XenGuestConfig& out) {
    const auto most = number(build, "max_memkb"), target = number(build, "target_memkb");
    if (!most) build.refuse("max_memkb", "is missing");
    if (target && *target != *most)
        build.refuse("target_memkb",
                     fmt::format("is {}, and max_memkb {}, want them equal: a guest that is populated on demand has no initial image to predict",
                                 *target, *most));
    out.memory_kib = *most;
    out.vcpus = static_cast<unsigned>(build.number_or("max_vcpus", 1, xen_max_vcpus));
    out.online = online_of(build);
    out.kernel = text(build, "kernel");
    out.ramdisk = text(build, "ramdisk");
    if (out.ramdisk && out.ramdisk->empty()) out.ramdisk.reset();
    out.cmdline = text(build, "cmdline");
    if (const std::string model = text(build, "device_model_version").value_or("unknown"); model != "qemu_xen" && model != "unknown")
        build.refuse("device_model_version", fmt::format("is \"{}\", want qemu_xen", printable(model)));
    refuse_true(build, "device_model_stubdomain", "no guest with QEMU in a stub domain has been compared");
    refuse_unless_empty(build, "vnuma_nodes", "virtual NUMA changes memory map and ACPI tables");
    refuse_unless_empty(build, "bootloader", "the kernel comes out of the guest's disk as it is created");
    refuse_unless_empty(build, "iomem", "host memory can be mapped over the guest's");
    refuse_unless_empty(build, "device_tree", "a device tree is not for x86");
    for (const std::string_view extra : {"device_model", "extra", "extra_hvm"})
        if (is_there(build, extra)) out.emulated_nics = true; // whatever QEMU adds then
    const bool pvh = out.type == XenGuestType::pvh;
    const std::string_view own = pvh ? "type.pvh" : "type.hvm";
    if (!pvh && build.has(own)) read_hvm(build.object(own), out);
    else if (!pvh) out.vga = XenVga::cirrus;
    if (pvh && build.has(own)) {
        json::Object part = build.object(own);
        refuse_true(part, "pvshim", "the image of a guest under the PV shim is not predicted");
        for (const std::string_view unused : {"pvshim_path", "pvshim_cmdline", "pvshim_extra"}) part.find(unused);
        part.done();
    }
    if (const auto apic = defbool(build, "apic")) out.apic = *apic;
    out.video_kib = number(build, "video_memkb").value_or(default_video_kib(out.vga));
    pass_over(build, build_passed_over);
    build.done();
}

void read_nics(json::Object& config, XenGuestConfig& out) {
    if (!config.has("nics")) return;
    for (const json::Value& nic : config.array("nics", 1024))
        if (out.type == XenGuestType::hvm && !(nic.is_object() && nic.contains("nictype") && nic["nictype"] == "vif")) out.emulated_nics = true;
}

} // namespace

XenGuestConfig read_libxl_json(std::string_view input, std::string_view what) {
    const json::Value value = json::parse(input, what, {.bytes = xen_config_limit_bytes, .depth = 16});
    json::Object outer{value, std::string{what}};
    const bool wrapped = outer.has("config");
    if (wrapped) {
        outer.find("domid");
        outer.at("config");
        outer.done();
    }
    json::Object config = wrapped ? outer.object("config") : outer;
    XenGuestConfig out;
    json::Object create = config.object("c_info");
    const std::string type = create.string("type", 32);
    if (type != "pvh" && type != "hvm") create.refuse("type", fmt::format("is \"{}\", want pvh or hvm", printable(type)));
    out.type = type == "pvh" ? XenGuestType::pvh : XenGuestType::hvm;
    out.name = text(create, "name").value_or("");
    for (const std::string_view unused : {"hap", "oos", "ssidref", "ssid_label", "domid", "uuid", "xsdata", "platformdata", "poolid", "pool_name",
                                          "run_hotplug_scripts", "driver_domain", "passthrough", "xend_suspend_evtchn_compat"})
        create.find(unused);
    create.done();
    read_build(config.object("b_info"), out);
    read_nics(config, out);
    refuse_unless_empty(config, "pcidevs", "passed-through devices can put reserved ranges of the host into the memory map");
    refuse_unless_empty(config, "rdms", "reserved ranges of the host go into the memory map");
    refuse_unless_empty(config, "dtdevs", "device tree devices are not for x86");
    pass_over(config, config_passed_over);
    config.done();
    within(what, [&] { check(out); });
    return out;
}

} // namespace sev::measure
