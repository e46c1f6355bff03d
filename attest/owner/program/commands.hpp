// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "console/command.hpp"

namespace sev::attest::owner {

extern const cli::Program sev_owner;

// One line a command; each is defined in the file that implements it.
extern const cli::Command serve_command;
extern const cli::Command exchange_command;
extern const cli::Command init_command;
extern const cli::Command check_command;
extern const cli::Command key_new_command;
extern const cli::Command key_show_command;
extern const cli::Command key_rotate_command;
extern const cli::Command policy_list_command;
extern const cli::Command policy_add_command;
extern const cli::Command policy_remove_command;
extern const cli::Command secret_add_command;
extern const cli::Command secret_list_command;
extern const cli::Command secret_remove_command;
extern const cli::Command sessions_list_command;
extern const cli::Command verdict_show_command;
extern const cli::Command verdict_verify_command;
extern const cli::Command audit_show_command;
extern const cli::Command audit_verify_command;
extern const cli::Command audit_sign_command;

inline constexpr std::string_view default_config = "/etc/xen-sev/owner.json";
inline constexpr cli::Argument config_option{.name = "--config",
                                             .kind = cli::Kind::input,
                                             .metavar = "FILE",
                                             .help = "Configuration (JSON, docs/schemas/owner-config.schema.json). Default: /etc/xen-sev/owner.json.",
                                             .limit_bytes = 256 * 1024};

} // namespace sev::attest::owner
