// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "sevctl/commands.hpp"

namespace sev::cli {

std::span<const Command* const> commands() {
    static constexpr std::array table{
        // what this host can do
        &status_command,
        &ok_command,
        &probe_command,
        // this host's platform, through /dev/sev
        &show_flags_command,
        &show_guests_command,
        &show_identifier_command,
        &show_version_command,
        &export_command,
        &pek_csr_command,
        &provision_command,
        &rotate_command,
        &reset_command,
        // AMD's certificates
        &cert_import_command,
        &cert_show_command,
        // the guest owner's keys and certificates
        &session_command,
        &generate_command,
        &verify_command,
        &validate_command,
        // expected values and secrets, as sevctl has them
        &measurement_build_command,
        &secret_build_command,
        &vmsa_build_command,
        &vmsa_update_command,
        &vmsa_show_command,
        // ours
        &vmsa_diff_command,
        &measure_qemu_command,
        &measure_image_command,
        &judge_command,
        &policy_lint_command,
        &policy_show_command,
        &policy_diff_command,
        &launch_command,
        &advisories_command,
        &explain_command,
    };
    return table;
}

const Command* find_command(std::string_view name) {
    const auto same = [&](const Command* command) {
        return std::ranges::equal(command->name, name, [](char ours, char theirs) { return ours == theirs || (ours == ' ' && theirs == '-'); });
    };
    const auto found = std::ranges::find_if(commands(), same);
    return found == commands().end() ? nullptr : *found;
}

} // namespace sev::cli
