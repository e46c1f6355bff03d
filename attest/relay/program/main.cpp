// SPDX-License-Identifier: Apache-2.0
// sev-relay: fetches AMD's certificates, and carries exchanges with a guest owner. It trusts nothing, and is trusted with nothing: it can only delay
// or deny.
#include <array>
#include <csignal>

#include <sys/stat.h>

#include "attest/relay/program/commands.hpp"
#include "attest/relay/program/manual.hpp"
#include "console/run.hpp"

namespace sev::relay {
namespace {

constexpr std::array table{
    &fetch_cek_command,
    &fetch_ca_command,
    &exchange_command,
};

constexpr cli::Program program{
    .name = "sev-relay",
    .summary = "fetch AMD's certificates, and carry messages to a guest owner",
    .description = manual::description,
    .sections = manual::sections,
    .closing = manual::closing,
    .commands = table,
};

} // namespace
} // namespace sev::relay

int main(int argc, char** argv) {
    ::umask(022);                  // what is fetched is public, and for every user of this host
    std::signal(SIGPIPE, SIG_IGN); // a closed pipe is an error of that write
    std::signal(SIGXFSZ, SIG_IGN); // so is a file size limit
    return sev::cli::run(sev::relay::program, argc, argv);
}
