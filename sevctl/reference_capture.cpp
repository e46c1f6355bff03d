// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <chrono>

#include <fmt/format.h>

#include "launch/xen/child.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/reference_store.hpp"
#include "sevctl/xen_domain.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    domid_option,
    Argument{.name = "--libxenlight", .metavar = "VERSION", .help = "Package version of libxenlight, when neither dpkg nor rpm can say it."},
    Argument{.name = "--outfile",
             .letter = 'o',
             .kind = Kind::output,
             .metavar = "FILE",
             .help = "Write it to this file instead of keeping it in the store."},
    reference_store_option,
    force_option,
    json_option,
};

/// One line of a program's output; nothing when it says none or is not there.
std::optional<std::string> line_of(const Path& program, const std::vector<std::string>& words) {
    std::error_code error;
    if (!std::filesystem::exists(program, error)) return std::nullopt;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    const auto starter = launch::xen::direct_starter();
    launch::xen::Child child{*starter, program, words};
    child.close_input();
    std::string out = child.all(4096, deadline);
    if (out.empty()) return std::nullopt;
    return out.substr(0, out.find('\n'));
}

std::string package_version(measure::XenVersion version) {
    if (const auto found = line_of("/usr/bin/dpkg-query", {"-W", "-f", "${Version}", fmt::format("libxenmisc{}.{}", version.major, version.minor)}))
        return *found;
    if (const auto found = line_of("/usr/bin/rpm", {"-q", "--qf", "%{VERSION}-%{RELEASE}", "xen-libs"})) return *found;
    throw Error{Fault::usage, "the package version of libxenlight is not known: neither dpkg nor rpm says it", "give --libxenlight"};
}

Answer run(const Arguments& given, Console& console) {
    if (given.has("--outfile")) check_output(given.text("--outfile"));
    const LookedAtDomain looked = look_at_domain(given);
    const std::string library = given.has("--libxenlight") ? given.text("--libxenlight") : package_version(looked.toolstack->version());
    const measure::AcpiReference reference = launch::xen::capture_acpi(*looked.domain, *looked.memory, library);
    const std::string text = json::pretty(reference.to_json());
    Path out{given.text_if("--outfile").value_or("")};
    if (given.has("--outfile")) {
        write_output(console, out, as_bytes(text), Visibility::readable, given.existing());
    } else {
        const Path store = reference_store(given);
        std::filesystem::create_directories(store);
        out = store / reference.file_name();
        std::error_code error;
        const bool same = std::filesystem::exists(out, error) && load_reference(out).reference == reference;
        if (!same) write_file(out, as_bytes(text), Visibility::readable, given.existing());
    }
    if (console.json()) {
        json::Value result = result_of(given);
        result["file"] = out.string();
        result["libxenlight"] = reference.libxenlight;
        result["vcpus"] = reference.vcpus;
        result["online"] = measure::text(reference.online);
        console.print(result);
    } else if (out != "-") {
        console.print(fmt::format("{}: ACPI pages of libxenlight {} for {} vCPUs, online {}\n", shown(out), printable(reference.libxenlight),
                                  reference.vcpus, measure::text(reference.online)));
    }
    return Answer::yes;
}

} // namespace

const Command reference_capture_command{
    .name = "reference capture",
    .summary = "take ACPI reference values from a paused Xen guest",
    .text = "Reads the ACPI pages that libxenlight made for a paused PVH guest, checks that they are whole and those of its vCPUs, and keeps them: "
            "predictions of guests with "
            "that many vCPUs need them. They depend on the build of libxenlight and the vCPUs alone, so one guest of each number of vCPUs is enough. "
            "Take them on a machine that you trust.",
    .example = "sevctl reference capture --domid 7",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
