// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "console/command.hpp"

namespace sev::cli {

/// Reads the words after a command's name against its table. nullopt when -h or --help is among them. Throws Error{Fault::usage} for anything
/// the table does not have, a required argument that is missing, an option given twice that is not repeated, and a choice that does not exist.
std::optional<Arguments> parse(const Program& program, const Command& command, std::vector<std::string> words);

} // namespace sev::cli
