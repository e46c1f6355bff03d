// SPDX-License-Identifier: Apache-2.0
#include "console/completion.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "console/help.hpp"

namespace sev::cli {
namespace shells {

Offer offer(const Argument& argument) {
    if (argument.kind == Kind::choice) return Offer::choices;
    if (argument.kind == Kind::directory) return Offer::directories;
    if (argument.kind == Kind::program) return Offer::program;
    return argument.reads_file() || argument.writes_file() || argument.kind == Kind::path ? Offer::files : Offer::nothing;
}

Offer positional_offer(const Command& command) {
    for (const Argument& argument : command.arguments)
        if (argument.positional() && !argument.hidden && offer(argument) != Offer::nothing && offer(argument) != Offer::program)
            return offer(argument);
    return Offer::nothing;
}

std::vector<const Command*> shown(const Program& program) {
    std::vector<const Command*> out;
    std::ranges::copy_if(program.commands, std::back_inserter(out), [](const Command* command) { return !command->hidden; });
    return out;
}

std::vector<std::pair<std::string, std::vector<std::string>>> families(const Program& program) {
    std::vector<std::pair<std::string, std::vector<std::string>>> out;
    for (const Command* command : shown(program)) {
        const std::string name{command->name};
        const auto blank = name.find(' ');
        const std::string first = name.substr(0, blank);
        auto known = std::ranges::find_if(out, [&](const auto& family) { return family.first == first; });
        if (known == out.end()) known = out.insert(out.end(), {first, {}});
        if (blank != std::string::npos) known->second.push_back(name.substr(blank + 1));
    }
    return out;
}

std::string hyphenated(std::string_view name) {
    std::string out{name};
    std::ranges::replace(out, ' ', '-');
    return out;
}

std::vector<std::string> all_names(const Program& program) {
    std::vector<std::string> out;
    for (const Command* command : shown(program)) out.push_back(hyphenated(command->name));
    return out;
}

std::vector<std::string> names_of_two_words(const Program& program) {
    std::vector<std::string> out;
    for (const Command* command : shown(program))
        if (command->name.find(' ') != std::string_view::npos) out.push_back(hyphenated(command->name));
    return out;
}

std::string identifier(const Program& program) {
    std::string out{program.name};
    std::ranges::replace(out, '-', '_');
    return out;
}

std::string spaced(std::string_view choices) {
    std::string out{choices};
    std::ranges::replace(out, '|', ' ');
    return out;
}

std::string positional_choices(const Command& command) {
    std::vector<std::string> out;
    for (const Argument& argument : command.arguments)
        if (argument.positional() && argument.kind == Kind::choice) out.push_back(spaced(argument.choices));
    return joined(out);
}

std::string single_quoted(std::string_view text) {
    std::string out = "'";
    for (const char c : text) out += c == '\'' ? std::string{"'\\''"} : std::string(1, c);
    return out + "'";
}

std::string joined(const std::vector<std::string>& words, std::string_view between) { return fmt::format("{}", fmt::join(words, between)); }

} // namespace shells

std::string completion(const Program& program, std::string_view shell) {
    if (shell == "bash") return shells::bash(program);
    if (shell == "zsh") return shells::zsh(program);
    if (shell == "fish") return shells::fish(program);
    throw Error{Fault::usage, fmt::format("no completion for {}, want bash, zsh or fish", shell.empty() ? "an empty name" : printable(shell))};
}

} // namespace sev::cli
