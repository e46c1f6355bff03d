// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "launch/probe/report.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/probing.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    from_option,
    kernel_log_option,
    Argument{.name = "--explain",
             .kind = Kind::flag,
             .help = "Show every fact with its source and confidence, every check that cannot be made from here, and how SME and TSME differ."},
    json_option,
};

Answer run(const Arguments& given, Console& console) {
    const probe::Probe probe = probe_of(given);
    const probe::Report report = probe::assess(probe);
    if (console.json()) {
        json::Value out = result_of(given);
        probe::add_json(out, probe, report);
        console.print(out);
    } else {
        console.print(probe::render(probe, report, given.has("--explain")));
    }
    return Answer::yes;
}

} // namespace

const Command status_command{
    .name = "status",
    .summary = "say what this host can do: SME, TSME, SEV, SEV-ES, SEV-SNP, and what is missing",
    .text =
        "Reports for SME, TSME, SEV, SEV-ES and SEV-SNP whether they are in silicon, turned on by the BIOS, initialised, and usable now; the C-bit, "
        "the "
        "ASIDs and their SEV-ES share; the PSP's firmware; the level (L0 to L5) of what xen-sev can do here; and the first layer that is missing, in "
        "the "
        "order silicon, BIOS, PSP firmware, Xen, toolstack, guest kernel. Each fact has its source and its confidence, and what cannot be known from "
        "here "
        "is called unknown, with the reason. Nothing is decided by the CPU's model, and nothing is changed.\n\n"
        "Under Xen the CPU is asked through Xen's raw CPU policy, for dom0's own view of CPUID and of the MSRs is Xen's. In dom0 run it as root.\n\n"
        "Each FAIL has an id; docs/checks/ID.md says more. The exit status is 0 when a report was made, whatever it says; sevctl ok answers yes or "
        "no.",
    .example = "sevctl status --from docs/probe-bundles/epyc-3151-xen-4.17.json",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
