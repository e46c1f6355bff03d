// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "console/command.hpp"

namespace sev::psp::emulator {

inline constexpr std::string_view default_personality = "epyc-3151";
inline constexpr cli::Argument personality_option{.name = "--personality",
                                                  .kind = cli::Kind::choice,
                                                  .metavar = "NAME",
                                                  .help = "Which machine the new chip pretends to be (default epyc-3151).",
                                                  .choices = "epyc-3151|epyc-7002|epyc-7003"};

extern const cli::Command create_command;
extern const cli::Command show_command;
extern const cli::Command ca_command;
extern const cli::Command cek_command;
extern const cli::Command personalities_command;
extern const cli::Command run_command;
extern const cli::Command serve_command;
extern const cli::Command cuse_command;
extern const cli::Command machine_command;

} // namespace sev::psp::emulator
