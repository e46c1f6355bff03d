// SPDX-License-Identifier: Apache-2.0
// sev-emulator: makes and shows emulated PSPs, and serves one to other programs as /dev/sev.
#include <array>

#include "console/run.hpp"
#include "psp/emulator/program/commands.hpp"
#include "psp/emulator/program/manual.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::array table{
    &create_command, &show_command, &ca_command, &cek_command, &personalities_command, &run_command, &serve_command, &cuse_command, &machine_command,
};

constexpr cli::Program program{
    .name = "sev-emulator",
    .summary = "an emulated AMD Secure Processor, for SEV software without SEV hardware",
    .description = manual::description,
    .sections = manual::sections,
    .closing = manual::closing,
    .commands = table,
};

} // namespace
} // namespace sev::psp::emulator

int main(int argc, char** argv) { return sev::cli::run(sev::psp::emulator::program, argc, argv); }
