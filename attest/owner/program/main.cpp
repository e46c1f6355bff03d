// SPDX-License-Identifier: Apache-2.0
// sev-owner: the guest owner's service.
#include <array>
#include <csignal>

#include <sys/stat.h>

#include "attest/owner/program/commands.hpp"
#include "attest/owner/program/manual.hpp"
#include "console/run.hpp"

namespace sev::attest::owner {
namespace {

constexpr std::array table{
    &serve_command,         &exchange_command,      &init_command,         &check_command,        &key_new_command,    &key_show_command,
    &key_rotate_command,    &policy_list_command,   &policy_add_command,   &policy_remove_command, &secret_add_command, &secret_list_command,
    &secret_remove_command, &sessions_list_command, &verdict_show_command, &verdict_verify_command, &audit_show_command, &audit_verify_command,
    &audit_sign_command,
};

} // namespace

const cli::Program sev_owner{
    .name = "sev-owner",
    .summary = "the guest owner's service: sessions, verdicts, secrets",
    .description = manual::description,
    .sections = manual::sections,
    .closing = manual::closing,
    .commands = table,
    .manual_section = '8',
};

} // namespace sev::attest::owner

int main(int argc, char** argv) {
    ::umask(077);                  // what this program writes is its own
    std::signal(SIGPIPE, SIG_IGN); // a closed pipe is an error of that write
    std::signal(SIGXFSZ, SIG_IGN); // so is a file size limit
    return sev::cli::run(sev::attest::owner::sev_owner, argc, argv);
}
