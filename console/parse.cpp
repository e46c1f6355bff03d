// SPDX-License-Identifier: Apache-2.0
#include "console/parse.hpp"

#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "console/help.hpp"

namespace sev::cli {
namespace {

CLI::Option* declare(CLI::App& app, const Argument& argument) {
    std::string names{argument.name};
    if (argument.letter) names = fmt::format("-{},{}", argument.letter, argument.name);
    if (!argument.takes_value()) return app.add_flag(names);
    CLI::Option* const option = app.add_option(names);
    // CLI11 would take "[a,b]" for a list, and a kernel command line may look so
    option->allow_extra_args(false);
    option->required(argument.required);
    if (argument.repeated) {
        option->take_all();
        if (argument.positional()) option->expected(argument.required ? 1 : 0, 1 << 20)->allow_extra_args();
    }
    return option;
}

/// CLI11 reads "--cmdline= --kernel K" as if --kernel were the command line; two words say the same without that.
std::vector<std::string> words_for_cli11(const Command& command, const std::vector<std::string>& words) {
    std::vector<std::string> out;
    for (const std::string& word : words) {
        const bool empty_value = std::ranges::any_of(command.arguments, [&](const Argument& argument) {
            return !argument.positional() && argument.takes_value() && word == fmt::format("{}=", argument.name);
        });
        if (empty_value) {
            out.push_back(word.substr(0, word.size() - 1));
            out.emplace_back();
        } else {
            out.push_back(word);
        }
    }
    std::ranges::reverse(out); // as CLI11 wants them
    return out;
}

void check_choice(const Argument& argument, std::string_view given) {
    std::string_view left = argument.choices;
    while (!left.empty()) {
        const auto bar = left.find('|');
        if (left.substr(0, bar) == given) return;
        left = bar == std::string_view::npos ? std::string_view{} : left.substr(bar + 1);
    }
    throw Error{Fault::usage, fmt::format("{} is {}, want {}", argument.name, given.empty() ? "empty" : printable(given), argument.choices)};
}

[[noreturn]] void refuse(const Program& program, const Command& command, const std::string& problem) {
    throw Error{Fault::usage, fmt::format("{}: {}", command.name, problem), fmt::format("see: {} {} --help", program.name, command.name)};
}

/// Takes the words after "--" off the end; none when there are none.
std::vector<std::string> take_program(std::vector<std::string>& words) {
    const auto dashes = std::ranges::find(words, "--");
    if (dashes == words.end()) return {};
    std::vector<std::string> out{dashes + 1, words.end()};
    words.erase(dashes, words.end());
    return out;
}

} // namespace

std::optional<Arguments> parse(const Program& program, const Command& command, std::vector<std::string> words) {
    const auto other_program = std::ranges::find(command.arguments, Kind::program, &Argument::kind);
    std::vector<std::string> program_words;
    if (other_program != command.arguments.end()) program_words = take_program(words);
    CLI::App app;
    app.set_help_flag("-h,--help");
    std::vector<CLI::Option*> options;
    for (const Argument& argument : command.arguments) options.push_back(argument.kind == Kind::program ? nullptr : declare(app, argument));
    try {
        app.parse(words_for_cli11(command, words));
    } catch (const CLI::CallForHelp&) {
        return std::nullopt;
    } catch (const CLI::ExtrasError&) {
        const auto extras = app.remaining();
        refuse(program, command, fmt::format("unexpected argument: {}", extras.empty() ? std::string{"?"} : printable(extras.front())));
    } catch (const CLI::ParseError& error) {
        refuse(program, command, printable(error.what(), 400));
    }
    Arguments arguments{program, command};
    if (!program_words.empty()) arguments.add(other_program->name, std::move(program_words));
    else if (other_program != command.arguments.end() && other_program->required) refuse(program, command, "no program given, want -- and its name");
    for (std::size_t i = 0; i < options.size(); ++i) {
        const Argument& argument = command.arguments[i];
        if (!options[i] || options[i]->count() == 0) continue;
        arguments.add(argument.name, options[i]->results());
        if (argument.kind == Kind::choice)
            for (const std::string& given : arguments.all(argument.name)) check_choice(argument, given);
    }
    return arguments;
}

} // namespace sev::cli
