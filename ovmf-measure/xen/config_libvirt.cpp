// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "base/error.hpp"
#include "ovmf-measure/xen/config_readers.hpp"
#include "ovmf-measure/xen/xml.hpp"

namespace sev::measure {
namespace {

/// Elements that cannot change the initial image: of the domain, and of its devices.
constexpr std::array domain_passed_over{"uuid",          "title",          "description", "metadata", "genid",   "on_poweroff", "on_reboot",
                                        "on_crash",      "on_lockfailure", "pm",          "clock",    "cputune", "memtune",     "blkiotune",
                                        "memoryBacking", "numatune",       "iothreads",   "resource", "sysinfo", "seclabel",    "perf"};
constexpr std::array device_passed_over{"disk",     "controller", "lease",       "filesystem", "smartcard",  "input",   "hub",
                                        "graphics", "sound",      "audio",       "watchdog",   "memballoon", "rng",     "tpm",
                                        "panic",    "redirdev",   "redirfilter", "console",    "serial",     "channel", "parallel"};

struct Document {
    std::string_view what;
    [[noreturn]] void refuse(const XmlElement& at, std::string_view problem) const {
        throw Error{Fault::malformed, fmt::format("{}: line {}: {} {}", what, at.line, printable(at.name), problem)};
    }

    const XmlElement* one(const XmlElement& in, std::string_view name) const {
        if (in.count(name) > 1) refuse(in, fmt::format("has more than one {}", name));
        return in.child(name);
    }
    const XmlElement& need(const XmlElement& in, std::string_view name) const {
        const XmlElement* found = one(in, name);
        if (!found) refuse(in, fmt::format("has no {}", name));
        return *found;
    }
    std::uint64_t number(const XmlElement& at, std::string_view text, std::string_view field, std::uint64_t max) const {
        std::uint64_t out = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
        if (error != std::errc{} || end != text.data() + text.size() || out > max)
            refuse(at, fmt::format("has {} \"{}\", want a number up to {}", field, printable(text), max));
        return out;
    }
};

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    return first == std::string_view::npos ? std::string_view{} : text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// Text of an optional element as libvirt takes it: unchanged, and nothing when empty.
std::optional<std::string> text_of(const Document& doc, const XmlElement& in, std::string_view name) {
    const XmlElement* found = doc.one(in, name);
    if (!found || found->text.empty()) return std::nullopt;
    if (!found->children.empty()) doc.refuse(*found, "has elements inside, want a text");
    return found->text;
}

/// Memory in KiB as libvirt gives it to libxl: rounded up to KiB by the unit's size, then up to MiB.
std::uint64_t memory_kib(const Document& doc, const XmlElement& at) {
    static constexpr std::array<std::pair<std::string_view, std::uint64_t>, 14> units{{{"b", 1},
                                                                                       {"bytes", 1},
                                                                                       {"KB", 1000},
                                                                                       {"k", 1024},
                                                                                       {"KiB", 1024},
                                                                                       {"MB", 1000'000},
                                                                                       {"M", 1 << 20},
                                                                                       {"MiB", 1 << 20},
                                                                                       {"GB", 1000'000'000},
                                                                                       {"G", 1 << 30},
                                                                                       {"GiB", 1 << 30},
                                                                                       {"TB", 1000'000'000'000},
                                                                                       {"T", std::uint64_t{1} << 40},
                                                                                       {"TiB", std::uint64_t{1} << 40}}};
    const std::string_view unit = at.attribute("unit").value_or("KiB");
    const auto found = std::ranges::find(units, unit, &std::pair<std::string_view, std::uint64_t>::first);
    if (found == units.end()) doc.refuse(at, fmt::format("has unit \"{}\", which is not known", printable(unit)));
    const std::uint64_t count = doc.number(at, trimmed(at.text), "value", (std::uint64_t{1} << 44) / found->second * 1024);
    const std::uint64_t kib = (count * found->second + 1023) / 1024;
    return (kib + 1023) / 1024 * 1024;
}

void read_memory(const Document& doc, const XmlElement& domain, XenGuestConfig& out) {
    out.memory_kib = memory_kib(doc, doc.need(domain, "memory"));
    if (const XmlElement* current = doc.one(domain, "currentMemory"); current && memory_kib(doc, *current) != out.memory_kib)
        doc.refuse(*current,
                   fmt::format("is {} KiB, and memory {} KiB, want them equal: a guest that is populated on demand has no initial image to predict",
                               memory_kib(doc, *current), out.memory_kib));
}

void read_vcpus(const Document& doc, const XmlElement& domain, XenGuestConfig& out) {
    const XmlElement* vcpu = doc.one(domain, "vcpu");
    if (!vcpu) return;
    out.vcpus = static_cast<unsigned>(doc.number(*vcpu, trimmed(vcpu->text), "value", xen_max_vcpus));
    const auto current = vcpu->attribute("current");
    out.online = first_vcpus(current ? static_cast<unsigned>(doc.number(*vcpu, *current, "current", xen_max_vcpus)) : out.vcpus);
}

void read_loader(const Document& doc, const XmlElement& os, XenGuestConfig& out) {
    if (const auto automatic = os.attribute("firmware")) {
        if (*automatic != "efi") doc.refuse(os, fmt::format("has firmware=\"{}\", want efi or none", printable(*automatic)));
        out.firmware = XenFirmware::ovmf;
    }
    const XmlElement* loader = doc.one(os, "loader");
    if (!loader) return;
    if (loader->attribute("format").value_or("raw") != "raw") doc.refuse(*loader, "is not raw, want format=\"raw\"");
    const std::string path{trimmed(loader->text)};
    const auto type = loader->attribute("type");
    if (type == "pflash" || out.firmware == XenFirmware::ovmf) {
        out.firmware = XenFirmware::ovmf;
        if (!path.empty()) out.system_firmware = path;
    } else if (!path.empty() && path.substr(path.rfind('/') + 1) != "hvmloader") {
        doc.refuse(*loader, fmt::format("is {}, which libvirt does not load, want hvmloader or type=\"pflash\"", printable(path)));
    }
}

void read_acpi_table(const Document& doc, const XmlElement& os, XenGuestConfig& out) {
    const XmlElement* acpi = doc.one(os, "acpi");
    if (!acpi) return;
    for (const XmlElement& table : acpi->children)
        if (table.name != "table" || acpi->children.size() > 1) doc.refuse(table, "in acpi, want one table");
    if (const auto path = text_of(doc, *acpi, "table")) out.acpi_firmware = std::string{trimmed(*path)};
}

void read_os(const Document& doc, const XmlElement& os, XenGuestConfig& out) {
    out.kernel = text_of(doc, os, "kernel");
    out.ramdisk = text_of(doc, os, "initrd");
    out.cmdline = text_of(doc, os, "cmdline");
    static constexpr std::array known{"type", "kernel",   "initrd", "cmdline", "loader", "acpi",
                                      "boot", "bootmenu", "bios",   "nvram",   "smbios", "firmware"};
    for (const XmlElement& child : os.children)
        if (std::ranges::find(known, child.name) == known.end())
            doc.refuse(child, "in os is not known here, so it could change the initial image unseen");
    if (out.type == XenGuestType::pvh) {
        if (os.child("loader") || os.attribute("firmware")) doc.refuse(os, "has a loader, and a PVH guest has none");
        return;
    }
    read_loader(doc, os, out);
    read_acpi_table(doc, os, out);
}

void read_video(const Document& doc, const XmlElement& devices, XenGuestConfig& out) {
    const XmlElement* video = devices.child("video"); // libvirt takes the first
    if (!video) return;
    const XmlElement& model = doc.need(*video, "model");
    const std::string_view type = model.attribute("type").value_or("");
    if (type == "vga" || type == "xen") out.vga = XenVga::stdvga;
    else if (type == "cirrus") out.vga = XenVga::cirrus;
    else if (type == "qxl") out.vga = XenVga::qxl;
    else doc.refuse(model, fmt::format("of video has type \"{}\", want vga, xen, cirrus or qxl", printable(type)));
    const auto vram = model.attribute("vram");
    if (!vram) doc.refuse(model, "of video has no vram: give the whole XML, as virsh dumpxml prints it");
    out.video_kib = doc.number(model, *vram, "vram", UINT32_MAX);
}

void read_devices(const Document& doc, const XmlElement& devices, XenGuestConfig& out) {
    const bool hvm = out.type == XenGuestType::hvm;
    for (const XmlElement& device : devices.children) {
        if (device.name == "hostdev") {
            if (device.attribute("type").value_or("") != "usb")
                doc.refuse(device, "is no USB device: passed-through devices can put reserved ranges of the host into the memory map");
        } else if (device.name == "interface") {
            if (device.attribute("type").value_or("") == "hostdev")
                doc.refuse(device, "is a passed-through device, which can put reserved ranges of the host into the memory map");
            const XmlElement* model = device.child("model");
            if (hvm && !(model && model->attribute("type") == "netfront")) out.emulated_nics = true;
        } else if (device.name == "emulator") {
            if (std::string_view path = trimmed(device.text); path.substr(path.rfind('/') + 1) == "qemu-dm")
                doc.refuse(device, "is qemu-dm, want qemu-system-i386: guests of the traditional QEMU are not predicted");
        } else if (device.name != "video" && std::ranges::find(device_passed_over, device.name) == device_passed_over.end()) {
            doc.refuse(device, "is a device that is not known here, so it could change the initial image unseen");
        }
    }
    if (hvm) read_video(doc, devices, out);
}

void read_domain(const Document& doc, const XmlElement& domain, XenGuestConfig& out) {
    if (const auto name = text_of(doc, domain, "name")) out.name = *name;
    const XmlElement& os = doc.need(domain, "os");
    const std::string_view type = trimmed(doc.need(os, "type").text);
    if (type != "hvm" && type != "xenpvh") doc.refuse(os, fmt::format("has type \"{}\", want hvm or xenpvh", printable(type)));
    out.type = type == "hvm" ? XenGuestType::hvm : XenGuestType::pvh;
    read_memory(doc, domain, out);
    read_vcpus(doc, domain, out);
    read_os(doc, os, out);
    const XmlElement* features = doc.one(domain, "features");
    out.apic = out.type == XenGuestType::pvh || (features && features->child("apic")); // for PVH libvirt leaves it to libxl
    if (const XmlElement* cpu = doc.one(domain, "cpu"); cpu && cpu->child("numa"))
        doc.refuse(*cpu, "has numa: virtual NUMA changes memory map and ACPI tables");
    if (const XmlElement* devices = doc.one(domain, "devices")) read_devices(doc, *devices, out);
    if (domain.child("xen:commandline")) out.emulated_nics = true; // whatever QEMU adds then
    static constexpr std::array read{"name", "os", "memory", "currentMemory", "vcpu", "features", "cpu", "devices", "xen:commandline"};
    for (const XmlElement& child : domain.children)
        if (std::ranges::find(read, child.name) == read.end() && std::ranges::find(domain_passed_over, child.name) == domain_passed_over.end())
            doc.refuse(child, "is not known here, so it could change the initial image unseen");
}

} // namespace

XenGuestConfig read_libvirt_xml(std::string_view text, std::string_view what) {
    const XmlElement domain = parse_xml(text, what, xen_config_limit_bytes);
    const Document doc{what};
    if (domain.name != "domain") doc.refuse(domain, "is the outermost element, want domain");
    if (const auto type = domain.attribute("type"); type != "xen")
        doc.refuse(domain, fmt::format("has type \"{}\", want xen", printable(type.value_or(""))));
    XenGuestConfig out;
    read_domain(doc, domain, out);
    within(what, [&] { check(out); });
    return out;
}

} // namespace sev::measure
