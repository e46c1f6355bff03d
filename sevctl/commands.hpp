// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "console/command.hpp"

namespace sev::cli {

/// The program: the commands below in the order of the manual, and the manual's other texts.
extern const Program sevctl;

// One line a command; each is defined in the file that implements it.

extern const Command show_flags_command;
extern const Command show_guests_command;
extern const Command show_identifier_command;
extern const Command show_version_command;
extern const Command export_command;
extern const Command pek_csr_command;
extern const Command provision_command;
extern const Command rotate_command;
extern const Command reset_command;
extern const Command generate_command;
extern const Command session_command;
extern const Command verify_command;
extern const Command validate_command;
extern const Command measurement_build_command;
extern const Command secret_build_command;
extern const Command vmsa_build_command;
extern const Command vmsa_update_command;
extern const Command vmsa_show_command;
extern const Command vmsa_diff_command;
extern const Command measure_qemu_command;
extern const Command measure_image_command;
extern const Command measure_xen_command;
extern const Command reference_show_command;
extern const Command reference_export_command;
extern const Command reference_import_command;
extern const Command reference_capture_command;
extern const Command capture_command;
extern const Command slot_add_command;
extern const Command slot_show_command;
extern const Command slot_smbios_command;
extern const Command launch_command;
extern const Command launches_list_command;
extern const Command launches_show_command;
extern const Command launches_cancel_command;
extern const Command launches_watch_command;
extern const Command bundle_command;
extern const Command owner_status_command;
extern const Command owner_sessions_command;
extern const Command owner_session_command;
extern const Command judge_command;
extern const Command policy_lint_command;
extern const Command policy_show_command;
extern const Command policy_diff_command;
extern const Command cert_import_command;
extern const Command cert_show_command;
extern const Command advisories_command;
extern const Command explain_command;
extern const Command status_command;
extern const Command ok_command;
extern const Command probe_command;

} // namespace sev::cli
