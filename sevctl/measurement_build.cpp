// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <fmt/format.h>

#include "ovmf-measure/launch_digest.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

constexpr std::uint64_t fw_cfg_limit = 0xFFFF'FFFF; // QEMU hands over kernel and ramdisk with 32-bit lengths

constexpr std::array arguments{
    Argument{.name = "--api-major", .kind = Kind::number, .metavar = "N", .help = "API major version of the launching firmware.", .required = true},
    Argument{.name = "--api-minor", .kind = Kind::number, .metavar = "N", .help = "API minor version of the launching firmware.", .required = true},
    Argument{.name = "--build-id", .kind = Kind::number, .metavar = "N", .help = "Build of the launching firmware.", .required = true},
    Argument{.name = "--policy", .kind = Kind::number, .metavar = "POLICY", .help = "Guest policy.", .required = true},
    Argument{.name = "--nonce", .kind = Kind::input_or_text, .metavar = "NONCE", .help = "MNONCE, 16 bytes: a file or base64.", .limit_bytes = 16},
    Argument{.name = "--launch-measure-blob",
             .kind = Kind::input_or_text,
             .metavar = "BLOB",
             .help = "Take MNONCE from this output of LAUNCH_MEASURE, 48 bytes: a file or base64.",
             .limit_bytes = 48},
    Argument{.name = "--tik",
             .kind = Kind::input_or_text,
             .metavar = "TIK",
             .help = "The session's TIK, 16 bytes: a file, or base64 (which others can see).",
             .required = true,
             .secret = true,
             .limit_bytes = 16},
    Argument{.name = "--launch-digest", .kind = Kind::text, .metavar = "DIGEST", .help = "Launch digest, 32 bytes of base64, instead of --firmware."},
    Argument{
        .name = "--firmware", .kind = Kind::input, .metavar = "FILE", .help = "Flash image of the guest's firmware (OVMF).", .limit_bytes = 16 << 20},
    Argument{.name = "--kernel",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Kernel of a measured direct boot; with --initrd and --cmdline.",
             .content = Content::opaque,
             .limit_bytes = fw_cfg_limit},
    Argument{.name = "--initrd",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "Its ramdisk; an empty file or /dev/null when it has none.",
             .content = Content::any,
             .limit_bytes = fw_cfg_limit},
    Argument{.name = "--cmdline", .metavar = "TEXT", .help = "Its command line."},
    Argument{.name = "--num-cpus", .kind = Kind::number, .metavar = "N", .help = "Number of vCPUs (policy with ES)."},
    Argument{.name = "--vmsa-cpu0", .kind = Kind::input, .metavar = "FILE", .help = "VMSA of the first vCPU (policy with ES).", .limit_bytes = 4096},
    Argument{
        .name = "--vmsa-cpu1", .kind = Kind::input, .metavar = "FILE", .help = "VMSA of every other vCPU (policy with ES).", .limit_bytes = 4096},
    Argument{.name = "--outfile", .kind = Kind::output, .metavar = "FILE", .help = "Write the 48 bytes here, instead of base64 to stdout."},
    json_option,
};

void at_most_one(const Arguments& given, std::string_view left, std::string_view right) {
    if (given.has(left) && given.has(right)) throw Error{Fault::usage, fmt::format("{} and {} are both given, want one", left, right)};
    if (!given.has(left) && !given.has(right)) throw Error{Fault::usage, fmt::format("neither {} nor {} is given, want one", left, right)};
}

std::optional<measure::KernelHashes> kernel_of(const Arguments& given) {
    constexpr std::array<std::string_view, 3> names{"--kernel", "--initrd", "--cmdline"};
    const auto count = std::ranges::count_if(names, [&](std::string_view name) { return given.has(name); });
    if (count == 0) return std::nullopt;
    for (const std::string_view name : names)
        if (!given.has(name)) throw Error{Fault::usage, fmt::format("{} is missing: --kernel, --initrd and --cmdline go together", name)};
    return measure::KernelHashes::of(digest_input(given, "--kernel").sha256, digest_input(given, "--initrd").sha256, given.text("--cmdline"));
}

std::vector<measure::Vmsa> vmsas_of(const Arguments& given, psp::Policy policy, Console& console) {
    if (!policy.wants_es()) {
        for (const std::string_view name : {"--num-cpus", "--vmsa-cpu0", "--vmsa-cpu1"})
            if (given.has(name)) console.warn(fmt::format("{} is not measured: the policy ({}) has no ES", name, policy.text()));
        return {};
    }
    if (!given.has("--num-cpus") || !given.has("--vmsa-cpu0"))
        throw Error{Fault::usage,
                    fmt::format("{} is missing: the policy has ES, and every vCPU's VMSA is measured",
                                given.has("--num-cpus") ? "--vmsa-cpu0" : "--num-cpus"),
                    "make the pages with sevctl vmsa build"};
    const unsigned vcpus = within("--num-cpus", [&] { return measure::parse_vcpus(given.text("--num-cpus")); });
    if (vcpus > 1 && !given.has("--vmsa-cpu1"))
        throw Error{Fault::usage, fmt::format("--vmsa-cpu1 is missing: there are {} vCPUs", vcpus), "make the page with sevctl vmsa build --cpu 1"};
    std::vector<measure::Vmsa> pages{input_array<sizeof(measure::Vmsa)>(given, "--vmsa-cpu0")};
    // read although a single vCPU does not need it: a wrong file is a mistake worth knowing
    if (given.has("--vmsa-cpu1")) pages.resize(vcpus, input_array<sizeof(measure::Vmsa)>(given, "--vmsa-cpu1"));
    return pages;
}

Digest digest_of(const Arguments& given, psp::Policy policy, Console& console) {
    at_most_one(given, "--launch-digest", "--firmware");
    if (given.has("--firmware")) {
        const Firmware firmware{given, "--firmware"};
        const measure::QemuLaunch launch{.firmware = firmware.bytes(), .kernel = kernel_of(given), .vmsas = vmsas_of(given, policy, console)};
        return within(shown(firmware.path()), [&] { return measure::launch_digest(launch); });
    }
    for (const std::string_view name : {"--kernel", "--initrd", "--cmdline", "--num-cpus", "--vmsa-cpu0", "--vmsa-cpu1"})
        if (given.has(name)) throw Error{Fault::usage, fmt::format("--launch-digest and {} are both given: the digest already covers it", name)};
    const Bytes digest = unbase64(given.text("--launch-digest"), "--launch-digest");
    return wire::bytes<0, 32>(wire::exactly<32>(digest, "--launch-digest"));
}

psp::Mnonce nonce_of(const Arguments& given) {
    at_most_one(given, "--nonce", "--launch-measure-blob");
    if (given.has("--nonce")) return wire::bytes<0, 16>(wire::exactly<16>(file_or_base64(given, "--nonce", {16}), "--nonce"));
    const Bytes blob = file_or_base64(given, "--launch-measure-blob", {48});
    return psp::LaunchMeasurement::parse(wire::exactly<48>(blob, "--launch-measure-blob")).mnonce;
}

Answer run(const Arguments& given, Console& console) {
    const auto byte = [&](std::string_view name) { return static_cast<std::uint8_t>(given.number(name, 0, 255)); };
    const psp::Build build{byte("--api-major"), byte("--api-minor"), byte("--build-id")};
    const psp::Policy policy = psp::Policy::parse(given.text("--policy"), "--policy");
    const auto outfile = given.text_if("--outfile");
    if (outfile && *outfile != "-") check_output(*outfile);
    const psp::Mnonce mnonce = nonce_of(given);
    const auto tik = key_argument<psp::Tik>(given, console, "--tik");
    const Digest digest = digest_of(given, policy, console);

    const psp::LaunchMeasurement expected{.measure = psp::expected_measurement(tik, build, policy, digest, mnonce), .mnonce = mnonce};
    const auto blob = expected.serialize();
    if (outfile) write_output(console, *outfile, blob, Visibility::readable, Existing::replace);
    if (outfile && *outfile == "-") return Answer::yes;
    if (console.json()) {
        json::Value result = result_of(given);
        result["measurement"] = base64(blob);
        result["measure"] = hex(expected.measure);
        result["mnonce"] = hex(mnonce);
        result["launch_digest"] = hex(digest);
        result["policy"] = policy.value;
        result["build"] = build.text();
        result["outfile"] = outfile ? json::Value(*outfile) : json::Value();
        console.print(result);
    } else {
        console.print(outfile ? fmt::format("Wrote outfile: {}\n", *outfile) : base64(blob) + "\n");
    }
    return Answer::yes;
}

} // namespace

const Command measurement_build_command{
    .name = "measurement build",
    .summary = "compute the measurement that an honest launch reports",
    .text = "Computes MEASURE as the firmware does, from the guest owner's own files, and prints MEASURE and MNONCE as 64 characters of base64: the "
            "same text "
            "as query-sev-launch-measure and virsh domlaunchsecinfo give when the launch was as expected.\n\n"
            "With a policy that has ES the VMSAs belong to it: see sevctl vmsa build. Firmware of an API below 0.17 leaves its version out of "
            "MEASURE, and so "
            "does this command for such a version.",
    .example = "sevctl measurement build --api-major 0 --api-minor 24 --build-id 15 --policy 1 --tik vm_tik.bin --launch-measure-blob reported.b64 "
               "--firmware OVMF.fd",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::cli
