// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "attest/reference.hpp"
#include "console/layout.hpp"
#include "launch/image_layout.hpp"
#include "ovmf-measure/launch_digest.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::uint64_t fw_cfg_limit = 0xFFFF'FFFF;

constexpr Argument vcpus{
    .name = "--vcpus", .kind = Kind::number, .metavar = "N", .help = "SEV-ES: number of vCPUs. Without it: SEV, no VMSA is measured."};
constexpr Argument profile{.name = "--profile",
                           .metavar = "PROFILE",
                           .help = "SEV-ES: how the VMM sets up VMSAs: kvm-legacy, kvm-init2, ec2, gce, krun; @VERSION may follow."};
constexpr Argument cpu_model{
    .name = "--cpu-model", .metavar = "MODEL", .help = "SEV-ES: QEMU's CPU model, such as EPYC-v4; or give family, model and stepping."};
constexpr Argument family{.name = "--family", .kind = Kind::number, .metavar = "N", .help = "CPU family, such as 25."};
constexpr Argument model{.name = "--model", .kind = Kind::number, .metavar = "N", .help = "CPU model."};
constexpr Argument stepping{.name = "--stepping", .kind = Kind::number, .metavar = "N", .help = "CPU stepping."};
constexpr Argument features{.name = "--sev-features", .kind = Kind::number, .metavar = "N", .help = "SEV-ES: SEV_FEATURES of the VMSAs (default 0)."};

constexpr std::array qemu_arguments{
    Argument{.name = "--firmware",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Flash image of the guest's firmware (OVMF).",
             .required = true,
             .limit_bytes = 16 << 20},
    Argument{.name = "--kernel",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Kernel of a measured direct boot (kernel-hashes=on).",
             .content = Content::opaque,
             .limit_bytes = fw_cfg_limit},
    Argument{.name = "--initrd",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Its ramdisk, if any.",
             .content = Content::any,
             .limit_bytes = fw_cfg_limit},
    Argument{.name = "--cmdline", .metavar = "TEXT", .help = "Its command line, if any."},
    Argument{.name = "--unhashed-kernel",
             .kind = Kind::flag,
             .help = "The guest is started with -kernel, but without kernel-hashes=on: say what that leaves open."},
    vcpus,
    profile,
    cpu_model,
    family,
    model,
    stepping,
    features,
    json_option,
};
constexpr std::array image_arguments{
    Argument{.name = "REGION",
             .kind = Kind::placed_input,
             .metavar = "REGION",
             .help = "FILE@ADDRESS, or FILE@ADDRESS+LENGTH to measure LENGTH bytes, zeros after the file. In the order of loading.",
             .repeated = true,
             .content = Content::opaque,
             .limit_bytes = launch::ImageLayout::part_limit_bytes},
    Argument{.name = "--layout",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Regions and vCPUs from an image layout (JSON), as for sevctl launch --image.",
             .limit_bytes = launch::ImageLayout::limit_bytes},
    vcpus,
    profile,
    cpu_model,
    family,
    model,
    stepping,
    features,
    json_option,
};

/// What the VMSA options say, when there are vCPUs to measure.
struct Vcpus {
    unsigned count = 0;
    const measure::VmsaProfile* profile = nullptr;
    measure::CpuSignature signature;
    std::uint64_t sev_features = 0;
};

measure::CpuSignature signature_of(const Arguments& given, const measure::VmsaProfile& used) {
    const bool parts = given.has("--family") || given.has("--model") || given.has("--stepping");
    if (parts && given.has("--cpu-model")) throw Error{Fault::usage, "--cpu-model and --family, --model, --stepping are both given, want one"};
    if (given.has("--cpu-model")) return measure::CpuSignature::of_qemu_model(given.text("--cpu-model"));
    const auto part = [&](std::string_view name) { return static_cast<unsigned>(given.number(name, 0, 4095)); };
    if (parts) return measure::CpuSignature::of(part("--family"), part("--model"), part("--stepping"));
    if (used.uses_signature())
        throw Error{Fault::usage, fmt::format("--cpu-model is missing: profile {} has the CPU's signature in every VMSA", used.name)};
    return {};
}

Vcpus vcpus_of(const Arguments& given) {
    if (!given.has("--vcpus")) {
        for (const std::string_view name : {"--profile", "--cpu-model", "--family", "--model", "--stepping", "--sev-features"})
            if (given.has(name)) throw Error{Fault::usage, fmt::format("{} is given without --vcpus: only SEV-ES measures vCPUs", name)};
        return {};
    }
    if (!given.has("--profile"))
        throw Error{Fault::usage, "--profile is missing: --vcpus needs to know how the VMM sets up VMSAs", "see: sevctl measure qemu --help"};
    Vcpus out;
    out.count = within("--vcpus", [&] { return measure::parse_vcpus(given.text("--vcpus")); });
    out.profile = &measure::vmsa_profile(given.text("--profile"));
    out.signature = signature_of(given, *out.profile);
    out.sev_features = given.number_if("--sev-features", 0, ~std::uint64_t{0}).value_or(0);
    return out;
}

attest::LaunchDescriptor descriptor_of(attest::GuestKind kind, std::vector<attest::Region> regions, const Vcpus& cpus) {
    attest::LaunchDescriptor descriptor;
    descriptor.kind = kind;
    descriptor.regions = std::move(regions);
    if (cpus.count != 0) {
        descriptor.vcpus = cpus.count;
        descriptor.vmsa_profile = {.name = std::string{cpus.profile->name}, .version = cpus.profile->version};
    }
    return descriptor;
}

std::string region_lines(const std::vector<attest::Region>& regions) {
    std::string out;
    for (const attest::Region& region : regions)
        out += fmt::format("  {:<24} {:>18} {:>12}\n    sha256 {}\n", region.label, region.gpa ? fmt::format("{:#x}", psp::raw(*region.gpa)) : "-",
                           region.length_bytes, hex(region.sha256));
    return out;
}

json::Value result_with(const Arguments& given, const Digest& digest, const attest::LaunchDescriptor& descriptor) {
    json::Value result = result_of(given);
    result["launch_digest"] = hex(digest);
    result["descriptor"] = descriptor.to_json();
    result["uncovered"] = json::Value::array();
    return result;
}

Answer measure_qemu(const Arguments& given, Console& console) {
    for (const std::string_view name : {"--initrd", "--cmdline"})
        if (given.has(name) && !given.has("--kernel")) throw Error{Fault::usage, fmt::format("{} is given without --kernel", name)};
    if (given.has("--kernel") && given.has("--unhashed-kernel")) throw Error{Fault::usage, "--kernel and --unhashed-kernel are both given, want one"};
    const Vcpus cpus = vcpus_of(given);
    const Firmware firmware{given, "--firmware"};
    const std::string file = shown(firmware.path());

    measure::QemuLaunch launch{.firmware = firmware.bytes(), .kernel = {}, .vmsas = {}};
    if (given.has("--kernel")) {
        const Digest kernel = digest_input(given, "--kernel").sha256;
        const auto initrd = given.has("--initrd") ? std::optional{digest_input(given, "--initrd").sha256} : std::nullopt;
        launch.kernel = measure::KernelHashes::of(kernel, initrd, given.text_if("--cmdline").value_or(""));
    }
    const auto findings = within(file, [&] {
        if (cpus.count != 0) launch.vmsas = measure::qemu_vmsas(*cpus.profile, cpus.count, cpus.signature, firmware.bytes(), cpus.sev_features);
        return measure::coverage(launch, given.has("--kernel") || given.has("--unhashed-kernel"));
    });
    const Digest digest = within(file, [&] { return measure::launch_digest(launch); });
    std::vector<attest::Region> regions;
    for (const measure::MeasuredRegion& region : measure::regions(launch)) {
        regions.push_back({.label = region.label,
                           .gpa = region.gpa ? std::optional{psp::Gpa{*region.gpa}} : std::nullopt,
                           .length_bytes = region.length_bytes,
                           .sha256 = region.sha256,
                           .source = region.label == "firmware" ? file : region.source});
    }
    const attest::LaunchDescriptor descriptor = descriptor_of(attest::GuestKind::qemu, std::move(regions), cpus);

    if (console.json()) {
        json::Value result = result_with(given, digest, descriptor);
        for (const auto& finding : findings) result["uncovered"].push_back({{"id", finding.id}, {"text", finding.text}, {"remedy", finding.remedy}});
        console.print(result);
        return Answer::yes;
    }
    std::string text = fmt::format("launch digest {}\n\nmeasured, in this order:\n{}", hex(digest), region_lines(descriptor.regions));
    text += "\nwhat the digest does not say:\n";
    for (const auto& finding : findings)
        text += fmt::format("  {}: {}{}{}\n", finding.id, finding.text, finding.remedy.empty() ? "" : " -> ", finding.remedy);
    console.print(fit(text));
    return Answer::yes;
}

/// FILE@ADDRESS[+LENGTH]; the file's name may hold an @.
attest::ImageRecipe::Part region_of(const std::string& text, std::uint64_t limit_bytes) {
    const auto at = text.rfind('@');
    if (at == std::string::npos || at == 0)
        throw Error{Fault::usage, fmt::format("REGION is {}, want FILE@ADDRESS or FILE@ADDRESS+LENGTH", text.empty() ? "empty" : printable(text))};
    const Path file{text.substr(0, at)};
    const auto plus = text.find('+', at);
    const std::string_view address = std::string_view{text}.substr(at + 1, plus == std::string::npos ? plus : plus - at - 1);
    const std::uint64_t size = open_regular(file).size_bytes;
    if (size > limit_bytes) throw Error{Fault::malformed, fmt::format("{}: {} bytes, more than the limit of {}", shown(file), size, limit_bytes)};
    if (size == 0) throw Error{Fault::malformed, fmt::format("{}: 0 bytes, want at least 1", shown(file))};
    attest::ImageRecipe::Part part{.label = attest::checked_name(file.filename().string(), shown(file)),
                                   .gpa = psp::Gpa{parse_number(address, "ADDRESS of " + shown(file), 0, (std::uint64_t{1} << 52) - 1)},
                                   .file = std::filesystem::absolute(file),
                                   .length_bytes = {}};
    if (plus != std::string::npos)
        part.length_bytes = parse_number(std::string_view{text}.substr(plus + 1), "LENGTH of " + shown(file), 1, limit_bytes);
    return part;
}

attest::ImageRecipe recipe_of(const Arguments& given, const Vcpus& cpus) {
    attest::ImageRecipe recipe;
    for (const std::string& text : given.all("REGION")) recipe.parts.push_back(region_of(text, given.argument("REGION").limit_bytes));
    recipe.vcpus = cpus.count;
    recipe.sev_features = cpus.sev_features;
    if (cpus.count != 0) {
        recipe.vmsa_profile = cpus.profile->name;
        recipe.cpu = cpus.signature;
    }
    return recipe;
}

attest::ImageRecipe recipe_of(const launch::ImageLayout& layout) {
    attest::ImageRecipe recipe;
    for (const launch::ImagePart& part : layout.parts)
        recipe.parts.push_back(
            {.label = part.label, .gpa = part.gpa, .file = std::filesystem::absolute(part.file), .length_bytes = part.length_bytes});
    recipe.vcpus = layout.vcpus;
    recipe.sev_features = layout.sev_features;
    if (layout.vcpus != 0) {
        recipe.vmsa_profile = layout.vmsa_profile;
        recipe.cpu = layout.cpu;
    }
    return recipe;
}

Answer measure_image(const Arguments& given, Console& console) {
    if (given.has("REGION") == given.has("--layout"))
        throw Error{Fault::usage, "want regions or --layout, one of the two", "see: sevctl measure image --help"};
    Vcpus cpus = vcpus_of(given);
    if (given.has("--layout") && cpus.count != 0)
        throw Error{Fault::usage, "--vcpus and --layout are both given: the layout says how many vCPUs there are"};
    attest::ImageRecipe recipe;
    if (given.has("--layout")) {
        const auto layout = launch::ImageLayout::load(given.text("--layout"));
        cpus = {.count = layout.vcpus,
                .profile = layout.vcpus ? &measure::vmsa_profile(layout.vmsa_profile) : nullptr,
                .signature = layout.cpu,
                .sev_features = layout.sev_features};
        recipe = recipe_of(layout);
    } else {
        recipe = recipe_of(given, cpus);
    }
    const attest::Reference reference = attest::resolve_reference({.name = "image", .value = std::move(recipe)}, {});
    const attest::LaunchDescriptor descriptor = descriptor_of(attest::GuestKind::image, reference.regions, cpus);

    if (console.json()) {
        json::Value result = result_with(given, reference.digest, descriptor);
        for (const std::string& text : reference.uncovered) result["uncovered"].push_back({{"text", text}});
        console.print(result);
        return Answer::yes;
    }
    std::string text = fmt::format("launch digest {}\n\nmeasured, in this order:\n{}", hex(reference.digest), region_lines(descriptor.regions));
    if (!reference.uncovered.empty()) text += "\nwhat the digest does not say:\n";
    for (const std::string& line : reference.uncovered) text += fmt::format("  {}\n", line);
    console.print(fit(text));
    return Answer::yes;
}

} // namespace

const Command measure_qemu_command{
    .name = "measure qemu",
    .summary = "launch digest of a QEMU guest, and what it does not cover",
    .text = "Computes the launch digest of a guest that QEMU and KVM start, from the guest owner's files: firmware, the hashes of kernel, ramdisk "
            "and command "
            "line, and with --vcpus the VMSAs. Prints what is measured in which order, and what the digest does not say.",
    .example = "sevctl measure qemu --firmware OVMF.fd --vcpus 4 --profile kvm-init2 --cpu-model EPYC-Milan",
    .arguments = qemu_arguments,
    .run = measure_qemu,
};
const Command measure_image_command{
    .name = "measure image",
    .summary = "launch digest of a list of files with addresses",
    .text = "Computes the launch digest of an image guest: files in the order in which they are loaded, each padded with zeros to a multiple of 16 "
            "bytes (or to "
            "LENGTH), then the VMSAs with --vcpus. The addresses are in the descriptor; no launch digest covers them.",
    .example = "sevctl measure image loader.bin@0x100000 kernel.bin@0x200000",
    .arguments = image_arguments,
    .run = measure_image,
};

} // namespace sev::cli
