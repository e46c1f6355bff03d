// SPDX-License-Identifier: Apache-2.0
#include "sevctl/probing.hpp"

#include <chrono>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "launch/probe/collect.hpp"
#include "sevctl/inputs.hpp"

namespace sev::cli {
namespace {

bool takes(const Arguments& arguments, std::string_view name) {
    return std::ranges::find(arguments.command().arguments, name, &Argument::name) != arguments.command().arguments.end();
}
bool has(const Arguments& arguments, std::string_view name) { return takes(arguments, name) && arguments.has(name); }

/// The helper module lies beside this program in the build tree, and under the library directory once installed.
std::vector<Path> xen_modules() {
    constexpr std::string_view module = "xen-sev-probe-xen.so";
    std::vector<Path> out;
    std::error_code error;
    const Path program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (!error) out.push_back(program.parent_path() / module);
    out.push_back(Path{XEN_SEV_MODULE_DIRECTORY} / module);
    return out;
}

} // namespace

probe::Probe probe_of(const Arguments& arguments) {
    if (has(arguments, from_option.name)) {
        if (has(arguments, kernel_log_option.name))
            throw Error{Fault::usage, "--kernel-log and --from exclude each other: a bundle has its own kernel log"};
        const Bytes bytes = input_bytes(arguments, from_option.name);
        return probe::Bundle::parse(as_text(bytes), shown(arguments.text(from_option.name)));
    }
    probe::Places places{.xen_modules = xen_modules(), .with_chip_id = has(arguments, chip_id_option.name)};
    if (has(arguments, kernel_log_option.name)) places.kernel_log = Path{arguments.text(kernel_log_option.name)};
    probe::SevDevice psp{"/dev/sev"};
    return probe::collect(places, psp, "xen-sev " XEN_SEV_VERSION, fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))));
}

} // namespace sev::cli
