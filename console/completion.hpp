// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "console/command.hpp"

/// What the completions of the three shells have in common.
namespace sev::cli::shells {

/// What is offered for an argument's value.
enum class Offer { nothing, choices, files, directories, program };
Offer offer(const Argument& argument);
/// What is offered where a positional argument may stand: of the first kind of all that the command takes which offers anything.
Offer positional_offer(const Command& command);

/// The commands that are not hidden.
std::vector<const Command*> shown(const Program& program);
/// The first words, each with the second words that go with it.
std::vector<std::pair<std::string, std::vector<std::string>>> families(const Program& program);
/// "vmsa-build".
std::string hyphenated(std::string_view name);
/// Names of all commands, hyphenated; of those of two words alone.
std::vector<std::string> all_names(const Program& program);
std::vector<std::string> names_of_two_words(const Program& program);
/// "sev_emulator", for the names of functions.
std::string identifier(const Program& program);
/// "a|b" as "a b".
std::string spaced(std::string_view choices);
/// What the positional arguments may be, where the table lists it.
std::string positional_choices(const Command& command);
/// For a shell's single quotes.
std::string single_quoted(std::string_view text);
std::string joined(const std::vector<std::string>& words, std::string_view between = " ");

std::string bash(const Program& program);
std::string zsh(const Program& program);
std::string fish(const Program& program);

} // namespace sev::cli::shells
