// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "base/error.hpp"
#include "ovmf-measure/xen/config_readers.hpp"
#include "ovmf-measure/xen/xl_language.hpp"

namespace sev::measure {
namespace {

/// Settings that cannot change the initial image: they are for devices, scheduling and events, or are read by hvmloader or QEMU as the guest runs.
constexpr std::array passed_over{
    "acpi", "acpi_laptop_slate", "acpi_s3", "acpi_s4", "altp2m", "altp2m_count", "altp2mhvm", "boot", "bootloader_args", "bootloader_restrict",
    "bootloader_user", "cap", "channel", "claim_mode", "coco", "cpu_weight", "cpuid", "cpus", "cpus_soft", "device_model_user", "disk", "display",
    "dm_restrict", "driver_domain", "e820_host", "extratime", "hap", "hdtype", "hpet", "hvm_pirq", "init_seclabel", "ioports", "irqs", "keymap",
    "latency", "localtime", "max_event_channels", "max_grant_frames", "max_grant_version", "max_maptrack_frames", "mca_caps", "ms_vm_genid",
    "msr_relaxed", "nestedhvm", "nographic", "nomigrate", "nx", "on_crash", "on_poweroff", "on_reboot", "on_soft_reset", "on_watchdog", "oos",
    "opengl", "p9", "pae", "passthrough", "pci_msitranslate", "pci_permissive", "pci_power_mgmt", "pci_seize", "period", "pool", "pvcalls",
    "pvshim_cmdline", "pvshim_extra", "pvshim_path", "rdm_mem_boundary", "rtc_timeoffset", "sdl", "seclabel", "serial", "shadow_memory", "slice",
    "smbios", "soundhw", "spice", "spice_clipboard_sharing", "spice_image_compression", "spice_streaming_video", "spiceagent_mouse",
    "spicedisable_ticketing", "spicehost", "spicepasswd", "spiceport", "spicetls_port", "spiceusbredirection", "spicevdagent", "timer_mode",
    "trap_unmapped_accesses", "tsc_mode", "usb", "usbctrl", "usbdev", "usbdevice", "usbversion", "uuid", "vdispl", "vendor_device", "vfb",
    "viridian", "vkb", "vkb_device", "vmtrace_buf_kb", "vnc", "vncdisplay", "vnclisten", "vncpasswd", "vncunused", "vncviewer", "vpmu",
    "vpt_align", "vsnd", "vtpm", "xauthority", "xen_platform_pci", "xen_platform_pci_bar_uc", "xend_suspend_evtchn_compat",
    "xenstore_feature_mask", "xenstore_quota"};

/// Settings that change it in ways that are not predicted, unless their value is 0, "" or [].
constexpr std::array<std::pair<std::string_view, std::string_view>, 10> refused{{
    {"pvshim", "the image of a guest under the PV shim is not predicted"},
    {"gfx_passthru", "graphics passthrough changes guest memory"},
    {"device_model_stubdomain_override", "no guest with QEMU in a stub domain has been compared"},
    {"pci", "passed-through devices can put reserved ranges of the host into the memory map"},
    {"rdm", "reserved ranges of the host go into the memory map"},
    {"vnuma", "virtual NUMA changes memory map and ACPI tables"},
    {"bootloader", "the kernel comes out of the guest's disk as it is created"},
    {"iomem", "host memory can be mapped over the guest's"},
    {"dtdev", "device tree devices are not for x86"},
    {"vuart", "an emulated UART is not for x86"},
}};

/// The settings, taken out one by one; what is left is refused or passed over.
class Settings {
public:
    Settings(std::string_view text, std::string_view what) : what_{what}, settings_{parse_xl_settings(text, what)} {}

    std::optional<XlValue> take(std::string_view name) {
        const auto at = settings_.find(name);
        if (at == settings_.end()) return std::nullopt;
        XlValue out = std::move(at->second);
        settings_.erase(at);
        return out;
    }
    std::optional<std::string> text(std::string_view name) {
        const auto value = take(name);
        if (!value) return std::nullopt;
        if (value->is_list()) refuse(*value, fmt::format("{} is a list, want a text", name));
        return value->text();
    }
    /// As C's strtol with base 0 reads it, but for octal, which nobody means.
    std::optional<std::uint64_t> number(std::string_view name, std::uint64_t max) {
        const auto value = take(name);
        if (!value) return std::nullopt;
        if (value->is_list()) refuse(*value, fmt::format("{} is a list, want a number", name));
        std::string_view digits = value->text();
        const bool hexadecimal = digits.starts_with("0x");
        if (hexadecimal) digits.remove_prefix(2);
        if (digits.size() > 1 && digits[0] == '0' && !hexadecimal)
            refuse(*value, fmt::format("{} is {}, which xl reads as octal, want a number without leading zeros", name, printable(value->text())));
        std::uint64_t out = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out, hexadecimal ? 16 : 10);
        if (error != std::errc{} || end != digits.data() + digits.size() || out > max)
            refuse(*value, fmt::format("{} is {}, want a number up to {}", name, printable(value->text()), max));
        return out;
    }
    /// Whether anything under this name asks for something.
    bool asks(std::string_view name) {
        const auto value = take(name);
        return value && !value->empty();
    }
    [[noreturn]] void refuse(const XlValue& value, std::string_view problem) const { refuse_xl_line(what_, value.line, problem); }

    void done() {
        for (const auto& [name, why] : refused)
            if (const auto value = take(name); value && !value->empty()) refuse(*value, fmt::format("{} is set: {}", name, why));
        for (const auto& [name, value] : settings_)
            if (std::ranges::find(passed_over, name) == passed_over.end())
                refuse(value, fmt::format("{} is not known here, so it could change the initial image unseen", printable(name)));
    }

private:
    std::string_view what_;
    XlSettings settings_;
};

void read_memory(Settings& from, XenGuestConfig& out, std::string_view what) {
    constexpr std::uint64_t mib_limit = std::uint64_t{1} << 34;
    const auto memory = from.number("memory", mib_limit), most = from.number("maxmem", mib_limit);
    if (!memory && !most) throw Error{Fault::malformed, fmt::format("{}: memory is missing", what)};
    if (memory && most && *memory != *most)
        throw Error{
            Fault::malformed,
            fmt::format("{}: memory is {} and maxmem {}, want them equal: a guest that is populated on demand has no initial image to predict", what,
                        *memory, *most)};
    out.memory_kib = (memory ? *memory : *most) * 1024;
}

void read_vcpus(Settings& from, XenGuestConfig& out, std::string_view what) {
    const auto online = from.number("vcpus", xen_max_vcpus), most = from.number("maxvcpus", xen_max_vcpus);
    out.vcpus = static_cast<unsigned>(most.value_or(0) != 0 ? *most : online.value_or(0) != 0 ? *online : 1);
    out.online = first_vcpus(static_cast<unsigned>(online.value_or(1)));
    if (online && *online > out.vcpus) throw Error{Fault::malformed, fmt::format("{}: vcpus is {}, more than maxvcpus {}", what, *online, out.vcpus)};
}

/// cmdline, or root and extra, as xl puts them together.
std::optional<std::string> read_cmdline(Settings& from) {
    const auto whole = from.text("cmdline"), root = from.text("root"), extra = from.text("extra");
    if (whole) return whole;
    if (root && extra) return fmt::format("root={} {}", *root, *extra);
    if (root) return "root=" + *root;
    return extra;
}

void read_vga(Settings& from, XenGuestConfig& out, std::string_view what) {
    const auto kind = from.text("vga");
    const auto old_kind = from.number("stdvga", UINT32_MAX);
    out.vga = old_kind && *old_kind != 0 ? XenVga::stdvga : XenVga::cirrus;
    if (kind) {
        static constexpr std::array kinds{XenVga::none, XenVga::cirrus, XenVga::stdvga, XenVga::qxl};
        const auto found = std::ranges::find(kinds, *kind, [](XenVga vga) { return name(vga); });
        if (found == kinds.end())
            throw Error{Fault::malformed, fmt::format("{}: vga is \"{}\", want none, cirrus, stdvga or qxl", what, printable(*kind))};
        out.vga = *found;
    }
}

void read_firmware(Settings& from, XenGuestConfig& out, std::string_view what) {
    const auto choose = [&](std::string_view key, const std::string& text, std::initializer_list<std::string_view> seabios,
                            std::initializer_list<std::string_view> ovmf) {
        const auto among = [&](const auto& list) { return std::ranges::find(list, std::string_view{text}) != list.end(); };
        if (among(seabios)) out.firmware = XenFirmware::seabios;
        else if (among(ovmf)) out.firmware = XenFirmware::ovmf;
        else
            throw Error{Fault::malformed,
                        fmt::format("{}: {} is \"{}\", want seabios or ovmf: others are not predicted", what, key, printable(text))};
    };
    if (const auto bios = from.text("bios")) choose("bios", *bios, {"seabios"}, {"ovmf"});
    if (const auto firmware = from.text("firmware")) choose("firmware", *firmware, {"seabios", "bios"}, {"ovmf", "uefi"});
    out.hvmloader = from.text("firmware_override");
    out.system_firmware = from.text("bios_path_override");
}

void read_hvm(Settings& from, XenGuestConfig& out, std::string_view what) {
    if (out.kernel && out.kernel->substr(out.kernel->rfind('/') + 1) == "hvmloader") out.kernel.reset(); // xl drops it
    if (const auto model = from.text("device_model_version"); model && *model != "qemu-xen")
        throw Error{Fault::malformed, fmt::format("{}: device_model_version is \"{}\", want qemu-xen", what, printable(*model))};
    read_firmware(from, out, what);
    read_vga(from, out, what);
    out.video_kib = from.number("videoram", UINT32_MAX).value_or(default_video_kib(out.vga) / 1024) * 1024;
    out.acpi_firmware = from.text("acpi_firmware");
    out.smbios_firmware = from.text("smbios_firmware");
    if (const auto hole = from.number("mmio_hole", UINT32_MAX)) out.mmio_hole_kib = *hole * 1024;
    if (const auto apic = from.number("apic", 1)) out.apic = *apic != 0;
    if (const auto nics = from.take("vif"); nics && nics->is_list())
        for (const XlValue& nic : nics->list())
            if (nic.is_list() || nic.text().find("type=vif") == std::string::npos) out.emulated_nics = true;
    for (const std::string_view extra : {"device_model", "device_model_override", "device_model_args", "device_model_args_hvm", "vif2"})
        if (from.asks(extra)) out.emulated_nics = true; // whatever QEMU adds then
}

void read_pvh(Settings& from, XenGuestConfig& out, std::string_view what) {
    for (const std::string_view unread :
         {"apic", "vif", "vif2", "vga", "stdvga", "bios", "firmware_override", "bios_path_override", "acpi_firmware", "smbios_firmware", "mmio_hole",
          "device_model", "device_model_override", "device_model_args", "device_model_args_hvm", "device_model_version"})
        from.take(unread); // xl reads these for HVM guests alone
    if (const auto video = from.number("videoram", UINT32_MAX)) out.video_kib = *video * 1024;
    if (from.asks("firmware"))
        throw Error{Fault::malformed, fmt::format("{}: firmware is set, want kernel: which file pvgrub is, the host decides", what)};
}

} // namespace

XenGuestConfig read_xl_config(std::string_view text, std::string_view what) {
    if (text.size() > xen_config_limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, more than the limit of {}", what, text.size(), xen_config_limit_bytes)};
    Settings from{text, what};
    XenGuestConfig out;
    const auto type = from.text("type"), builder = from.text("builder");
    const std::string kind = type ? *type : builder && *builder == "hvm" ? "hvm" : "pv";
    if (kind != "pvh" && kind != "hvm")
        throw Error{Fault::malformed, fmt::format("{}: type is {}, want pvh or hvm", what,
                                                  type ? '"' + printable(*type) + '"' : std::string{"absent, which means pv"})};
    if (builder && *builder != kind)
        throw Error{Fault::malformed, fmt::format("{}: builder is \"{}\", and type is {}", what, printable(*builder), kind)};
    out.type = kind == "pvh" ? XenGuestType::pvh : XenGuestType::hvm;
    out.name = from.text("name").value_or("");
    read_memory(from, out, what);
    read_vcpus(from, out, what);
    out.kernel = from.text("kernel");
    out.ramdisk = from.text("ramdisk");
    if (out.ramdisk && out.ramdisk->empty()) out.ramdisk.reset(); // libxl takes an empty name for none
    out.cmdline = read_cmdline(from);
    if (out.type == XenGuestType::pvh) read_pvh(from, out, what);
    else read_hvm(from, out, what);
    from.done();
    within(what, [&] { check(out); });
    return out;
}

} // namespace sev::measure
