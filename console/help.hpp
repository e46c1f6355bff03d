// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

#include "console/command.hpp"

/// Everything that is written about the commands, made from their table.
namespace sev::cli {

struct GlobalOption {
    char letter; // 0: none
    std::string_view name, help;
};
/// Options before the command.
std::span<const GlobalOption> global_options();

/// "usage: sevctl …", the list of commands, where to read on. `under`: only the commands of two words that begin with this one.
std::string overview(const Program& program, std::string_view under = {});
/// What `sevctl COMMAND --help` says.
std::string command_help(const Program& program, const Command& command);
/// "sevctl session [-n NAME] [--json] PDH POLICY".
std::string synopsis(const Program& program, const Command& command);
/// The man page, mdoc.
std::string manual_page(const Program& program);
/// Completion for "bash", "zsh" or "fish". Throws Error{Fault::usage} for another shell.
std::string completion(const Program& program, std::string_view shell);
/// The table itself, for the tests.
json::Value table_as_json(const Program& program);

} // namespace sev::cli
