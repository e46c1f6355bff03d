// SPDX-License-Identifier: Apache-2.0
#include "attest/xen_recipe.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "attest/protocol/message.hpp"
#include "base/error.hpp"
#include "ovmf-measure/xen/unpack.hpp"

namespace sev::attest {
namespace {

using measure::XenGuestConfig;
using measure::XenGuestType;

constexpr std::array sources{XenRecipe::Source::inline_guest, XenRecipe::Source::xl_cfg, XenRecipe::Source::libxl_json,
                             XenRecipe::Source::libvirt_xml};
constexpr std::size_t path_limit_bytes = 4096, cmdline_limit_bytes = 64 * 1024;

Path path_at(json::Object& object, std::string_view key) {
    std::string text = checked_text(object, key, path_limit_bytes);
    if (text.empty()) object.refuse(key, "is empty, want a path");
    return Path{std::move(text)};
}

/// Reads `key` as the one of `values` whose name it is.
template <class Value, std::size_t Count>
Value choice(json::Object& object, std::string_view key, const std::array<Value, Count>& values) {
    const std::string text = object.string(key, 64);
    const auto found = std::ranges::find(values, text, [](Value value) { return name(value); });
    if (found != values.end()) return *found;
    std::string wanted;
    for (const Value value : values) wanted += fmt::format("{}{}", wanted.empty() ? "" : " or ", name(value));
    object.refuse(key, fmt::format("is \"{}\", want {}", printable(text), wanted));
}

XenGuestConfig guest_from_json(json::Object object, const XenRecipe::Files& files) {
    constexpr std::uint64_t mib_limit = std::uint64_t{1} << 24;
    XenGuestConfig out;
    out.type = choice(object, "type", std::array{XenGuestType::pvh, XenGuestType::hvm});
    out.memory_kib = object.number("memory_mib", mib_limit) * 1024;
    out.vcpus = static_cast<unsigned>(object.number("vcpus", measure::xen_max_vcpus));
    out.online =
        object.has("online") ? measure::parse_vcpu_set(object.string("online", 1024), object.what() + ": online") : measure::first_vcpus(out.vcpus);
    if (object.has("cmdline")) out.cmdline = checked_text(object, "cmdline", cmdline_limit_bytes);
    const auto text_of = [](const std::optional<Path>& path) { return path ? std::optional{path->string()} : std::nullopt; };
    out.kernel = text_of(files.kernel);
    out.ramdisk = text_of(files.ramdisk);
    if (out.type == XenGuestType::hvm) {
        out.apic = object.boolean_or("apic", true);
        out.firmware = choice(object, "bios", std::array{measure::XenFirmware::seabios, measure::XenFirmware::ovmf});
        out.vga = choice(object, "vga", std::array{measure::XenVga::none, measure::XenVga::cirrus, measure::XenVga::stdvga, measure::XenVga::qxl});
        out.video_kib = object.number_or("video_mib", measure::default_video_kib(out.vga) / 1024, mib_limit) * 1024;
        if (object.has("mmio_hole_mib")) out.mmio_hole_kib = object.number("mmio_hole_mib", mib_limit) * 1024;
        out.acpi_firmware = text_of(files.acpi_firmware);
        out.smbios_firmware = text_of(files.smbios_firmware);
    }
    object.done();
    return out;
}

json::Value guest_to_json(const XenGuestConfig& guest) {
    json::Value out{{"type", name(guest.type)}, {"memory_mib", guest.memory_kib / 1024}, {"vcpus", guest.vcpus}};
    if (guest.online != measure::first_vcpus(guest.vcpus)) out["online"] = measure::text(guest.online);
    if (guest.cmdline) out["cmdline"] = *guest.cmdline;
    if (guest.type == XenGuestType::pvh) return out;
    if (!guest.apic) out["apic"] = false;
    out["bios"] = name(guest.firmware);
    out["vga"] = name(guest.vga);
    if (guest.video_kib != default_video_kib(guest.vga)) out["video_mib"] = guest.video_kib / 1024;
    if (guest.mmio_hole_kib) out["mmio_hole_mib"] = *guest.mmio_hole_kib / 1024;
    return out;
}

/// The member of `Files` under each JSON key.
struct FileKey {
    std::string_view key;
    std::optional<Path> XenRecipe::Files::*member;
};
constexpr std::array file_keys{FileKey{"kernel", &XenRecipe::Files::kernel},
                               FileKey{"ramdisk", &XenRecipe::Files::ramdisk},
                               FileKey{"hvmloader", &XenRecipe::Files::hvmloader},
                               FileKey{"firmware", &XenRecipe::Files::firmware},
                               FileKey{"acpi_firmware", &XenRecipe::Files::acpi_firmware},
                               FileKey{"smbios_firmware", &XenRecipe::Files::smbios_firmware}};

/// One file of the guest: what it is for, and where it is.
struct Needed {
    std::optional<measure::XenFile> measure::XenFiles::*member;
    std::string_view what;
    Path path;
};

/// Which files this guest is made of. A file of the host that the configuration does not name must be named by the recipe.
std::vector<Needed> needed(const XenRecipe& recipe, const XenGuestConfig& config, const Path& base) {
    std::vector<Needed> out;
    const auto want = [&](std::optional<measure::XenFile> measure::XenFiles::*member, std::string_view what, const std::optional<Path>& own,
                          const std::optional<std::string>& configured, bool is_needed) {
        if (!is_needed) {
            if (own && recipe.source != XenRecipe::Source::inline_guest)
                throw Error{Fault::usage, fmt::format("Xen guest: {} is given, and the configuration has none", what)};
            return;
        }
        if (!own && !configured)
            throw Error{Fault::usage, fmt::format("Xen guest: {} is not given, and the configuration does not say which file it is", what)};
        out.push_back({.member = member, .what = what, .path = base / (own ? *own : Path{*configured})});
    };
    const bool pvh = config.type == XenGuestType::pvh;
    const XenRecipe::Files& files = recipe.files;
    want(&measure::XenFiles::kernel, "kernel", pvh ? files.kernel : std::nullopt, config.kernel, pvh);
    want(&measure::XenFiles::ramdisk, "ramdisk", pvh ? files.ramdisk : std::nullopt, config.ramdisk, pvh && config.ramdisk);
    want(&measure::XenFiles::hvmloader, "hvmloader", files.hvmloader, config.hvmloader, !pvh);
    want(&measure::XenFiles::firmware, "firmware", files.firmware, config.system_firmware, !pvh);
    want(&measure::XenFiles::acpi_module, "acpi_firmware", files.acpi_firmware, config.acpi_firmware, config.acpi_firmware.has_value());
    want(&measure::XenFiles::smbios_module, "smbios_firmware", files.smbios_firmware, config.smbios_firmware, config.smbios_firmware.has_value());
    return out;
}

} // namespace

std::string_view name(XenRecipe::Source source) {
    switch (source) {
    case XenRecipe::Source::inline_guest: return "guest";
    case XenRecipe::Source::xl_cfg: return "xl_cfg";
    case XenRecipe::Source::libxl_json: return "libxl_json";
    case XenRecipe::Source::libvirt_xml: return "libvirt_xml";
    }
    throw Error{Fault::bug, "a source of a Xen recipe without a name"};
}

XenRecipe XenRecipe::from_json(json::Object object) {
    XenRecipe out;
    if (std::ranges::count_if(sources, [&](Source one) { return object.has(name(one)); }) != 1)
        object.refuse("guest", ", xl_cfg, libxl_json, libvirt_xml: want exactly one of them");
    if (object.has("files")) {
        json::Object given = object.object("files");
        for (const FileKey& one : file_keys)
            if (given.has(one.key)) out.files.*one.member = path_at(given, one.key);
        given.done();
    }
    for (const Source one : sources) {
        if (!object.has(name(one))) continue;
        out.source = one;
        if (one == Source::inline_guest) out.guest = guest_from_json(object.object(name(one)), out.files);
        else out.config = path_at(object, name(one));
    }
    if (out.source == Source::inline_guest) within(object.what(), [&] { measure::check(out.guest); });
    if (object.has("acpi_reference")) out.acpi_reference = path_at(object, "acpi_reference");
    if (object.has("xen_version")) out.xen_version = measure::XenVersion::parse(object.string("xen_version", 64), object.what() + ": xen_version");
    if (object.has("page_order"))
        out.order = choice(object, "page_order", std::array{measure::XenOrder::ascending_gfn, measure::XenOrder::vates_2025});
    if (object.has("build")) out.build = choice(object, "build", std::array{measure::XenBuild::first, measure::XenBuild::later});
    object.done();
    return out;
}

json::Value XenRecipe::to_json() const {
    json::Value out = json::Value::object();
    if (source == Source::inline_guest) out["guest"] = guest_to_json(guest);
    else out[std::string{name(source)}] = config.string();
    for (const FileKey& one : file_keys)
        if (files.*one.member) out["files"][std::string{one.key}] = (files.*one.member)->string();
    if (acpi_reference) out["acpi_reference"] = acpi_reference->string();
    if (xen_version) out["xen_version"] = xen_version->text();
    if (order != measure::XenOrder::ascending_gfn) out["page_order"] = name(order);
    if (build != measure::XenBuild::first) out["build"] = name(build);
    return out;
}

measure::XenGuestConfig config_of(const XenRecipe& recipe, const Path& base) {
    if (recipe.source == XenRecipe::Source::inline_guest) {
        measure::check(recipe.guest);
        return recipe.guest;
    }
    const Path path = base / recipe.config;
    const std::string text = read_text(path, measure::xen_config_limit_bytes);
    const std::string what = printable(path.string(), path_limit_bytes);
    switch (recipe.source) {
    case XenRecipe::Source::xl_cfg: return measure::read_xl_config(text, what);
    case XenRecipe::Source::libxl_json: return measure::read_libxl_json(text, what);
    case XenRecipe::Source::libvirt_xml: return measure::read_libvirt_xml(text, what);
    case XenRecipe::Source::inline_guest: break;
    }
    throw Error{Fault::bug, "a Xen recipe without a source"};
}

XenPrediction predict(const XenRecipe& recipe, const Path& base) {
    XenPrediction out;
    out.config = config_of(recipe, base);
    const bool pvh = out.config.type == XenGuestType::pvh;
    std::optional<measure::AcpiReference> acpi;
    if (recipe.acpi_reference) {
        if (!pvh) throw Error{Fault::usage, "Xen guest: an ACPI reference is given for an HVM guest, which makes its own tables as it runs"};
        const Path path = base / *recipe.acpi_reference;
        const std::string what = printable(path.string(), path_limit_bytes);
        acpi = measure::AcpiReference::from_json(
            json::parse(read_text(path, measure::AcpiReference::limit_bytes), what, {.bytes = measure::AcpiReference::limit_bytes}), what);
    }
    if (!pvh && !recipe.xen_version) throw Error{Fault::usage, "Xen guest: the version of Xen is missing"};
    if (pvh && recipe.build == measure::XenBuild::later && !acpi) throw Error{Fault::usage, "Xen guest: the ACPI reference is missing"};
    if (!pvh && recipe.build == measure::XenBuild::later)
        throw Error{Fault::usage, "Xen guest: a later build is a PVH guest's, and this is an HVM guest"};
    out.version = recipe.xen_version ? *recipe.xen_version : acpi ? acpi->xen_version : measure::XenVersion{};
    measure::XenFiles files;
    for (const Needed& one : needed(recipe, out.config, base)) {
        const Bytes& bytes = out.files.emplace_back(read_file(one.path, measure::xen_unpack_limit_bytes)); // stays where it is when the vector grows
        files.*one.member = measure::XenFile{.bytes = bytes, .name = printable(one.path.string(), path_limit_bytes)};
    }
    if (pvh && !acpi && !recipe.xen_version)
        throw Error{Fault::usage, "Xen guest: the ACPI reference is missing",
                    "take one from a paused guest with sevctl reference capture, or import one"};
    out.image = measure::predict_xen(out.config, files, out.version, acpi ? &*acpi : nullptr);
    if (recipe.build == measure::XenBuild::later) out.image = std::move(*out.image.later_build());
    return out;
}

std::vector<Path> files_of(const XenRecipe& recipe, const Path& base) {
    std::vector<Path> out;
    if (recipe.source != XenRecipe::Source::inline_guest) out.push_back(base / recipe.config);
    if (recipe.acpi_reference) out.push_back(base / *recipe.acpi_reference);
    for (Needed& one : needed(recipe, config_of(recipe, base), base)) out.push_back(std::move(one.path));
    return out;
}

} // namespace sev::attest
