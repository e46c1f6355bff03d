// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "attest/protocol/launch_descriptor.hpp"
#include "attest/xen_recipe.hpp"
#include "console/layout.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/reference_store.hpp"

namespace sev::cli {
namespace {

using attest::XenRecipe;

constexpr std::uint64_t file_limit = std::uint64_t{1} << 30; // what Xen's domain builder reads
constexpr std::uint64_t config_limit = measure::xen_config_limit_bytes;
constexpr std::uint64_t mib_limit = std::uint64_t{1} << 24;

constexpr std::array arguments{
    Argument{.name = "--xl-cfg",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "The guest's configuration, as for xl create.",
             .limit_bytes = config_limit},
    Argument{.name = "--json-config",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "The same as JSON: what xl create -n prints.",
             .limit_bytes = config_limit},
    Argument{.name = "--libvirt-xml",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "The same as libvirt's XML: what virsh dumpxml prints.",
             .limit_bytes = config_limit},
    Argument{
        .name = "--type", .kind = Kind::choice, .metavar = "TYPE", .help = "Instead of a configuration: the kind of guest.", .choices = "pvh|hvm"},
    Argument{.name = "--memory", .kind = Kind::number, .metavar = "MIB", .help = "With --type: memory in MiB."},
    Argument{.name = "--vcpus", .kind = Kind::number, .metavar = "N", .help = "With --type: number of vCPUs (default 1)."},
    Argument{.name = "--online", .metavar = "SET", .help = "With --type: vCPUs that are online at the start, such as 0-1 (default all)."},
    Argument{.name = "--cmdline", .metavar = "TEXT", .help = "With --type pvh: the command line. Absent is not the same as empty."},
    Argument{.name = "--bios",
             .kind = Kind::choice,
             .metavar = "BIOS",
             .help = "With --type hvm: the firmware (default seabios).",
             .choices = "seabios|ovmf"},
    Argument{.name = "--vga",
             .kind = Kind::choice,
             .metavar = "VGA",
             .help = "With --type hvm: the graphics card (default cirrus, as with xl).",
             .choices = "none|cirrus|stdvga|qxl"},
    Argument{
        .name = "--videoram", .kind = Kind::number, .metavar = "MIB", .help = "With --type hvm: video memory in MiB (default that of the card)."},
    Argument{.name = "--mmio-hole", .kind = Kind::number, .metavar = "MIB", .help = "With --type hvm: size of the hole below 4 GiB in MiB."},
    Argument{.name = "--no-apic", .kind = Kind::flag, .help = "With --type hvm: apic=0, as libvirt sets it unless features has apic."},
    Argument{.name = "--kernel",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "PVH: the kernel; instead of the one that the configuration names.",
             .content = Content::opaque,
             .limit_bytes = file_limit},
    Argument{.name = "--ramdisk",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "PVH: the ramdisk, likewise.",
             .content = Content::opaque,
             .limit_bytes = file_limit},
    Argument{.name = "--hvmloader",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "HVM: hvmloader of the host's Xen.",
             .content = Content::opaque,
             .limit_bytes = file_limit},
    Argument{.name = "--firmware",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "HVM: the host's SeaBIOS or OVMF.",
             .content = Content::opaque,
             .limit_bytes = file_limit},
    Argument{.name = "--acpi-firmware",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "HVM: acpi_firmware.",
             .content = Content::opaque,
             .limit_bytes = file_limit},
    Argument{.name = "--smbios-firmware",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "HVM: smbios_firmware.",
             .content = Content::opaque,
             .limit_bytes = file_limit},
    Argument{.name = "--reference",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "PVH: ACPI pages of these vCPUs; default: from those that are kept (see reference import).",
             .limit_bytes = measure::AcpiReference::limit_bytes},
    reference_store_option,
    Argument{.name = "--xen-version",
             .metavar = "VERSION",
             .help = "Release of the host's Xen, such as 4.17.7, or the package version of its libxenlight. HVM guests need it."},
    Argument{.name = "--order",
             .kind = Kind::choice,
             .metavar = "ORDER",
             .help = "Order of the pages in the digest (default ascending-gfn).",
             .choices = "ascending-gfn|vates-2025"},
    json_option,
};

constexpr std::array<std::string_view, 10> guest_options{"--memory", "--vcpus",    "--online",    "--cmdline", "--bios",
                                                         "--vga",    "--videoram", "--mmio-hole", "--no-apic", "--type"};
constexpr std::array<std::pair<std::string_view, XenRecipe::Source>, 3> configs{
    {{"--xl-cfg", XenRecipe::Source::xl_cfg}, {"--json-config", XenRecipe::Source::libxl_json}, {"--libvirt-xml", XenRecipe::Source::libvirt_xml}}};
constexpr std::array<std::pair<std::string_view, std::optional<Path> XenRecipe::Files::*>, 6> file_options{
    {{"--kernel", &XenRecipe::Files::kernel},
     {"--ramdisk", &XenRecipe::Files::ramdisk},
     {"--hvmloader", &XenRecipe::Files::hvmloader},
     {"--firmware", &XenRecipe::Files::firmware},
     {"--acpi-firmware", &XenRecipe::Files::acpi_firmware},
     {"--smbios-firmware", &XenRecipe::Files::smbios_firmware}}};

Path absolute(const std::string& path) { return std::filesystem::absolute(path); }

measure::XenGuestConfig guest_of(const Arguments& given) {
    measure::XenGuestConfig out;
    const bool pvh = given.text("--type") == "pvh";
    out.type = pvh ? measure::XenGuestType::pvh : measure::XenGuestType::hvm;
    for (const std::string_view name : {"--bios", "--vga", "--videoram", "--mmio-hole", "--no-apic"})
        if (pvh && given.has(name)) throw Error{Fault::usage, fmt::format("{} is given with --type pvh, and only HVM guests have it", name)};
    if (!pvh && given.has("--cmdline")) throw Error{Fault::usage, "--cmdline is given with --type hvm, and no HVM guest's command line is measured"};
    if (!given.has("--memory")) throw Error{Fault::usage, "--memory is missing"};
    out.memory_kib = given.number("--memory", 1, mib_limit) * 1024;
    out.vcpus = static_cast<unsigned>(given.number_if("--vcpus", 1, measure::xen_max_vcpus).value_or(1));
    out.online = given.has("--online") ? measure::parse_vcpu_set(given.text("--online"), "--online") : measure::first_vcpus(out.vcpus);
    out.kernel = pvh ? given.text_if("--kernel") : std::nullopt;
    out.ramdisk = pvh ? given.text_if("--ramdisk") : std::nullopt;
    out.cmdline = given.text_if("--cmdline");
    if (pvh) return out;
    out.firmware = given.text_if("--bios").value_or("seabios") == "ovmf" ? measure::XenFirmware::ovmf : measure::XenFirmware::seabios;
    out.vga = measure::XenVga::cirrus;
    for (const measure::XenVga vga : {measure::XenVga::none, measure::XenVga::stdvga, measure::XenVga::qxl})
        if (given.text_if("--vga") == measure::name(vga)) out.vga = vga;
    out.video_kib = given.number_if("--videoram", 0, mib_limit).value_or(measure::default_video_kib(out.vga) / 1024) * 1024;
    if (const auto hole = given.number_if("--mmio-hole", 256, mib_limit)) out.mmio_hole_kib = *hole * 1024;
    out.apic = !given.has("--no-apic");
    out.acpi_firmware = given.text_if("--acpi-firmware");
    out.smbios_firmware = given.text_if("--smbios-firmware");
    return out;
}

XenRecipe recipe_of(const Arguments& given) {
    XenRecipe out;
    const auto count = std::ranges::count_if(configs, [&](const auto& one) { return given.has(one.first); }) + (given.has("--type") ? 1 : 0);
    if (count != 1)
        throw Error{Fault::usage, "want exactly one of --xl-cfg, --json-config, --libvirt-xml and --type", "see: sevctl measure xen --help"};
    for (const auto& [option, source] : configs) {
        if (!given.has(option)) continue;
        out.source = source;
        out.config = absolute(given.text(option));
        for (const std::string_view name : guest_options)
            if (given.has(name)) throw Error{Fault::usage, fmt::format("{} is given with {}, which says that itself", name, option)};
    }
    for (const auto& [option, member] : file_options)
        if (given.has(option)) out.files.*member = absolute(given.text(option));
    if (out.source == XenRecipe::Source::inline_guest) {
        out.guest = guest_of(given);
        const bool pvh = out.guest.type == measure::XenGuestType::pvh;
        for (const auto& [option, member] : file_options)
            if (given.has(option) && pvh != (option == "--kernel" || option == "--ramdisk"))
                throw Error{Fault::usage, fmt::format("{} is given with --type {}, which does not use it", option, given.text("--type"))};
    }
    if (given.has("--order")) out.order = measure::xen_order_named(given.text("--order")).value();
    if (given.has("--xen-version")) out.xen_version = measure::XenVersion::parse(given.text("--xen-version"), "--xen-version");
    if (given.has("--reference")) out.acpi_reference = absolute(given.text("--reference"));
    return out;
}

/// A PVH guest's ACPI pages come from those that are kept, when no file is given.
void choose_reference(const Arguments& given, XenRecipe& recipe) {
    if (recipe.acpi_reference) return;
    const measure::XenGuestConfig config = attest::config_of(recipe, {});
    if (config.type != measure::XenGuestType::pvh) return;
    measure::check(config);
    recipe.acpi_reference = find_reference(reference_store(given), config.vcpus, config.online, given.text_if("--xen-version")).path;
}

attest::LaunchDescriptor descriptor_of(const attest::XenPrediction& predicted, const measure::XenMeasurement& measured, measure::XenOrder order) {
    attest::LaunchDescriptor out;
    const bool pvh = predicted.image.type == measure::XenGuestType::pvh;
    out.kind = !pvh ? attest::GuestKind::xen_hvm : predicted.image.kernel_is_firmware ? attest::GuestKind::ovmf_pvh : attest::GuestKind::xen_pvh;
    for (const measure::MeasuredRegion& region : measured.regions)
        out.regions.push_back({.label = region.label,
                               .gpa = psp::Gpa{region.gpa.value()},
                               .length_bytes = region.length_bytes,
                               .sha256 = region.sha256,
                               .source = region.source});
    out.vcpus = predicted.config.vcpus;
    out.page_order = std::string{measure::name(order)};
    out.xen_version = predicted.version.text();
    return out;
}

std::string text_of(const Digest& digest, const std::optional<Digest>& later, const attest::LaunchDescriptor& descriptor,
                    const std::vector<measure::CoverageFinding>& findings) {
    std::string out = fmt::format("launch digest {}\n", hex(digest));
    if (later) out += fmt::format("  {} when the toolstack's process has built a PVH guest before\n", hex(*later));
    out += fmt::format("\n{} guest of Xen {}, measured in the order {}:\n", attest::name(descriptor.kind), descriptor.xen_version.value_or(""),
                       descriptor.page_order.value_or(""));
    for (const attest::Region& region : descriptor.regions)
        out += fmt::format("  {:<24} {:>18} {:>12}\n    sha256 {}\n", region.label, fmt::format("{:#x}", psp::raw(*region.gpa)), region.length_bytes,
                           hex(region.sha256));
    out += "\nwhat the digest does not say:\n";
    for (const measure::CoverageFinding& finding : findings)
        out += fmt::format("  {}: {}{}{}\n", finding.id, finding.text, finding.remedy.empty() ? "" : " -> ", finding.remedy);
    return out;
}

Answer measure_xen(const Arguments& given, Console& console) {
    XenRecipe recipe = recipe_of(given);
    choose_reference(given, recipe);
    const attest::XenPrediction predicted = attest::predict(recipe, {});
    const measure::XenMeasurement measured = measure::measure(predicted.image, recipe.order);
    const auto findings = measure::coverage(predicted.image, predicted.config);
    const attest::LaunchDescriptor descriptor = descriptor_of(predicted, measured, recipe.order);
    if (!console.json()) {
        console.print(fit(text_of(measured.digest, measured.later_digest, descriptor, findings)));
        return Answer::yes;
    }
    json::Value result = result_of(given);
    result["launch_digest"] = hex(measured.digest);
    if (measured.later_digest) result["launch_digest_of_later_builds"] = hex(*measured.later_digest);
    result["descriptor"] = descriptor.to_json();
    result["uncovered"] = json::Value::array();
    for (const auto& finding : findings) result["uncovered"].push_back({{"id", finding.id}, {"text", finding.text}, {"remedy", finding.remedy}});
    console.print(result);
    return Answer::yes;
}

} // namespace

const Command measure_xen_command{
    .name = "measure xen",
    .summary = "launch digest of a Xen guest, and what it does not cover",
    .text = "Predicts the initial memory of a PVH or HVM guest, byte for byte as Xen's toolstack builds it, from its configuration and files: "
            "kernel, ramdisk and command line, or "
            "hvmloader and firmware. Prints the digest, what is measured in which order, and what the digest does not say.\n\n"
            "The ACPI pages of PVH guests are reference values: they depend on the host's libxenlight, the number of vCPUs and which of them are "
            "online. Files are read where the "
            "configuration says unless an option names another copy. Whatever could change the image and is not understood is refused by name.",
    .example = "sevctl measure xen --xl-cfg guest.cfg --reference acpi-2.json",
    .arguments = arguments,
    .run = measure_xen,
};

} // namespace sev::cli
