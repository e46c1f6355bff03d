// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "sevctl/commands.hpp"
#include "sevctl/manual.hpp"

namespace sev::cli {
namespace {

constexpr std::array table{
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
    &measure_xen_command,
    &reference_show_command,
    &reference_export_command,
    &reference_import_command,
    &judge_command,
    &policy_lint_command,
    &policy_show_command,
    &policy_diff_command,
    &reference_capture_command,
    &capture_command,
    &slot_add_command,
    &slot_show_command,
    &slot_smbios_command,
    &launch_command,
    &launches_list_command,
    &launches_show_command,
    &launches_cancel_command,
    &launches_watch_command,
    &bundle_command,
    &owner_status_command,
    &owner_sessions_command,
    &owner_session_command,
    &advisories_command,
    &explain_command,
};

} // namespace


const Program sevctl{
    .name = "sevctl",
    .summary = "AMD SEV for guest owners and hosts: sessions, measurements, verdicts, secrets",
    .description = manual::description,
    .sections = manual::sections,
    .closing = manual::closing,
    .commands = table,
};

} // namespace sev::cli
