// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/probing.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "--to",
             .kind = Kind::output,
             .metavar = "BUNDLE",
             .help = "Where to write the probe bundle; - for standard output.",
             .required = true},
    kernel_log_option,
    chip_id_option,
    force_option,
};

Answer run(const Arguments& given, Console& console) {
    const Path to{given.text("--to")};
    check_output(to);
    const std::string text = json::pretty(probe::Bundle::to_json(probe_of(given)));
    write_output(console, to, as_bytes(text), Visibility::readable, given.existing());
    return Answer::yes;
}

} // namespace

const Command probe_command{
    .name = "probe",
    .summary = "record everything that status reads, for a report from another machine",
    .text = "Writes a probe bundle: what each reader of sevctl status brought back on this machine, value or error, raw. It is a JSON file to look "
            "through and to "
            "attach to a report; sevctl status --from and sevctl ok --from judge it anywhere.\n\n"
            "It holds the board's and BIOS's names and versions, CPUID leaves, three MSRs, and the kernel's messages about memory encryption. It "
            "holds no serial "
            "number, no UUID, no host name, no command line, and the chip's id only with --with-chip-id.",
    .example = "sevctl probe --to host.json",
    .arguments = arguments,
    .run = run,
};

} // namespace sev::cli
